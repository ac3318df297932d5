//! Refused rule versions: rolled back by a person, or automatically after too many failures.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use postroom_core::{Alert, AlertState, ContentHash, ItemKind};
use postroom_sandbox::Rule;
use postroom_store::{DecisionId, RefusedRule, SentBack, StoreError, StrikeRecord};

use super::{LiveRule, RuleBook, RuleId};
use postroom_config::{Config, OnFailure};

/// The longest key of an alert, as for alerts of rules.
const ALERT_KEY_BYTES: usize = 512;

impl RuleBook {
    /// Rolls back a version that failed for too many senders, the last time on the given mail, to the previous version
    /// until the file changes. If there is none, the version stays. One alert reports either. Returns whether another
    /// version is live now.
    pub async fn send_back(
        self: &Arc<Self>,
        tenant: &str,
        rule: &Arc<LiveRule>,
        decision: DecisionId,
        last_trouble: &str,
    ) -> Result<bool, StoreError> {
        let wiring = self.wiring.load_full();
        let Some(owner) = wiring.tenant(tenant) else {
            return Ok(false);
        };
        let _one_at_a_time = owner.sending_back.lock().await;
        let id = RuleId {
            tenant: tenant.to_owned(),
            name: rule.name.clone(),
        };
        let serves = self
            .live
            .load()
            .rules
            .get(&id)
            .is_some_and(|it| Arc::ptr_eq(it, rule));
        let Some(hash) = rule.rule.as_ref().ok().map(Rule::hash).filter(|_| serves) else {
            return Ok(false);
        };
        let failed = rule.strikes.in_words();
        let before = self.versions.good_before(tenant, &rule.name, &hash).await?;
        let Some(generation) = before else {
            return self
                .report_staying(tenant, rule, decision, last_trouble)
                .await;
        };
        let sent_back = SentBack {
            tenant: tenant.to_owned(),
            name: rule.name.clone(),
            hash,
            reason: format!("rolled back: it {failed}"),
            decision,
            alert: alert(
                &rule.name,
                &format!(
                    "The rule {} {failed}: its version of generation {generation} is live again until the file changes. Last: {last_trouble}",
                    rule.name
                ),
            ),
            sinks: wiring.alert_sinks(tenant),
        };
        self.versions.send_back(sent_back).await?;
        self.reload_tenant(owner).await?;
        Ok(true)
    }

    /// Raises the alert of a failing version that stays because nothing can replace it.
    async fn report_staying(
        &self,
        tenant: &str,
        rule: &LiveRule,
        decision: DecisionId,
        last_trouble: &str,
    ) -> Result<bool, StoreError> {
        rule.strikes.stay();
        if !rule.strikes.must_tell() {
            return Ok(false);
        }
        let failed = rule.strikes.in_words();
        let what_then = match rule.on_failure {
            OnFailure::Pass => "the next rule decides the mails it fails on",
            OnFailure::Quarantine => "the mails it fails on are quarantined",
            OnFailure::Fallback => "the mails it fails on become plain tickets",
        };
        let summary = format!(
            "The rule {} {failed}. It has no earlier version, so it stays in the chain, and {what_then}. Last: {last_trouble}",
            rule.name
        );
        let alert = alert(&rule.name, &summary);
        self.versions
            .report_rule(
                tenant,
                decision,
                alert,
                self.wiring.load().alert_sinks(tenant),
            )
            .await?;
        rule.strikes.told();
        Ok(false)
    }

    /// Stores the counts for the next process. The counts of tenants whose rules were never loaded stay unchanged.
    pub async fn keep_strikes(&self) -> Result<(), StoreError> {
        let mut kept = self.versions.strikes().await?;
        let wiring = self.wiring.load_full();
        kept.retain(|it| wiring.tenant(&it.tenant).is_some_and(|it| !it.is_loaded()));
        let live = self.live.load_full();
        // The live rules of a tenant that is being loaded again may be another configuration's.
        let loaded = |id: &RuleId| wiring.tenant(&id.tenant).is_some_and(|it| it.is_loaded());
        let rules = live.rules.iter().filter(|(id, _)| loaded(id));
        let records = rules.filter_map(|(id, rule)| {
            Some(StrikeRecord {
                tenant: id.tenant.clone(),
                name: id.name.clone(),
                hash: rule.rule.as_ref().ok()?.hash(),
                last: rule.strikes.failing()?,
            })
        });
        kept.extend(records);
        self.versions.save_strikes(kept).await
    }
}

/// The versions that must not run.
pub struct Refused(pub Vec<RefusedRule>);

impl Refused {
    pub fn has(&self, id: &RuleId) -> bool {
        self.0.iter().any(|it| is_of(it, id))
    }

    /// Returns why a version is refused, by its hash in hexadecimal.
    pub fn reason(&self, id: &RuleId, hash: &str) -> Option<&str> {
        let mut all = self.0.iter().filter(|it| is_of(it, id));
        all.find(|it| it.hash.hex() == hash)
            .map(|it| it.reason.as_str())
    }
}

fn is_of(refused: &RefusedRule, id: &RuleId) -> bool {
    refused.tenant == id.tenant && refused.name == id.name
}

/// Returns the key of the alert that reports a rule's rollback.
pub fn alert_key(rule: &str) -> String {
    let key = format!("postroom/rule/{rule}");
    match key.len() > ALERT_KEY_BYTES {
        // A path this long is identified by its hash.
        true => format!("postroom/rule/{}", ContentHash::of(rule.as_bytes())),
        false => key,
    }
}

fn alert(rule: &str, summary: &str) -> Alert {
    Alert {
        key: alert_key(rule),
        state: AlertState::Firing,
        severity: Some("major".into()),
        host: None,
        service: Some("postroom".into()),
        summary: Some(summary.into()),
        fields: BTreeMap::from([("rule".to_owned(), rule.into())]),
    }
}

pub fn alert_sinks(config: &Config) -> HashMap<String, Vec<String>> {
    let takers = |tenant: &str| {
        let sinks = config.sinks.iter();
        sinks
            .filter(|sink| sink.takes(tenant, ItemKind::Alert))
            .map(|sink| sink.name.clone())
            .collect()
    };
    let tenants = config.tenants.iter();
    tenants
        .map(|tenant| (tenant.name.clone(), takers(&tenant.name)))
        .collect()
}
