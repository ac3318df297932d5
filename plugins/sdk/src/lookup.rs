//! What is known of this tenant: contacts, assets, open tickets and alerts. A rule that uses it loads only where `lookup` is
//! granted. Each question and its answer is recorded with the decision.

use crate::bindings::postroom::plugin::lookup;

pub use crate::bindings::postroom::plugin::lookup::{
    KnownAlert, KnownAsset, KnownContact, OpenTicket, TicketSearch,
};

/// The contact with this address, compared without case.
pub fn contact(email: &str) -> Option<KnownContact> {
    lookup::contact(email)
}

/// The contacts whose name or address contains this, without case.
pub fn contacts(text: &str) -> Vec<KnownContact> {
    lookup::contacts(text)
}

/// The asset with this name, serial number or host, compared without case.
pub fn asset(name: &str) -> Option<KnownAsset> {
    lookup::asset(name)
}

/// The assets whose name, serial number or host contains this, without case.
pub fn assets(text: &str) -> Vec<KnownAsset> {
    lookup::assets(text)
}

/// The open ticket with this number, such as `T-12`.
pub fn ticket(number: &str) -> Option<OpenTicket> {
    lookup::ticket(number)
}

/// The open tickets of a requester, the newest first.
pub fn tickets_of(email: &str) -> Vec<OpenTicket> {
    lookup::tickets(&TicketSearch::Requester(email.into()))
}

/// The open tickets whose title contains this, without case, the newest first.
pub fn tickets_about(text: &str) -> Vec<OpenTicket> {
    lookup::tickets(&TicketSearch::Subject(text.into()))
}

/// The open tickets with this value in a field of their own, the newest first.
pub fn tickets_with(field: &str, value: &str) -> Vec<OpenTicket> {
    lookup::tickets(&TicketSearch::Field((field.into(), value.into())))
}

/// The alert with this key, firing or not.
pub fn alert(key: &str) -> Option<KnownAlert> {
    lookup::alert(key)
}

/// The firing alerts whose key, host, service or summary contains this, without case, the newest first.
pub fn alerts(text: &str) -> Vec<KnownAlert> {
    lookup::alerts(text)
}
