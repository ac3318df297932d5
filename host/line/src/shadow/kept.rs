//! The record of each mail that a shadow decided, and its conversion to the form of a replay.

use std::time::Duration;

use postroom_core::Decision;
use postroom_store::{RecordedMail, Records, ShadowMail, ShadowResult, StoreError};
use serde::{Deserialize, Serialize};

use crate::replay::{Compared, Comparison, End, MailboxUnderTest, Replayed, Unrecorded};
use postroom_rules::chain_run::RuleCost;

/// A difference as stored. The rule's decision is in the decision's own record.
#[derive(Serialize, Deserialize)]
struct Kept {
    after: Decision,
    unrecorded: Vec<Unrecorded>,
}

/// Builds the record of one mail. The candidate stands in the place of `rule`.
pub fn shadow_mail(
    mail: &RecordedMail,
    end: &End,
    rule: &str,
    room: &MailboxUnderTest,
) -> Result<ShadowMail, StoreError> {
    let compared = match end {
        End::Decided(compared) => compared,
        End::Skipped(skip) => {
            return Ok(ShadowMail {
                mail: mail.id,
                result: ShadowResult::Skipped(skip.name().to_owned()),
                unrecorded: false,
                elapsed_us: None,
                memory_bytes: None,
                trouble: None,
                difference: None,
            });
        }
    };
    let place = room.place_of(rule);
    let spent = compared.spent.iter().find(|it| Some(it.rule) == place);
    let trouble = compared.after.troubles.iter().find(|it| it.rule == rule);
    let difference = match compared.verdict {
        Comparison::Same => None,
        _ => Some(serde_json::to_string(&Kept {
            after: compared.after.clone(),
            unrecorded: compared.unrecorded.clone(),
        })?),
    };
    Ok(ShadowMail {
        mail: mail.id,
        result: match &compared.verdict {
            Comparison::Same => ShadowResult::Same,
            Comparison::Changed(words) => ShadowResult::Changed(words.clone()),
            Comparison::Failed => ShadowResult::Failed,
            Comparison::Fixed => ShadowResult::Fixed,
        },
        unrecorded: !compared.unrecorded.is_empty(),
        elapsed_us: spent.map(|it| u64::try_from(it.elapsed.as_micros()).unwrap_or(u64::MAX)),
        memory_bytes: spent.map(|it| it.memory_bytes as u64),
        trouble: trouble.map(|it| it.kind),
        difference,
    })
}

/// Returns a mail that was decided differently, with both decisions, or `None` if they were not kept.
pub fn replayed(records: &dyn Records, kept: &ShadowMail) -> Result<Option<Replayed>, StoreError> {
    let verdict = match &kept.result {
        ShadowResult::Changed(words) => Comparison::Changed(words.clone()),
        ShadowResult::Failed => Comparison::Failed,
        ShadowResult::Fixed => Comparison::Fixed,
        ShadowResult::Same | ShadowResult::Skipped(_) => return Ok(None),
    };
    let (Some(difference), Some(mail), Some(evidence)) = (
        &kept.difference,
        records.recorded_mail(kept.mail)?,
        records.evidence(kept.mail)?,
    ) else {
        return Ok(None);
    };
    let Kept { after, unrecorded } = serde_json::from_str(difference)?;
    let recorded = evidence.read(mail.outcome)?;
    let spent = kept.elapsed_us.zip(kept.memory_bytes);
    let spent = spent.map(|(elapsed_us, memory_bytes)| RuleCost {
        rule: 0,
        elapsed: Duration::from_micros(elapsed_us),
        memory_bytes: usize::try_from(memory_bytes).unwrap_or(usize::MAX),
        mark: None,
    });
    Ok(Some(Replayed {
        mail,
        end: End::Decided(Box::new(Compared {
            from: recorded.from,
            subject: recorded.subject,
            verdict,
            before: recorded.decision,
            after,
            unrecorded,
            spent: spent.into_iter().collect(),
        })),
    }))
}
