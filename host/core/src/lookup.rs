//! Lookups of a rule about its own tenant: contacts, assets, open tickets and alerts. Each question and answer can be recorded and compared.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::decision::{AlertState, Value};

/// A person of the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    #[serde(default)]
    pub name: String,
    pub email: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    #[serde(default)]
    pub vip: bool,
    /// The other columns of its file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

/// A machine or another thing of the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asset {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

/// An open ticket.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenTicket {
    /// Such as `T-12`.
    pub ticket: String,
    #[serde(default)]
    pub title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Value>,
    /// RFC 3339 in UTC.
    #[serde(default)]
    pub created: String,
    /// When it was last noted on.
    #[serde(default)]
    pub updated: String,
}

/// An alert as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownAlert {
    pub key: String,
    pub state: AlertState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(default)]
    pub summary: String,
    /// Since when it is in this state, RFC 3339 in UTC.
    #[serde(default)]
    pub since: String,
    /// Its last mail.
    #[serde(default)]
    pub updated: String,
    /// The mails it had.
    #[serde(default)]
    pub count: u64,
}

/// How tickets are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TicketSearch {
    /// The requester's address, compared without case.
    Requester(String),
    /// A part of the title, without case.
    Subject(String),
    /// A field of the ticket's own and its value: a text, or a number or flag as JSON writes it.
    Field(String, String),
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Query {
    /// The contact with this address, without case.
    Contact(String),
    /// Contacts whose name or address contains this, without case.
    Contacts(String),
    /// The asset with this name, serial number or host, without case.
    Asset(String),
    /// Assets whose name, serial number or host contains this, without case.
    Assets(String),
    /// The open ticket with this number.
    Ticket(String),
    /// Open tickets, the newest first.
    Tickets(TicketSearch),
    /// The alert with this key, firing or not.
    Alert(String),
    /// Firing alerts whose key, host, service or summary contains this, without case; the newest first.
    Alerts(String),
}

/// The results, in order; an empty list without any.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueryResult {
    Contacts(Vec<Contact>),
    Assets(Vec<Asset>),
    Tickets(Vec<OpenTicket>),
    Alerts(Vec<KnownAlert>),
}

impl Query {
    /// The answer where there is nothing.
    pub fn nothing(&self) -> QueryResult {
        match self {
            Self::Contact(_) | Self::Contacts(_) => QueryResult::Contacts(Vec::new()),
            Self::Asset(_) | Self::Assets(_) => QueryResult::Assets(Vec::new()),
            Self::Ticket(_) | Self::Tickets(_) => QueryResult::Tickets(Vec::new()),
            Self::Alert(_) | Self::Alerts(_) => QueryResult::Alerts(Vec::new()),
        }
    }

    /// The longest text in it, in bytes.
    pub fn longest(&self) -> usize {
        match self {
            Self::Contact(text)
            | Self::Contacts(text)
            | Self::Asset(text)
            | Self::Assets(text)
            | Self::Ticket(text)
            | Self::Alert(text)
            | Self::Alerts(text)
            | Self::Tickets(TicketSearch::Requester(text) | TicketSearch::Subject(text)) => {
                text.len()
            }
            Self::Tickets(TicketSearch::Field(name, value)) => name.len().max(value.len()),
        }
    }
}

/// As people read it: `contact ann@acme.example`, `tickets with site = lab`.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contact(text) => write!(f, "contact {text}"),
            Self::Contacts(text) => write!(f, "contacts {text}"),
            Self::Asset(text) => write!(f, "asset {text}"),
            Self::Assets(text) => write!(f, "assets {text}"),
            Self::Ticket(text) => write!(f, "ticket {text}"),
            Self::Alert(text) => write!(f, "alert {text}"),
            Self::Alerts(text) => write!(f, "alerts {text}"),
            Self::Tickets(TicketSearch::Requester(email)) => write!(f, "tickets of {email}"),
            Self::Tickets(TicketSearch::Subject(text)) => write!(f, "tickets about {text}"),
            Self::Tickets(TicketSearch::Field(name, value)) => {
                write!(f, "tickets with {name} = {value}")
            }
        }
    }
}

