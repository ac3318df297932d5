//! Observers of reloads: the log, or a view that sees changes before they go live.

use crate::directory::Reread;
use crate::rulebook::{Change, Refusal, Reloaded};

/// The most rules named in one log line; further ones are counted.
const NAMED: usize = 10;

/// Observes each save of a rule, of contacts and of assets.
pub trait Audience: Send + Sync {
    /// Returns whether the rules of every tenant have to pass their own tests, not only of those with `rule_tests`.
    fn wants_tests(&self) -> bool {
        false
    }

    /// Shows a change, which goes live when this returns, one change at a time. Called on a thread that may block.
    fn rehearse(&self, _change: &Change<'_>) {}

    /// Reports the result of a reload, once.
    fn reloaded(&self, reloaded: &Reloaded);

    /// Reports the result of a look at the contacts and assets, once.
    fn reread(&self, reread: &Reread);
}

/// Writes to the log.
pub struct Log;

impl Audience for Log {
    fn reloaded(&self, reloaded: &Reloaded) {
        for (rule, reason) in &reloaded.refused {
            match reason {
                Refusal::Returned { .. } => {
                    tracing::info!(tenant = %rule.tenant, rule = %rule.name, "an earlier version is live: {reason}");
                }
                _ => {
                    tracing::error!(tenant = %rule.tenant, rule = %rule.name, "rule not loaded: {reason}");
                }
            }
        }
        if let Some(generation) = reloaded.generation.filter(|_| !reloaded.live.is_empty()) {
            let first = reloaded.live.iter().take(NAMED);
            let mut names: Vec<String> = first
                .map(|rule| format!("{}/{}", rule.tenant, rule.name))
                .collect();
            if let Some(more) = reloaded
                .live
                .len()
                .checked_sub(NAMED)
                .filter(|more| *more > 0)
            {
                names.push(format!("and {more} more"));
            }
            tracing::info!(generation, rules = %names.join(", "), "rules are live");
        }
        for rule in &reloaded.returned {
            let generation = reloaded.generation.unwrap_or_default();
            tracing::warn!(generation, tenant = %rule.tenant, rule = %rule.name, "rolled back to the previous version");
        }
    }

    fn reread(&self, reread: &Reread) {
        for (tenant, problem) in &reread.refused {
            tracing::error!(%tenant, "not applied: {problem}");
        }
        for (tenant, file) in &reread.live {
            tracing::info!(%tenant, file, "contacts or assets are live");
        }
        for (tenant, file) in &reread.returned {
            tracing::warn!(%tenant, file, "serving the last valid version");
        }
    }
}
