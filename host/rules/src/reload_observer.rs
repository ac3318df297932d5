//! Observers of saves: the log, or a view that sees them before they go live.

use crate::directory::DirectoryReloaded;
use crate::rulebook::{Change, LoadRefusal, Reloaded};

/// Rules that one line of the log names; the others are counted.
const NAMED: usize = 10;

/// Observes each save of a rule, of contacts and of assets.
pub trait ReloadObserver: Send + Sync {
    /// Whether the rules of every tenant have to pass their own tests, not only of those with `rule_tests`.
    fn wants_tests(&self) -> bool {
        false
    }

    /// Shows what changed. It goes live when this returns, one change at a time; called where it may block.
    fn before_publish(&self, _change: &Change<'_>) {}

    /// Says what became of it, once.
    fn reloaded(&self, reloaded: &Reloaded);

    /// Says what a look at the contacts and assets did, once.
    fn reread(&self, reread: &DirectoryReloaded);
}

/// Tells the log.
pub struct Log;

impl ReloadObserver for Log {
    fn reloaded(&self, reloaded: &Reloaded) {
        for (rule, reason) in &reloaded.refused {
            match reason {
                LoadRefusal::Returned { .. } => {
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

    fn reread(&self, reread: &DirectoryReloaded) {
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
