//! The EWS target of an outgoing: creates each mail from MIME, has Exchange send it, and reads the sent copy's Message-ID back.

mod probe;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use postroom_auth::Login;
use postroom_core::{Address, OutgoingMail};
use postroom_exchange::ExchangeError;
use postroom_exchange::ews::{
    ANSWER_BYTES, EwsAccess, EwsLimits, Exchange, Kind, Refusal, Request, escaped, parsed,
};
use postroom_net::{ProbeStep, Proxies, Step, Trace};
use reqwest::Url;
use rustls::ClientConfig;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{
    READ_BACK_PAUSES, SENT_BEFORE, TEST_HELP, fault, may_be_done, not_composed, not_looked_up,
    receipt,
};
use crate::mail::{Sender, bare, compose};
use crate::unanswered::Unanswered;
use crate::{
    Attempt, Content, Delivery, Fault, MailAttachment, Scope, Severity, Target, TargetError,
    TestDelivery,
};

const STEP: Step = Step::Send;
/// The property by which a sent mail is found again: our Message-ID, in a set of Postroom's own.
const ID_PROPERTY: &str = "<t:ExtendedFieldURI PropertySetId=\"7c1c0c3e-5d0f-4c53-9d3c-0f7a2f6d9b11\" PropertyName=\"PostroomId\" PropertyType=\"String\"/>";

/// The settings of one `[outgoing.NAME]` in the configuration.
#[derive(Debug, Clone)]
pub struct EwsTargetSettings {
    pub name: String,
    /// The URL of the service, such as `https://mail.example/EWS/Exchange.asmx`.
    pub url: Url,
    /// The mailbox that sends, whose owner need not be the user who signs in.
    pub address: String,
    /// Whether to act as the mailbox's owner (ExchangeImpersonation).
    pub impersonation: bool,
    pub from: Address,
    pub reply_to: Option<Address>,
    /// Whether the address for answers gets the ticket's token as its tag.
    pub tag_replies: bool,
    pub proxies: Proxies,
    pub limits: EwsLimits,
}

/// Sends mails one after the other.
pub struct EwsTarget {
    settings: EwsTargetSettings,
    /// Whether it signs in with a password.
    by_password: bool,
    exchange: Mutex<Exchange>,
    tls: Arc<ClientConfig>,
    unanswered: Unanswered,
    /// The server asked not to be contacted before this time.
    not_before: std::sync::Mutex<Option<Instant>>,
}

/// Why an operation did not succeed.
enum Failure {
    Refused(Refusal),
    Failed(ExchangeError),
}

/// A mail found in the sent items.
struct SentCopy {
    message_id: Option<String>,
}

