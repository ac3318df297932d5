//! Outgoing mails and their RFC 5322 text, marked so that no machine replies to them.

use bytes::Bytes;
use lettre::address::AddressError;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Body, Mailbox, MultiPart, SinglePart};
use postroom_core::reply_token::{signed_html, signed_text, with_token};
use postroom_core::{Address, MailKind, OutgoingMail};

/// The longest word. One header line may hold no more than 998 characters (RFC 5322 section 2.1.1), and a word cannot be folded.
const MAX_WORD_CHARS: usize = 255;
/// The most references. Further ones are cut from the middle, because the first and the newest matter most.
const MAX_REFERENCES: usize = 30;

/// A file attached to a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailAttachment {
    pub name: String,
    pub content: Bytes,
}

impl MailAttachment {
    /// Returns the attachment of a forward: the original mail.
    pub fn original(mail: Bytes) -> Self {
        Self {
            name: "original.eml".into(),
            content: mail,
        }
    }
}

/// The sender of a mail.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender<'m> {
    pub from: &'m Address,
    pub reply_to: Option<&'m Address>,
    /// Whether the address for answers gets the ticket's token as its tag.
    pub tagged: bool,
}

/// A mail in its final form.
pub(crate) struct ComposedMail {
    pub from: lettre::Address,
    pub to: Vec<Recipient>,
    pub bytes: Vec<u8>,
    /// Whether an address, and with it a header, needs SMTPUTF8 (RFC 6531).
    pub is_international: bool,
}

/// One recipient.
pub(crate) struct Recipient {
    /// The address as written in [`OutgoingMail::to`], which receipts use.
    pub given: String,
    /// The address in the envelope.
    pub envelope: lettre::Address,
}

/// Why a mail cannot be composed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ComposeError {
    /// The sender is at fault, which all mails share.
    #[error("{0}")]
    Sender(String),
    /// This mail is at fault.
    #[error("{0}")]
    Mail(String),
}

/// Returns whether an address needs no SMTPUTF8.
pub(crate) fn has_ascii_name(address: &Address) -> bool {
    let name = address.email.rsplit_once('@').map(|(name, _)| name);
    name.unwrap_or(&address.email).is_ascii()
}

/// Marks an automatic mail that replies to another one (RFC 3834 section 5).
const REPLIED: &str = "auto-replied";
/// Marks an automatic mail that is not a reply.
const GENERATED: &str = "auto-generated";

/// Names the mail by its Message-ID, for servers that replace the Message-ID itself.
pub(crate) const ID_HEADER: &str = "X-Postroom-Id";

/// Returns a Message-ID without its angle brackets.
pub(crate) fn bare(id: &str) -> &str {
    id.trim().trim_start_matches('<').trim_end_matches('>')
}

