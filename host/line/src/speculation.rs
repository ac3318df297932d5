//! Speculative execution for tenants whose rules see the effects of earlier decisions: several mails are decided at once against
//! one snapshot; the first conflict and every mail after it are decided again.

use std::collections::HashSet;

use postroom_core::{ThreadMethod, Touches, TroubleKind, ticket_numbers};
use postroom_store::Mark;

use super::decide::{Decided, Parsed};
use postroom_rules::rulebook::{Chain, FailureWindow, MOST_TAKEN_BACK};

/// The most mails decided at once.
const WIDEST: usize = MOST_TAKEN_BACK;

/// The most waves after a conflict before a larger batch is tried.
const LONGEST_PAUSE: usize = 32;

/// The number of mails decided at once, which grows as long as they do not conflict.
pub struct SpeculativeBatch {
    width: usize,
    /// Waves left before a larger batch is tried.
    pause: usize,
    /// The pause after the next conflict. It doubles until more than one mail of a batch is kept.
    next_pause: usize,
}

/// The changes made by decisions that are not committed yet.
#[derive(Default)]
struct Changes<'a> {
    records: Touches,
    /// Rules that wrote to their memory.
    tenant_locks: HashSet<&'a str>,
}

impl Default for SpeculativeBatch {
    fn default() -> Self {
        Self {
            width: 2,
            pause: 0,
            next_pause: 1,
        }
    }
}

impl SpeculativeBatch {
    /// Keeps in `wave` the mails that are to be decided at once, and returns the others.
    pub fn cut(&self, wave: &mut Vec<Parsed>) -> Vec<Parsed> {
        wave.split_off(self.width.min(wave.len()))
    }

    /// Keeps the decisions that would have been the same one by one, and returns the other mails undecided. A mail that was
    /// decided alone is always kept.
    pub fn roll_back_conflicts(
        &mut self,
        chain: &Chain,
        decided: &mut Vec<Decided>,
    ) -> Vec<Parsed> {
        // Failures were counted in the order of completion, which is not the order of the mails.
        decided.iter().rev().for_each(|mail| take_back(chain, mail));
        let is_alone = decided.len() == 1;
        let mut changes = Changes::default();
        let mut holding = 0;
        for mail in decided.iter() {
            if !is_alone && changes.conflict_with(mail, chain) {
                break;
            }
            changes.add(mail);
            holding += 1;
            if count(chain, mail) {
                break;
            }
        }
        self.learn(decided.len(), holding);
        let again = decided.split_off(holding);
        again.into_iter().map(Decided::undecided).collect()
    }

    fn learn(&mut self, decided: usize, holding: usize) {
        if holding < decided {
            self.width = holding.max(1);
            self.pause = self.next_pause;
            self.next_pause = (self.next_pause * 2).min(LONGEST_PAUSE);
            return;
        }
        if holding > 1 {
            self.next_pause = 1;
        }
        match self.pause {
            0 => self.width = (self.width * 2).min(WIDEST),
            _ => self.pause -= 1,
        }
    }
}

impl<'a> Changes<'a> {
    /// Returns whether a mail might be decided differently after these changes.
    fn conflict_with(&self, mail: &Decided, chain: &Chain) -> bool {
        let Ok(answer) = &mail.result else {
            return false;
        };
        let mut lookups = answer.lookups.iter();
        let has_read = lookups.any(|it| it.question.reads().overlap(self.records));
        let remembers = answer.spent.iter().any(|spent| {
            let rule = chain.rules.get(spent.rule);
            rule.is_some_and(|rule| self.tenant_locks.contains(rule.name.as_str()))
        });
        let troubles = &answer.decision.troubles;
        // The reads that led to a failure are not always recorded.
        let is_unsure = !self.records.is_nothing() && !troubles.is_empty();
        let is_in = |name: &str| {
            let mut rules = chain.rules.iter();
            rules.any(|rule| rule.name == name && !rule.strikes.is_out())
        };
        let went_without = troubles
            .iter()
            .any(|it| it.kind == TroubleKind::SentBack && is_in(&it.rule));
        // The participants of a ticket may have changed.
        let is_thread = self.records.tickets && answer.decision.thread.is_some();
        let mut steps = answer.decision.provenance.steps.iter();
        let is_numbered = steps.any(|it| it.method == ThreadMethod::ForeignNumber);
        let is_thread = is_thread || (self.records.tickets && is_numbered);
        has_read || remembers || is_unsure || went_without || is_thread || self.may_be_named(mail)
    }

    /// Returns whether a mail's subject might name a ticket that is only now being opened.
    fn may_be_named(&self, mail: &Decided) -> bool {
        let subject = mail.message().map(|message| &message.subject);
        self.records.tickets && subject.is_some_and(|subject| !ticket_numbers(subject).is_empty())
    }

    fn add(&mut self, mail: &'a Decided) {
        let Ok(answer) = &mail.result else {
            return;
        };
        for action in &answer.decision.actions {
            self.records = self.records.and(action.touches());
        }
        let writes = answer.kv_writes.iter();
        self.tenant_locks.extend(writes.map(|it| it.rule.as_str()));
    }
}

/// Returns each rule's result on a mail, as its failure window counted it.
fn counted<'a>(
    chain: &'a Chain,
    mail: &'a Decided,
) -> impl Iterator<Item = (&'a FailureWindow, Mark)> {
    let spent = mail.result.iter().flat_map(|answer| &answer.spent);
    spent.filter_map(|spent| {
        let rule = chain.rules.get(spent.rule)?;
        Some((&rule.strikes, spent.mark?))
    })
}

fn take_back(chain: &Chain, mail: &Decided) {
    for (strikes, mark) in counted(chain, mail) {
        strikes.take_back(mark);
    }
}

/// Counts a mail once more. Returns whether that was one failure too many for a rule: the mails behind it are then decided by
/// another version, or may look up the alert that is raised.
fn count(chain: &Chain, mail: &Decided) -> bool {
    let mut is_too_many = false;
    for (strikes, mark) in counted(chain, mail) {
        strikes.count(mark);
        is_too_many |= strikes.is_out() || strikes.must_tell();
    }
    is_too_many
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of decisions that `mails` mails take if `holding` gives how many of those decided at once are kept.
    fn decisions(mails: usize, holding: impl Fn(usize) -> usize) -> usize {
        let mut batch = SpeculativeBatch::default();
        let (mut left, mut made) = (mails, 0);
        while left > 0 {
            let width = batch.width.min(left);
            let holding = holding(width).min(width);
            made += width;
            left -= holding;
            batch.learn(width, holding);
        }
        made
    }

    #[test]
    fn few_decisions_are_rolled_back_however_often_mails_conflict() {
        assert_eq!(decisions(256, |width| width), 256);
        let rolled_back = decisions(1000, |_| 1) - 1000;
        assert!(rolled_back < 50, "{rolled_back}");
        let rolled_back = decisions(1000, |_| 10) - 1000;
        assert!(rolled_back < 500, "{rolled_back}");
    }

    #[test]
    fn mails_without_conflicts_soon_go_together() {
        let mut batch = SpeculativeBatch::default();
        for _ in 0..5 {
            batch.learn(batch.width, batch.width);
        }
        assert_eq!(batch.width, WIDEST);
        batch.learn(WIDEST, 7);
        assert_eq!(batch.width, 7);
        batch.learn(7, 7);
        assert_eq!(batch.width, 7);
        batch.learn(7, 7);
        assert_eq!(batch.width, 14);
    }
}
