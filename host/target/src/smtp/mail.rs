//! Outgoing mails, and their RFC 5322 text, marked so that no machine answers.

use bytes::Bytes;
use lettre::address::AddressError;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Body, Mailbox, MultiPart, SinglePart};
use postroom_core::Address;

use crate::smtp::RefusedRecipient;
use crate::smtp::error::{SendError, Step};

/// One header line may hold no more than 998 characters (RFC 5322 section 2.1.1), and a word
/// cannot be folded.
const MAX_WORD_CHARS: usize = 255;
/// References beyond this are cut from the middle: the first and the newest matter.
const MAX_REFERENCES: usize = 30;

/// One mail to send.
#[derive(Debug, Clone)]
pub struct OutgoingMail {
    pub to: Vec<Address>,
    pub subject: String,
    pub text: String,
    pub html: Option<String>,
    /// With or without angle brackets. Stable across tries, so that a repeated mail is known.
    pub message_id: String,
    pub in_reply_to: Option<String>,
    /// Oldest first, as in the header (RFC 5322 section 3.6.4).
    pub references: Vec<String>,
    /// Marks an answer that no person wrote (RFC 3834 section 5).
    pub auto_submitted: bool,
    /// A whole mail that is passed on with this one, as the file `original.eml`.
    pub attached: Option<Bytes>,
}

/// A mail of which it is not yet known what the server can take.
pub(crate) struct Draft<'m> {
    mail: &'m OutgoingMail,
    from: &'m Address,
    reply_to: Option<&'m Address>,
    automatic: &'static str,
    international: Composed,
}

/// A mail ready for the wire.
pub(crate) struct Composed {
    pub from: lettre::Address,
    pub to: Vec<Recipient>,
    pub bytes: Vec<u8>,
    /// An address, and with it a header, needs SMTPUTF8 (RFC 6531).
    pub is_international: bool,
    /// Those that this server cannot be given.
    pub refused: Vec<RefusedRecipient>,
}

/// One recipient.
pub(crate) struct Recipient {
    /// As it stands in [`OutgoingMail::to`]: a receipt names it so.
    pub given: String,
    /// The address in the envelope.
    pub envelope: lettre::Address,
}

impl<'m> Draft<'m> {
    /// Fails if no server can take the mail.
    pub fn new(
        mail: &'m OutgoingMail,
        from: &'m Address,
        reply_to: Option<&'m Address>,
        automatic: &'static str,
    ) -> Result<Self, SendError> {
        Ok(Self {
            mail,
            from,
            reply_to,
            automatic,
            international: compose(mail, from, reply_to, automatic)?,
        })
    }

    /// Writes the mail for a server with or without SMTPUTF8. Without it, who has no ASCII address is left out.
    pub fn write(self, smtp_utf8: bool) -> Result<Composed, SendError> {
        if smtp_utf8 || !self.international.is_international {
            return Ok(self.international);
        }
        for (field, address) in [("from", Some(self.from)), ("reply_to", self.reply_to)] {
            if let Some(address) = address
                && !has_ascii_name(address)
            {
                return Err(SendError::Settings {
                    problem: format!(
                        "{field}: {} is not ASCII before the @, and the server does not offer SMTPUTF8",
                        address.email
                    ),
                });
            }
        }
        let (to, others): (Vec<_>, Vec<_>) = self.mail.to.iter().cloned().partition(has_ascii_name);
        let refused: Vec<_> = others.into_iter().map(no_smtp_utf8).collect();
        if let (true, Some(first)) = (to.is_empty(), refused.first()) {
            return Err(unsendable(format!("{}: {}", first.address, first.text)));
        }
        let mail = OutgoingMail {
            to,
            ..self.mail.clone()
        };
        let written = compose(&mail, self.from, self.reply_to, self.automatic)?;
        Ok(Composed { refused, ..written })
    }
}

fn has_ascii_name(address: &Address) -> bool {
    let name = address.email.rsplit_once('@').map(|(name, _)| name);
    name.unwrap_or(&address.email).is_ascii()
}

/// As a server would say it (RFC 6531 section 3.5).
fn no_smtp_utf8(recipient: Address) -> RefusedRecipient {
    RefusedRecipient {
        address: recipient.email,
        code: 553,
        text: "5.6.7 it is not ASCII before the @, and the server does not offer SMTPUTF8".into(),
    }
}

/// An automatic mail that answers another one (RFC 3834 section 5).
pub(crate) const REPLIED: &str = "auto-replied";
/// An automatic mail of its own.
pub(crate) const GENERATED: &str = "auto-generated";

