//! Builders for the actions: start with `ticket()`, `note()`, `alert(key)` and so on, then set what differs from the mail.

use crate::{
    Action, Alert, AlertState, Close, Expect, Failure, Forward, Note, Reply, Ticket, Update, Value,
    Visibility,
};

/// Returns a new ticket; omitted fields are filled in from the mail.
pub fn ticket() -> Ticket {
    Ticket {
        title: None,
        body: None,
        queue: None,
        priority: None,
        requester: None,
        fields: Vec::new(),
        tags: Vec::new(),
    }
}

/// Returns a public note on the context's thread; by default its body is the mail's new text.
pub fn note() -> Note {
    Note {
        ticket: None,
        body: None,
        visibility: Visibility::Public,
    }
}

/// Returns a firing alert. Mails with the same key belong to one alert.
pub fn alert(key: impl Into<String>) -> Alert {
    Alert {
        key: key.into(),
        state: AlertState::Firing,
        severity: None,
        host: None,
        service: None,
        summary: None,
        fields: Vec::new(),
    }
}

/// Returns an action that makes no ticket, for this reason.
pub fn ignore(reason: impl Into<String>) -> Action {
    Action::Ignore(reason.into())
}

/// Returns an action that keeps the mail aside for a person, for this reason.
pub fn quarantine(reason: impl Into<String>) -> Action {
    Action::Quarantine(reason.into())
}

/// Returns a reply to the sender.
pub fn reply(text: impl Into<String>) -> Reply {
    Reply {
        text: text.into(),
        html: None,
    }
}

pub fn forward<T: Into<String>>(to: impl IntoIterator<Item = T>) -> Forward {
    Forward {
        to: to.into_iter().map(Into::into).collect(),
    }
}

/// Returns a change of the context's thread; what is not set stays.
pub fn update() -> Update {
    Update {
        ticket: None,
        priority: None,
        queue: None,
        status: None,
        tags: None,
        fields: Vec::new(),
    }
}

/// Returns an action that closes the context's thread.
pub fn close() -> Close {
    Close {
        ticket: None,
        reason: None,
    }
}

/// Returns an action that refuses a new request politely: the sender gets this text, and no ticket is made.
pub fn decline(text: impl Into<String>) -> Action {
    Action::Decline(text.into())
}

/// Returns an expectation: an alert with this key fires if no mail with it arrives within this many seconds.
pub fn expect(key: impl Into<String>, within_secs: u64) -> Expect {
    Expect {
        key: key.into(),
        within_secs,
    }
}

/// Returns an action reserved for later versions of Postroom: a name and a JSON payload. It is only recorded with the
/// decision.
pub fn custom(name: impl Into<String>, payload: impl Into<String>) -> Action {
    Action::Custom(crate::bindings::postroom::plugin::types::Custom {
        name: name.into(),
        payload: payload.into(),
    })
}

/// Builder methods that set one optional text each.
macro_rules! texts {
    ($($name:ident),*) => {
        $(
            #[must_use]
            pub fn $name(mut self, $name: impl Into<String>) -> Self {
                self.$name = Some($name.into());
                self
            }
        )*
    };
}

impl Ticket {
    texts!(title, body, queue, priority, requester);

    /// Sets a custom field of the ticket.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }
}

impl Note {
    texts!(ticket, body);

    /// Hides the note from the client.
    #[must_use]
    pub fn internal(mut self) -> Self {
        self.visibility = Visibility::Internal;
        self
    }
}

impl Alert {
    texts!(severity, host, service, summary);

    /// Closes the alert instead of raising it.
    #[must_use]
    pub fn resolved(mut self) -> Self {
        self.state = AlertState::Resolved;
        self
    }

    /// Sets a custom field of the alert.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }
}

impl Reply {
    texts!(html);
}

impl Update {
    texts!(ticket, priority, queue, status);

    /// Sets a custom field of the ticket.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Replaces the ticket's tags.
    #[must_use]
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = Some(tags.into_iter().map(Into::into).collect());
        self
    }
}

impl Close {
    texts!(ticket, reason);
}

/// Implements `From` for each action that has its own type.
macro_rules! actions {
    ($($name:ident),*) => {
        $(
            impl From<$name> for Action {
                fn from(value: $name) -> Action {
                    Action::$name(value)
                }
            }
        )*
    };
}

actions!(Ticket, Note, Alert, Reply, Forward, Expect, Update, Close);

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Text(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Number(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Flag(value)
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure {
            message,
            location: None,
        }
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Failure {
        Failure {
            message: message.to_owned(),
            location: None,
        }
    }
}
