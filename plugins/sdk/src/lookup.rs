//! Queries about this tenant: contacts, assets, open tickets and alerts. A rule that uses them loads only if `lookup` is
//! granted. Each query and its result is recorded with the decision.

use crate::bindings::postroom::plugin::lookup;

pub use crate::bindings::postroom::plugin::lookup::{
    KnownAlert, KnownAsset, KnownContact, OpenTicket, TicketSearch,
};

/// Returns the contact with this address, compared case-insensitively.
pub fn contact(email: &str) -> Option<KnownContact> {
    lookup::contact(email)
}

/// Returns the contacts whose name or address contains this text, compared case-insensitively.
pub fn contacts(text: &str) -> Vec<KnownContact> {
    lookup::contacts(text)
}

/// Returns the asset with this name, serial number or host, compared case-insensitively.
pub fn asset(name: &str) -> Option<KnownAsset> {
    lookup::asset(name)
}

/// Returns the assets whose name, serial number or host contains this text, compared case-insensitively.
pub fn assets(text: &str) -> Vec<KnownAsset> {
    lookup::assets(text)
}

/// Returns the open ticket with this number, such as `T-12`.
pub fn ticket(number: &str) -> Option<OpenTicket> {
    lookup::ticket(number)
}

/// Returns the open tickets of a requester, newest first.
pub fn tickets_of(email: &str) -> Vec<OpenTicket> {
    lookup::tickets(&TicketSearch::Requester(email.into()))
}

/// Returns the open tickets whose title contains this text, compared case-insensitively, newest first.
pub fn tickets_about(text: &str) -> Vec<OpenTicket> {
    lookup::tickets(&TicketSearch::Subject(text.into()))
}

/// Returns the open tickets with this value in a custom field, newest first.
pub fn tickets_with(field: &str, value: &str) -> Vec<OpenTicket> {
    lookup::tickets(&TicketSearch::Field((field.into(), value.into())))
}

/// Returns the alert with this key, firing or not.
pub fn alert(key: &str) -> Option<KnownAlert> {
    lookup::alert(key)
}

/// Returns the firing alerts whose key, host, service or summary contains this text, compared case-insensitively, newest
/// first.
pub fn alerts(text: &str) -> Vec<KnownAlert> {
    lookup::alerts(text)
}
