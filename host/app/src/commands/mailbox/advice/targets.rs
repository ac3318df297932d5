//! Advice on the errors of targets: Exchange, webhook receivers and submission servers.

use postroom_auth::Provider;
use postroom_auth::advice::Advice;
use postroom_exchange::ExchangeError;
use postroom_net::{ConnectError, Step};
use postroom_target::TargetError;
use postroom_target::smtp::{EnhancedStatus, SendError, SmtpStep};
use postroom_target::webhook::WebhookError;

use super::table::Trouble;
use super::{Place, tls, unreachable};

impl Place<'_> {
    /// Returns what to do when a target cannot be delivered to.
    pub fn of_target(&mut self, error: &TargetError) -> Advice {
        match error {
            TargetError::Smtp(error) => self.of_sending(error),
            TargetError::Alternate { host, error } => {
                if let Some(server) = &mut self.server {
                    server.host.clone_from(host);
                }
                self.of_sending(error)
            }
            TargetError::Exchange(error) => self.of_request(error),
            TargetError::Webhook(error) => self.of_webhook(error),
            TargetError::NoSuchTest(_) => self.advice(Trouble::NoSuchTest, ""),
        }
    }

    /// Returns what to do when Exchange does not send, by Graph or EWS.
    fn of_request(&self, error: &ExchangeError) -> Advice {
        let trouble = match error {
            ExchangeError::Auth(error) => return self.no_token(error),
            ExchangeError::Unreachable { why, .. } => unreachable(*why),
            ExchangeError::Tls { cause, .. } => tls(cause.as_ref()),
            ExchangeError::RefusedLogin { code, .. } => self.refused_login(code.as_deref()),
            ExchangeError::AccessDenied { code, .. } if code == "ErrorSendAsDenied" => {
                Trouble::NoSendAs
            }
            ExchangeError::NotConnected { .. } if self.is_ews() => Trouble::NoEwsMailbox,
            ExchangeError::AccessDenied { .. } if self.is_ews() => Trouble::NoEwsMailbox,
            ExchangeError::NotConnected { .. } => Trouble::NoMailbox,
            ExchangeError::AccessDenied { .. } => match self.is_app_only() {
                true => Trouble::ApplicationMayNotSend,
                false => Trouble::UserMayNotSend,
            },
            ExchangeError::OverLimit { .. } => Trouble::OverLimit,
            ExchangeError::OverQuota { .. } => Trouble::OverQuota,
            ExchangeError::Timeout { step, .. } => match step {
                Step::Connect => Trouble::NoRoute,
                Step::Tls => self.no_greeting(),
                Step::Send => Trouble::AnswerLost,
                _ => Trouble::Passing,
            },
            ExchangeError::Lost {
                step: Step::Send, ..
            } => Trouble::AnswerLost,
            ExchangeError::Transient { .. } | ExchangeError::Lost { .. } => Trouble::Passing,
            ExchangeError::Protocol { .. } => self.no_mail_server(),
            ExchangeError::Refused {
                step: Step::Send, ..
            } => Trouble::MailRefused,
            ExchangeError::Refused { .. } if self.is_ews() => Trouble::NoEws,
            ExchangeError::Refused { .. } => Trouble::NoMailbox,
            ExchangeError::Unusable { .. } => Trouble::Unusable,
        };
        self.advice(trouble, "")
    }

    fn of_webhook(&self, error: &WebhookError) -> Advice {
        let trouble = match error {
            WebhookError::Connect(error) => match error {
                ConnectError::Unreachable { why, .. } => unreachable(*why),
                ConnectError::Timeout {
                    step: Step::Connect,
                    ..
                } => Trouble::NoRoute,
                ConnectError::Tls { cause, .. } => match tls(cause.as_ref()) {
                    Trouble::NoTlsFromFirstByte | Trouble::NoStartTls => Trouble::NoHttps,
                    trouble => trouble,
                },
                ConnectError::Timeout { .. } | ConnectError::Broken(_) => Trouble::NoHttps,
            },
            WebhookError::Settings { .. } => Trouble::Unusable,
            WebhookError::Failed { status, .. } => match status {
                Some(300..=399) => Trouble::ReceiverMoved,
                Some(401 | 403 | 407) => Trouble::ReceiverForbids,
                Some(404 | 405 | 410) => Trouble::NoReceiverThere,
                Some(429) => Trouble::ReceiverBusy,
                Some(500..) => Trouble::ReceiverFailed,
                Some(_) => Trouble::EventRefused,
                None => Trouble::Passing,
            },
        };
        self.advice(trouble, "")
    }

    /// Returns what to do when mail cannot be sent.
    pub fn of_sending(&self, error: &SendError) -> Advice {
        if let Some(trouble) = error.enhanced_status().and_then(|it| self.by_status(it)) {
            return self.advice(trouble, "");
        }
        let trouble = match error {
            SendError::Auth(error) => return self.no_token(error),
            SendError::Unreachable { why, .. } => unreachable(*why),
            SendError::Tls { cause, .. } => self.mail_tls(cause.as_ref()),
            SendError::RefusedLogin { .. } => self.refused_login(None),
            SendError::Timeout { step, .. } => match step {
                SmtpStep::Connect => Trouble::NoRoute,
                SmtpStep::Tls | SmtpStep::Hello => self.no_greeting(),
                SmtpStep::Login => Trouble::SignInNotChecked,
                _ => Trouble::Passing,
            },
            SendError::Transient { step, code, .. } => match (step, code) {
                (SmtpStep::Tls | SmtpStep::Hello, None) => self.no_greeting(),
                (SmtpStep::Login, _) => Trouble::SignInNotChecked,
                _ => Trouble::Passing,
            },
            SendError::Denied { .. } => Trouble::NoSuchSignIn,
            SendError::Unsupported { step, .. } => match step {
                SmtpStep::Login => Trouble::NoSuchSignIn,
                _ => Trouble::NoStartTls,
            },
            SendError::Permanent { step, .. } => match step {
                SmtpStep::Sender => Trouble::SenderRefused,
                _ => Trouble::MailRefused,
            },
            SendError::Lost { .. } => Trouble::AnswerLost,
            SendError::Settings { .. } => Trouble::Unusable,
        };
        self.advice(trouble, "")
    }

    /// Determines the cause from the status codes that providers document.
    fn by_status(&self, status: EnhancedStatus) -> Option<Trouble> {
        match status {
            EnhancedStatus(5, 7, 139) => Some(Trouble::SmtpAuthOff),
            EnhancedStatus(5, 7, 30) => Some(Trouble::NoPasswordsForSending),
            EnhancedStatus(5, 7, 57) => Some(Trouble::NoSignIn),
            EnhancedStatus(5, 7, 60) | EnhancedStatus(5, 2, 0 | 252) => Some(Trouble::NoSendAs),
            EnhancedStatus(5, 7, 9) if self.provider == Provider::Google => {
                Some(Trouble::AppPassword)
            }
            EnhancedStatus(5, 7, 14) if self.provider == Provider::Google => {
                Some(Trouble::BrowserSignIn)
            }
            _ => None,
        }
    }
}