impl EwsTarget {
    /// Creates the target. Connects to nothing yet. Fails if the settings cannot be sent.
    pub fn new(
        settings: EwsTargetSettings,
        login: Login,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, ExchangeError> {
        let access = EwsAccess {
            url: settings.url.to_string(),
            host: settings.url.host_str().unwrap_or_default().to_owned(),
            address: settings.address.clone(),
            impersonation: settings.impersonation,
            proxies: settings.proxies.clone(),
            limits: settings.limits,
        };
        let by_password = matches!(login, Login::Password { .. });
        let exchange = Exchange::new(&access, login, &tls)?;
        Ok(Self {
            settings,
            by_password,
            exchange: Mutex::new(exchange),
            tls,
            unanswered: Unanswered::default(),
            not_before: std::sync::Mutex::default(),
        })
    }

    async fn send(
        &self,
        key: &str,
        mail: &OutgoingMail,
        attachments: &[MailAttachment],
        is_repeat: bool,
    ) -> Attempt {
        let sender = Sender {
            from: &self.settings.from,
            reply_to: self.settings.reply_to.as_ref(),
            tagged: self.settings.tag_replies,
        };
        let composed = match compose(mail, attachments, sender) {
            Ok(composed) => composed,
            Err(error) => return not_composed(error),
        };
        if is_repeat || self.unanswered.contains(key) {
            match self.sent_copy(&mail.message_id).await {
                Ok(Some(copy)) => {
                    self.unanswered.forget(key);
                    let status = format!("sent by Exchange{SENT_BEFORE}");
                    let message_id = copy.message_id.as_deref();
                    return Attempt::Delivered(receipt(&status, &mail.message_id, message_id));
                }
                // The copy is saved when the mail is sent, so nothing was sent.
                Ok(None) => self.unanswered.forget(key),
                Err(failure) => return not_looked_up(self.judged(failure)),
            }
        }
        match self.create(&mail.message_id, &composed.bytes).await {
            Ok(()) => {
                let message_id = self.read_back(&mail.message_id).await;
                Attempt::Delivered(receipt(
                    "sent by Exchange",
                    &mail.message_id,
                    message_id.as_deref(),
                ))
            }
            Err(failure) => {
                let is_lost = failure.may_be_done();
                let attempt = match self.judged(failure) {
                    Attempt::Failed(fault) => Attempt::Failed(Fault {
                        may_have_arrived: is_lost,
                        ..fault
                    }),
                    attempt => attempt,
                };
                self.unanswered.flagged(key, attempt)
            }
        }
    }

    /// Creates a mail from MIME, sends it and saves a copy in the sent items.
    async fn create(&self, id: &str, mime: &[u8]) -> Result<(), Failure> {
        let body = format!(
            "<m:CreateItem MessageDisposition=\"SendAndSaveCopy\"><m:SavedItemFolderId>{}</m:SavedItemFolderId>\
             <m:Items><t:Message><t:MimeContent CharacterSet=\"UTF-8\">{}</t:MimeContent>\
             <t:ExtendedProperty>{ID_PROPERTY}<t:Value>{}</t:Value></t:ExtendedProperty></t:Message></m:Items></m:CreateItem>",
            self.sent_items(),
            BASE64.encode(mime),
            escaped(bare(id))
        );
        let request = Request {
            has_mail: true,
            ..Request::new(STEP, "CreateItem", body, ANSWER_BYTES)
        };
        let mut exchange = self.exchange.lock().await;
        let answer = exchange.call_with(&request).await?;
        let root = parsed(STEP, &answer.body)?;
        exchange.outcome(STEP, &root)??;
        Ok(())
    }

    /// Finds the copy of a mail in the sent items.
    async fn sent_copy(&self, id: &str) -> Result<Option<SentCopy>, Failure> {
        let body = format!(
            "<m:FindItem Traversal=\"Shallow\"><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>\
             <t:FieldURI FieldURI=\"message:InternetMessageId\"/></t:AdditionalProperties></m:ItemShape>\
             <m:IndexedPageItemView MaxEntriesReturned=\"1\" Offset=\"0\" BasePoint=\"Beginning\"/>\
             <m:Restriction><t:IsEqualTo>{ID_PROPERTY}<t:FieldURIOrConstant><t:Constant Value=\"{}\"/></t:FieldURIOrConstant>\
             </t:IsEqualTo></m:Restriction><m:ParentFolderIds>{}</m:ParentFolderIds></m:FindItem>",
            escaped(bare(id)),
            self.sent_items()
        );
        let mut exchange = self.exchange.lock().await;
        let answer = exchange.call(STEP, "FindItem", body).await?;
        let root = parsed(STEP, &answer.body)?;
        let message = exchange.outcome(STEP, &root)??;
        let items = message.at(&["RootFolder", "Items"]);
        let item = items.and_then(|items| items.children.first());
        Ok(item.map(|item| {
            let given = item.text_of("InternetMessageId");
            SentCopy {
                message_id: Some(given.to_owned()).filter(|id| !id.is_empty()),
            }
        }))
    }

    /// Returns the Message-ID of a sent mail. The mail is sent already, so failing to read it is not an error.
    async fn read_back(&self, id: &str) -> Option<String> {
        for pause in READ_BACK_PAUSES {
            tokio::time::sleep(pause).await;
            match self.sent_copy(id).await {
                Ok(Some(copy)) => return copy.message_id,
                Ok(None) => {}
                Err(_) => break,
            }
        }
        tracing::debug!(
            outgoing = self.settings.name,
            "the sent mail was not found; its Message-ID stays unknown"
        );
        None
    }

    fn sent_items(&self) -> String {
        let owner = match self.settings.impersonation {
            true => String::new(),
            false => format!(
                "<t:Mailbox><t:EmailAddress>{}</t:EmailAddress></t:Mailbox>",
                escaped(&self.settings.address)
            ),
        };
        format!("<t:DistinguishedFolderId Id=\"sentitems\">{owner}</t:DistinguishedFolderId>")
    }

    /// Decides whether a failure is about the mail, for good or for now, or about the target.
    fn judged(&self, failure: Failure) -> Attempt {
        let refusal = match failure {
            Failure::Refused(refusal) => refusal,
            Failure::Failed(ExchangeError::Refused {
                code: Some(code),
                text,
                ..
            }) if code == "413" => return Attempt::Final(text),
            Failure::Failed(error) => {
                let fault = fault(&error, self.by_password);
                self.pause(fault.retry_after);
                return Attempt::Failed(fault);
            }
        };
        let text = refusal.describe();
        if is_of_mail(&refusal.code) {
            return Attempt::Final(text);
        }
        match refusal.kind() {
            Kind::NoMailbox | Kind::AccessDenied | Kind::FolderMissing => {
                Attempt::Failed(denied(&text))
            }
            _ if refusal.code == "ErrorSendAsDenied" => Attempt::Failed(denied(&text)),
            Kind::OverQuota | Kind::Version => {
                let mut fault = Fault::new(Scope::Target, text);
                fault.severity = Severity::Error;
                Attempt::Failed(fault)
            }
            Kind::Busy => {
                self.pause(refusal.back_off);
                let mut fault = Fault::new(Scope::Target, text);
                fault.retry_after = refusal.back_off;
                Attempt::Failed(fault)
            }
            _ => Attempt::Failed(Fault::new(Scope::Unclear, text)),
        }
    }

    fn pause(&self, asked: Option<Duration>) {
        if let Some(asked) = asked {
            let mut not_before = self
                .not_before
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *not_before = Some(Instant::now() + asked);
        }
    }

    /// Returns how long the server still asks not to be contacted.
    fn pause_left(&self) -> Duration {
        let not_before = self
            .not_before
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        not_before.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }
}

#[async_trait]
impl Target for EwsTarget {
    async fn deliver(&self, delivery: Delivery<'_>) -> Attempt {
        let Content::Mail { mail, attachments } = delivery.content else {
            return Attempt::Final("an outgoing takes mail only".into());
        };
        let wait = self.pause_left();
        if !wait.is_zero() {
            // A circuit breaker may probe sooner than the server allows.
            let mut fault = Fault::new(
                Scope::Target,
                "the pause that the server asked for is not over",
            );
            fault.retry_after = Some(wait);
            return Attempt::Failed(fault);
        }
        let (key, is_repeat) = (delivery.idempotency_key, delivery.is_repeat);
        self.send(key, mail, &attachments, is_repeat).await
    }

