//! The Microsoft Graph target of an outgoing. A mail becomes a draft, the draft is sent, and its Message-ID is read back; with
//! the permission Mail.Send alone it is submitted by `sendMail`.

mod draft;
mod probe;
mod upload;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use postroom_auth::Login;
use postroom_core::{Address, Clock, OutgoingMail};
use postroom_exchange::ExchangeError;
use postroom_exchange::graph::{Failure, GraphClient, GraphLimits, Payload, Refusal, Request};
use postroom_net::{ProbeStep, Proxies, Step, Trace};
use reqwest::{Method, StatusCode, Url};
use rustls::ClientConfig;

use super::{SENT_BEFORE, TEST_HELP, fault, may_be_done, not_looked_up, receipt};
use crate::mail::{ComposeError, Sender, compose};
use crate::unanswered::Unanswered;
use crate::{
    Attempt, Content, Delivery, Fault, MailAttachment, Scope, Severity, Target, TargetError,
    TestDelivery,
};
use draft::{Draft, DraftState};

const STEP: Step = Step::Send;
/// The longest body of one request. Graph accepts 4 MB.
const REQUEST_BYTES_MAX: usize = 4_000_000;
/// The most unfinished drafts that are remembered. A further one stays in the mailbox's drafts.
const DRAFTS_MAX: usize = 10_000;

/// The settings of one `[outgoing.NAME]` in the configuration.
#[derive(Debug, Clone)]
pub struct GraphTargetSettings {
    pub name: String,
    /// Including the version, such as `https://graph.microsoft.com/v1.0`.
    pub base: Url,
    pub from: Address,
    pub reply_to: Option<Address>,
    /// Whether the address for answers gets the ticket's token as its tag.
    pub tag_replies: bool,
    /// Whether mail is drafted first, so that its Message-ID can be read back. Needs the permission Mail.ReadWrite.
    pub read_back: bool,
    pub proxies: Proxies,
    pub limits: GraphLimits,
}

/// Sends mails one after the other: Exchange Online accepts 30 a minute from a mailbox.
pub struct GraphTarget {
    settings: GraphTargetSettings,
    client: GraphClient,
    tls: Arc<ClientConfig>,
    /// Drafts of which it is not known whether they were sent, by idempotency key.
    drafts: Mutex<HashMap<String, Draft>>,
    unanswered: Unanswered,
}

/// A mail to send in one attempt.
struct Outbound<'d> {
    key: &'d str,
    mail: &'d OutgoingMail,
    attachments: &'d [MailAttachment],
    is_repeat: bool,
}

/// Why a step of an attempt did not succeed.
enum NotSent {
    /// The server answered about this step.
    Refused(Refusal),
    Failed(ExchangeError),
    /// No attempt can succeed.
    Final(String),
}

impl GraphTarget {
    /// Creates the target. Connects to nothing yet.
    pub fn new(
        settings: GraphTargetSettings,
        login: Login,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, ExchangeError> {
        let client = GraphClient::new(
            settings.base.clone(),
            login,
            &tls,
            &settings.proxies,
            settings.limits,
            Clock::system(),
        )?;
        Ok(Self {
            settings,
            client,
            tls,
            drafts: Mutex::default(),
            unanswered: Unanswered::default(),
        })
    }

    fn sender(&self) -> Sender<'_> {
        Sender {
            from: &self.settings.from,
            reply_to: self.settings.reply_to.as_ref(),
            tagged: self.settings.tag_replies,
        }
    }

    async fn send(&self, outbound: &Outbound<'_>) -> Attempt {
        let attempt = match self.settings.read_back {
            true => self.send_as_draft(outbound).await,
            false => self.submit(outbound.mail, outbound.attachments).await,
        };
        self.unanswered.flagged(outbound.key, attempt)
    }

    /// Submits a mail by `sendMail`, which returns nothing about it.
    async fn submit(&self, mail: &OutgoingMail, attachments: &[MailAttachment]) -> Attempt {
        let composed = match compose(mail, attachments, self.sender()) {
            Ok(composed) => composed,
            Err(error) => return self.judged(error.into()),
        };
        let encoded = BASE64.encode(&composed.bytes);
        if encoded.len() > REQUEST_BYTES_MAX {
            return Attempt::Final(format!(
                "the mail has {} bytes, and sendMail accepts about {}; a larger one needs read_back = true and the permission Mail.ReadWrite",
                composed.bytes.len(),
                REQUEST_BYTES_MAX / 4 * 3
            ));
        }
        let url = self.client.url(["sendMail"]);
        match self.post(url, Payload::Mime(encoded)).await {
            Ok(()) => Attempt::Delivered(receipt("accepted by Graph", &mail.message_id, None)),
            Err(error) => {
                let is_lost = matches!(&error, NotSent::Failed(error) if may_be_done(error));
                match self.judged(error) {
                    Attempt::Failed(fault) => Attempt::Failed(Fault {
                        may_have_arrived: is_lost,
                        ..fault
                    }),
                    attempt => attempt,
                }
            }
        }
    }

