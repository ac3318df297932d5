//! The interface `lookup`: converts an instance's calls into queries, and the results back.

use postroom_core::lookup::{self as domain, Query, QueryResult};
use postroom_core::{AlertState, Value};

use crate::bindings::lookup::{
    Host as Lookup, KnownAlert, KnownAsset, KnownContact, OpenTicket, TicketSearch,
};
use crate::bindings::types;
use crate::error::Stop;
use crate::host::Host;

impl Host {
    fn inquire(&mut self, question: Query) -> Result<QueryResult, Stop> {
        self.enter()?;
        if !self.terms.grants.lookup {
            return Err(Stop::NotGranted("lookup"));
        }
        self.inquiry.ask(question, &self.terms.limits)
    }

    fn contacts_for(&mut self, question: Query) -> Result<Vec<KnownContact>, Stop> {
        match self.inquire(question)? {
            QueryResult::Contacts(rows) => Ok(rows.into_iter().map(contact).collect()),
            _ => Err(another_kind()),
        }
    }

    fn assets_for(&mut self, question: Query) -> Result<Vec<KnownAsset>, Stop> {
        match self.inquire(question)? {
            QueryResult::Assets(rows) => Ok(rows.into_iter().map(asset).collect()),
            _ => Err(another_kind()),
        }
    }

    fn tickets_for(&mut self, question: Query) -> Result<Vec<OpenTicket>, Stop> {
        match self.inquire(question)? {
            QueryResult::Tickets(rows) => Ok(rows.into_iter().map(ticket).collect()),
            _ => Err(another_kind()),
        }
    }

    fn alerts_for(&mut self, question: Query) -> Result<Vec<KnownAlert>, Stop> {
        match self.inquire(question)? {
            QueryResult::Alerts(rows) => Ok(rows.into_iter().map(alert).collect()),
            _ => Err(another_kind()),
        }
    }
}

impl Lookup for Host {
    fn contact(&mut self, email: String) -> wasmtime::Result<Option<KnownContact>> {
        let found = self.contacts_for(Query::Contact(email))?;
        Ok(found.into_iter().next())
    }

    fn contacts(&mut self, text: String) -> wasmtime::Result<Vec<KnownContact>> {
        Ok(self.contacts_for(Query::Contacts(text))?)
    }

    fn asset(&mut self, name: String) -> wasmtime::Result<Option<KnownAsset>> {
        let found = self.assets_for(Query::Asset(name))?;
        Ok(found.into_iter().next())
    }

    fn assets(&mut self, text: String) -> wasmtime::Result<Vec<KnownAsset>> {
        Ok(self.assets_for(Query::Assets(text))?)
    }

    fn ticket(&mut self, number: String) -> wasmtime::Result<Option<OpenTicket>> {
        let found = self.tickets_for(Query::Ticket(number))?;
        Ok(found.into_iter().next())
    }

    fn tickets(&mut self, search: TicketSearch) -> wasmtime::Result<Vec<OpenTicket>> {
        let search = match search {
            TicketSearch::Requester(email) => domain::TicketSearch::Requester(email),
            TicketSearch::Subject(text) => domain::TicketSearch::Subject(text),
            TicketSearch::Field((name, value)) => domain::TicketSearch::Field(name, value),
        };
        Ok(self.tickets_for(Query::Tickets(search))?)
    }

    fn alert(&mut self, key: String) -> wasmtime::Result<Option<KnownAlert>> {
        let found = self.alerts_for(Query::Alert(key))?;
        Ok(found.into_iter().next())
    }

    fn alerts(&mut self, text: String) -> wasmtime::Result<Vec<KnownAlert>> {
        Ok(self.alerts_for(Query::Alerts(text))?)
    }
}

fn another_kind() -> Stop {
    Stop::Lookup("it returned the result of another query".into())
}

fn contact(row: domain::Contact) -> KnownContact {
    KnownContact {
        name: row.name,
        email: row.email,
        phone: row.phone,
        vip: row.vip,
        fields: row.fields.into_iter().collect(),
    }
}

fn asset(row: domain::Asset) -> KnownAsset {
    KnownAsset {
        name: row.name,
        serial: row.serial,
        host: row.host,
        fields: row.fields.into_iter().collect(),
    }
}

fn ticket(row: domain::OpenTicket) -> OpenTicket {
    OpenTicket {
        ticket: row.ticket,
        title: row.title,
        requester: row.requester,
        queue: row.queue,
        priority: row.priority,
        tags: row.tags,
        fields: row
            .fields
            .into_iter()
            .map(|(name, field)| (name, value(field)))
            .collect(),
        created: row.created,
        updated: row.updated,
    }
}

fn alert(row: domain::KnownAlert) -> KnownAlert {
    KnownAlert {
        key: row.key,
        state: match row.state {
            AlertState::Firing => types::AlertState::Firing,
            AlertState::Resolved => types::AlertState::Resolved,
        },
        severity: row.severity,
        host: row.host,
        service: row.service,
        summary: row.summary,
        since: row.since,
        updated: row.updated,
        count: row.count,
    }
}

fn value(value: Value) -> types::Value {
    match value {
        Value::String(text) => types::Value::Text(text),
        Value::Bool(flag) => types::Value::Flag(flag),
        Value::Number(number) => match number.as_f64() {
            Some(number) => types::Value::Number(number),
            None => types::Value::Json(number.to_string()),
        },
        other => types::Value::Json(other.to_string()),
    }
}
