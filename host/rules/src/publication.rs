//! The rule book's reports of a reload: a hook before anything goes live, and an event after it.

use std::sync::Arc;

use crate::directory::DirectoryReloaded;
use crate::rulebook::{Change, Reloaded};

/// The result of one reload, whole: what went live together, what was refused, and what was rolled back.
#[derive(Debug)]
pub enum ReloadEvent {
    Rules(Reloaded),
    /// Contacts and assets.
    Directory(DirectoryReloaded),
}

/// Takes the rule book's events. It must not wait: the next reload does.
pub type Publish = Arc<dyn Fn(ReloadEvent) + Send + Sync>;

/// Sees a change before it goes live. This is no event: the change waits until the hook returns, so a reader of events, which
/// nothing waits for, cannot do it.
pub trait PublishHook: Send + Sync {
    /// Whether the rules of every tenant have to pass their own tests, not only of those with `rule_tests`.
    fn wants_tests(&self) -> bool;

    /// Inspects a change. It goes live when this returns, one change at a time. Called on a thread that may block.
    fn before_publish(&self, change: &Change<'_>);
}

/// How a reload is watched.
pub struct ReloadWatch {
    pub publish: Publish,
    pub hook: Option<Arc<dyn PublishHook>>,
}

impl ReloadWatch {
    /// Whether the rules of every tenant have to pass their own tests.
    pub(crate) fn wants_tests(&self) -> bool {
        self.hook.as_ref().is_some_and(|hook| hook.wants_tests())
    }

    pub(crate) fn before_publish(&self, change: &Change<'_>) {
        if let Some(hook) = &self.hook {
            hook.before_publish(change);
        }
    }

    pub(crate) fn reloaded(&self, reloaded: Reloaded) {
        (self.publish)(ReloadEvent::Rules(reloaded));
    }

    pub(crate) fn directory_reloaded(&self, reloaded: DirectoryReloaded) {
        (self.publish)(ReloadEvent::Directory(reloaded));
    }
}
