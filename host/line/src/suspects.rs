//! Suspects: after consecutive crashes, the mails that may have caused them are decided one at a time across the whole process.
//! Only then is a crash counted against the mail that was being decided.

use std::sync::Arc;

use postroom_store::StoreError;
use tracing::Instrument;

use super::intake::Intake;

/// The number of consecutive crashes after which mails are suspected. The first crash may have had any cause.
const CRASHES: u32 = 2;

/// Decides the suspects of all mailboxes before anything else, those with the fewest attempts first. Returns how many were
/// decided. A full disk is not a mail's fault and counts nothing.
pub async fn decide<'i>(
    intakes: impl Iterator<Item = &'i mut Intake>,
) -> Result<usize, StoreError> {
    let mut intakes: Vec<&mut Intake> = intakes.collect();
    let Some(line) = intakes.first().map(|intake| intake.line().clone()) else {
        return Ok(0);
    };
    let crashes = line.journal.crashes();
    if crashes < CRASHES {
        return Ok(0);
    }
    let suspects = line
        .journal
        .suspects(line.settings().limits.batch_mails.max(1))
        .await?;
    if !suspects.is_empty() {
        tracing::warn!(
            crashes,
            mails = suspects.len(),
            "the last runs did not stop cleanly: the mails that they may have been deciding are decided one at a time"
        );
    }
    let mut decided = 0;
    for suspect in suspects {
        let intake = intakes
            .iter_mut()
            .find(|intake| intake.mailbox().name == suspect.mailbox);
        let Some(intake) = intake else { continue };
        if line.stop.is_cancelled() {
            return Ok(decided);
        }
        // A mail decided without its rules proves nothing.
        tokio::select! {
            () = line.rules.first_load_of(&intake.mailbox().tenant) => {}
            () = line.stop.cancelled() => return Ok(decided),
        }
        intake.adopt().await?;
        if intake.admit(1).await? == 0 {
            continue;
        }
        let Some(mut mail) = line.journal.pending_mail(suspect.id).await? else {
            continue;
        };
        mail.attempts = line
            .commits
            .failed_attempt(
                mail.id,
                "the process ended while it decided this mail alone",
            )
            .await?;
        let mailbox = Arc::clone(intake.mailbox());
        let deciding = line.process_batch(&mailbox, vec![mail]);
        decided += deciding.instrument(mailbox.span()).await?.decided;
    }
    line.journal.forget_crashes().await?;
    Ok(decided)
}
