//! Freshness of mailboxes: a mailbox that is not checked successfully for too long raises one alert, which is resolved when it is.
//!
//! Ages are measured with a clock that never jumps, and start from zero at each start. The store knows which alerts are firing, so that
//! a restart raises none twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use postroom_config::Config;
use postroom_core::{Alert, AlertState, ItemKind, MailboxState, Value};
use postroom_store::{ServiceAlert, ServiceAlerts, StoreError};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// The pause after a failure of the store.
const RETRY: Duration = Duration::from_secs(10);
/// The shortest pause between two looks.
const LOOK_MIN: Duration = Duration::from_millis(10);
/// The longest pause between two looks, if nothing asks for one sooner.
const LOOK_MAX: Duration = Duration::from_secs(60 * 60);
/// Stands for the state of a mailbox that the configuration does not have any more.
const UNWATCHED: &str = "unwatched";
/// The most characters of a failure in an alert.
const DETAIL_CHARS: usize = 500;

/// Watches the age of each mailbox's last successful check.
pub struct Freshness {
    alerts: Arc<dyn ServiceAlerts>,
    /// The bell to ring when an alert is in the outbox.
    outbox_filled: watch::Sender<()>,
    state: Mutex<State>,
    /// Wakes the task when an alert can be resolved.
    wake: Notify,
}

#[derive(Default)]
struct State {
    /// By mailbox, those with an objective.
    watched: HashMap<String, Watched>,
    /// The sinks that take alerts, by tenant.
    sinks: HashMap<String, Vec<String>>,
    /// The mailboxes whose alerts are firing in the store, with their tenants. `None` until the store was asked.
    firing: Option<BTreeMap<String, String>>,
}

struct Watched {
    tenant: String,
    objective: Duration,
    /// The last successful check; at first, the start of the watch.
    checked: Instant,
    /// Whether the last thing known is a successful check.
    is_good: bool,
    /// Why it is not checked, if it is known.
    trouble: Option<(MailboxState, String)>,
}

/// A change of an alert that the store does not know yet.
#[derive(Debug, PartialEq)]
struct Due {
    change: ServiceAlert,
    state: &'static str,
}

/// Returns the key of the alert about a mailbox's freshness.
pub fn alert_key(mailbox: &str) -> String {
    format!("postroom/mailbox/{mailbox}/fresh")
}

impl Freshness {
    pub fn new(
        config: &Config,
        alerts: Arc<dyn ServiceAlerts>,
        outbox_filled: watch::Sender<()>,
    ) -> Self {
        let freshness = Self {
            alerts,
            outbox_filled,
            state: Mutex::default(),
            wake: Notify::new(),
        };
        freshness.configure(config, Instant::now());
        freshness
    }

