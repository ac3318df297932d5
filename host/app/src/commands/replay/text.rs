//! A replay for people: the first mails that differ, the changes in them, then the counts and the costs of each rule.

use std::fmt::Write as _;
use std::io::{Stdout, Write};
use std::time::Duration;

use postroom_core::{Decision, Trouble, counted};

use super::Printer;
use crate::commands::table;
use postroom_line::replay::{
    Compared, Comparison, End, Replayed, Report, RuleReport, Unrecorded, mismatch,
};

/// The most mails shown by default.
const SHOWN: u64 = 20;
/// The most lines shown of one mail's difference by default.
const SHOWN_LINES: usize = 40;
/// The most rules shown, those with the longest times.
const SHOWN_RULES: usize = 12;
/// The length to which a subject is cut, in characters.
const SUBJECT_CHARS: usize = 60;

pub struct Text {
    out: Stdout,
    all: bool,
    shown: u64,
    left_out: u64,
}

impl Text {
    pub fn new(all: bool) -> Self {
        Self {
            out: std::io::stdout(),
            all,
            shown: 0,
            left_out: 0,
        }
    }

    fn difference(&self, replayed: &Replayed, compared: &Compared) -> String {
        let mut text = String::new();
        let (before, after) = (&compared.before, &compared.after);
        let mail = &replayed.mail;
        let received = jiff::Timestamp::from_millisecond(mail.received_ms);
        let received = received.map_or(String::new(), |time| format!("{time:.0}"));
        let subject = cut(&compared.subject);
        let head = match &compared.verdict {
            Comparison::Failed => "new failure",
            verdict => verdict.name(),
        };
        let _ = writeln!(
            text,
            "{head}: {subject:?}, mail {} of {}, {received}",
            mail.id, mail.mailbox
        );
        for remark in remarks(before, after) {
            let _ = writeln!(text, "  {remark}");
        }
        let lines = mismatch(before, after).diff();
        let most = if self.all { usize::MAX } else { SHOWN_LINES };
        for (mark, line) in lines.iter().take(most) {
            let _ = writeln!(text, "  {mark} {line}");
        }
        if lines.len() > most {
            let _ = writeln!(
                text,
                "  … {} more: --all shows them",
                counted(lines.len() - most, "line")
            );
        }
        for it in &compared.unrecorded {
            let _ = writeln!(text, "  {}", unrecorded(it));
        }
        text
    }
}

impl Printer for Text {
    fn shows(&self, replayed: &Replayed) -> bool {
        replayed.differs() && (self.all || self.shown < SHOWN)
    }

    fn mail(&mut self, replayed: &Replayed) -> std::io::Result<()> {
        let End::Decided(compared) = &replayed.end else {
            return Ok(());
        };
        if !self.shows(replayed) {
            self.left_out += u64::from(replayed.differs());
            return Ok(());
        }
        self.shown += 1;
        let text = self.difference(replayed, compared);
        writeln!(self.out, "{text}")
    }

    fn end(&mut self, report: &Report) -> std::io::Result<()> {
        if self.left_out > 0 {
            writeln!(self.out, "… {} more: --all shows them\n", self.left_out)?;
        }
        if report.replayed() > 0 {
            writeln!(self.out, "{}", counts(report))?;
        }
        for (skip, mails) in &report.skipped {
            writeln!(self.out, "not compared: {mails} {}", skip.words())?;
        }
        if report.unrecorded > 0 {
            writeln!(
                self.out,
                "{}: a rule made lookups that were not recorded; they were answered as empty, so the result may differ in production",
                counted(report.unrecorded, "mail")
            )?;
        }
        if report.interrupted {
            writeln!(self.out, "interrupted: these are the mails so far")?;
        }
        if report.replayed() == 0 {
            return Ok(());
        }
        rules(&report.rules)?;
        if report.elapsed.is_zero() {
            return Ok(());
        }
        let secs = report.elapsed.as_secs_f64();
        writeln!(
            self.out,
            "{} in {secs:.2} s, {:.0} a second",
            counted(report.replayed(), "mail"),
            report.replayed() as f64 / secs.max(1e-6)
        )
    }
}

