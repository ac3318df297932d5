//! The lines of a mail: its outcome with the line of the rule that decided, then the rules' log.

use std::collections::HashMap;
use std::path::Path;

use postroom_core::{AlertState, Decision, Outcome};

use super::view::{HANG, labelled, now};
use crate::commands::mail_line;
use crate::commands::replay::text;
use crate::commands::screen::{Ink, Line, Screen, columns, fit, pad};
use postroom_config::Config;
use postroom_line::event::MailDecided;

/// The most lines of a mail's log that are shown.
const LOG_LINES: usize = 20;
/// The most columns of a wide terminal for an outcome and its detail.
const WHAT_COLUMNS: usize = 34;
/// The assumed width if there is no terminal.
const USUAL_COLUMNS: usize = 100;

/// The layout shared by all mails' lines.
pub struct Columns {
    /// The width of the longest name; `None` if there is only one mailbox.
    mailbox: Option<usize>,
    rule: usize,
    /// The rules by name, in their displayed form.
    rules: HashMap<String, String>,
}

impl Columns {
    pub fn of(config: &Config) -> Self {
        let widest = |names: &mut dyn Iterator<Item = &str>| names.map(columns).max().unwrap_or(0);
        let rules = short_names(config);
        Self {
            mailbox: (config.mailboxes.len() > 1)
                .then(|| widest(&mut config.mailboxes.iter().map(|it| it.name.as_str()))),
            // With a line's number.
            rule: widest(&mut rules.values().map(String::as_str)) + 3,
            rules,
        }
    }

    /// Returns a rule's name without its folder, if that is unambiguous.
    pub fn short<'n>(&'n self, rule: &'n str) -> &'n str {
        self.rules.get(rule).map_or(rule, String::as_str)
    }

    pub fn lines(&self, screen: &Screen, mail: &MailDecided) -> Vec<Line> {
        let decision = &mail.conclusion.decision;
        let room = screen.width.unwrap_or(USUAL_COLUMNS).saturating_sub(HANG);
        let mut line = now();
        if let Some(width) = self.mailbox {
            line = line
                .with(Ink::Plain, pad(&mail.mailbox.name, width.min(room / 6)))
                .with(Ink::Plain, "  ");
        }
        let outcome = decision.outcome.as_str();
        let detail = mail_line::detail(decision, &mail.committed);
        let what = pad(
            format!("{outcome} {detail}").trim(),
            (room / 4).min(WHAT_COLUMNS),
        );
        // On a narrow terminal the outcome itself may contain the mark of a cut.
        let mut ends = (0..=outcome.len()).rev();
        let end = ends.find(|at| what.is_char_boundary(*at));
        let (outcome, detail) = what.split_at(end.unwrap_or(0));
        let subject = mail.subject.as_deref().unwrap_or("(not parsed)");
        line = line
            .with(ink(decision), outcome)
            .with(Ink::Plain, detail)
            .with(Ink::Plain, "  ")
            .with(Ink::Dim, pad(&self.by(decision), self.rule.min(room / 4)))
            .with(Ink::Plain, "  ")
            .with(Ink::Plain, subject);
        let mut lines = vec![line];
        for trouble in &decision.troubles {
            lines.push(
                labelled(Ink::Red, "trouble")
                    .with(Ink::Red, text::told(trouble))
                    .wrapped(HANG),
            );
        }
        for repair in &decision.repairs {
            lines.push(
                labelled(Ink::Dim, "repaired")
                    .with(Ink::Dim, repair)
                    .wrapped(HANG),
            );
        }
        let log: Vec<&str> = decision.log.iter().flat_map(|text| text.lines()).collect();
        for text in log.iter().take(LOG_LINES) {
            lines.push(
                labelled(Ink::Dim, "log")
                    .with(Ink::Plain, *text)
                    .wrapped(HANG),
            );
        }
        if log.len() > LOG_LINES {
            let left = log.len() - LOG_LINES;
            lines.push(labelled(Ink::Dim, "log").with(
                Ink::Dim,
                format!("… {left} more: `postroom decisions --json` has them"),
            ));
        }
        lines
    }

    /// Returns the line that decided, or the rule.
    fn by(&self, decision: &Decision) -> String {
        let place = decision.decided_at.as_deref().and_then(|place| {
            let mut parts = place.rsplitn(3, ':');
            let (_column, line, file) = (parts.next()?, parts.next()?, parts.next()?);
            Some(format!("{}:{line}", self.file(file)))
        });
        place.unwrap_or_else(|| self.short(&decision.rule).to_owned())
    }

    /// Returns the displayed form of a rule's file, or of one that it imports.
    fn file<'n>(&'n self, file: &'n str) -> &'n str {
        match self.rules.get(file) {
            Some(short) => short,
            None => file_name(file),
        }
    }
}

/// Returns the colour of an outcome: red needs attention now, green is done.
fn ink(decision: &Decision) -> Ink {
    let firing = mail_line::alert_state(decision);
    match decision.outcome {
        Outcome::Alert if firing == Some(AlertState::Resolved) => Ink::Green,
        Outcome::Alert => Ink::Red,
        Outcome::Ticket | Outcome::Note => Ink::Bold,
        Outcome::Quarantined => Ink::Yellow,
        Outcome::Ignored => Ink::Dim,
    }
}

/// Returns the names of all rules without their folders, or with them if two would be the same.
fn short_names(config: &Config) -> HashMap<String, String> {
    let names: Vec<String> = config
        .rule_uses()
        .into_iter()
        .map(|wanted| wanted.rule.name)
        .collect();
    let is_shared = |name: &String| {
        let same = |other: &&String| *other != name && file_name(other) == file_name(name);
        names.iter().any(|other| same(&other))
    };
    let short = names.iter().map(|name| {
        let short = match is_shared(name) {
            true => name.as_str(),
            false => file_name(name),
        };
        (name.clone(), fit(short, columns(short)))
    });
    short.collect()
}

fn file_name(path: &str) -> &str {
    let name = Path::new(path).file_name();
    name.and_then(|name| name.to_str()).unwrap_or(path)
}
