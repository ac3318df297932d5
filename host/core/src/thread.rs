//! The evidence in a mail that it belongs to a ticket: the query that the store answers, ticket numbers in subjects, numbers of
//! other systems, and which closed tickets a mail reopens.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

use crate::context::{Thread, ThreadStep};
use crate::message::{Classification, Message};
use crate::reply_token::{ClaimedToken, claimed_tokens};

/// The most numbers taken from one subject.
const MOST_NUMBERS: usize = 5;
/// Bytes of the subject that are searched.
const LONGEST_SUBJECT: usize = 1000;
/// Longest number, in digits.
const MOST_DIGITS: usize = 9;
/// The most numbers of other systems taken from one subject.
const MOST_FOREIGN: usize = 5;
/// Longest number of another system, in bytes.
const LONGEST_FOREIGN: usize = 100;
/// The largest compiled pattern, in bytes.
const PATTERN_BYTES: usize = 256 * 1024;
/// The most words of a mail that only says thanks.
const THANKS_WORDS: usize = 8;

/// Everything in a mail that may name its ticket, and what is known of its sender.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ThreadQuery {
    pub tokens: Vec<ClaimedToken>,
    /// The newest first.
    pub references: Vec<String>,
    /// The mail of which this one reports that it was not delivered.
    pub bounced: Option<String>,
    /// Ticket numbers of the subject, such as `T-12`.
    pub numbers: Vec<String>,
    pub foreign_numbers: Vec<String>,
    /// The sender's address.
    pub sender: Option<String>,
    /// Whether the sender is one of the client's own people.
    pub is_client: bool,
    pub is_staff: bool,
}

impl ThreadQuery {
    /// Returns the query for a mail of a sender about whom nothing is known yet.
    pub fn of(mail: &Message, patterns: &ForeignNumbers) -> Self {
        let is_bounce = mail.classification == Classification::Bounce;
        let delivery = mail.delivery.as_ref().filter(|_| is_bounce);
        Self {
            tokens: claimed_tokens(mail),
            references: mail.references.clone(),
            bounced: delivery.and_then(|it| it.message_id.clone()),
            numbers: ticket_numbers(&mail.subject),
            foreign_numbers: patterns.of(&mail.subject),
            sender: mail.from.as_ref().map(|from| from.email.clone()),
            is_client: false,
            is_staff: false,
        }
    }

    /// Returns whether the mail names nothing, so that there is nothing to look up.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
            && self.references.is_empty()
            && self.bounced.is_none()
            && self.numbers.is_empty()
            && self.foreign_numbers.is_empty()
    }
}

/// The answer to a [`ThreadQuery`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Threading {
    pub thread: Option<Thread>,
    pub steps: Vec<ThreadStep>,
}

/// How long after its end a ticket still takes notes, which reopen it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReopenPolicy {
    /// In milliseconds.
    pub default_ms: i64,
    /// By queue.
    pub queues: BTreeMap<String, i64>,
}

impl ReopenPolicy {
    /// Returns whether a ticket that was closed at this time still takes notes.
    pub fn takes_notes(&self, queue: Option<&str>, closed_ms: i64, now_ms: i64) -> bool {
        let of_queue = queue.and_then(|queue| self.queues.get(queue));
        now_ms.saturating_sub(closed_ms) <= *of_queue.unwrap_or(&self.default_ms)
    }
}

/// The patterns of ticket numbers of other systems.
#[derive(Debug, Clone, Default)]
pub struct ForeignNumbers(Vec<Regex>);

impl ForeignNumbers {
    /// Fails with the reason why one of them is no usable pattern.
    pub fn parse(patterns: &[String]) -> Result<Self, String> {
        let compiled = patterns.iter().map(|it| compile(it));
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// Fails with the reason why this is no usable pattern.
    pub fn check(pattern: &str) -> Result<(), String> {
        compile(pattern).map(|_| ())
    }

    /// Returns the numbers in a subject, each once: the first group of each match, or all of it.
    pub fn of(&self, subject: &str) -> Vec<String> {
        let subject = &subject[..subject.floor_char_boundary(LONGEST_SUBJECT)];
        let mut numbers: Vec<String> = Vec::new();
        for pattern in &self.0 {
            for found in pattern.captures_iter(subject) {
                let number = found.get(1).or_else(|| found.get(0));
                let number = number.map_or("", |it| it.as_str()).trim();
                if number.is_empty() || number.len() > LONGEST_FOREIGN {
                    continue;
                }
                let number = number.to_uppercase();
                if !numbers.contains(&number) {
                    numbers.push(number);
                }
                if numbers.len() == MOST_FOREIGN {
                    return numbers;
                }
            }
        }
        numbers
    }
}

impl PartialEq for ForeignNumbers {
    fn eq(&self, other: &Self) -> bool {
        let texts = |it: &Self| -> Vec<String> { it.0.iter().map(|it| it.to_string()).collect() };
        texts(self) == texts(other)
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    let compiled = RegexBuilder::new(pattern)
        .size_limit(PATTERN_BYTES)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "is too large a pattern".to_owned(),
            // The last line of the error says what is wrong; those before it show where.
            other => {
                let text = other.to_string();
                let last = text.lines().last().unwrap_or_default();
                format!(
                    "is no regular expression: {}",
                    last.trim_start_matches("error: ")
                )
            }
        })?;
    match compiled.is_match("") {
        true => Err("matches an empty text".to_owned()),
        false => Ok(compiled),
    }
}