/// Composes the mail.
///
/// The envelope's sender is the From address. RFC 3834 section 3.3 also allows a null sender, but a submission server ties MAIL
/// FROM to the login and refuses one, and a bounce must return to the mailbox to be seen. This causes no loop, because a bounce
/// is never replied to.
pub(crate) fn compose(
    mail: &OutgoingMail,
    attachments: &[MailAttachment],
    Sender {
        from,
        reply_to,
        tagged,
    }: Sender<'_>,
) -> Result<ComposedMail, ComposeError> {
    let sender = mailbox(from).map_err(|e| {
        ComposeError::Sender(format!("from: {} is no mail address: {e}", from.email))
    })?;
    if mail.to.is_empty() {
        return Err(unsendable("the mail has no recipient".into()));
    }
    let to = mail
        .to
        .iter()
        .map(|a| mailbox(a).map_err(|e| unsendable(format!("{} is no mail address: {e}", a.email))))
        .collect::<Result<Vec<Mailbox>, ComposeError>>()?;
    let message_id = angled(&mail.message_id)
        .ok_or_else(|| unsendable(format!("{:?} is no Message-ID", mail.message_id)))?;

    let mut builder = lettre::Message::builder()
        .from(sender.clone())
        .subject(one_line(&mail.subject))
        .message_id(Some(message_id.clone()))
        .raw_header(fixed("X-Postroom-Loop", "1"))
        .raw_header(fixed(ID_HEADER, bare(&message_id)));
    for recipient in &to {
        builder = builder.to(recipient.clone());
    }
    let token = mail.reply_token.as_deref().filter(|_| tagged);
    let answers_to = token.and_then(|token| {
        let to = reply_to.unwrap_or(from);
        Some(Address {
            name: to.name.clone(),
            email: with_token(&to.email, token)?,
        })
    });
    if let Some(reply_to) = answers_to.as_ref().or(reply_to) {
        builder = builder.reply_to(mailbox(reply_to).map_err(|e| {
            let problem = format!("reply_to: {} is no mail address: {e}", reply_to.email);
            ComposeError::Sender(problem)
        })?);
    }
    if let Some(parent) = mail.in_reply_to.as_deref().and_then(angled) {
        builder = builder.in_reply_to(parent);
    }
    let references = references(&mail.references);
    if !references.is_empty() {
        builder = builder.references(references.join(" "));
    }
    let automatic = match mail.kind {
        MailKind::Reply => Some(REPLIED),
        MailKind::Notification => Some(GENERATED),
        // Its author is the person who wrote the original.
        MailKind::Forward => None,
    };
    if let Some(automatic) = automatic {
        builder = builder
            .raw_header(fixed("Auto-Submitted", automatic))
            .raw_header(fixed("X-Auto-Response-Suppress", "All"));
    }
    let message = match (body(mail), attachments) {
        (BodyPart::Plain(text), []) => builder.singlepart(text),
        (BodyPart::Both(both), []) => builder.multipart(both),
        (BodyPart::Plain(text), files) => {
            builder.multipart(with_files(MultiPart::mixed().singlepart(text), files)?)
        }
        (BodyPart::Both(both), files) => {
            builder.multipart(with_files(MultiPart::mixed().multipart(both), files)?)
        }
    }
    .map_err(|e| unsendable(e.to_string()))?;
    let mut bytes = message.formatted();
    if bytes.ends_with(b"\r\n") {
        // The end of data (RFC 5321 section 4.1.1.4) adds a line end of its own.
        bytes.truncate(bytes.len() - 2);
    }
    Ok(ComposedMail {
        from: sender.email,
        to: mail
            .to
            .iter()
            .zip(to)
            .map(|(given, written)| Recipient {
                given: given.email.clone(),
                envelope: written.email,
            })
            .collect(),
        is_international: [from]
            .into_iter()
            .chain(reply_to)
            .chain(&mail.to)
            .any(|address| !has_ascii_name(address)),
        bytes,
    })
}

/// The body of a mail.
enum BodyPart {
    Plain(SinglePart),
    /// Text and HTML.
    Both(MultiPart),
}

fn body(mail: &OutgoingMail) -> BodyPart {
    let token = mail.reply_token.as_deref();
    let text = token.map(|token| signed_text(&mail.text, token));
    let text = crlf(text.as_deref().unwrap_or(&mail.text));
    let Some(html) = &mail.html else {
        return BodyPart::Plain(SinglePart::plain(text));
    };
    let signed = token.map(|token| signed_html(html, token));
    let html = crlf(signed.as_deref().unwrap_or(html));
    BodyPart::Both(MultiPart::alternative_plain_html(text, html))
}

fn with_files(mail: MultiPart, files: &[MailAttachment]) -> Result<MultiPart, ComposeError> {
    files
        .iter()
        .try_fold(mail, |mail, file| Ok(mail.singlepart(attached(file)?)))
}

/// Builds an attachment. Its bytes may be anything, so it must be base64-encoded. RFC 2046 section 5.2.1 forbids that for
/// `message/rfc822`, so a forwarded mail is attached as a file too.
fn attached(file: &MailAttachment) -> Result<SinglePart, ComposeError> {
    let kind =
        ContentType::parse("application/octet-stream").map_err(|e| unsendable(e.to_string()))?;
    let encoded = Body::new_with_encoding(file.content.to_vec(), ContentTransferEncoding::Base64)
        .map_err(|_| unsendable(format!("{} cannot be encoded", file.name)))?;
    Ok(Attachment::new(one_line(&file.name)).body(encoded, kind))
}

