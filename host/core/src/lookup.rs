//! Lookups of a rule about its own tenant: contacts, assets, open tickets and alerts. Each query and its result can be
//! recorded and compared.

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
    /// The other columns of the file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

/// A machine or other asset of the tenant.
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
    /// The time of its last note.
    #[serde(default)]
    pub updated: String,
}

/// An alert in its current state.
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
    /// The time at which it entered this state, RFC 3339 in UTC.
    #[serde(default)]
    pub since: String,
    /// The time of its last mail.
    #[serde(default)]
    pub updated: String,
    /// The number of its mails.
    #[serde(default)]
    pub count: u64,
}

/// A search for tickets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TicketSearch {
    /// The requester's address, compared case-insensitively.
    Requester(String),
    /// A part of the title, compared case-insensitively.
    Subject(String),
    /// A custom field of the ticket and its value: a text, or a number or flag written as in JSON.
    Field(String, String),
}

/// One query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Query {
    /// The contact with this address, compared case-insensitively.
    Contact(String),
    /// The contacts whose name or address contains this text, compared case-insensitively.
    Contacts(String),
    /// The asset with this name, serial number or host, compared case-insensitively.
    Asset(String),
    /// The assets whose name, serial number or host contains this text, compared case-insensitively.
    Assets(String),
    /// The open ticket with this number.
    Ticket(String),
    /// Open tickets, newest first.
    Tickets(TicketSearch),
    /// The alert with this key, firing or not.
    Alert(String),
    /// The firing alerts whose key, host, service or summary contains this text, compared case-insensitively, newest first.
    Alerts(String),
}

/// The results, in order; an empty list if there are none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueryResult {
    Contacts(Vec<Contact>),
    Assets(Vec<Asset>),
    Tickets(Vec<OpenTicket>),
    Alerts(Vec<KnownAlert>),
}

impl Query {
    /// Returns the result of a query that finds nothing.
    pub fn nothing(&self) -> QueryResult {
        match self {
            Self::Contact(_) | Self::Contacts(_) => QueryResult::Contacts(Vec::new()),
            Self::Asset(_) | Self::Assets(_) => QueryResult::Assets(Vec::new()),
            Self::Ticket(_) | Self::Tickets(_) => QueryResult::Tickets(Vec::new()),
            Self::Alert(_) | Self::Alerts(_) => QueryResult::Alerts(Vec::new()),
        }
    }

    /// Returns the length of its longest text, in bytes.
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

/// Formats the query for people: `contact ann@acme.example`, `tickets with site = lab`.
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

    /// Keeps only the first `most` rows.
    pub fn truncate(&mut self, most: usize) {
        match self {
            Self::Contacts(rows) => rows.truncate(most),
            Self::Assets(rows) => rows.truncate(most),
            Self::Tickets(rows) => rows.truncate(most),
            Self::Alerts(rows) => rows.truncate(most),
        }
    }

    /// Returns the approximate size of its JSON, in bytes.
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
    /// Returns the words that identify it.
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

/// A text to search for, case-insensitively and without wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needle(String);

impl Needle {
    pub fn new(text: &str) -> Self {
        Self(folded(text))
    }

    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_empty() || folded(text).contains(&self.0)
    }

    /// Like [`Needle::is_in`], for a text that is already [`folded`].
    pub fn is_in_folded(&self, text: &str) -> bool {
        text.contains(&self.0)
    }
}

/// Returns the form of a text for case-insensitive comparison.
pub fn folded(text: &str) -> String {
    let folded = text.trim().to_lowercase();
    // A sigma has another form at the end of a word, but the searched part may end inside a word.
    match folded.contains('ς') {
        true => folded.replace('ς', "σ"),
        false => folded,
    }
}

/// Returns the bare address in a ticket's requester, folded: `Ann <ann@acme.example>` becomes `ann@acme.example`.
pub fn requester_key(requester: &str) -> String {
    let bare = requester
        .rsplit_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
        .map_or(requester, |(email, _)| email);
    folded(bare)
}

/// Returns a field's value in the form of a query; `None` for a value that cannot be searched for.
pub fn field_key(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// All records of a tenant, if there are few: the `lookup` data of a rule's test.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Known {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contacts: Vec<Contact>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assets: Vec<Asset>,
    /// Open tickets, newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tickets: Vec<OpenTicket>,
    /// Newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<KnownAlert>,
}

impl Known {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds results, each row once.
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

    /// Returns the first `most` rows that match a query.
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