/// Returns whether a text says thanks and nothing else, which reopens no ticket.
pub fn is_bare_thanks(text: &str) -> bool {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’');
    let mut words = words.filter(|word| !word.is_empty()).map(str::to_lowercase);
    let mut thanks = false;
    for (count, word) in words.by_ref().enumerate() {
        if count == THANKS_WORDS {
            return false;
        }
        let is_thanks = THANKS.contains(&word.as_str());
        if !is_thanks && !POLITE.contains(&word.as_str()) {
            return false;
        }
        thanks |= is_thanks;
    }
    thanks && !text.contains('?')
}

/// Words that say thanks.
const THANKS: &[&str] = &[
    "thanks",
    "thank",
    "thx",
    "tks",
    "ty",
    "cheers",
    "danke",
    "dankeschön",
    "dank",
    "merci",
    "gracias",
    "grazie",
    "obrigado",
    "obrigada",
    "bedankt",
    "dankjewel",
    "dankuwel",
    "tack",
    "takk",
    "tak",
    "kiitos",
    "dziękuję",
    "dzięki",
    "děkuji",
    "díky",
    "ďakujem",
    "köszönöm",
    "köszi",
    "mulțumesc",
    "hvala",
    "благодаря",
    "спасибо",
    "дякую",
    "ευχαριστώ",
    "teşekkürler",
    "teşekkür",
    "谢谢",
    "感谢",
    "謝謝",
    "感謝",
    "ありがとう",
    "ありがとうございます",
    "ありがとうございました",
    "감사합니다",
    "고맙습니다",
    "شكرا",
    "תודה",
    "ขอบคุณ",
];

/// Words that polite people add to them.
const POLITE: &[&str] = &[
    "a",
    "again",
    "all",
    "and",
    "best",
    "beaucoup",
    "bien",
    "bom",
    "da",
    "das",
    "de",
    "dear",
    "der",
    "die",
    "dir",
    "einen",
    "euch",
    "everyone",
    "für",
    "for",
    "friendly",
    "good",
    "great",
    "grazie",
    "greetings",
    "gruß",
    "grüße",
    "grüßen",
    "gut",
    "hallo",
    "hello",
    "herzlichen",
    "hi",
    "ihnen",
    "il",
    "kind",
    "liebe",
    "lot",
    "lots",
    "many",
    "mfg",
    "mille",
    "mit",
    "much",
    "muchas",
    "muito",
    "nochmal",
    "nochmals",
    "ok",
    "okay",
    "passt",
    "perfect",
    "perfekt",
    "perfetto",
    "pour",
    "quick",
    "regards",
    "right",
    "schnelle",
    "schnellen",
    "schöne",
    "sehr",
    "so",
    "super",
    "tausend",
    "team",
    "the",
    "top",
    "tout",
    "toll",
    "very",
    "viele",
    "vielen",
    "vous",
    "well",
    "you",
    "your",
    "z",
    "je",
    "wel",
    "u",
    "du",
    "hjälpen",
    "så",
    "mycket",
    "mange",
    "dzień",
    "za",
    "la",
    "help",
    "hilfe",
    "aide",
    "ayuda",
];

/// Returns `12` as `T-12`.
pub fn ticket_name(number: i64) -> String {
    format!("T-{number}")
}

