//! Rule versions that must not go live again: rolled back by a person, or automatically after too many failures.

use std::collections::BTreeMap;
use std::path::Path;

use postroom_core::{Alert, AlertPolicy, AlertState, ContentHash, EventKind, InstallationSecret};
use rusqlite::{Connection, TransactionBehavior};

use super::alerts::{self, Report};
use super::commit::{JournalledMail, event};
use super::generations::{self, Set, Version};
use super::history::{self, Keep};
use super::items::Origin;
use super::options::StoreOptions;
use super::outbox::{self, NewEntry};
use super::schema;
use super::{SqliteReader, SqliteStore};
use crate::{
    DecisionId, GenerationCause, JournalId, OutboxKind, RefusedRule, Rollback, RolledBack,
    SentBack, StoreError,
};

/// Makes the versions of an earlier generation the newest generation, and refuses those that they replace. Works with or without
/// a running service, which follows as soon as it sees the change. Drops no generation, whatever the options say: the process
/// that saves one decides how many are kept.
///
/// # Errors
/// [`StoreError::NoSuchGeneration`] if it is not kept, [`StoreError::RulesNotKept`] if only the given tenant's rules are not.
pub(crate) fn roll_back(
    data_dir: &Path,
    wanted: &Rollback,
    options: &StoreOptions,
) -> Result<RolledBack, StoreError> {
    let mut conn = schema::open_beside(data_dir, options)?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = write_rollback(&tx, wanted, options.clock.now_ms())?;
    tx.commit()?;
    Ok(done)
}

impl SqliteStore {
    /// Refuses a version that failed on too many mails, and raises its alert, in one transaction.
    pub(crate) async fn write_sent_back(&self, rule: SentBack) -> Result<(), StoreError> {
        let (secret, now_ms) = (self.installation.secret.clone(), self.clock.now_ms());
        self.writer
            .submit(0, move |conn| {
                let SentBack { tenant, name, .. } = &rule;
                refuse(conn, tenant, name, rule.hash, &rule.reason, now_ms)?;
                let firing = Some((rule.decision, &rule.alert));
                let (key, sinks) = (&rule.alert.key, &rule.sinks);
                tell(conn, &secret, tenant, firing, key, sinks, now_ms)
            })
            .await
    }

    /// Raises the alert of a version that fails but is not refused.
    pub(crate) async fn write_rule_alert(
        &self,
        tenant: String,
        decision: DecisionId,
        alert: Alert,
        sinks: Vec<String>,
    ) -> Result<(), StoreError> {
        let (secret, now_ms) = (self.installation.secret.clone(), self.clock.now_ms());
        self.writer
            .submit(0, move |conn| {
                let firing = Some((decision, &alert));
                tell(conn, &secret, &tenant, firing, &alert.key, &sinks, now_ms)
            })
            .await
    }

    /// Forgets the refused versions of a rule whose changed file went live, and resolves its alert.
    pub(crate) async fn write_forgiven(
        &self,
        tenant: String,
        name: String,
        alert_key: String,
        sinks: Vec<String>,
    ) -> Result<(), StoreError> {
        let (secret, now_ms) = (self.installation.secret.clone(), self.clock.now_ms());
        self.writer
            .submit(0, move |conn| {
                conn.prepare_cached("DELETE FROM rule_refused WHERE tenant = ?1 AND name = ?2")?
                    .execute((&tenant, &name))?;
                tell(conn, &secret, &tenant, None, &alert_key, &sinks, now_ms)
            })
            .await
    }
}

