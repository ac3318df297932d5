//! Counts in English: one mail, two mails, three deliveries.

use std::fmt::Display;

/// Returns the count with its noun, which is given in the singular: `1 mail`, `0 mails`, `2 deliveries`.
pub fn counted<T: Copy + Display + TryInto<u64>>(count: T, noun: &str) -> String {
    if matches!(count.try_into(), Ok(1)) {
        return format!("{count} {noun}");
    }
    match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{count} {stem}ies"),
        _ if noun.ends_with('x') => format!("{count} {noun}es"),
        _ => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_all_else_is_not() {
        for (count, noun, expected) in [
            (0, "mail", "0 mails"),
            (1, "mail", "1 mail"),
            (2, "mail", "2 mails"),
            (1, "delivery", "1 delivery"),
            (2, "delivery", "2 deliveries"),
            (3, "day", "3 days"),
            (2, "mailbox", "2 mailboxes"),
            (1, "new failure", "1 new failure"),
        ] {
            assert_eq!(counted(count, noun), expected);
        }
        assert_eq!(counted(-1_i64, "day"), "-1 days");
        assert_eq!(counted(1_usize, "byte"), "1 byte");
    }
}
