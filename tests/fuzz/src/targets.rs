//! One function per target. A target panics if a property does not hold.

use std::collections::HashSet;

use bytes::Bytes;
use postroom_core::{
    MAX_LINKS, MAX_PAIRS, ParseLimits, attached_mail, clean_html, links, message_id,
    new_words_of_text, pairs, parse, stated_times_ms,
};
use postroom_sandbox::Bundle;
use postroom_sandbox::lex::{Kind, Lexer, text_value};

/// A function that reads untrusted bytes, and its name in `make fuzz ONLY=NAME`.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

pub const TARGETS: [Target; 8] = [
    Target {
        name: "imap",
        run: imap,
    },
    Target {
        name: "pop3",
        run: pop3,
    },
    Target {
        name: "mime",
        run: mime,
    },
    Target {
        name: "html",
        run: html,
    },
    Target {
        name: "reply",
        run: reply,
    },
    Target {
        name: "bundle",
        run: bundle,
    },
    Target {
        name: "table",
        run: table,
    },
    Target {
        name: "javascript",
        run: javascript,
    },
];

/// The length up to which literals are kept complete, so that short inputs contain longer ones too.
const KEEP_BYTES: u64 = 64 * 1024;

/// Limits small enough for an input of a few kilobytes to reach each of them.
const SMALL: ParseLimits = ParseLimits {
    header_bytes: 1024,
    header_value_bytes: 100,
    headers: 10,
    addresses: 3,
    references: 3,
    parts: 8,
    depth: 3,
    text_bytes: 200,
    html_bytes: 200,
};
/// A small limit: text is cut at the end of the last piece read, which may be a character or an entity.
const CUT_BYTES: usize = 64;

/// IMAP framing and responses: the same, whatever pieces the bytes arrive in.
fn imap(bytes: &[u8]) {
    let whole = postroom_mailbox::fuzz::imap::responses(bytes, usize::MAX, KEEP_BYTES);
    for chunk in [1, 7] {
        let pieces = postroom_mailbox::fuzz::imap::responses(bytes, chunk, KEEP_BYTES);
        assert_eq!(pieces, whole, "in chunks of {chunk}");
    }
}

/// POP3 framing, replies and listings: the same whatever the pieces in which the bytes arrive.
fn pop3(bytes: &[u8]) {
    for keep in [100, KEEP_BYTES] {
        let whole = postroom_mailbox::fuzz::pop3::session(bytes, usize::MAX, keep);
        for chunk in [1, 7] {
            let pieces = postroom_mailbox::fuzz::pop3::session(bytes, chunk, keep);
            assert_eq!(pieces, whole, "in chunks of {chunk}");
        }
    }
}

/// Whole mails: a message within the limits, and the same Message-ID as from the headers alone.
fn mime(bytes: &[u8]) {
    let raw = Bytes::copy_from_slice(bytes);
    let trusted = ["mx.example.net".to_owned()];
    stated_times_ms(bytes);
    for limits in [&ParseLimits::default(), &SMALL] {
        let mail = parse(&raw, limits, &trusted);
        assert!(mail.headers.len() <= limits.headers);
        for list in [&mail.to, &mail.cc, &mail.reply_to] {
            assert!(list.len() <= limits.addresses);
        }
        assert!(mail.references.len() <= limits.references);
        assert!(mail.attachments.len() <= limits.parts);
        assert!(mail.text.len() <= limits.text_bytes + CUT_BYTES);
        assert!(mail.reply.len() <= mail.text.len());
        let html = mail.html.as_ref().map_or(0, String::len);
        assert!(html <= limits.html_bytes + CUT_BYTES);
        assert!(links(&mail).len() <= MAX_LINKS);
        assert!(pairs(&mail).len() <= MAX_PAIRS);
        for attachment in &mail.attachments {
            attached_mail(attachment, limits);
        }
    }
    if let Some(id) = message_id(bytes) {
        assert_eq!(id, parse(&raw, &ParseLimits::default(), &[]).message_id);
    }
}

/// HTML to text: within the limit. Clean HTML: no script.
fn html(bytes: &[u8]) {
    let html = String::from_utf8_lossy(bytes);
    for most in [100, 64 * 1024] {
        postroom_core::fuzz::html_to_text(&html, most);
    }
    assert!(!clean_html(&html).contains("<script"));
}

/// New text of a reply: lines of the text, and not empty unless the text is.
fn reply(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lines: HashSet<&str> = text.lines().map(str::trim).collect();
    for is_reply in [false, true] {
        let words = new_words_of_text(&text, is_reply);
        assert_eq!(words.is_empty(), text.trim().is_empty());
        for line in words.lines() {
            assert!(
                lines.contains(line.trim()),
                "{line:?} is not a line of the text"
            );
        }
    }
}

/// Rule bundles in their stored form: an unpacked bundle packs to the same bytes.
fn bundle(bytes: &[u8]) {
    let Ok(unpacked) = Bundle::unpack("rules/rule.js", bytes) else {
        return;
    };
    assert!(!unpacked.modules().is_empty());
    if unpacked.modules()[0].name == "rules/rule.js" {
        let again = Bundle::unpack("rules/rule.js", &unpacked.pack());
        assert_eq!(again.ok(), Some(unpacked));
    }
}

/// Contacts and assets, as CSV and as TOML: rows, or at least one problem.
fn table(bytes: &[u8]) {
    for is_csv in [true, false] {
        for read in postroom_rules::directory::fuzz::rows(bytes, is_csv) {
            assert_ne!(read, Err(0), "refused without a reason");
        }
    }
}

/// The JavaScript lexer: tokens in the order of their positions, and a value for each string that ended.
fn javascript(bytes: &[u8]) {
    let script = String::from_utf8_lossy(bytes);
    let mut lexer = Lexer::new(&script);
    let mut last = (0, 0);
    let mut texts = Vec::new();
    for token in lexer.by_ref() {
        let place = (token.line, token.column);
        assert!(last < place, "{token:?} does not follow {last:?}");
        assert!(token.column as usize <= token.line_bytes + 1, "{token:?}");
        last = place;
        match token.kind {
            Kind::Word(word) => assert!(!word.is_empty(), "{token:?}"),
            Kind::Text(text) => texts.push(text_value(text)),
            _ => {}
        }
    }
    if lexer.is_whole() {
        assert!(texts.iter().all(Option::is_some), "{texts:?}");
    }
}
