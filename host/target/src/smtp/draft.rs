//! A mail before the capabilities of its server are known.

use postroom_core::{Address, OutgoingMail};

use crate::mail::{ComposeError, ComposedMail, MailAttachment, Sender, compose, has_ascii_name};
use crate::smtp::RefusedRecipient;
use crate::smtp::error::{SendError, SmtpStep};

/// A mail, with its text for a server that offers SMTPUTF8.
pub(crate) struct Draft<'m> {
    mail: &'m OutgoingMail,
    attachments: &'m [MailAttachment],
    sender: Sender<'m>,
    international: ComposedMail,
}

/// A mail ready for the wire.
pub(crate) struct WireMail {
    pub composed: ComposedMail,
    /// Recipients that this server cannot be given.
    pub refused: Vec<RefusedRecipient>,
}

impl<'m> Draft<'m> {
    /// Creates the draft. Fails if no server can accept the mail.
    pub fn new(
        mail: &'m OutgoingMail,
        attachments: &'m [MailAttachment],
        sender: Sender<'m>,
    ) -> Result<Self, SendError> {
        Ok(Self {
            mail,
            attachments,
            sender,
            international: compose(mail, attachments, sender)?,
        })
    }

    /// Writes the mail for a server with or without SMTPUTF8. Without it, recipients without an ASCII address are left out.
    pub fn write(self, smtp_utf8: bool) -> Result<WireMail, SendError> {
        if smtp_utf8 || !self.international.is_international {
            return Ok(WireMail {
                composed: self.international,
                refused: Vec::new(),
            });
        }
        let Sender { from, reply_to, .. } = self.sender;
        for (field, address) in [("from", Some(from)), ("reply_to", reply_to)] {
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
        let composed = compose(&mail, self.attachments, self.sender)?;
        Ok(WireMail { composed, refused })
    }
}

impl From<ComposeError> for SendError {
    fn from(error: ComposeError) -> Self {
        match error {
            ComposeError::Sender(problem) => SendError::Settings { problem },
            ComposeError::Mail(problem) => unsendable(problem),
        }
    }
}

fn unsendable(problem: String) -> SendError {
    SendError::Permanent {
        step: SmtpStep::Recipient,
        code: None,
        problem,
    }
}

/// Returns the reply that a server would give (RFC 6531 section 3.5).
fn no_smtp_utf8(recipient: Address) -> RefusedRecipient {
    RefusedRecipient {
        address: recipient.email,
        code: 553,
        text: "5.6.7 it is not ASCII before the @, and the server does not offer SMTPUTF8".into(),
    }
}