fn unsendable(problem: String) -> ComposeError {
    ComposeError::Mail(problem)
}

/// Converts an address, with its domain in ASCII (RFC 5890 section 2.3.2.1), which every server accepts.
fn mailbox(address: &Address) -> Result<Mailbox, AddressError> {
    let name = address.name.as_deref().map(one_line);
    let mut email: lettre::Address = address.email.parse()?;
    if address.email.contains(char::is_control) {
        return Err(AddressError::InvalidInput);
    }
    if !email.domain().is_ascii() {
        let domain = idna::domain_to_ascii(email.domain());
        let domain = domain.map_err(|_| AddressError::InvalidDomain)?;
        email = lettre::Address::new(email.user(), domain)?;
    }
    Ok(Mailbox::new(name.filter(|n| !n.is_empty()), email))
}

fn fixed(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// Returns a header's text without line ends or other control characters, truncated.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_WORD_CHARS)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Returns `<id>` if it is valid in a header.
pub(crate) fn angled(id: &str) -> Option<String> {
    let bare = bare(id);
    let sound = !bare.is_empty()
        && bare.len() <= MAX_WORD_CHARS
        && bare
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'<' && b != b'>');
    sound.then(|| format!("<{bare}>"))
}

fn references(ids: &[String]) -> Vec<String> {
    let mut sound: Vec<String> = ids.iter().filter_map(|id| angled(id)).collect();
    if sound.len() > MAX_REFERENCES {
        let surplus = sound.len() - MAX_REFERENCES;
        sound.drain(1..=surplus);
    }
    sound
}

