//! Identifies a mail's sender before its rules run: client, technician, and the original sender of a forwarded mail.

use postroom_core::attribution::{Found, is_staff};
use postroom_core::effects::person;
use postroom_core::{
    Address, AttributeBy, Client, Clients, Contacts, ForeignNumbers, Message, ParseLimits,
    ReopenPolicy, Staff, ThreadQuery, forwarded,
};

use postroom_config::Config;

/// The senders that a configuration names, and how their mail finds its ticket.
#[derive(Debug)]
pub struct Senders {
    clients: Clients,
    staff: Staff,
    pub reopen: ReopenPolicy,
    pub foreign_numbers: ForeignNumbers,
}

/// The sender of one mail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sender {
    pub client: Option<Client>,
    pub is_staff: bool,
    /// The person on whose behalf a technician forwarded the mail.
    pub requester: Option<Address>,
}

impl Senders {
    pub fn of(config: &Config) -> Self {
        Self {
            clients: config.identity.clients(&config.tenants),
            staff: config.identity.staff.clone(),
            reopen: config.identity.reopen.clone(),
            foreign_numbers: config.identity.foreign_numbers.clone(),
        }
    }

    /// Returns the senders without a configuration.
    pub fn of_nobody() -> Self {
        Self {
            clients: Clients::default(),
            staff: Staff::default(),
            reopen: ReopenPolicy::default(),
            foreign_numbers: ForeignNumbers::default(),
        }
    }

    /// Returns the sender of a mail in a mailbox of one tenant: whether they belong to it, and nothing of other tenants.
    pub fn of_tenant(&self, tenant: &str, message: &Message, contacts: &dyn Contacts) -> Sender {
        let sender = self.without_client(message);
        let is_disowned = message.authentication.disowns_sender();
        let evidence = sender.writes_as(message).and_then(|email| {
            let clients = &self.clients;
            clients.evidence_for(tenant, email, contacts)
        });
        Sender {
            client: evidence.map(|evidence| Client {
                name: tenant.to_owned(),
                sure: !is_disowned,
                evidence,
                candidates: vec![tenant.to_owned()],
            }),
            ..sender
        }
    }

    /// Returns the sender of a mail as far as it is the same for every client.
    pub fn without_client(&self, message: &Message) -> Sender {
        let is_staff = is_staff(&self.staff, message);
        let limits = ParseLimits::default();
        let forwarded = is_staff.then(|| forwarded(message, &limits)).flatten();
        let is_other = |from: &Address| !self.staff.has(&from.email);
        Sender {
            client: None,
            is_staff,
            requester: forwarded.and_then(|it| it.from).filter(is_other),
        }
    }

    /// Returns the clients that a mail of a shared mailbox may belong to. `own` are the mailbox's addresses, as [`person`] returns
    /// them.
    pub fn attribute(
        &self,
        by: AttributeBy,
        message: &Message,
        sender: &Sender,
        own: &[String],
        contacts: &dyn Contacts,
    ) -> Option<Found> {
        match by {
            AttributeBy::Sender => {
                // A technician's own mail is about somebody else.
                let is_own = sender.is_staff && sender.requester.is_none();
                let email = sender.writes_as(message).filter(|_| !is_own)?;
                self.clients.by_sender(email, contacts)
            }
            AttributeBy::Recipient => self.clients.by_recipient(message),
            AttributeBy::PlusAddress => self.clients.by_plus_address(message, own),
        }
    }

    /// Returns the query for a mail's ticket within one tenant.
    pub fn thread_query(
        &self,
        tenant: &str,
        message: &Message,
        sender: &Sender,
        contacts: &dyn Contacts,
    ) -> ThreadQuery {
        let query = ThreadQuery::of(message, &self.foreign_numbers);
        // Nobody is looked up for a mail that names nothing.
        let is_client = !query.is_empty()
            && query.sender.as_ref().is_some_and(|email| {
                let evidence = self.clients.evidence_for(tenant, email, contacts);
                evidence.is_some()
            });
        ThreadQuery {
            is_client,
            is_staff: sender.is_staff,
            ..query
        }
    }
}

impl Sender {
    /// Returns the address of the person whose words the mail brings.
    pub fn writes_as<'m>(&'m self, message: &'m Message) -> Option<&'m str> {
        let from = self.requester.as_ref().or(message.from.as_ref());
        from.map(|from| from.email.as_str())
    }
}

/// Returns addresses as [`person`] returns them.
pub fn persons<'a>(addresses: impl Iterator<Item = &'a String>) -> Vec<String> {
    addresses.map(|it| person(it)).collect()
}