/// Returns remarks on a difference of two decisions: another rule, new failures, failures that are gone.
pub fn remarks(before: &Decision, after: &Decision) -> Vec<String> {
    let by =
        (before.rule != after.rule).then(|| format!("decided by {} → {}", before.rule, after.rule));
    let now = new_troubles(before, after).map(|it| format!("now in trouble: {}", told(it)));
    let no_more =
        new_troubles(after, before).map(|it| format!("no longer in trouble: {}", told(it)));
    by.into_iter().chain(now).chain(no_more).collect()
}

pub fn unrecorded(it: &Unrecorded) -> String {
    format!(
        "{} queried {} for {:?}, which was not queried then; the result was empty",
        it.rule,
        it.asked.name(),
        it.key
    )
}

/// Returns a summary such as `212 same · 3 changed (2 ticket → alert, 1 queue) · 1 new failure`; the words in parentheses
/// only if they are known.
pub fn counts(report: &Report) -> String {
    let mut text = format!("{} same", report.same);
    if report.changed > 0 {
        let mut changes: Vec<(&String, &u64)> = report.changes.iter().collect();
        changes.sort_by_key(|(_, mails)| std::cmp::Reverse(**mails));
        let changes: Vec<String> = changes
            .iter()
            .map(|(words, mails)| format!("{mails} {words}"))
            .collect();
        let _ = write!(text, " · {} changed", report.changed);
        if !changes.is_empty() {
            let _ = write!(text, " ({})", changes.join(", "));
        }
    }
    match report.failed {
        0 => {}
        failed => {
            let _ = write!(text, " · {}", counted(failed, "new failure"));
        }
    }
    if report.mended > 0 {
        let _ = write!(text, " · {} mended", report.mended);
    }
    text
}

fn rules(rules: &[RuleReport]) -> std::io::Result<()> {
    let mut asked: Vec<&RuleReport> = rules.iter().filter(|rule| rule.asked > 0).collect();
    asked.sort_by_key(|rule| std::cmp::Reverse(rule.times.percentile(0.99)));
    if asked.is_empty() {
        return Ok(());
    }
    let header = [
        "rule", "tenant", "mails", "troubles", "median", "p99", "memory",
    ];
    let cells = |rule: &&RuleReport| {
        let troubles = rule.troubles.iter();
        let troubles: Vec<String> = troubles
            .map(|(kind, times)| format!("{times} {kind}"))
            .collect();
        vec![
            rule.id.name.clone(),
            rule.id.tenant.clone(),
            rule.asked.to_string(),
            troubles.join(", "),
            time(rule.times.percentile(0.5)),
            format!(
                "{} of {}",
                time(rule.times.percentile(0.99)),
                time(rule.limits.time)
            ),
            format!(
                "{} of {}",
                mebibytes(rule.memory_bytes),
                mebibytes(rule.limits.memory_bytes)
            ),
        ]
    };
    table::print(&header, asked.iter().take(SHOWN_RULES).map(cells))
}

/// Returns the troubles of `now` with rules that had none in `then`.
fn new_troubles<'d>(then: &Decision, now: &'d Decision) -> impl Iterator<Item = &'d Trouble> {
    let known: Vec<String> = then.troubles.iter().map(|it| it.rule.clone()).collect();
    let troubles = now.troubles.iter();
    troubles.filter(move |it| !known.contains(&it.rule))
}

pub fn told(trouble: &Trouble) -> String {
    let place = trouble.location.as_ref();
    let place = place.map_or(String::new(), |place| format!(" at {place}"));
    format!(
        "{}: {}{place}: {}",
        trouble.rule, trouble.kind, trouble.message
    )
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SUBJECT_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn time(time: Duration) -> String {
    match time.as_micros() {
        micros if micros < 1000 => format!("{micros} µs"),
        micros if micros < 10_000 => format!("{:.1} ms", micros as f64 / 1e3),
        micros => format!("{} ms", micros / 1000),
    }
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
