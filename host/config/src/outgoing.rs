//! Reads `[outgoing.*]`: the servers that send replies and forwards.

use std::collections::HashMap;

use postroom_auth::Provider;

use super::profiles::AllProfileFacts;
use super::reader::Item;
use super::servers::{self, Ports, ServerProtocol, SignInService};
use super::{Names, Outgoing};

pub static SUBMISSION: ServerProtocol = ServerProtocol {
    name: "submission",
    sign_in: "SMTP AUTH",
    // RFC 6409 and RFC 8314 section 3.3; the large providers submit on 587.
    ports: Ports {
        default: 587,
        implicit: 465,
        start_tls: 587,
        plain: 25,
    },
    starttls: "smtp",
    url_key: None,
    permission: "SMTP.Send",
    app_permission: "SMTP.SendAsApp",
    exchange_switch: "-SmtpClientAuthenticationDisabled $false",
    takes_passwords: true,
};

/// The outgoings without problems, and the profile that each one signs in with.
pub struct Read {
    pub outgoing: Vec<Outgoing>,
    pub profiles: HashMap<String, String>,
}

pub fn read(entries: Vec<(&str, Item)>, names: &Names, facts: &AllProfileFacts) -> Read {
    let mut read = Read {
        outgoing: Vec::new(),
        profiles: HashMap::new(),
    };
    for (name, item) in entries {
        let outgoing = read_one(name, &item, names, facts, &mut read.profiles);
        read.outgoing.extend(outgoing);
    }
    read
}

fn read_one(
    name: &str,
    item: &Item,
    names: &Names,
    facts: &AllProfileFacts,
    profiles: &mut HashMap<String, String>,
) -> Option<Outgoing> {
    let section = item.section("an outgoing")?;
    let protocol = section
        .required("protocol", "add protocol = \"smtp\"")
        .and_then(|item| item.choice(&[("smtp", ())], &["graph", "ews"]));
    let sign_in = servers::read_sign_in(&section, names);
    if let Some(profile) = &sign_in.profile {
        profiles.insert(name.into(), profile.clone());
    }
    // The keys of other protocols are not reported here.
    let server = match protocol {
        Some(()) => servers::read_server(
            &section,
            &SUBMISSION.ports,
            &sign_in,
            facts,
            Provider::smtp_host,
        ),
        None => {
            for key in ["host", "port", "tls"] {
                section.item(key);
            }
            None
        }
    };
    let from = section
        .required("from", "add from = \"Acme Support <support@acme.example>\"")
        .and_then(|item| item.named_address());
    let reply_to = section.item("reply_to").map(|item| item.named_address());
    let hello = section.item("hello").map(|item| item.domain());
    let login_item = section.item("login");
    section.later(&["alternate_host"]);
    let login = match sign_in.way {
        Some(Some(way)) => {
            let address = from.as_ref().map(|from| from.email.as_str());
            servers::read_login(&section, way, SignInService::Submission, address, facts).map(Some)
        }
        Some(None) => match login_item {
            Some(item) => {
                item.problem(
                    "has nothing to sign in with",
                    "add profile = \"NAME\" or password = { env = \"NAME\" }, or remove login",
                );
                None
            }
            None => Some(None),
        },
        None => None,
    };
    section.finish();
    Some(Outgoing {
        name: name.into(),
        server: server?,
        from: from?,
        reply_to: reply_to.map_or(Some(None), |address| address.map(Some))?,
        hello: hello.map_or(Some(None), |name| name.map(Some))?,
        login: login?,
    })
}
