//! Attribution: finds the client of a mail by its sender, by the address at which it arrived, or by the tag of that address.
//! Pure: contacts are asked through [`Contacts`], and tickets are the store's.

mod public_domains;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use crate::context::{Client, ClientEvidence};
use crate::effects::person;
use crate::message::Message;
use crate::outgoing::bare_address;

/// The most recipients of a mail that are considered.
const RECIPIENTS: usize = 100;
/// Headers with the address at which a mail arrived, as servers write them. The topmost of each counts.
const ENVELOPE: [&str; 5] = [
    "X-Original-To",
    "Delivered-To",
    "X-Delivered-To",
    "Envelope-To",
    "X-Envelope-To",
];

/// The evidence by which the mail of a shared mailbox is attributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttributeBy {
    Sender,
    Recipient,
    PlusAddress,
}

/// The names of one client, for [`Clients::new`].
#[derive(Debug, Clone, Copy)]
pub struct ClientNames<'a> {
    pub name: &'a str,
    pub domains: &'a [String],
    /// The addresses of people without a domain of their own.
    pub addresses: &'a [String],
    /// The addresses at which only mail of this client arrives.
    pub recipients: &'a [String],
}

/// How a contact was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContactMatch {
    Exact,
    /// By another address of the same contact.
    Alias,
}

/// The contacts of the clients.
pub trait Contacts {
    /// Returns whether a client has a contact with this address.
    fn find(&self, client: &str, email: &str) -> Option<ContactMatch>;
}

/// A directory without contacts.
pub struct NoContacts;

impl Contacts for NoContacts {
    fn find(&self, _client: &str, _email: &str) -> Option<ContactMatch> {
        None
    }
}

/// The clients that a piece of evidence fits, in the order of the configuration. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub evidence: ClientEvidence,
    pub candidates: Vec<String>,
}

impl Found {
    /// Returns the only candidate.
    pub fn only(&self) -> Option<&str> {
        match self.candidates.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Returns the client for rules. `is_disowned` states that the sender may be forged.
    pub fn client(&self, is_disowned: bool) -> Option<Client> {
        Some(Client {
            name: self.candidates.first()?.clone(),
            sure: self.candidates.len() == 1 && !is_disowned,
            evidence: self.evidence,
            candidates: self.candidates.clone(),
        })
    }
}

/// The clients by everything that names them.
#[derive(Debug, Default)]
pub struct Clients {
    names: Vec<String>,
    by_name: HashMap<String, usize>,
    domains: HashMap<String, Vec<usize>>,
    addresses: HashMap<String, Vec<usize>>,
    recipients: HashMap<String, Vec<usize>>,
    /// Further domains of public mail services.
    public: HashSet<String>,
}

impl Clients {
    /// `public` lists domains of mail services in addition to the built-in ones.
    pub fn new<'a>(
        clients: impl Iterator<Item = ClientNames<'a>>,
        public: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut all = Self {
            public: public.into_iter().collect(),
            ..Self::default()
        };
        for client in clients {
            let number = all.names.len();
            all.names.push(client.name.to_owned());
            all.by_name.insert(client.name.to_lowercase(), number);
            let of = [
                (
                    &mut all.domains,
                    client.domains,
                    ascii_domain as fn(&str) -> String,
                ),
                (&mut all.addresses, client.addresses, spelled),
                (&mut all.recipients, client.recipients, spelled),
            ];
            for (index, texts, key) in of {
                for text in texts {
                    let owners = index.entry(key(text)).or_default();
                    if !owners.contains(&number) {
                        owners.push(number);
                    }
                }
            }
        }
        all
    }

    /// Returns the clients that a sender may belong to: by the exact address, then by another address of the same person, then by the
    /// domain, then by the nearest domain above it. A domain of a public mail service fits nobody.
    pub fn by_sender(&self, email: &str, contacts: &dyn Contacts) -> Option<Found> {
        self.search(email, contacts, &|_| true)
    }

    /// Returns the evidence that a sender belongs to this client. Other clients are not considered.
    pub fn evidence_for(
        &self,
        client: &str,
        email: &str,
        contacts: &dyn Contacts,
    ) -> Option<ClientEvidence> {
        let number = self.names.iter().position(|name| name == client)?;
        let found = self.search(email, contacts, &|it| it == number);
        found.map(|it| it.evidence)
    }

