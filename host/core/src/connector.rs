//! Connectors: what passes between a sandboxed connector, which writes requests, and the host, which sends them for it.

use serde::{Deserialize, Serialize};

use crate::receipt::ExternalRef;

/// A request that a connector wants sent. It names no host and holds no credential: the host adds both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorRequest {
    pub method: RequestMethod,
    /// Relative to the target's `base`; it starts with `/`.
    pub path: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<RequestBody>,
    /// The statuses outside 200 to 299 that the connector wants to see. Any other ends its run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RequestMethod {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestBody {
    /// JSON, as text.
    Json(String),
    /// `application/x-www-form-urlencoded`.
    Form(Vec<(String, String)>),
    /// `multipart/form-data`.
    Multipart(Vec<RequestPart>),
    Text {
        content_type: String,
        text: String,
    },
    /// The bytes of the event's attachment with this position. The host streams them; the connector never sees them.
    Attachment(u32),
}

/// A part of a `multipart/form-data` body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestPart {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    pub content: PartContent,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartContent {
    Text(String),
    /// The event's attachment with this position.
    Attachment(u32),
}

/// The response to a request, as the connector sees it. It is recorded before the connector goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorAnswer {
    pub status: u16,
    /// Names in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Decoded as UTF-8, with U+FFFD for what is not.
    pub body: String,
}

/// A request that was answered, in the order in which the connector made them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    pub request: ConnectorRequest,
    pub answer: ConnectorAnswer,
}

/// What a connector is asked to do. Each is a function that it exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectorTask {
    /// Carries an event to the other system.
    Deliver,
    /// Looks for what an earlier `deliver` of this event left in the other system. Asked before a request is repeated whose
    /// answer was lost.
    Find,
    /// Lists the tickets that were closed, reopened or renumbered there.
    Status,
    /// Lists contacts, assets and client domains.
    Contacts,
}

/// What a connector's run comes to with the exchanges recorded so far. The host runs it again with one more after `Request`.
#[derive(Debug, Clone, PartialEq)]
pub enum ConnectorStep {
    /// It needs this request's answer.
    Request(ConnectorRequest),
    /// `deliver` is done, or `find` found the event. `None` where the other system gives no reference, such as a chat.
    Delivered(Option<ExternalReceipt>),
    /// `find` found nothing.
    NotFound,
    States(Vec<ExternalState>),
    /// The contacts, in the form of a directory file.
    Contacts(serde_json::Value),
    /// `fail(reason)`: no further attempt can succeed.
    Fail(String),
    /// `later(reason, seconds)`.
    Later {
        reason: String,
        secs: u64,
    },
}

/// What the other system gave for an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalReceipt {
    #[serde(flatten)]
    pub reference: ExternalRef,
    /// The ticket's state there, if it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ExternalStatus>,
}

/// A ticket's state in the other system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalState {
    #[serde(flatten)]
    pub reference: ExternalRef,
    pub status: ExternalStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExternalStatus {
    Open,
    Pending,
    Closed,
}
