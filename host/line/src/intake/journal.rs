//! The first step of a fetched batch: it becomes durable together with the new cursor.

use postroom_mailbox::{Batch, InFlightPermit};
use postroom_store::{PendingMail, StoreError};

use crate::{Line, Mailbox};

/// Makes a fetched batch durable together with the new cursor. Returns the mails to decide, and the room they occupy.
pub(super) async fn journal(
    line: &Line,
    mailbox: &Mailbox,
    batch: Option<Batch>,
) -> Result<(Vec<PendingMail>, InFlightPermit), StoreError> {
    let Some(batch) = batch else {
        return Ok((Vec::new(), InFlightPermit::default()));
    };
    // These are recorded before the cursor, which states that they were passed over.
    if !batch.passed.is_empty() {
        let journal = &line.journal;
        journal
            .remember_positions(&mailbox.name, batch.passed)
            .await?;
    }
    let positions = batch.remember.then(|| {
        let mails = batch.messages.iter();
        mails.map(|mail| mail.position.clone()).collect()
    });
    let pending = line.journal(mailbox, batch.messages, batch.cursor).await?;
    // Positions are recorded after the mail itself: after a crash in between, the mail is fetched again, and the journal
    // recognises it.
    if let Some(positions) = positions {
        let journal = &line.journal;
        journal.remember_positions(&mailbox.name, positions).await?;
    }
    Ok((pending, batch.room))
}