    /// Drafts a mail, sends the draft and reads its Message-ID back. A draft of an earlier attempt is looked up first.
    async fn send_as_draft(&self, outbound: &Outbound<'_>) -> Attempt {
        let own = &outbound.mail.message_id;
        let earlier = match self.earlier(outbound).await {
            Ok(DraftState::Sent(message_id)) => {
                self.forget(outbound.key);
                self.unanswered.forget(outbound.key);
                let status = format!("sent by Graph{SENT_BEFORE}");
                return Attempt::Delivered(receipt(&status, own, message_id.as_deref()));
            }
            Ok(DraftState::Waiting(draft)) => {
                self.unanswered.forget(outbound.key);
                Some(draft)
            }
            // A draft that somebody deleted may have been sent before.
            Ok(DraftState::Missing) => None,
            Err(error) => return not_looked_up(self.judged(error)),
        };
        let draft = match earlier {
            Some(draft) => draft,
            None => match self.draft(outbound).await {
                Ok(draft) => draft,
                Err(error) => return self.judged(error),
            },
        };
        self.remember(outbound.key, &draft);
        let url = self.client.url(["messages", &draft.id, "send"]);
        match self.post(url, Payload::Empty).await {
            Ok(()) => {}
            // The draft shows what became of the request.
            Err(NotSent::Failed(error)) if may_be_done(&error) => {
                if !matches!(self.state_of(&draft).await, Ok(DraftState::Sent(_))) {
                    let mut fault = fault(&error, false);
                    fault.may_have_arrived = true;
                    return Attempt::Failed(fault);
                }
            }
            Err(error) => {
                let attempt = self.judged(error);
                if let Attempt::Final(_) = attempt {
                    self.forget(outbound.key);
                    self.discard(&draft).await;
                }
                return attempt;
            }
        }
        self.forget(outbound.key);
        let message_id = self.read_back(&draft).await;
        Attempt::Delivered(receipt("sent by Graph", own, message_id.as_deref()))
    }

    /// Sends a request whose response has no content.
    async fn post(&self, url: Url, body: Payload<'_>) -> Result<(), NotSent> {
        self.request(Method::POST, url, Some(body)).await?;
        Ok(())
    }

    async fn request(
        &self,
        method: Method,
        url: Url,
        body: Option<Payload<'_>>,
    ) -> Result<postroom_exchange::graph::Answer<'_>, NotSent> {
        let request = Request {
            step: STEP,
            method,
            url,
            prefer: &[],
            body,
        };
        Ok(self.client.send(request).await?)
    }

    /// Decides whether a refusal is about the mail, for good or for now, or about the target.
    fn judged(&self, error: NotSent) -> Attempt {
        let refusal = match error {
            NotSent::Final(problem) => return Attempt::Final(problem),
            NotSent::Failed(error) => return Attempt::Failed(fault(&error, false)),
            NotSent::Refused(refusal) => refusal,
        };
        let text = refusal.to_string();
        match refusal.status {
            StatusCode::FORBIDDEN => {
                let mut fault = Fault::new(Scope::Target, format!("{text}{TEST_HELP}"));
                fault.severity = Severity::Error;
                Attempt::Failed(fault)
            }
            // The mailbox, or this API for it, does not exist.
            StatusCode::NOT_FOUND if refusal.code != "ErrorItemNotFound" => {
                let mut fault = Fault::new(Scope::Target, format!("{text}{TEST_HELP}"));
                fault.severity = Severity::Error;
                Attempt::Failed(fault)
            }
            _ if is_of_mailbox(&refusal.code) => Attempt::Failed(Fault::new(Scope::Target, text)),
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => Attempt::Final(text),
            _ => Attempt::Failed(Fault::new(Scope::Unclear, text)),
        }
    }

    fn known(&self, key: &str) -> Option<Draft> {
        let drafts = self.drafts.lock().unwrap_or_else(PoisonError::into_inner);
        drafts.get(key).cloned()
    }

    fn remember(&self, key: &str, draft: &Draft) {
        let mut drafts = self.drafts.lock().unwrap_or_else(PoisonError::into_inner);
        if drafts.len() < DRAFTS_MAX {
            drafts.insert(key.to_owned(), draft.clone());
        }
    }

    fn forget(&self, key: &str) {
        let mut drafts = self.drafts.lock().unwrap_or_else(PoisonError::into_inner);
        drafts.remove(key);
    }
}

#[async_trait]
impl Target for GraphTarget {
    async fn deliver(&self, delivery: Delivery<'_>) -> Attempt {
        match delivery.content {
            Content::Mail { mail, attachments } => {
                self.send(&Outbound {
                    key: delivery.idempotency_key,
                    mail,
                    attachments: &attachments,
                    is_repeat: delivery.is_repeat,
                })
                .await
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
        self.probe_and_report(test, report).await;
    }

    fn set_trace(&mut self, trace: Trace) {
        self.client.set_trace(trace);
    }
}

/// Returns whether an error code says that the mailbox cannot send now, whatever the mail (learn.microsoft.com, "Sending limits").
fn is_of_mailbox(code: &str) -> bool {
    matches!(
        code,
        "ErrorQuotaExceeded"
            | "ErrorSubmissionQuotaExceeded"
            | "ErrorExceededMessageLimit"
            | "ErrorAccountSuspend"
            | "ErrorAccountSuspended"
            | "ErrorMailboxStoreUnavailable"
            | "ErrorMailboxMoveInProgress"
            | "MailboxNotEnabledForRESTAPI"
    )
}

impl From<Failure> for NotSent {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => NotSent::Refused(refusal),
            Failure::Failed(error) => NotSent::Failed(error),
        }
    }
}

impl From<ComposeError> for NotSent {
    fn from(error: ComposeError) -> Self {
        match error {
            ComposeError::Sender(reason) => NotSent::Failed(ExchangeError::Unusable {
                step: Step::Configuration,
                reason,
            }),
            ComposeError::Mail(problem) => NotSent::Final(problem),
        }
    }
}

impl From<ExchangeError> for NotSent {
    fn from(error: ExchangeError) -> Self {
        NotSent::Failed(error)
    }
}
