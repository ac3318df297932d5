//! Ticket numbers: parsed from names, and from subjects, where they suggest a mail's thread and have to be checked
//! against the store.

/// The most numbers taken from one subject.
const MOST_NUMBERS: usize = 5;
/// Bytes of the subject that are searched.
const LONGEST_SUBJECT: usize = 1000;
/// Longest number, in digits.
const MOST_DIGITS: usize = 9;

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
    use super::{ticket_number, ticket_numbers};

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
