//! Reads `[outgoing.*]`: the targets of replies and forwards.

use std::collections::HashMap;

use postroom_net::Proxies;

use super::profiles::AllProfileFacts;
use super::reader::Item;
use super::servers;
use super::targets::{OUTGOING_PROTOCOLS, OutgoingPlace};
use super::{Names, Outgoing, proxy};

/// The outgoings without problems, and the profile that each one signs in with.
pub struct Read {
    pub outgoing: Vec<Outgoing>,
    pub profiles: HashMap<String, String>,
}

pub fn read(
    entries: Vec<(&str, Item)>,
    names: &Names,
    facts: &AllProfileFacts,
    proxies: Option<&Proxies>,
) -> Read {
    let mut read = Read {
        outgoing: Vec::new(),
        profiles: HashMap::new(),
    };
    for (name, item) in entries {
        let outgoing = read_one(name, &item, (names, facts, proxies), &mut read.profiles);
        read.outgoing.extend(outgoing);
    }
    read
}

fn read_one(
    name: &str,
    item: &Item,
    (names, facts, proxies): (&Names, &AllProfileFacts, Option<&Proxies>),
    profiles: &mut HashMap<String, String>,
) -> Option<Outgoing> {
    let section = item.section("an outgoing")?;
    let protocol = section
        .required("protocol", "add protocol = \"smtp\"")
        .and_then(|item| {
            let known = OUTGOING_PROTOCOLS.map(|protocol| (protocol.name, protocol));
            item.choice(&known, &[])
        });
    let sign_in = servers::read_sign_in(&section, names);
    if let Some(profile) = &sign_in.profile {
        profiles.insert(name.into(), profile.clone());
    }
    let from = section
        .required("from", "add from = \"Acme Support <support@acme.example>\"")
        .and_then(|item| item.named_address());
    let reply_to = section.item("reply_to").map(|item| item.named_address());
    let tag_replies = section
        .item("tag_replies")
        .map_or(Some(false), |item| item.flag());
    let proxies = proxy::read_own(&section, proxies);
    let target = match protocol {
        Some(protocol) => {
            let place = OutgoingPlace {
                sign_in,
                from: from.as_ref(),
                facts,
            };
            (protocol.read)(&section, &place)
        }
        // Without a protocol nothing is known about its keys.
        None => {
            for key in OUTGOING_PROTOCOLS.iter().flat_map(|it| it.keys) {
                section.item(key);
            }
            None
        }
    };
    section.finish();
    Some(Outgoing {
        name: name.into(),
        from: from?,
        reply_to: reply_to.map_or(Some(None), |address| address.map(Some))?,
        tag_replies: tag_replies?,
        proxies: proxies?,
        target: target?,
    })
}