    fn search(
        &self,
        email: &str,
        contacts: &dyn Contacts,
        is_meant: &dyn Fn(usize) -> bool,
    ) -> Option<Found> {
        let exact = spelled(email);
        let (_, domain) = exact.rsplit_once('@')?;
        let without_tag = person(email);
        let contact = |of: &dyn Fn(usize, &str) -> bool| -> Vec<usize> {
            let all = self.names.iter().enumerate();
            all.filter(|(number, name)| is_meant(*number) && of(*number, name))
                .map(|(number, _)| number)
                .collect()
        };
        let listed = |email: &str, number: usize| {
            let owners = self.addresses.get(email);
            owners.is_some_and(|it| it.contains(&number))
        };
        let found = contact(&|number, name| {
            listed(&exact, number) || contacts.find(name, &exact) == Some(ContactMatch::Exact)
        });
        if !found.is_empty() {
            return self.found(ClientEvidence::Contact, &found);
        }
        let found = contact(&|number, name| {
            listed(&without_tag, number)
                || contacts.find(name, &exact).is_some()
                || contacts.find(name, &without_tag).is_some()
        });
        if !found.is_empty() {
            return self.found(ClientEvidence::Alias, &found);
        }
        if self.is_public(domain) {
            return None;
        }
        let owners = |domain: &str| -> Vec<usize> {
            let owners = self.domains.get(domain).into_iter().flatten().copied();
            owners.filter(|it| is_meant(*it)).collect()
        };
        let found = owners(domain);
        if !found.is_empty() {
            return self.found(ClientEvidence::Domain, &found);
        }
        let mut above = domain;
        while let Some((_, rest)) = above.split_once('.') {
            above = rest;
            // A client cannot own a top-level domain.
            let is_owned = above.contains('.') && !self.is_public(above);
            let found = owners(above);
            if is_owned && !found.is_empty() {
                return self.found(ClientEvidence::Subdomain, &found);
            }
        }
        None
    }

    /// Returns the clients at whose `recipients` the mail arrived. What the servers recorded takes precedence over To and Cc, which
    /// the sender wrote.
    pub fn by_recipient(&self, mail: &Message) -> Option<Found> {
        let owners = |addresses: &[String]| {
            let mut owners: Vec<usize> = Vec::new();
            for address in addresses {
                // A listed address may itself have a tag.
                let found = self
                    .recipients
                    .get(&spelled(address))
                    .or_else(|| self.recipients.get(&person(address)));
                for owner in found.into_iter().flatten() {
                    if !owners.contains(owner) {
                        owners.push(*owner);
                    }
                }
            }
            owners.sort_unstable();
            owners
        };
        self.first_of(ClientEvidence::Recipient, mail, owners)
    }

    /// Returns the clients whose name is the tag of one of the mailbox's own addresses, which are given as [`person`] returns them.
    pub fn by_plus_address(&self, mail: &Message, own: &[String]) -> Option<Found> {
        let owners = |addresses: &[String]| {
            let mut owners: Vec<usize> = Vec::new();
            for address in addresses.iter().filter(|it| own.contains(&person(it))) {
                let local = address.rsplit_once('@').map_or("", |(local, _)| local);
                let tag = local.split_once('+').map_or("", |(_, tag)| tag);
                if let Some(owner) = self.by_name.get(&tag.to_lowercase())
                    && !owners.contains(owner)
                {
                    owners.push(*owner);
                }
            }
            owners.sort_unstable();
            owners
        };
        self.first_of(ClientEvidence::PlusAddress, mail, owners)
    }

    /// Returns whether anybody can have an address in this domain.
    pub fn is_public(&self, domain: &str) -> bool {
        public_domains::is_public(domain) || self.public.contains(domain)
    }

    fn first_of(
        &self,
        evidence: ClientEvidence,
        mail: &Message,
        owners: impl Fn(&[String]) -> Vec<usize>,
    ) -> Option<Found> {
        let envelope: Vec<String> = ENVELOPE
            .iter()
            .filter_map(|name| mail.headers(name).next())
            .map(|value| bare_address(value).to_owned())
            .collect();
        let written = mail.to.iter().chain(&mail.cc).take(RECIPIENTS);
        let written: Vec<String> = written.map(|it| it.email.clone()).collect();
        [envelope, written].iter().find_map(|addresses| {
            let owners = owners(addresses);
            (!owners.is_empty()).then(|| self.found(evidence, &owners))?
        })
    }

    fn found(&self, evidence: ClientEvidence, owners: &[usize]) -> Option<Found> {
        let candidates: Vec<String> = owners.iter().map(|it| self.names[*it].clone()).collect();
        (!candidates.is_empty()).then_some(Found {
            evidence,
            candidates,
        })
    }
}

/// The service provider's own people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Staff {
    /// In their ASCII form in lower case.
    pub domains: Vec<String>,
    /// As [`person`] returns them.
    pub addresses: Vec<String>,
}

impl Staff {
    /// Returns whether an address is one of a technician. Anybody can write it into a From.
    pub fn has(&self, email: &str) -> bool {
        let person = person(email);
        let domain = person.rsplit_once('@').map_or("", |(_, domain)| domain);
        self.addresses.contains(&person) || self.domains.iter().any(|own| own == domain)
    }
}

/// Returns whether the sender of a mail is a technician, as far as the trusted boundary does not deny it.
pub fn is_staff(staff: &Staff, mail: &Message) -> bool {
    let from = mail.from.as_ref();
    // From alone proves nothing: where servers vouch for senders, they must vouch for technicians.
    let is_proven = match mail.is_authenticated {
        true => mail.authentication.confirms_sender(),
        false => !mail.authentication.disowns_sender(),
    };
    is_proven && from.is_some_and(|from| staff.has(&from.email))
}

/// Returns an address in one spelling, with its tag.
fn spelled(email: &str) -> String {
    let email = email.trim().to_lowercase();
    match email.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", ascii_domain(domain)),
        None => email,
    }
}

fn ascii_domain(domain: &str) -> String {
    let domain = domain.trim_end_matches('.').to_lowercase();
    idna::domain_to_ascii(&domain).unwrap_or(domain)
}