impl QueryResult {
    pub fn len(&self) -> usize {
        match self {
            Self::Contacts(rows) => rows.len(),
            Self::Assets(rows) => rows.len(),
            Self::Tickets(rows) => rows.len(),
            Self::Alerts(rows) => rows.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps the first so many rows.
    pub fn truncate(&mut self, most: usize) {
        match self {
            Self::Contacts(rows) => rows.truncate(most),
            Self::Assets(rows) => rows.truncate(most),
            Self::Tickets(rows) => rows.truncate(most),
            Self::Alerts(rows) => rows.truncate(most),
        }
    }

    /// Roughly the bytes of its JSON.
    pub fn bytes(&self) -> usize {
        serde_json::to_vec(self).map_or(usize::MAX, |json| json.len())
    }
}

impl Contact {
    pub fn contains(&self, text: &Needle) -> bool {
        text.is_in(&self.name) || text.is_in(&self.email)
    }
}

impl Asset {
    /// The words it is known by.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [Some(&self.name), self.serial.as_ref(), self.host.as_ref()]
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    pub fn contains(&self, text: &Needle) -> bool {
        self.names().any(|name| text.is_in(name))
    }
}

impl KnownAlert {
    pub fn contains(&self, text: &Needle) -> bool {
        text.is_in(&self.key)
            || text.is_in(&self.summary)
            || self.host.as_deref().is_some_and(|host| text.is_in(host))
            || self.service.as_deref().is_some_and(|it| text.is_in(it))
    }
}

/// A text that is looked for without case; no character of it stands for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needle(String);

impl Needle {
    pub fn new(text: &str) -> Self {
        Self(folded(text))
    }

    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_empty() || folded(text).contains(&self.0)
    }

    /// As [`Needle::is_in`], for a text that is [`folded`] already.
    pub fn is_in_folded(&self, text: &str) -> bool {
        text.contains(&self.0)
    }
}

/// How texts are compared that are compared without case.
pub fn folded(text: &str) -> String {
    let folded = text.trim().to_lowercase();
    // A sigma is written otherwise at a word's end, which the end of a part is not.
    match folded.contains('ς') {
        true => folded.replace('ς', "σ"),
        false => folded,
    }
}

/// The bare address in what a ticket has as its requester, folded: `Ann <ann@acme.example>` is `ann@acme.example`.
pub fn requester_key(requester: &str) -> String {
    let bare = requester
        .rsplit_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
        .map_or(requester, |(email, _)| email);
    folded(bare)
}

/// A field's value as a question has it; none for what cannot be asked for.
pub fn field_key(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// All there is to know of a tenant, where it is little: what a test of a rule states.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Known {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contacts: Vec<Contact>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assets: Vec<Asset>,
    /// Open ones, the newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tickets: Vec<OpenTicket>,
    /// The newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<KnownAlert>,
}

impl Known {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes in what was found, each row once.
    pub fn add(&mut self, found: QueryResult) {
        fn merge<T: PartialEq>(known: &mut Vec<T>, rows: Vec<T>) {
            for row in rows {
                if !known.contains(&row) {
                    known.push(row);
                }
            }
        }
        match found {
            QueryResult::Contacts(rows) => merge(&mut self.contacts, rows),
            QueryResult::Assets(rows) => merge(&mut self.assets, rows),
            QueryResult::Tickets(rows) => merge(&mut self.tickets, rows),
            QueryResult::Alerts(rows) => merge(&mut self.alerts, rows),
        }
    }

