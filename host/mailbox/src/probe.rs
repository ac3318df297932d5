//! Words that probes share.

/// Returns a number of mails in words.
pub(crate) fn mails(count: usize) -> String {
    match count {
        1 => "1 mail".into(),
        _ => format!("{count} mails"),
    }
}
