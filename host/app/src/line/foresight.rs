//! Tenants whose rules see what earlier decisions changed: several mails are decided at once, each on what was there before all of
//! them, and the first that would have seen a change is decided again, with those behind it.

use std::collections::HashSet;

use postroom_core::lookup::Question;
use postroom_core::{Action, ticket_numbers};
use postroom_store::Mark;

use super::decide::{Decided, Parsed};
use super::walk::SENT_BACK;
use crate::rulebook::{Chain, MOST_TAKEN_BACK, Strikes};

/// So many mails at once at most.
const WIDEST: usize = MOST_TAKEN_BACK;

/// Waves after a decision in vain before more is tried again, at most.
const LONGEST_PAUSE: usize = 32;

/// How many mails are decided at once: the more, the less they have to do with each other.
pub struct Foresight {
    width: usize,
    /// Waves before more is tried.
    pause: usize,
    /// The pause after the next decision in vain: it doubles until more than one mail holds at once.
    next_pause: usize,
}

/// What decisions that are not committed yet will change.
#[derive(Default)]
struct Changes<'a> {
    tickets: bool,
    alerts: bool,
    /// Rules that wrote into their memory.
    memories: HashSet<&'a str>,
}

impl Default for Foresight {
    fn default() -> Self {
        Self {
            width: 2,
            pause: 0,
            next_pause: 1,
        }
    }
}

impl Foresight {
    /// Leaves as many mails as are to be decided at once, and answers the others.
    pub fn cut(&self, wave: &mut Vec<Parsed>) -> Vec<Parsed> {
        wave.split_off(self.width.min(wave.len()))
    }

    /// Leaves the decisions that would have been the same one by one, and answers the other mails, as if they had not been
    /// decided. A mail that was decided alone is always left.
    pub fn undo(&mut self, chain: &Chain, decided: &mut Vec<Decided>) -> Vec<Parsed> {
        // Counted as they were done, which is not the order of the mails.
        decided.iter().rev().for_each(|mail| take_back(chain, mail));
        let is_alone = decided.len() == 1;
        let mut changes = Changes::default();
        let mut holding = 0;
        for mail in decided.iter() {
            if !is_alone && changes.concern(mail, chain) {
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
    /// Whether a mail might be decided otherwise after these.
    fn concern(&self, mail: &Decided, chain: &Chain) -> bool {
        let Ok(answer) = &mail.result else {
            return false;
        };
        let asks = |changed: bool, is_it: fn(&Question) -> bool| {
            changed && answer.lookups.iter().any(|it| is_it(&it.question))
        };
        let remembers = answer.spent.iter().any(|spent| {
            let rule = chain.rules.get(spent.rule);
            rule.is_some_and(|rule| self.memories.contains(rule.name.as_str()))
        });
        let troubles = &answer.decision.troubles;
        // What led into trouble is not always recorded.
        let is_unsure = (self.tickets || self.alerts) && !troubles.is_empty();
        let is_in = |name: &str| {
            let mut rules = chain.rules.iter();
            rules.any(|rule| rule.name == name && !rule.strikes.is_out())
        };
        let went_without = troubles
            .iter()
            .any(|it| it.kind == SENT_BACK && is_in(&it.rule));
        // Who takes part in a ticket may have changed.
        let is_thread = self.tickets && answer.decision.thread.is_some();
        asks(self.tickets, |it| {
            matches!(it, Question::Ticket(_) | Question::Tickets(_))
        }) || asks(self.alerts, |it| {
            matches!(it, Question::Alert(_) | Question::Alerts(_))
        }) || remembers
            || is_unsure
            || went_without
            || is_thread
            || self.may_be_named(mail)
    }

    /// Whether a mail's subject might name a ticket that is opened only now.
    fn may_be_named(&self, mail: &Decided) -> bool {
        let subject = mail.message.as_ref().map(|message| &message.subject);
        self.tickets && subject.is_some_and(|subject| !ticket_numbers(subject).is_empty())
    }

    fn add(&mut self, mail: &'a Decided) {
        let Ok(answer) = &mail.result else {
            return;
        };
        for action in &answer.decision.actions {
            match action {
                Action::Ticket(_) | Action::Note(_) => self.tickets = true,
                Action::Alert(_) => self.alerts = true,
                Action::Reply(_)
                | Action::Forward { .. }
                | Action::Ignore { .. }
                | Action::Quarantine { .. }
                | Action::Expect(_)
                | Action::Custom { .. } => {}
            }
        }
        let writes = answer.kv_writes.iter();
        self.memories.extend(writes.map(|it| it.rule.as_str()));
    }
}

/// How each rule did on a mail, as its strikes counted it.
fn counted<'a>(chain: &'a Chain, mail: &'a Decided) -> impl Iterator<Item = (&'a Strikes, Mark)> {
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

/// Counts a mail once more. Returns whether it was one too many for a rule: then another version decides the mails behind it, or
/// the alert that is raised is there for them to look up.
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

    /// How many decisions so many mails take, when `holding` of those decided at once hold.
    fn decisions(mails: usize, holding: impl Fn(usize) -> usize) -> usize {
        let mut foresight = Foresight::default();
        let (mut left, mut made) = (mails, 0);
        while left > 0 {
            let width = foresight.width.min(left);
            let holding = holding(width).min(width);
            made += width;
            left -= holding;
            foresight.learn(width, holding);
        }
        made
    }

    #[test]
    fn little_is_decided_in_vain_whatever_the_mails_have_to_do_with_each_other() {
        assert_eq!(decisions(256, |width| width), 256);
        let in_vain = decisions(1000, |_| 1) - 1000;
        assert!(in_vain < 50, "{in_vain}");
        let in_vain = decisions(1000, |_| 10) - 1000;
        assert!(in_vain < 500, "{in_vain}");
    }

    #[test]
    fn mails_that_have_nothing_to_do_with_each_other_soon_go_together() {
        let mut foresight = Foresight::default();
        for _ in 0..5 {
            foresight.learn(foresight.width, foresight.width);
        }
        assert_eq!(foresight.width, WIDEST);
        foresight.learn(WIDEST, 7);
        assert_eq!(foresight.width, 7);
        foresight.learn(7, 7);
        assert_eq!(foresight.width, 7);
        foresight.learn(7, 7);
        assert_eq!(foresight.width, 14);
    }
}
