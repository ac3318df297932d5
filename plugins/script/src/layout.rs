//! Cuts sections out of the text of a mail.

/// Returns the lines after the first one that contains `from`, up to the next one that contains `to`, or to the end,
/// compared case-insensitively.
pub fn section(text: &str, from: &str, to: Option<&str>) -> Option<String> {
    let contains = |line: &str, part: &str| line.to_lowercase().contains(&part.to_lowercase());
    let mut lines = text.lines().skip_while(|line| !contains(line, from));
    lines.next()?;
    let lines: Vec<&str> = lines
        .take_while(|line| !to.is_some_and(|to| contains(line, to)))
        .collect();
    Some(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::section;

    #[test]
    fn a_section_ends_at_its_end_or_the_text_s() {
        let report = "Nightly report\n\nDetails\n one\n two\nEnd of details\n";
        assert_eq!(
            section(report, "details", Some("end of")).as_deref(),
            Some(" one\n two")
        );
        assert_eq!(
            section(report, "details", Some("nowhere")).as_deref(),
            Some(" one\n two\nEnd of details")
        );
        assert_eq!(section(report, "nowhere", None), None);
    }
}
