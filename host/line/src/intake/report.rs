//! Publishes and records each change of a mailbox's state once, compared with the last reported state.

use std::sync::Arc;
use std::time::Duration;

use postroom_core::MailboxState;
use postroom_mailbox::Renumbering;

use super::{Intake, IntakeError};
use crate::event::{LineEvent, MailboxChanged, StateChange};

impl Intake {
    /// Reports that the failure is over or, at the start, that the mailbox serves.
    pub(super) async fn report_serving(&mut self) {
        if self.is_unsteady() {
            return;
        }
        if let Some(before) = self.said.take() {
            self.changed(StateChange::Serving { before }).await;
        }
    }

    fn is_unsteady(&self) -> bool {
        self.said == Some(MailboxState::Unsteady) && self.streak.short() > 0
    }

    /// Reports that mail waits for room in the outbox, and that it no longer does.
    pub(super) async fn report_crowded(&mut self) {
        if self.crowded_recorded != self.crowded {
            self.crowded_recorded = self.crowded;
            let change = match self.crowded {
                true => StateChange::OutboxFull,
                false => StateChange::Serving {
                    before: MailboxState::OutboxFull,
                },
            };
            self.changed(change).await;
        }
    }

    /// Reports each renumbering once.
    pub(super) async fn report_renumbered(&mut self, renumbering: &Renumbering) {
        if self.said.replace(MailboxState::Renumbered) != Some(MailboxState::Renumbered) {
            self.changed(StateChange::Renumbered(renumbering.clone()))
                .await;
        }
    }

    /// Reports once that some folders cannot be opened while others are read.
    pub(super) async fn report_partly_read(&mut self, reasons: String) {
        if self.is_unsteady() {
            return;
        }
        let is_known = self.unread.as_ref() == Some(&reasons);
        if self.said.replace(MailboxState::PartlyRead) == Some(MailboxState::PartlyRead) && is_known
        {
            return;
        }
        self.unread = Some(reasons.clone());
        self.changed(StateChange::PartlyRead(reasons)).await;
    }

    /// Reports a pause once: the same problem again is not reported.
    pub(super) async fn report_paused(
        &mut self,
        error: &Arc<IntakeError>,
        state: MailboxState,
        pause: Duration,
    ) {
        if self.said.replace(state) == Some(state) {
            tracing::debug!(%state, retry_secs = pause.as_secs(), "still paused: {error}");
            return;
        }
        let error = error.clone();
        self.changed(StateChange::Paused {
            state,
            error,
            pause,
        })
        .await;
    }

    /// Publishes a change of the mailbox's state and records it for people who ask. A disk too full to record it must not cause a
    /// second failure.
    async fn changed(&self, change: StateChange) {
        let (state, detail) = (change.state(), change.detail());
        if let StateChange::Paused { .. } | StateChange::OutboxFull = &change {
            let freshness = &self.line.freshness;
            freshness.troubled(&self.mailbox.name, state, &detail);
        }
        self.line.events.publish(|| {
            LineEvent::MailboxChanged(Arc::new(MailboxChanged {
                mailbox: self.mailbox.clone(),
                change,
            }))
        });
        let journal = &self.line.journal;
        let name = &self.mailbox.name;
        if let Err(error) = journal.set_mailbox_state(name, state, &detail).await {
            tracing::debug!(%error, "the mailbox's state could not be stored");
        }
    }
}
