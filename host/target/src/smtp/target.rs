//! The target of an outgoing: submits replies and forwards by SMTP.

use crate::smtp::{Receipt, RefusedRecipient, SendError, Smtp, Step};
use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::{MailKind, OutgoingMail};
use postroom_net::ProbeStep;

use crate::{Attempt, Content, Delivery, Fault, Pace, Scope, Severity, Target};

/// Submits mails one after the other over one connection.
pub struct SmtpTarget {
    smtp: Smtp,
    /// Whether it signs in with a password.
    by_password: bool,
}

impl SmtpTarget {
    pub fn new(smtp: Smtp, by_password: bool) -> Self {
        Self { smtp, by_password }
    }

    async fn send(&self, mail: &OutgoingMail, original: Option<Bytes>) -> Attempt {
        let sending = crate::smtp::OutgoingMail {
            to: mail.to.clone(),
            subject: mail.subject.clone(),
            text: mail.text.clone(),
            html: mail.html.clone(),
            message_id: mail.message_id.clone(),
            in_reply_to: mail.in_reply_to.clone(),
            references: mail.references.clone(),
            auto_submitted: mail.kind != MailKind::Forward,
            attached: original,
        };
        match self.smtp.send(&sending).await {
            Ok(receipt) => sent(mail, &receipt),
            Err(error) if is_final(&error) => Attempt::Final(error.to_string()),
            // Also when the answer was lost and the mail may have arrived: its Message-ID stays the same.
            Err(error) => Attempt::Failed(fault(&error, self.by_password)),
        }
    }
}

#[async_trait]
impl Target for SmtpTarget {
    async fn deliver(&self, delivery: Delivery<'_>) -> Attempt {
        match delivery.content {
            Content::Mail { mail, original } => self.send(mail, original).await,
            Content::Event(_) => Attempt::Final("an outgoing takes mail only".into()),
        }
    }

    fn is_serial(&self) -> bool {
        true
    }

    async fn probe(&self, report: &mut (dyn FnMut(ProbeStep<Fault>) + Send)) {
        let mut listener = |step: ProbeStep<SendError>| {
            report(ProbeStep {
                step: step.step,
                elapsed: step.elapsed,
                outcome: step
                    .outcome
                    .map_err(|error| fault(&error, self.by_password)),
            });
        };
        self.smtp.probe(None, &mut listener).await;
    }

    async fn close(&self) {
        self.smtp.close().await;
    }
}

/// A mail that was accepted for those who are not deferred.
fn sent(mail: &OutgoingMail, receipt: &Receipt) -> Attempt {
    let mut text = format!("{} {}", receipt.code, receipt.text);
    if !receipt.refused.is_empty() {
        text = format!("{text}; refused: {}", named(&receipt.refused));
    }
    if receipt.deferred.is_empty() {
        return Attempt::Delivered(text.into());
    }
    let mut rest = mail.clone();
    rest.to.retain(|to| {
        let mut deferred = receipt.deferred.iter();
        deferred.any(|one| one.address.eq_ignore_ascii_case(&to.email))
    });
    let problem = format!("deferred: {}", named(&receipt.deferred));
    if rest.to.is_empty() {
        // Nobody to whom it could be owed.
        return Attempt::Delivered(format!("{text}; {problem}").into());
    }
    Attempt::Partly {
        rest: Box::new(rest),
        receipt: text,
        problem,
    }
}

fn named(recipients: &[RefusedRecipient]) -> String {
    let named = recipients
        .iter()
        .map(|one| format!("{}: {} {}", one.address, one.code, one.text));
    named.collect::<Vec<_>>().join("; ")
}

/// Whether the server spoke its last word on this very mail (RFC 5321 section 4.2.1). At MAIL FROM it has heard nothing of the mail
/// but its size (552) and encoding (555): any other refusal is of the sender, which all mails share.
fn is_final(error: &SendError) -> bool {
    let of_all = matches!(
        error,
        SendError::Permanent { step: Step::Sender, code: Some(code), .. } if !matches!(code, 552 | 555)
    );
    error.is_permanent() && !error.is_before_mail() && !of_all
}

