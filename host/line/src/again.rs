//! Notices that a person has mails decided again, so that their mailboxes do not wait for the next check.

use std::sync::Arc;
use std::time::Duration;

use postroom_store::Journal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The interval of the checks.
const EVERY: Duration = Duration::from_millis(250);

/// The bell of mails to be decided again.
pub struct Again {
    journal: Arc<dyn Journal>,
    bell: watch::Sender<()>,
}

impl Again {
    pub fn new(journal: Arc<dyn Journal>) -> Self {
        Self {
            journal,
            bell: watch::Sender::new(()),
        }
    }

    /// Returns a receiver that changes when there may be mail to decide again.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }

    /// Checks until stopped. A store that cannot be read is reported where mail is read from it.
    pub async fn serve(self: Arc<Self>, stop: CancellationToken) {
        let mut seen = None;
        loop {
            if let Ok(now) = self.journal.mail_changes().await
                && seen.replace(now).is_some_and(|before| before != now)
            {
                self.bell.send_replace(());
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}
