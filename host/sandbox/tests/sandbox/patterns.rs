//! RegExps in the real host: the results of `match` and `findAll` are what JavaScript itself finds in the same field.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use postroom_core::Action;
use postroom_sandbox::{Limits, NoLookup};

use crate::support::{Shelf, context, parsed, script_within};

/// One pattern per line, after the name of its origin. `plugins/script` tests which are translated; here all must agree.
const PATTERNS: &str = include_str!("../../../../plugins/script/cases/patterns.txt");
const TEXTS: [&str; 7] = [
    "Backup job \"Files (daily)\" on srv-01.acme.example FAILED: 93,5 % of 120 GB",
    "Job: nightly\nState: ok\n\nJob: weekly\nState: ok\n",
    "line\u{2028}Job: x\u{2029}line aab ab b xxy",
    "für Élodie: über ÜBER ß ẞ ÿ Ÿ µ K\u{212a}k S\u{17f}s, bob@acme.example",
    "😀 a😀b 😀😀 ticket #42 und TICKET 7 a2b é3",
    "a\u{301} \u{e9} /var/log/a.log -a-z-a [x] (y) {z} ^$.*+?|\\",
    "",
];
const RULE: &str = r#"
const plain = (found) => found && [found.index, [...found], Object.entries(found.groups ?? {})];
export function decide(mail) {
  const differences = [];
  for (const [source, flags] of cases) {
    const pattern = new RegExp(source, flags);
    const own = flags.replace("g", "");
    for (const [field, text] of [["text", mail.text], ["subject", mail.subject]]) {
      const pairs = [
        [mail.match(field, pattern), new RegExp(source, own).exec(text), plain],
        [mail.findAll(field, pattern), [...text.matchAll(new RegExp(source, own + "g"))].slice(0, 1000), (all) => all.map(plain)],
      ];
      for (const [answer, expected, shape] of pairs) {
        const both = [answer, expected].map((one) => JSON.stringify(shape(one)));
        if (both[0] !== both[1]) differences.push(`${pattern} on the ${field}: ${both.join(", not ")}`);
      }
    }
  }
  return ignore(differences.join("\n").slice(0, 10000) || "all the same");
}
"#;

#[test]
fn a_regexp_finds_in_the_host_what_it_finds_in_javascript() {
    let mut cases = String::from("const cases = [");
    let lines = PATTERNS.lines();
    for line in lines.filter(|line| line.starts_with("host /") || line.starts_with("script /")) {
        let expression = line
            .split_once(" /")
            .and_then(|(_, it)| it.rsplit_once('/'));
        let (source, flags) = expression.expect("an expression ends with /flags");
        let _ = write!(cases, "[String.raw`{source}`, \"{flags}\"],");
    }
    cases.push_str("];");
    // However slowly the machine backtracks.
    let limits = Limits {
        time: Duration::from_secs(60),
        ..Limits::default()
    };
    let rule = script_within(&format!("{cases}{RULE}"), &limits).unwrap();
    let many = "aé x1 ".repeat(1500);
    for text in TEXTS.into_iter().chain([many.as_str()]) {
        let subject: String = text.chars().filter(|c| *c != '\n').collect();
        let mail = parsed(&format!(
            "From: a@acme.example\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}"
        ));
        let shelf = Arc::new(Shelf::default());
        let run = rule.decide(&mail, &context(), shelf, Arc::new(NoLookup));
        match run.verdict.unwrap().unwrap().as_slice() {
            [Action::Ignore { reason }] => assert_eq!(reason, "all the same", "on {text:?}"),
            other => panic!("{other:?}"),
        }
    }
}