/// Returns `T-12` as `12`; `None` for anything else.
pub fn ticket_number(name: &str) -> Option<i64> {
    let digits = name.strip_prefix("T-")?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Returns the ticket numbers in a subject, as `T-12`, each once: first those written `T-12` or `[T-12]`, then those
/// written `#12`.
pub fn ticket_numbers(subject: &str) -> Vec<String> {
    let subject = &subject.as_bytes()[..subject.len().min(LONGEST_SUBJECT)];
    let mut sure = Vec::new();
    let mut likely = Vec::new();
    let mut at = 0;
    while at < subject.len() {
        let (mark, numbers) = match &subject[at..] {
            [b'T' | b't', b'-', ..] => (2, &mut sure),
            [b'#', ..] => (1, &mut likely),
            _ => {
                at += 1;
                continue;
            }
        };
        let begins = at == 0 || !in_word(subject[at - 1]);
        at += mark;
        let digits = subject[at..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        let ends = match subject.get(at + digits) {
            Some(b'-') => !subject
                .get(at + digits + 1)
                .is_some_and(u8::is_ascii_alphanumeric),
            Some(b) => !in_word(*b),
            None => true,
        };
        if begins && ends && (1..=MOST_DIGITS).contains(&digits) {
            let number = String::from_utf8_lossy(&subject[at..at + digits]);
            let number = number.trim_start_matches('0');
            if !number.is_empty() {
                numbers.push(format!("T-{number}"));
            }
        }
        at += digits;
    }
    let mut found: Vec<String> = Vec::new();
    for number in sure.into_iter().chain(likely) {
        if found.len() == MOST_NUMBERS {
            break;
        }
        if !found.contains(&number) {
            found.push(number);
        }
    }
    found
}

fn in_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || !b.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_other_systems_are_found_by_configured_patterns() {
        let patterns = [r"\b(INC\d{7})\b", r"Case\s+#(\d+)", r"(?i)CHG\d+"];
        let patterns = ForeignNumbers::parse(&patterns.map(str::to_owned)).unwrap();
        for odd in ["(", "", "a*", r"\w{1000}{1000}"] {
            assert!(ForeignNumbers::check(odd).is_err(), "{odd}");
        }
        for (subject, expected) in [
            ("Re: INC0012345 VPN", vec!["INC0012345"]),
            ("Case #77 and case  #78", vec!["77"]),
            ("chg1 CHG1 Chg2", vec!["CHG1", "CHG2"]),
            ("INC123 XINC0012345", vec![]),
        ] {
            assert_eq!(patterns.of(subject), expected, "{subject}");
        }
        let many: String = (0..50).map(|n| format!("CHG{n} ")).collect();
        assert_eq!(patterns.of(&many).len(), MOST_FOREIGN);
        assert!(patterns.of(&format!("CHG{}", "1".repeat(500))).is_empty());
        assert!(
            patterns
                .of(&format!("{} CHG1", "ü".repeat(1000)))
                .is_empty()
        );
        assert!(ForeignNumbers::default().of("INC0012345").is_empty());
    }

    #[test]
    fn a_bare_thanks_is_no_new_request() {
        for text in [
            "Thanks!",
            "Thank you very much",
            "thx",
            "Vielen Dank für die schnelle Hilfe!\n\nViele Grüße",
            "Merci beaucoup",
            "Muchas gracias",
            "ok danke",
            "ありがとうございます。",
            "谢谢！",
        ] {
            assert!(is_bare_thanks(text), "{text}");
        }
        for text in [
            "",
            "Ok",
            "Thanks, but it still fails",
            "Danke, aber der Drucker geht nicht",
            "Thanks?",
            "Thank you. The printer prints",
            &"thanks ".repeat(50),
        ] {
            assert!(!is_bare_thanks(text), "{text}");
        }
    }

    #[test]
    fn a_ticket_takes_notes_for_some_time_after_its_end() {
        let policy = ReopenPolicy {
            default_ms: 1000,
            queues: BTreeMap::from([("billing".to_owned(), 10)]),
        };
        assert!(policy.takes_notes(None, 0, 1000));
        assert!(!policy.takes_notes(None, 0, 1001));
        assert!(policy.takes_notes(Some("other"), 0, 1000));
        assert!(!policy.takes_notes(Some("billing"), 0, 11));
        assert!(policy.takes_notes(Some("billing"), 0, 10));
    }

    #[test]
    fn a_ticket_has_one_spelling() {
        assert_eq!(ticket_number("T-12"), Some(12));
        for bad in ["T-", "T-+1", "12", "t-12", "T-99999999999999999999"] {
            assert_eq!(ticket_number(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_are_found_where_they_stand_alone() {
        let cases: &[(&str, &[&str])] = &[
            ("Re: [T-12] Printer", &["T-12"]),
            ("T-12: Printer", &["T-12"]),
            ("printer (t-7)", &["T-7"]),
            ("Order #99 for T-3", &["T-3", "T-99"]),
            ("#12", &["T-12"]),
            ("[T-12] [T-12] T-13", &["T-12", "T-13"]),
            ("KT-12 T-12x T-12-3 AT#5", &[]),
            ("T- #", &[]),
            ("T-0012 T-0", &["T-12"]),
            ("T-1234567890", &[]),
            ("", &[]),
        ];
        for (subject, expected) in cases {
            assert_eq!(ticket_numbers(subject), *expected, "{subject}");
        }
        assert_eq!(
            ticket_numbers(&"T-1 T-2 T-3 T-4 T-5 T-6 ".repeat(9)).len(),
            5
        );
        assert!(ticket_numbers(&"T-".repeat(100_000)).is_empty());
    }
}
