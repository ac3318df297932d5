//! The service's tasks, each with a name, so that the log says which one died.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{Id, JoinError, JoinSet};

/// Tasks that run until the service stops. Dropping it aborts them all.
#[derive(Default)]
pub struct Parts {
    tasks: JoinSet<()>,
    names: HashMap<Id, String>,
}

/// A task that panicked.
#[derive(Debug, thiserror::Error)]
#[error("task `{name}` panicked")]
pub struct Died {
    pub name: String,
    #[source]
    pub error: JoinError,
}

impl Parts {
    pub fn spawn(
        &mut self,
        name: impl Into<String>,
        part: impl Future<Output = ()> + Send + 'static,
    ) {
        let handle = self.tasks.spawn(part);
        self.names.insert(handle.id(), name.into());
    }

    /// Waits for the next task to end; returns `None` when all have ended.
    pub async fn next(&mut self) -> Option<Result<(), Died>> {
        let ended = self.tasks.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        let name = self.names.remove(&id).unwrap_or_default();
        Some(match ended {
            Ok(_) => Ok(()),
            Err(error) => Err(Died { name, error }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_dies_is_named() {
        let mut parts = Parts::default();
        parts.spawn("quiet", async {});
        parts.spawn("mailbox support", async { panic!("a defect") });
        let mut died = Vec::new();
        while let Some(ended) = parts.next().await {
            died.extend(ended.err().map(|it| it.to_string()));
        }
        assert_eq!(died, ["task `mailbox support` panicked"]);
    }
}