/// Writes the mail. `automatic` is the kind of automatic mail that it is, if it is one.
///
/// The envelope's sender is the From address. RFC 3834 section 3.3 allows a null sender too, but
/// a submission server ties MAIL FROM to the login and refuses one, and a bounce must come back
/// to the mailbox to be seen. No loop comes of it: a bounce is never answered.
fn compose(
    mail: &OutgoingMail,
    from: &Address,
    reply_to: Option<&Address>,
    automatic: &'static str,
) -> Result<Composed, SendError> {
    let sender = mailbox(from).map_err(|e| SendError::Settings {
        problem: format!("from: {} is no mail address: {e}", from.email),
    })?;
    if mail.to.is_empty() {
        return Err(unsendable("the mail has no recipient".into()));
    }
    let to = mail
        .to
        .iter()
        .map(|a| mailbox(a).map_err(|e| unsendable(format!("{} is no mail address: {e}", a.email))))
        .collect::<Result<Vec<Mailbox>, SendError>>()?;
    let message_id = angled(&mail.message_id)
        .ok_or_else(|| unsendable(format!("{:?} is no Message-ID", mail.message_id)))?;

    let mut builder = lettre::Message::builder()
        .from(sender.clone())
        .subject(one_line(&mail.subject))
        .message_id(Some(message_id))
        .raw_header(fixed("X-Postroom-Loop", "1"));
    for recipient in &to {
        builder = builder.to(recipient.clone());
    }
    if let Some(reply_to) = reply_to {
        builder = builder.reply_to(mailbox(reply_to).map_err(|e| SendError::Settings {
            problem: format!("reply_to: {} is no mail address: {e}", reply_to.email),
        })?);
    }
    if let Some(parent) = mail.in_reply_to.as_deref().and_then(angled) {
        builder = builder.in_reply_to(parent);
    }
    let references = references(&mail.references);
    if !references.is_empty() {
        builder = builder.references(references.join(" "));
    }
    if mail.auto_submitted {
        builder = builder
            .raw_header(fixed("Auto-Submitted", automatic))
            .raw_header(fixed("X-Auto-Response-Suppress", "All"));
    }
    let text = crlf(&mail.text);
    let message = match (&mail.attached, &mail.html) {
        (Some(original), _) => builder.multipart(
            MultiPart::mixed()
                .singlepart(SinglePart::plain(text))
                .singlepart(passed_on(original)?),
        ),
        (None, Some(html)) => {
            builder.multipart(MultiPart::alternative_plain_html(text, crlf(html)))
        }
        (None, None) => builder.singlepart(SinglePart::plain(text)),
    }
    .map_err(|e| unsendable(e.to_string()))?;
    let mut bytes = message.formatted();
    if bytes.ends_with(b"\r\n") {
        // The end of data (RFC 5321 section 4.1.1.4) brings a line end of its own.
        bytes.truncate(bytes.len() - 2);
    }
    Ok(Composed {
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
        refused: Vec::new(),
    })
}

/// A mail within a mail. Its bytes may be anything, so it must travel in base64; RFC 2046 section 5.2.1 forbids that for
/// `message/rfc822`, hence a file by the name of `original.eml`.
fn passed_on(original: &Bytes) -> Result<SinglePart, SendError> {
    let kind =
        ContentType::parse("application/octet-stream").map_err(|e| unsendable(e.to_string()))?;
    let encoded = Body::new_with_encoding(original.to_vec(), ContentTransferEncoding::Base64)
        .map_err(|_| unsendable("the mail to pass on cannot be encoded".into()))?;
    Ok(Attachment::new("original.eml".into()).body(encoded, kind))
}

fn unsendable(problem: String) -> SendError {
    SendError::Permanent {
        step: Step::Recipient,
        code: None,
        problem,
    }
}

/// With the domain in ASCII (RFC 5890 section 2.3.2.1), which every server takes.
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

/// A header's text without line ends or other control characters, capped.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_WORD_CHARS)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// `<id>`, when it is one that may stand in a header.
fn angled(id: &str) -> Option<String> {
    let bare = id.trim().trim_start_matches('<').trim_end_matches('>');
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

/// Every line end as CRLF (RFC 5322 section 2.3), in one pass.
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
            auto_submitted: true,
            attached: None,
        }
    }

    fn written(mail: &OutgoingMail) -> String {
        let from = Address {
            name: Some("Acme Süpport".into()),
            email: "support@acme.example".into(),
        };
        let composed = compose(mail, &from, Some(&address("desk@acme.example")), REPLIED).unwrap();
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
    fn a_persons_words_passed_on_are_not_marked_as_automatic() {
        let text = written(&OutgoingMail {
            auto_submitted: false,
            attached: None,
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
                &address("support@acme.example"),
                None,
                REPLIED
            ),
            Err(SendError::Permanent { code: None, .. })
        ));
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