/// What a mail that was not sent tells of its server.
fn fault(error: &SendError, by_password: bool) -> Fault {
    let scope = match error {
        SendError::Settings { .. } => Scope::Target,
        error if error.is_before_mail() => Scope::Target,
        SendError::Transient {
            step: Step::Recipient,
            ..
        } => Scope::Entry,
        _ => Scope::Unclear,
    };
    let severity = match error {
        SendError::Auth(_) => Severity::ReportedElsewhere,
        SendError::RefusedLogin { .. }
        | SendError::Tls { .. }
        | SendError::Unsupported { .. }
        | SendError::Settings { .. } => Severity::Error,
        _ => Severity::Warning,
    };
    let pace = match error {
        SendError::Auth(_) => Pace::Token,
        SendError::RefusedLogin { .. } if by_password => Pace::Password,
        _ => Pace::Usual,
    };
    let retry_after = match error {
        SendError::Auth(error) => error.retry_after(),
        _ => None,
    };
    Fault {
        scope,
        problem: error.to_string(),
        pace,
        severity,
        retry_after,
    }
}

#[cfg(test)]
mod tests {
    use postroom_core::Address;

    use super::*;

    fn address(email: &str) -> Address {
        Address {
            name: Some("Somebody".into()),
            email: email.into(),
        }
    }

    fn forward(to: &[&str]) -> OutgoingMail {
        OutgoingMail {
            kind: MailKind::Forward,
            to: to.iter().map(|to| address(to)).collect(),
            subject: "Fwd: x".into(),
            text: String::new(),
            html: None,
            message_id: "7.1@acme.example".into(),
            in_reply_to: None,
            references: Vec::new(),
        }
    }

    fn recipient(address: &str, code: u16) -> RefusedRecipient {
        RefusedRecipient {
            address: address.into(),
            code,
            text: "later".into(),
        }
    }

    #[test]
    fn a_deferred_recipient_is_still_owed_the_same_mail() {
        let receipt = Receipt {
            code: 250,
            text: "queued".into(),
            refused: vec![recipient("gone@x.example", 550)],
            deferred: vec![recipient("Full@x.example", 451)],
        };
        let mail = forward(&["ok@x.example", "full@x.example", "gone@x.example"]);
        let Attempt::Partly {
            rest,
            receipt,
            problem,
        } = sent(&mail, &receipt)
        else {
            panic!("nobody is owed anything");
        };
        assert_eq!(*rest, forward(&["full@x.example"]));
        assert_eq!(receipt, "250 queued; refused: gone@x.example: 550 later");
        assert_eq!(problem, "deferred: Full@x.example: 451 later");
    }

    #[test]
    fn a_refused_sender_ends_no_mail() {
        let refused = |step, code| SendError::Permanent {
            step,
            code,
            problem: "no".into(),
        };
        for (step, code, expected) in [
            (Step::Sender, Some(530), false),
            (Step::Sender, Some(550), false),
            (Step::Sender, Some(552), true),
            (Step::Recipient, Some(550), true),
            (Step::Text, Some(554), true),
            (Step::Recipient, None, true),
            (Step::Hello, Some(554), false),
        ] {
            assert_eq!(is_final(&refused(step, code)), expected, "{step} {code:?}");
        }
        assert_eq!(
            fault(&refused(Step::Sender, Some(550)), false).scope,
            Scope::Unclear
        );
    }

    #[test]
    fn a_deferred_recipient_says_nothing_of_the_server() {
        let transient = |step| SendError::Transient {
            step,
            code: Some(451),
            problem: "later".into(),
        };
        for (error, expected) in [
            (transient(Step::Recipient), Scope::Entry),
            (transient(Step::Text), Scope::Unclear),
            (transient(Step::Hello), Scope::Target),
            (
                SendError::Lost {
                    problem: "x".into(),
                },
                Scope::Unclear,
            ),
        ] {
            assert_eq!(fault(&error, false).scope, expected, "{error}");
        }
    }
}
