//! The SMTP target of an outgoing: submits replies and forwards.

use crate::smtp::{RefusedRecipient, SendError, Smtp, SmtpReceipt, SmtpStep};

use async_trait::async_trait;
use postroom_core::{OutgoingMail, Receipt};
use postroom_net::{ProbeStep, Trace};

use crate::unanswered::Unanswered;
use crate::{
    Attempt, Content, Delivery, Fault, MailAttachment, ProbeInterval, Scope, Severity, Target,
    TargetError, TestDelivery,
};

/// Submits mails one after the other over one connection.
pub struct SmtpTarget {
    smtp: Smtp,
    /// Whether it signs in with a password.
    by_password: bool,
    unanswered: Unanswered,
}

impl SmtpTarget {
    pub fn new(smtp: Smtp, by_password: bool) -> Self {
        Self {
            smtp,
            by_password,
            unanswered: Unanswered::default(),
        }
    }

    async fn send(&self, mail: &OutgoingMail, attachments: &[MailAttachment]) -> Attempt {
        match self.smtp.send(mail, attachments).await {
            Ok(receipt) => sent(mail, &receipt),
            Err(error) if is_final(&error) => Attempt::Final(error.to_string()),
            // This also applies if the reply was lost and the mail may have arrived: its Message-ID stays the same.
            Err(error) => Attempt::Failed(fault(&error, self.by_password)),
        }
    }
}

#[async_trait]
impl Target for SmtpTarget {
    async fn deliver(&self, delivery: Delivery<'_>) -> Attempt {
        match delivery.content {
            Content::Mail { mail, attachments } => {
                let attempt = self.send(mail, &attachments).await;
                self.unanswered.flagged(delivery.idempotency_key, attempt)
            }
            Content::Event(_) => Attempt::Final("an outgoing takes mail only".into()),
        }
    }

    fn is_serial(&self) -> bool {
        true
    }

    async fn probe(
        &self,
        test: Option<&TestDelivery>,
        report: &mut (dyn FnMut(ProbeStep<TargetError>) + Send),
    ) {
        self.smtp.probe(test, report).await;
    }

    fn set_trace(&mut self, trace: Trace) {
        self.smtp.set_trace(trace);
    }

    async fn close(&self) {
        self.smtp.close().await;
    }
}

/// Returns the result for a mail that was accepted for all recipients that are not deferred.
fn sent(mail: &OutgoingMail, receipt: &SmtpReceipt) -> Attempt {
    let mut text = format!("{} {}", receipt.code, receipt.text);
    if !receipt.refused.is_empty() {
        text = format!("{text}; refused: {}", named(&receipt.refused));
    }
    let refused = receipt.refused.iter().map(|one| one.address.clone());
    let delivered = |status| {
        Attempt::Delivered(Receipt {
            status,
            refused: refused.collect(),
            ..Receipt::default()
        })
    };
    if receipt.deferred.is_empty() {
        return delivered(text);
    }
    let mut rest = mail.clone();
    rest.to.retain(|to| {
        let mut deferred = receipt.deferred.iter();
        deferred.any(|one| one.address.eq_ignore_ascii_case(&to.email))
    });
    let problem = format!("deferred: {}", named(&receipt.deferred));
    if rest.to.is_empty() {
        // No recipient is left to deliver to.
        return delivered(format!("{text}; {problem}"));
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

/// Returns whether the server's reply about this very mail is final (RFC 5321 section 4.2.1). At MAIL FROM it knows only the
/// mail's size (552) and encoding (555): any other refusal is about the sender, which all mails share.
fn is_final(error: &SendError) -> bool {
    let of_all = matches!(
        error,
        SendError::Permanent { step: SmtpStep::Sender, code: Some(code), .. } if !matches!(code, 552 | 555)
    );
    error.is_permanent() && !error.is_before_mail() && !of_all
}

/// Returns what an unsent mail says about its server.
fn fault(error: &SendError, by_password: bool) -> Fault {
    let scope = match error {
        SendError::Settings { .. } => Scope::Target,
        error if error.is_before_mail() => Scope::Target,
        SendError::Transient {
            step: SmtpStep::Recipient,
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
    let probe_interval = match error {
        SendError::Auth(_) => ProbeInterval::Token,
        SendError::RefusedLogin { .. } if by_password => ProbeInterval::Password,
        _ => ProbeInterval::Usual,
    };
    let retry_after = match error {
        SendError::Auth(error) => error.retry_after(),
        _ => None,
    };
    Fault {
        scope,
        problem: error.to_string(),
        probe_interval,
        severity,
        retry_after,
        may_have_arrived: matches!(error, SendError::Lost { .. }),
    }
}

#[cfg(test)]
mod tests {
    use postroom_core::{Address, MailKind};

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
            reply_token: None,
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
        let receipt = SmtpReceipt {
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
            (SmtpStep::Sender, Some(530), false),
            (SmtpStep::Sender, Some(550), false),
            (SmtpStep::Sender, Some(552), true),
            (SmtpStep::Recipient, Some(550), true),
            (SmtpStep::Text, Some(554), true),
            (SmtpStep::Recipient, None, true),
            (SmtpStep::Hello, Some(554), false),
        ] {
            assert_eq!(is_final(&refused(step, code)), expected, "{step} {code:?}");
        }
        assert_eq!(
            fault(&refused(SmtpStep::Sender, Some(550)), false).scope,
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
            (transient(SmtpStep::Recipient), Scope::Entry),
            (transient(SmtpStep::Text), Scope::Unclear),
            (transient(SmtpStep::Hello), Scope::Target),
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
