//! Suggests names: the one "did you mean" of configuration, rules and commands.

/// The most known names that a message lists.
const MOST_LISTED: usize = 20;

/// Returns the known name that is closest to `name`, if a typing error explains the difference. The folder and the
/// extension that two paths share count for neither: `rules/xerox.js` is not close to `rules/first.js`.
pub fn closest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let lower = name.to_lowercase();
    known
        .into_iter()
        .filter_map(|candidate| {
            let other = candidate.to_lowercase();
            let (own, other) = different_parts(&lower, &other);
            let longest = own.chars().count().max(other.chars().count());
            let distance = strsim::damerau_levenshtein(own, other);
            let is_close = distance <= 1 + longest / 4 && (distance == 0 || distance < longest);
            is_close.then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns the sentence that suggests a name.
pub fn did_you_mean(near: &str) -> String {
    format!("did you mean `{near}`?")
}

/// Returns `; did you mean …?` to append to the problem with a name, or an empty string.
pub fn hint<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    closest(name, known).map_or_else(String::new, |near| format!("; {}", did_you_mean(near)))
}

/// Returns the message for an unknown name: the problem, the known names, and the suggestion.
pub fn no_such(what: &str, name: &str, known: &[&str]) -> String {
    let listed = known[..known.len().min(MOST_LISTED)].join(", ");
    let known_names = match known.len() {
        0 => ": none exists".to_owned(),
        all if all > MOST_LISTED => format!(" (known: {listed} and {} more)", all - MOST_LISTED),
        _ => format!(" (known: {listed})"),
    };
    let hint = hint(name, known.iter().copied());
    format!("no {what} is named {name}{known_names}{hint}")
}

/// Returns the texts without the folder and the extension that both share.
fn different_parts<'t>(a: &'t str, b: &'t str) -> (&'t str, &'t str) {
    let shared = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let folder = a.as_bytes()[..shared]
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |slash| slash + 1);
    let (a, b) = (&a[folder..], &b[folder..]);
    match (a.rsplit_once('.'), b.rsplit_once('.')) {
        (Some((a, ending)), Some((b, other))) if ending == other => (a, b),
        _ => (a, b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised_and_another_name_is_not() {
        for (name, known, expected) in [
            ("persn", "person", Some("person")),
            ("dorp", "drop", Some("drop")),
            ("Mailboxes", "mailboxes", Some("mailboxes")),
            ("rules/frist.js", "rules/first.js", Some("rules/first.js")),
            ("rule/first.js", "rules/first.js", Some("rules/first.js")),
            ("rules/first.ts", "rules/first.js", Some("rules/first.js")),
            ("first.js", "rules/first.js", None),
            ("rules/xerox.js", "rules/first.js", None),
            ("rules/a.js", "rules/b.js", None),
            ("rules/ü.js", "rules/ö.js", None),
            ("ab", "cd", None),
            ("x", "y", None),
            ("", "a", None),
        ] {
            assert_eq!(closest(name, [known]), expected, "{name} {known}");
        }
    }

    #[test]
    fn one_sentence_says_what_is_there() {
        assert_eq!(
            no_such("mailbox", "dorp", &["drop", "quiet"]),
            "no mailbox is named dorp (known: drop, quiet); did you mean `drop`?"
        );
        assert_eq!(
            no_such("mailbox", "xyzzy", &["drop"]),
            "no mailbox is named xyzzy (known: drop)"
        );
        assert_eq!(
            no_such("profile", "x", &[]),
            "no profile is named x: none exists"
        );
        assert!(no_such("rule", "x", &["some-rule"; 23]).ends_with("some-rule and 3 more)"));
    }
}