/// Converts every line end to CRLF (RFC 5322 section 2.3), in one pass.
fn crlf(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 40);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                chars.next_if_eq(&'\n');
                out.push_str("\r\n");
            }
            '\n' => out.push_str("\r\n"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(email: &str) -> Address {
        Address {
            name: None,
            email: email.into(),
        }
    }

    fn mail() -> OutgoingMail {
        OutgoingMail {
            kind: MailKind::Reply,
            to: vec![address("ann@client.example")],
            subject: "Re: Drucker [T-12]".into(),
            text: "We have it.\n.\nThe desk".into(),
            html: None,
            message_id: "7.0@acme.example".into(),
            in_reply_to: Some("parent@client.example".into()),
            references: vec![
                "<first@client.example>".into(),
                "parent@client.example".into(),
            ],
            reply_token: None,
        }
    }

    fn written(mail: &OutgoingMail) -> String {
        with_attachments(mail, &[])
    }

    fn with_attachments(mail: &OutgoingMail, files: &[MailAttachment]) -> String {
        let from = Address {
            name: Some("Acme Süpport".into()),
            email: "support@acme.example".into(),
        };
        let sender = Sender {
            from: &from,
            reply_to: Some(&address("desk@acme.example")),
            tagged: true,
        };
        let composed = compose(mail, files, sender).unwrap();
        String::from_utf8(composed.bytes).unwrap()
    }

    #[test]
    fn an_answer_says_that_no_person_wrote_it_and_what_it_answers() {
        let text = written(&mail());
        for line in [
            "Message-ID: <7.0@acme.example>\r\n",
            "In-Reply-To: <parent@client.example>\r\n",
            "References: <first@client.example> <parent@client.example>\r\n",
            "Reply-To: desk@acme.example\r\n",
            "To: ann@client.example\r\n",
            "Auto-Submitted: auto-replied\r\n",
            "X-Auto-Response-Suppress: All\r\n",
            "X-Postroom-Loop: 1\r\n",
            "MIME-Version: 1.0\r\n",
            "Date: ",
            " <support@acme.example>\r\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        assert!(text.ends_with("We have it.\r\n.\r\nThe desk"));
        assert!(text.is_ascii());
    }

    #[test]
    fn an_answer_finds_its_ticket_by_the_address_the_text_and_the_html() {
        let token = "t-12-0123456789abcdef01234567";
        let text = written(&OutgoingMail {
            reply_token: Some(token.into()),
            html: Some("<html><body>We have it.</body></html>".into()),
            ..mail()
        });
        assert!(
            text.contains(&format!("Reply-To: desk+{token}@acme.example\r\n")),
            "{text}"
        );
        assert!(
            text.contains(&format!("The desk\r\n\r\n[{token}]")),
            "{text}"
        );
        let read = postroom_core::parse(&text.into_bytes().into(), &Default::default(), &[]);
        assert!(read.text.contains(token), "{}", read.text);
        assert!(read.html.as_ref().is_some_and(|it| it.contains(token)));
        assert!(!written(&mail()).contains("t-12-"));
    }

    #[test]
    fn a_persons_words_passed_on_are_not_marked_as_automatic() {
        let text = written(&OutgoingMail {
            kind: MailKind::Forward,
            html: Some("<p>We have it.</p>".into()),
            ..mail()
        });
        assert!(!text.contains("Auto-Submitted"));
        assert!(text.contains("X-Postroom-Loop: 1\r\n"));
        assert!(text.contains("multipart/alternative"));
    }

    #[test]
    fn nothing_in_the_mail_can_add_a_header() {
        let text = written(&OutgoingMail {
            subject: "Hi\r\nBcc: eve@evil.example\n\nbody".into(),
            in_reply_to: Some("a@b>\r\nBcc: <eve@evil.example".into()),
            references: vec!["x@y\r\nBcc: eve@evil.example".into()],
            to: vec![Address {
                name: Some("Ann\r\nBcc: eve@evil.example".into()),
                email: "ann@client.example".into(),
            }],
            ..mail()
        });
        let head = text.split("\r\n\r\n").next().unwrap();
        assert!(head.lines().all(|l| !l.starts_with("Bcc")), "{head}");
        assert!(!head.contains("In-Reply-To"));
        assert!(!head.contains("References"));
        assert!(matches!(
            compose(
                &OutgoingMail {
                    to: vec![address("a@b\r\nRCPT TO:<c@d>")],
                    ..mail()
                },
                &[],
                Sender {
                    from: &address("support@acme.example"),
                    reply_to: None,
                    tagged: false,
                }
            ),
            Err(ComposeError::Mail(_))
        ));
    }

    #[test]
    fn a_notification_carries_text_html_and_files_of_any_name() {
        let notification = OutgoingMail {
            kind: MailKind::Notification,
            html: Some("<p>Disk full</p>".into()),
            ..mail()
        };
        let files = [
            ("report.pdf", "%PDF"),
            ("Übersicht\r\nBcc: eve@evil.example", "x"),
        ];
        let files = files.map(|(name, content)| MailAttachment {
            name: name.into(),
            content: Bytes::from_static(content.as_bytes()),
        });
        let text = with_attachments(&notification, &files);
        assert!(
            text.contains("Auto-Submitted: auto-generated\r\n"),
            "{text}"
        );
        for part in ["multipart/mixed", "multipart/alternative", "JVBERg=="] {
            assert_eq!(text.matches(part).count(), 1, "{part} in\n{text}");
        }
        assert!(text.contains("filename=\"report.pdf\""), "{text}");
        assert!(text.lines().all(|line| !line.starts_with("Bcc")), "{text}");
        assert!(text.is_ascii());
    }

    #[test]
    fn no_line_is_longer_than_the_rfc_allows() {
        let ids: Vec<String> = (0..500).map(|n| format!("{n}@client.example")).collect();
        let text = written(&OutgoingMail {
            subject: "w".repeat(5_000),
            text: "x".repeat(5_000),
            references: ids,
            ..mail()
        });
        assert!(text.split("\r\n").all(|line| line.len() <= 998));
        assert!(text.contains("<0@client.example>") && text.contains("<499@client.example>"));
        assert!(!text.contains("<1@client.example>"));
    }

    #[test]
    fn every_line_end_becomes_crlf() {
        assert_eq!(crlf("a\nb\r\nc\rd\n"), "a\r\nb\r\nc\r\nd\r\n");
    }
}
