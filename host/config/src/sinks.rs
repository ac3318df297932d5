//! Reads `[sinks.*]`: where tickets, notes and alerts are delivered.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use postroom_auth::Secret;
use postroom_core::ItemKind;

use super::reader::Item;
use super::{Names, Sink};

const LATER_KINDS: &[&str] = &["http", "request-tracker", "alertmanager", "email"];
const ITEM_KINDS: &[(&str, ItemKind)] = &[
    ("ticket", ItemKind::Ticket),
    ("note", ItemKind::Note),
    ("alert", ItemKind::Alert),
];
/// The length of a secret in the Standard Webhooks scheme, in decoded bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Returns the sinks without problems.
pub fn read(entries: Vec<(&str, Item)>, names: &Names) -> Vec<Sink> {
    entries
        .into_iter()
        .filter_map(|(name, item)| read_one(name, &item, names))
        .collect()
}

fn read_one(name: &str, item: &Item, names: &Names) -> Option<Sink> {
    let section = item.section("a sink")?;
    let kind = section
        .required("kind", "add kind = \"webhook\"")
        .and_then(|item| item.choice(&[("webhook", ())], LATER_KINDS));
    let url = section
        .required("url", "add url = \"https://…\"")
        .and_then(|item| item.url());
    let secret = section
        .required("secret", "add secret = { env = \"NAME\" }")
        .and_then(|item| {
            let secret = item.secret()?;
            Some(secret.and_then(|secret| match is_webhook_secret(&secret) {
                true => Ok(secret),
                false => Err(item.unavailable(
                    "holds no Standard Webhooks secret",
                    "make one: echo whsec_$(head -c 32 /dev/urandom | base64)",
                )),
            }))
        });
    let tenants = match section.item("tenants") {
        Some(item) => item
            .each(|tenant| tenant.reference("tenant", "tenants", &names.tenants))
            .map(Some),
        None => Some(None),
    };
    let kinds = match section.item("kinds") {
        Some(item) => item.each(|kind| kind.choice(ITEM_KINDS, &[])),
        None => Some(ITEM_KINDS.iter().map(|(_, kind)| *kind).collect()),
    };
    section.finish();
    kind?;
    Some(Sink {
        name: name.into(),
        url: url?,
        secret: secret?,
        tenants: tenants?,
        kinds: BTreeSet::from_iter(kinds?),
    })
}

fn is_webhook_secret(secret: &Secret) -> bool {
    let encoded = secret.expose().strip_prefix("whsec_");
    encoded
        .and_then(|encoded| BASE64.decode(encoded).ok())
        .is_some_and(|bytes| SECRET_BYTES.contains(&bytes.len()))
}
