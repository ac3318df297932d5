//! Reads the switches of a mailbox: accepted senders, new tickets and the answer to refused requests, and its use of sessions.

use postroom_core::mailbox_policy::ANSWER_PLACEHOLDERS;
use postroom_core::{
    MailboxPolicy, NewTickets, RefusedSender, SenderPattern, SenderPolicy, ThreadPolicy,
};

use super::SessionUse;
use super::reader::{Item, Section};
use super::rules::tidy;
use super::sources::Protocol;
use super::values::{is_host_name, optional, read_limited_inside};

/// The longest answer to a refused request.
const ANSWER_BYTES: u64 = 8 << 10;
const ANSWER_CURE: &str = "write { text = \"…\" } or { file = \"path\" }";

/// Reads the senders and new tickets that a mailbox accepts.
pub fn read_policy(mailbox: &Section) -> Option<MailboxPolicy> {
    let senders = optional(mailbox, "senders", read_senders);
    let new_tickets = read_new_tickets(mailbox);
    Some(MailboxPolicy {
        senders: senders?,
        new_tickets: new_tickets?,
        // The tenant's: see `MailboxConfig::policy_of`.
        threads: ThreadPolicy::default(),
    })
}

/// Reads how long a session is used. Only IMAP leaves a choice.
pub fn read_session(mailbox: &Section, protocol: Option<&Protocol>) -> Option<SessionUse> {
    let Some(item) = mailbox.item("session") else {
        return Some(SessionUse::Kept);
    };
    if let Some(protocol) = protocol.filter(|it| it.name != "imap") {
        item.problem(
            format!("has no meaning for a {} mailbox", protocol.name),
            match protocol.name {
                "pop3" => "remove it: each check of a POP3 mailbox is a session of its own",
                _ => "remove it: only IMAP keeps a session open between checks",
            },
        );
        return None;
    }
    let known = [
        ("kept", SessionUse::Kept),
        ("per-check", SessionUse::PerCheck),
    ];
    item.choice(&known, &[])
}

fn read_new_tickets(mailbox: &Section) -> Option<NewTickets> {
    let opens = match mailbox.item("new_tickets") {
        Some(item) => item.flag(),
        None => Some(true),
    };
    let item = mailbox.item("declined");
    let answer = match &item {
        Some(item) => read_answer(item).map(Some),
        None => Some(None),
    };
    match (opens?, item) {
        (true, Some(item)) => item.warning(
            "is never sent, because this mailbox opens tickets",
            "add new_tickets = false, or remove it",
        ),
        (false, Some(item)) if mailbox.peek("outgoing").is_none() => {
            item.problem(
                "cannot be sent, because the mailbox has no outgoing",
                "add outgoing = \"…\", or remove it: requests are then refused without an answer",
            );
            return None;
        }
        _ => {}
    }
    let answer = answer?;
    Some(match opens? {
        true => NewTickets::Opened,
        false => NewTickets::Refused { answer },
    })
}

/// Reads the text sent to a person whose request is refused.
fn read_answer(item: &Item) -> Option<String> {
    if !item.value().is_table() {
        item.wrong_type("{ text = … } or { file = … }", ANSWER_CURE);
        return None;
    }
    let section = item.section("the answer to a refused request")?;
    let answer = match (section.item("text"), section.item("file")) {
        (Some(text), None) => text.text().map(|it| (it.to_owned(), text)),
        (None, Some(file)) => read_answer_file(&file).map(|it| (it, file)),
        (Some(_), Some(file)) => {
            file.problem("cannot be combined with text", "keep one of text and file");
            None
        }
        (None, None) => {
            item.problem("names neither text nor file", ANSWER_CURE);
            None
        }
    };
    section.finish();
    let (answer, place) = answer?;
    if answer.len() as u64 > ANSWER_BYTES {
        place.problem(
            format!("is over {ANSWER_BYTES} bytes"),
            "write a shorter answer",
        );
        return None;
    }
    if let Some(unknown) = unknown_placeholder(&answer) {
        place.problem(
            format!("the placeholder {unknown} is not known here"),
            format!("use {}", ANSWER_PLACEHOLDERS.join(" or ")),
        );
        return None;
    }
    Some(answer)
}

fn read_answer_file(item: &Item) -> Option<String> {
    let name = tidy(item.text()?);
    // The text is sent to strangers, so it must not be any file of this machine.
    let text = match read_limited_inside(item.reader.dir, &name, ANSWER_BYTES) {
        Ok(text) => text,
        Err(reason) => {
            item.problem(
                format!("the file {name} {reason}"),
                "put the answer into a file below the configuration's folder, as UTF-8 text",
            );
            return None;
        }
    };
    if text.trim().is_empty() {
        item.problem(
            format!("the file {name} is empty"),
            "put the answer into it",
        );
        return None;
    }
    Some(text)
}

/// Returns the first `{word}` that is not a placeholder, since its author expects it to be replaced.
fn unknown_placeholder(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        rest = &rest[at..];
        let end = rest[1..].find(|c: char| !c.is_ascii_lowercase() && c != '_')? + 1;
        let word = rest.get(..=end).filter(|it| it.ends_with('}') && end > 1);
        if let Some(word) = word.filter(|it| !ANSWER_PLACEHOLDERS.contains(it)) {
            return Some(word);
        }
        rest = &rest[end..];
    }
    None
}

fn read_senders(item: &Item) -> Option<SenderPolicy> {
    let section = item.section("the accepted senders")?;
    let allow = optional(&section, "allow", |list| list.each(read_pattern));
    let deny = optional(&section, "deny", |list| list.each(read_pattern));
    let refused = optional(&section, "refused", |item| {
        let known = [
            ("ignore", RefusedSender::Ignored),
            ("quarantine", RefusedSender::Quarantined),
        ];
        item.choice(&known, &[])
    });
    section.finish();
    let (allow, deny) = (allow?, deny?);
    if allow.is_none() && deny.is_none() {
        item.problem(
            "names no sender",
            "add allow = [\"acme.example\"] or deny = [\"*.example\"]",
        );
        return None;
    }
    Some(SenderPolicy {
        allow: allow.unwrap_or_default(),
        deny: deny.unwrap_or_default(),
        refused: refused?.unwrap_or_default(),
    })
}

fn read_pattern(item: &Item) -> Option<SenderPattern> {
    let text = item.text()?.trim();
    let pattern = SenderPattern::parse(text, is_host_name);
    if pattern.is_none() {
        item.problem(
            format!("\"{text}\" is not a sender"),
            "write an address, a domain such as \"acme.example\", or \"*.acme.example\" for the domains below it",
        );
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::unknown_placeholder;

    #[test]
    fn placeholders_are_told_from_braces() {
        for (text, found) in [
            ("Dear {sender}, about \"{subject}\": no.", None),
            ("{ticket}", Some("{ticket}")),
            ("{sender} {ticket_number}", Some("{ticket_number}")),
            ("{", None),
            ("{}", None),
            ("{{name}", Some("{name}")),
            ("{\u{fc}} {A}", None),
            ("body { color: red }", None),
        ] {
            assert_eq!(unknown_placeholder(text), found, "{text}");
        }
    }
}