    /// Watches the mailboxes of a configuration, which may replace an earlier one: mailboxes that stay keep their ages, and alerts
    /// about mailboxes that are no longer watched are resolved.
    pub fn configure(&self, config: &Config, now: Instant) {
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.watched);
        let mut watch = |name: &str,
                         tenant: &str,
                         objective: Duration,
                         trouble: Option<(MailboxState, String)>| {
            let kept = before.remove(name);
            let checked = kept.as_ref().map_or(now, |it| it.checked);
            let watched = Watched {
                tenant: tenant.to_owned(),
                objective,
                checked,
                is_good: kept.as_ref().is_some_and(|it| it.is_good),
                trouble: trouble.or(kept.and_then(|it| it.trouble)),
            };
            state.watched.insert(name.to_owned(), watched);
        };
        for mailbox in &config.mailboxes {
            if let Some(objective) = config.freshness_objective(mailbox) {
                watch(&mailbox.name, &mailbox.tenant, objective, None);
            }
        }
        // Their own objectives could not be read.
        let default = config.limits.fresh.within();
        for it in &config.misconfigured {
            if let (Some(name), Some(tenant), Some(objective)) = (&it.mailbox, &it.tenant, default)
            {
                let problems: Vec<String> = it.problems.iter().map(ToString::to_string).collect();
                let trouble = (MailboxState::Misconfigured, problems.join("; "));
                watch(name, tenant, objective, Some(trouble));
            }
        }
        state.sinks = config
            .tenants
            .iter()
            .map(|tenant| {
                let sinks = config.sinks.iter();
                let takers = sinks.filter(|sink| sink.takes(&tenant.name, ItemKind::Alert));
                let names = takers.map(|sink| sink.name.clone()).collect();
                (tenant.name.clone(), names)
            })
            .collect();
        drop(state);
        self.wake.notify_one();
    }

    /// Records that a mailbox was checked, and that its mail is decided.
    pub fn checked(&self, mailbox: &str) {
        self.checked_at(mailbox, Instant::now());
    }

    fn checked_at(&self, mailbox: &str, now: Instant) {
        let mut state = self.state();
        let Some(watched) = state.watched.get_mut(mailbox) else {
            return;
        };
        watched.checked = now;
        watched.is_good = true;
        watched.trouble = None;
        let firing = state.firing.as_ref();
        if firing.is_some_and(|firing| firing.contains_key(mailbox)) {
            self.wake.notify_one();
        }
    }

    /// Records why a mailbox is not checked, for the alert.
    pub fn troubled(&self, mailbox: &str, state: MailboxState, detail: &str) {
        if let Some(watched) = self.state().watched.get_mut(mailbox) {
            let detail = detail.chars().take(DETAIL_CHARS).collect();
            watched.is_good = false;
            watched.trouble = Some((state, detail));
        }
    }

    /// Raises and resolves alerts until stopped. A stop raises none.
    pub async fn serve(self: Arc<Self>, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let pause = match self.look(Instant::now()).await {
                Ok(pause) => {
                    failing = false;
                    pause
                }
                Err(StoreError::Closed) => return,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "the freshness of mailboxes cannot be recorded; trying again");
                    }
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Records the changes that are due. Returns the time until the next one may be.
    pub async fn look(&self, now: Instant) -> Result<Duration, StoreError> {
        if self.state().firing.is_none() {
            let found = self.alerts.firing_alerts().await?;
            let firing = found
                .into_iter()
                .filter(|it| it.key == alert_key(&it.mailbox));
            let firing = firing.map(|it| (it.mailbox, it.tenant)).collect();
            self.state().firing = Some(firing);
        }
        let changes = self.state().due(now);
        for due in changes {
            let (mailbox, tenant) = (due.change.mailbox.clone(), due.change.tenant.clone());
            let (state, to) = (due.state, due.change.alert.state);
            let changed = self.alerts.set_alert(due.change).await?;
            if let Some(firing) = &mut self.state().firing {
                match to {
                    AlertState::Firing => firing.insert(mailbox.clone(), tenant.clone()),
                    AlertState::Resolved => firing.remove(&mailbox),
                };
            }
            if !changed {
                continue;
            }
            self.outbox_filled.send_replace(());
            match to {
                AlertState::Firing => {
                    tracing::error!(%mailbox, %tenant, state, "mailbox not checked in time; alert raised");
                }
                AlertState::Resolved if state == UNWATCHED => {
                    tracing::info!(%mailbox, %tenant, "mailbox no longer watched; alert resolved");
                }
                AlertState::Resolved => {
                    tracing::info!(%mailbox, %tenant, state, "mailbox checked in time again; alert resolved");
                }
            }
        }
        Ok(self.state().until_next(now))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the changes of alerts that are due, by mailbox.
    fn due(&self, now: Instant) -> Vec<Due> {
        let Some(firing) = &self.firing else {
            return Vec::new();
        };
        let mut due = Vec::new();
        for (mailbox, tenant) in firing {
            let of_tenant = |it: &&Watched| it.tenant == *tenant;
            match self.watched.get(mailbox).filter(of_tenant) {
                None => due.push(self.resolved(mailbox, tenant, "is no longer watched", UNWATCHED)),
                Some(it) if !it.is_late(now) && it.is_good => {
                    due.push(self.resolved(mailbox, tenant, "is checked in time again", "serving"));
                }
                Some(_) => {}
            }
        }
        for (mailbox, watched) in &self.watched {
            if watched.is_late(now) && !firing.contains_key(mailbox) {
                due.push(self.raised(mailbox, watched));
            }
        }
        due.sort_by(|one, other| one.change.mailbox.cmp(&other.change.mailbox));
        due
    }

    fn raised(&self, mailbox: &str, watched: &Watched) -> Due {
        let (state, detail) = match &watched.trouble {
            Some((state, detail)) => (state.name(), detail.as_str()),
            None => ("unknown", ""),
        };
        let objective = shown(watched.objective);
        let mut fields: BTreeMap<String, Value> = BTreeMap::from([
            ("mailbox".to_owned(), mailbox.into()),
            ("mailbox_state".to_owned(), state.into()),
            ("fresh".to_owned(), objective.as_str().into()),
        ]);
        if !detail.is_empty() {
            fields.insert("detail".to_owned(), detail.into());
        }
        let alert = Alert {
            severity: Some("major".into()),
            fields,
            ..self.alert(
                mailbox,
                AlertState::Firing,
                format!("Mailbox {mailbox} was not checked successfully for {objective} (state: {state})"),
            )
        };
        self.due_of(mailbox, &watched.tenant, alert, state)
    }

    fn resolved(&self, mailbox: &str, tenant: &str, how: &str, state: &'static str) -> Due {
        let summary = format!("Mailbox {mailbox} {how}");
        let alert = self.alert(mailbox, AlertState::Resolved, summary);
        self.due_of(mailbox, tenant, alert, state)
    }

    fn alert(&self, mailbox: &str, state: AlertState, summary: String) -> Alert {
        Alert {
            key: alert_key(mailbox),
            state,
            severity: None,
            host: None,
            service: Some("postroom".into()),
            summary: Some(summary),
            fields: BTreeMap::new(),
        }
    }

    fn due_of(&self, mailbox: &str, tenant: &str, alert: Alert, state: &'static str) -> Due {
        let sinks = self.sinks.get(tenant).cloned().unwrap_or_default();
        Due {
            change: ServiceAlert {
                tenant: tenant.to_owned(),
                mailbox: mailbox.to_owned(),
                alert,
                sinks,
            },
            state,
        }
    }

    /// Returns the time until the next mailbox may be late.
    fn until_next(&self, now: Instant) -> Duration {
        let firing = self.firing.as_ref();
        let is_firing = |name: &str| firing.is_some_and(|firing| firing.contains_key(name));
        let waits = self.watched.iter().filter(|(name, _)| !is_firing(name));
        let waits = waits.map(|(_, it)| it.objective.saturating_sub(it.age(now)));
        waits.min().unwrap_or(LOOK_MAX).clamp(LOOK_MIN, LOOK_MAX)
    }
}

impl Watched {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.checked)
    }

    fn is_late(&self, now: Instant) -> bool {
        self.age(now) >= self.objective
    }
}

/// Returns a duration as the configuration writes it, in its largest whole unit.
fn shown(time: Duration) -> String {
    let secs = time.as_secs();
    match secs {
        0 => format!("{}ms", time.as_millis()),
        _ if secs.is_multiple_of(86_400) => format!("{}d", secs / 86_400),
        _ if secs.is_multiple_of(3_600) => format!("{}h", secs / 3_600),
        _ if secs.is_multiple_of(60) => format!("{}m", secs / 60),
        _ => format!("{secs}s"),
    }
}

#[cfg(test)]
mod tests;
