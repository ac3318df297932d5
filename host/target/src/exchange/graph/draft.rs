//! Drafts: composed as MIME, found again after a lost answer, and read back once they were sent.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use postroom_exchange::graph::Payload;
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::{GraphTarget, NotSent, Outbound, REQUEST_BYTES_MAX};
use crate::exchange::READ_BACK_PAUSES;
use crate::mail::{ID_HEADER, bare, compose};

/// The property that holds the header [`ID_HEADER`] of a mail (MS-OXPROPS, PS_INTERNET_HEADERS).
const ID_PROPERTY: &str = "String {00020386-0000-0000-C000-000000000046} Name";

/// A draft in the mailbox.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// Immutable: the sent mail has the same id.
    pub id: String,
    /// The Message-ID that Exchange gave the draft.
    message_id: Option<String>,
}

/// The state of the draft that an earlier attempt made.
#[derive(Debug)]
pub(super) enum DraftState {
    /// Sent, with this Message-ID.
    Sent(Option<String>),
    /// Complete and not sent.
    Waiting(Draft),
    Missing,
}

/// The properties of a message that are read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    id: String,
    #[serde(default)]
    internet_message_id: Option<String>,
    #[serde(default)]
    is_draft: bool,
}

#[derive(Deserialize)]
struct Found {
    value: Vec<Message>,
}

impl GraphTarget {
    /// Looks up what an earlier attempt for a mail left in the mailbox.
    pub(super) async fn earlier(&self, outbound: &Outbound<'_>) -> Result<DraftState, NotSent> {
        match self.known(outbound.key) {
            Some(draft) => self.state_of(&draft).await,
            None if outbound.is_repeat => self.find(outbound).await,
            None => Ok(DraftState::Missing),
        }
    }

    /// Returns whether a draft was sent.
    pub(super) async fn state_of(&self, draft: &Draft) -> Result<DraftState, NotSent> {
        let mut url = self.client.url(["messages", &draft.id]);
        url.query_pairs_mut()
            .append_pair("$select", "id,isDraft,internetMessageId");
        match self.request(Method::GET, url, None).await {
            Ok(answer) => {
                let message: Message = answer.json().await?;
                Ok(match message.is_draft {
                    true => DraftState::Waiting(draft.clone()),
                    false => DraftState::Sent(message.internet_message_id),
                })
            }
            Err(NotSent::Refused(refusal)) if refusal.status == StatusCode::NOT_FOUND => {
                Ok(DraftState::Missing)
            }
            Err(error) => Err(error),
        }
    }

    /// Searches the mailbox for a mail by the header that names it.
    async fn find(&self, outbound: &Outbound<'_>) -> Result<DraftState, NotSent> {
        let id = bare(&outbound.mail.message_id).replace('\'', "''");
        let filter = format!(
            "singleValueExtendedProperties/Any(ep: ep/id eq '{ID_PROPERTY} {ID_HEADER}' and ep/value eq '{id}')"
        );
        let mut url = self.client.url(["messages"]);
        url.query_pairs_mut()
            .append_pair("$filter", &filter)
            .append_pair("$select", "id,isDraft,internetMessageId")
            .append_pair("$top", "10");
        let found: Found = self.request(Method::GET, url, None).await?.json().await?;
        let mut drafts = Vec::new();
        for message in found.value {
            if !message.is_draft {
                return Ok(DraftState::Sent(message.internet_message_id));
            }
            drafts.push(Draft {
                id: message.id,
                message_id: message.internet_message_id,
            });
        }
        // A draft may lack attachments that were still to be uploaded.
        for draft in &drafts {
            self.discard(draft).await;
        }
        Ok(DraftState::Missing)
    }

    /// Makes a draft of a mail, with its attachments.
    pub(super) async fn draft(&self, outbound: &Outbound<'_>) -> Result<Draft, NotSent> {
        let whole = self.encoded(outbound, true)?;
        if whole.len() <= REQUEST_BYTES_MAX {
            return self.create(whole).await;
        }
        let text = self.encoded(outbound, false)?;
        if text.len() > REQUEST_BYTES_MAX {
            return Err(NotSent::Final(format!(
                "the mail without its attachments takes {} bytes in base64, and Graph accepts {REQUEST_BYTES_MAX}",
                text.len()
            )));
        }
        let draft = self.create(text).await?;
        for file in outbound.attachments {
            if let Err(error) = self.attach(&draft.id, file).await {
                self.discard(&draft).await;
                return Err(error);
            }
        }
        Ok(draft)
    }

    fn encoded(&self, outbound: &Outbound<'_>, is_whole: bool) -> Result<String, NotSent> {
        let attachments = match is_whole {
            true => outbound.attachments,
            false => &[],
        };
        let composed = compose(outbound.mail, attachments, self.sender());
        Ok(BASE64.encode(composed?.bytes))
    }

    async fn create(&self, mime: String) -> Result<Draft, NotSent> {
        let url = self.client.url(["messages"]);
        let answer = self.request(Method::POST, url, Some(Payload::Mime(mime)));
        let message: Message = answer.await?.json().await?;
        Ok(Draft {
            id: message.id,
            message_id: message.internet_message_id,
        })
    }

    /// Deletes a draft. One that cannot be deleted stays, which harms nobody.
    pub(super) async fn discard(&self, draft: &Draft) {
        let url = self.client.url(["messages", &draft.id]);
        if self.request(Method::DELETE, url, None).await.is_err() {
            tracing::debug!(
                outgoing = self.settings.name,
                "a draft could not be deleted"
            );
        }
    }

    /// Returns the Message-ID of a sent mail. The mail is sent already, so failing to read it is not an error.
    pub(super) async fn read_back(&self, draft: &Draft) -> Option<String> {
        for pause in READ_BACK_PAUSES {
            tokio::time::sleep(pause).await;
            match self.state_of(draft).await {
                Ok(DraftState::Sent(message_id)) => return message_id,
                Ok(DraftState::Waiting(_) | DraftState::Missing) => {}
                Err(_) => break,
            }
        }
        tracing::debug!(
            outgoing = self.settings.name,
            "the sent mail could not be read back; its draft's Message-ID is used"
        );
        draft.message_id.clone()
    }
}
