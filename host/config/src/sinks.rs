//! Reads `[sinks.*]`: where tickets, notes and alerts are delivered.

use std::collections::BTreeSet;

use postroom_core::ItemKind;

use super::reader::Item;
use super::targets::{LATER_SINK_KINDS, SINK_KINDS};
use super::{Names, Sink};

const ITEM_KINDS: &[(&str, ItemKind)] = &[
    ("ticket", ItemKind::Ticket),
    ("note", ItemKind::Note),
    ("alert", ItemKind::Alert),
];

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
        .and_then(|item| item.choice(&SINK_KINDS.map(|kind| (kind.name, kind)), LATER_SINK_KINDS));
    let target = match kind {
        Some(kind) => (kind.read)(&section),
        // Without a kind nothing is known about its keys.
        None => {
            for key in SINK_KINDS.iter().flat_map(|kind| kind.keys) {
                section.item(key);
            }
            None
        }
    };
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
    Some(Sink {
        name: name.into(),
        target: target?,
        tenants: tenants?,
        kinds: BTreeSet::from_iter(kinds?),
    })
}