    fn is_serial(&self) -> bool {
        true
    }

    async fn probe(
        &self,
        test: Option<&TestDelivery>,
        report: &mut (dyn FnMut(ProbeStep<TargetError>) + Send),
    ) {
        self.probe_and_report(test, report).await;
    }

    fn set_trace(&mut self, trace: Trace) {
        self.exchange.get_mut().trace = Some(trace);
    }
}

impl Failure {
    /// Returns whether the server may have carried out the operation.
    fn may_be_done(&self) -> bool {
        match self {
            Failure::Refused(refusal) => refusal.kind() == Kind::Passing,
            Failure::Failed(error) => may_be_done(error),
        }
    }
}

impl From<ExchangeError> for Failure {
    fn from(error: ExchangeError) -> Self {
        Failure::Failed(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

fn denied(text: &str) -> Fault {
    let mut fault = Fault::new(Scope::Target, format!("{text}{TEST_HELP}"));
    fault.severity = Severity::Error;
    fault
}

/// Returns whether a ResponseCode refuses the mail for good (learn.microsoft.com, "ResponseCode").
fn is_of_mail(code: &str) -> bool {
    matches!(
        code,
        "ErrorInvalidRecipients"
            | "ErrorMissingRecipients"
            | "ErrorMailRecipientNotFound"
            | "ErrorMessageSizeExceeded"
            | "ErrorAttachmentSizeLimitExceeded"
            | "ErrorMimeContentInvalid"
            | "ErrorMimeContentInvalidBase64String"
            | "ErrorMimeContentConversionFailed"
            | "ErrorContentConversionFailed"
            | "ErrorCorruptData"
    )
}