    /// The first `most` rows that a question is about.
    pub fn answer(&self, question: &Query, most: usize) -> QueryResult {
        match question {
            Query::Contact(email) => {
                let email = folded(email);
                QueryResult::Contacts(first(&self.contacts, most, |it| folded(&it.email) == email))
            }
            Query::Contacts(text) => {
                let text = Needle::new(text);
                QueryResult::Contacts(first(&self.contacts, most, |it| it.contains(&text)))
            }
            Query::Asset(name) => {
                let name = folded(name);
                let is_it = |it: &Asset| it.names().any(|known| folded(known) == name);
                QueryResult::Assets(first(&self.assets, most, is_it))
            }
            Query::Assets(text) => {
                let text = Needle::new(text);
                QueryResult::Assets(first(&self.assets, most, |it| it.contains(&text)))
            }
            Query::Ticket(number) => {
                QueryResult::Tickets(first(&self.tickets, most, |it| it.ticket == *number))
            }
            Query::Tickets(search) => {
                QueryResult::Tickets(first(&self.tickets, most, |it| is_sought(it, search)))
            }
            Query::Alert(key) => {
                QueryResult::Alerts(first(&self.alerts, most, |it| it.key == *key))
            }
            Query::Alerts(text) => {
                let text = Needle::new(text);
                let is_it = |it: &KnownAlert| it.state == AlertState::Firing && it.contains(&text);
                QueryResult::Alerts(first(&self.alerts, most, is_it))
            }
        }
    }
}

fn is_sought(ticket: &OpenTicket, search: &TicketSearch) -> bool {
    match search {
        TicketSearch::Requester(email) => ticket
            .requester
            .as_deref()
            .is_some_and(|it| requester_key(it) == requester_key(email)),
        TicketSearch::Subject(text) => Needle::new(text).is_in(&ticket.title),
        TicketSearch::Field(name, value) => {
            let field = ticket.fields.get(name).and_then(field_key);
            field.as_deref() == Some(value)
        }
    }
}

fn first<T: Clone>(rows: &[T], most: usize, is_it: impl Fn(&T) -> bool) -> Vec<T> {
    rows.iter()
        .filter(|row| is_it(row))
        .take(most)
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        serde_json::from_value(serde_json::json!({
            "contacts": [
                {"name": "Ann Ång", "email": "ann@acme.example", "vip": true},
                {"name": "Bob", "email": "bob@acme.example"},
                {"name": "Οδυσσέας", "email": "ody@elsewhere.example"},
            ],
            "assets": [{"name": "db1", "serial": "SN-1", "host": "db1.acme.example"}],
            "tickets": [
                {"ticket": "T-2", "title": "Disk full", "requester": "Ann <Ann@acme.example>", "fields": {"job": "nightly", "code": 7}},
                {"ticket": "T-1", "title": "Printer"},
            ],
            "alerts": [
                {"key": "disk/db1", "state": "firing", "host": "db1"},
                {"key": "cpu/db1", "state": "resolved", "host": "db1"},
            ],
        }))
        .expect("what is known")
    }

    fn count(question: Query) -> usize {
        known().answer(&question, 10).len()
    }

    #[test]
    fn finds_by_words_and_by_whole_names() {
        use Query::*;
        for (question, expected) in [
            (Contact(" ANN@acme.example".into()), 1),
            (Contact("ann".into()), 0),
            (Contacts("ÅNG".into()), 1),
            (Contacts("acme".into()), 2),
            (Contacts("%".into()), 0),
            (Contacts("".into()), 3),
            (Contacts("ΟΔΥΣΣΈΑΣ".into()), 1),
            (Contacts("ΟΔΥΣ".into()), 1),
            (Asset("sn-1".into()), 1),
            (Asset("sn".into()), 0),
            (Assets("SN".into()), 1),
            (Ticket("T-1".into()), 1),
            (Ticket("T-*".into()), 0),
            (
                Tickets(TicketSearch::Requester("ann@ACME.example".into())),
                1,
            ),
            (Tickets(TicketSearch::Subject("disk".into())), 1),
            (
                Tickets(TicketSearch::Field("job".into(), "nightly".into())),
                1,
            ),
            (Tickets(TicketSearch::Field("code".into(), "7".into())), 1),
            (Tickets(TicketSearch::Field("job".into(), "".into())), 0),
            (Alert("cpu/db1".into()), 1),
            (Alerts("DB1".into()), 1),
        ] {
            let shown = format!("{question:?}");
            assert_eq!(count(question), expected, "{shown}");
        }
        let one = known().answer(&Query::Contacts("".into()), 1);
        assert_eq!(one.len(), 1);
    }

    #[test]
    fn questions_and_answers_are_json_and_back() {
        for question in [
            Query::Contact("a@b".into()),
            Query::Tickets(TicketSearch::Field("a".into(), "b".into())),
        ] {
            let json = serde_json::to_string(&question).expect("JSON");
            assert_eq!(
                serde_json::from_str::<Query>(&json).ok(),
                Some(question.clone())
            );
            let found = known().answer(&question, 9);
            let json = serde_json::to_string(&found).expect("JSON");
            assert_eq!(serde_json::from_str::<QueryResult>(&json).ok(), Some(found));
        }
    }
}