impl SqliteReader {
    /// Returns every refused version, by tenant and name.
    pub(crate) fn refused_rules(&self) -> Result<Vec<RefusedRule>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT tenant, name, hash, reason FROM rule_refused ORDER BY tenant, name, refused_ms",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(RefusedRule {
                    tenant: row.get(0)?,
                    name: row.get(1)?,
                    hash: ContentHash(row.get(2)?),
                    reason: row.get(3)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

fn write_rollback(
    conn: &Connection,
    wanted: &Rollback,
    now_ms: i64,
) -> Result<RolledBack, StoreError> {
    let newest = generations::newest(conn)?;
    let to = match wanted.to {
        Some(number) => i64::try_from(number).unwrap_or(i64::MAX),
        None => match &wanted.tenant {
            Some(tenant) => generations::change_before(conn, tenant)?.unwrap_or(newest - 1),
            None => newest - 1,
        },
    };
    if !generations::exists(conn, to)? {
        return Err(StoreError::NoSuchGeneration {
            number: to.unsigned_abs(),
        });
    }
    let mut not_kept = history::partly_kept(conn, to)?;
    not_kept.retain(|tenant| wanted.tenant.as_ref().is_none_or(|it| it == tenant));
    if let (Some(tenant), false) = (&wanted.tenant, not_kept.is_empty()) {
        return Err(StoreError::RulesNotKept {
            number: to.unsigned_abs(),
            tenant: tenant.clone(),
        });
    }
    let mut set = generations::set_of(conn, newest)?;
    not_kept.retain(|tenant| set.keys().any(|(it, _)| it == tenant));
    let target = generations::set_of(conn, to)?;
    let concerned = |(tenant, name): &(String, String)| {
        wanted.tenant.as_ref().is_none_or(|it| it == tenant)
            && wanted.name.as_ref().is_none_or(|it| it == name)
            && !not_kept.contains(tenant)
    };
    let mut rules = Vec::new();
    for (key, now) in set.iter_mut().filter(|(key, _)| concerned(key)) {
        let Some(then) = target.get(key).filter(|then| then.hash != now.hash) else {
            continue;
        };
        let reason = format!("rolled back to generation {to}");
        refuse(conn, &key.0, &key.1, now.hash, &reason, now_ms)?;
        conn.prepare_cached(
            "DELETE FROM rule_refused WHERE tenant = ?1 AND name = ?2 AND hash = ?3",
        )?
        .execute((&key.0, &key.1, &then.hash.0))?;
        // Settings and grants belong to the configuration, whatever the files contain.
        now.hash = then.hash;
        rules.push(key.clone());
    }
    let generation = match rules.is_empty() {
        true => None,
        false => {
            let cause = GenerationCause::RolledBack {
                to: to.unsigned_abs(),
            };
            let rules = versions(&set);
            Some(generations::save(conn, &rules, cause, Keep::ALL, now_ms)?)
        }
    };
    Ok(RolledBack {
        to: to.unsigned_abs(),
        generation,
        rules,
        not_kept,
    })
}

fn versions(set: &Set) -> Vec<Version<'_>> {
    set.iter()
        .map(|((tenant, name), standing)| Version {
            tenant,
            name,
            hash: standing.hash,
            bytes: None,
            settings: &standing.settings,
            grants: &standing.grants,
        })
        .collect()
}

fn refuse(
    conn: &Connection,
    tenant: &str,
    name: &str,
    hash: ContentHash,
    reason: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO rule_refused (tenant, name, hash, reason, refused_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((tenant, name, &hash.0, reason, now_ms))?;
    Ok(())
}

/// Writes a tenant's alert about a rule and queues it for the sinks. Without a mail that caused it, the alert is resolved if it
/// was raised.
fn tell(
    conn: &Connection,
    secret: &InstallationSecret,
    tenant: &str,
    firing: Option<(DecisionId, &Alert)>,
    key: &str,
    sinks: &[String],
    now_ms: i64,
) -> Result<(), StoreError> {
    let (decision, alert) = match firing {
        Some((decision, alert)) => (decision, alert.clone()),
        None => match raised(conn, tenant, key)? {
            Some(decision) => (decision, resolved(key)),
            None => return Ok(()),
        },
    };
    let mail = JournalledMail::read(conn, JournalId(decision.0))?;
    let origin = Origin {
        tenant: mail.tenant_row,
        decision: Some(decision),
        now_ms,
        // The alert is about the rule's current state, whatever mail it failed on.
        old: false,
    };
    let policy = AlertPolicy::of_postroom();
    let report = Report::of_postroom(&alert, &policy, now_ms);
    let item = alerts::report(conn, origin, &report)?.item;
    let kind = EventKind::of(alert.state);
    let payload = event(conn, kind, item, &mail, origin)?;
    for sink in sinks {
        let identity = mail.identity();
        let entry = NewEntry {
            kind: OutboxKind::Sink,
            target: sink,
            tenant: mail.tenant_row,
            decision: Some(decision),
            lane: Some(item),
            idempotency_key: &identity.rule_alert_key(secret, key, alert.state, sink),
            payload: &payload,
        };
        outbox::add(conn, &entry, origin.now_ms)?;
    }
    Ok(())
}

/// Returns the mail that caused a firing alert.
fn raised(conn: &Connection, tenant: &str, key: &str) -> Result<Option<DecisionId>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT i.decision FROM item i JOIN tenant t ON t.id = i.tenant
         WHERE i.kind = 2 AND t.name = ?1 AND i.alert_key = ?2 AND i.state = 'firing'",
    )?;
    let mut rows = statement.query((tenant, key))?;
    Ok(rows
        .next()?
        .map(|row| row.get(0))
        .transpose()?
        .map(DecisionId))
}

fn resolved(key: &str) -> Alert {
    Alert {
        key: key.to_owned(),
        state: AlertState::Resolved,
        severity: None,
        host: None,
        service: None,
        summary: None,
        fields: BTreeMap::new(),
    }
}
