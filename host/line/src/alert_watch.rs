//! The watch over alerts: expected mails that do not come, and holds and storms that are over.
//!
//! Due times are stored, so that a restart forgets nothing. An expected mail counts as missing only once its mailbox was checked
//! after the time was over: a service that was down fetches first. Nothing is due while the clock is in doubt.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postroom_config::Config;
use postroom_core::{Clock, EventKind, ItemKind};
use postroom_store::{AlertOutlets, AlertWatch as DueAlerts, DueAlert, DueKind, StoreError};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Timekeeper;

/// The pause after a failure of the store.
const RETRY: Duration = Duration::from_secs(10);
/// The shortest pause between two looks.
const LOOK_MIN: Duration = Duration::from_secs(1);
/// The longest pause between two looks: a mail may have expected another one sooner.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// The most that is read at a time.
const PAGE: usize = 500;

/// Watches what becomes due without a mail.
pub struct AlertWatch {
    store: Arc<dyn DueAlerts>,
    clock: Clock,
    /// The bell to ring when an alert is in the outbox.
    outbox_filled: watch::Sender<()>,
    state: Mutex<State>,
    /// Wakes the task when a mailbox was checked for which something waits.
    wake: Notify,
}

#[derive(Default)]
struct State {
    /// By tenant.
    outlets: HashMap<String, AlertOutlets>,
    /// When each mailbox was last checked and its mail decided.
    checked_ms: HashMap<String, i64>,
    /// The mailboxes whose next check decides whether an expected mail is missing.
    awaited: Vec<String>,
}

impl AlertWatch {
    pub fn new(
        config: &Config,
        store: Arc<dyn DueAlerts>,
        clock: Clock,
        outbox_filled: watch::Sender<()>,
    ) -> Self {
        let watch = Self {
            store,
            clock,
            outbox_filled,
            state: Mutex::default(),
            wake: Notify::new(),
        };
        watch.configure(config);
        watch
    }

    /// Takes over the alert policies and sinks of a configuration.
    pub fn configure(&self, config: &Config) {
        let outlets = config.tenants.iter().map(|tenant| {
            let sinks = config.sinks.iter();
            let takers = sinks.filter(|sink| sink.takes(&tenant.name, ItemKind::Alert));
            let outlets = AlertOutlets {
                policy: tenant.alerts.clone(),
                sinks: takers.map(|sink| sink.name.clone()).collect(),
            };
            (tenant.name.clone(), outlets)
        });
        self.state().outlets = outlets.collect();
    }

    /// Records that a mailbox was checked, and that its mail is decided.
    pub fn checked(&self, mailbox: &str) {
        let mut state = self.state();
        let now_ms = self.clock.now_ms();
        match state.checked_ms.get_mut(mailbox) {
            Some(checked_ms) => *checked_ms = now_ms,
            None => {
                state.checked_ms.insert(mailbox.to_owned(), now_ms);
            }
        }
        if state.awaited.iter().any(|it| it == mailbox) {
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Raises and delivers what becomes due, until stopped.
    pub async fn serve(self: Arc<Self>, time: Arc<Timekeeper>, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let pause = match self.look(&time).await {
                Ok(pause) => {
                    failing = false;
                    pause
                }
                Err(StoreError::Closed) => return,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "alerts that are due cannot be recorded; trying again");
                    }
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(LOOK_MIN) => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(pause.saturating_sub(LOOK_MIN)) => {}
                () = self.wake.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Applies what is due. Returns the time until the next look.
    pub async fn look(&self, time: &Timekeeper) -> Result<Duration, StoreError> {
        if !time.is_confirmed() {
            return Ok(LOOK_MAX);
        }
        self.state().awaited.clear();
        let mut skipped = 0;
        loop {
            let page = self.store.due_alerts(PAGE, skipped).await?;
            let is_last = page.len() < PAGE;
            for due in page {
                match self.outlets(&due) {
                    Some(outlets) => self.apply(due, outlets).await?,
                    None => skipped += 1,
                }
            }
            if is_last {
                break;
            }
        }
        let next_ms = self.store.next_due_alert().await?;
        let pause_ms = next_ms.map(|next| next.saturating_sub(self.clock.now_ms()));
        let pause = pause_ms.and_then(|ms| u64::try_from(ms).ok());
        // What is overdue already waits for its mailbox.
        Ok(pause.map_or(LOOK_MAX, Duration::from_millis).min(LOOK_MAX))
    }

    /// Returns where the alert goes; `None` if it has to wait for a check of its mailbox, or nothing is configured for its tenant.
    fn outlets(&self, due: &DueAlert) -> Option<AlertOutlets> {
        let mut state = self.state();
        let checked_ms = state.checked_ms.get(&due.mailbox);
        let is_checked = checked_ms.is_some_and(|checked| *checked >= due.due_ms);
        if due.kind == DueKind::Expectation && !is_checked {
            if !state.awaited.contains(&due.mailbox) {
                state.awaited.push(due.mailbox.clone());
            }
            return None;
        }
        state.outlets.get(&due.tenant).cloned()
    }

    async fn apply(&self, due: DueAlert, outlets: AlertOutlets) -> Result<(), StoreError> {
        let DueAlert {
            kind,
            tenant,
            mailbox,
            key,
            ..
        } = due.clone();
        let event = self.store.apply_due_alert(due, outlets).await?;
        self.outbox_filled.send_replace(());
        match (kind, event) {
            (DueKind::Expectation, Some(_)) => {
                tracing::warn!(%tenant, %mailbox, %key, "expected mail did not arrive in time; alert raised");
            }
            (DueKind::Hold, Some(EventKind::AlertFiring)) => {
                tracing::info!(%tenant, %key, "alert still firing after its hold; delivered");
            }
            (DueKind::Hold, Some(_)) => {
                tracing::info!(%tenant, %key, "alert resolved during its hold; delivered");
            }
            // The store logs the end of a storm.
            _ => {}
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
