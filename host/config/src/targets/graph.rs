//! Outgoings at Microsoft Graph: their cloud or URL, sign-in, mailbox, and whether mail is read back.

use postroom_auth::Need;
use url::Url;

use super::{OutgoingConfig, OutgoingPlace, OutgoingProtocol};
use crate::reader::Section;
use crate::servers::{self, CredentialKind, ServerProtocol, SignInService};
use crate::sources::graph;
use crate::{MailLogin, Server};

pub static PROTOCOL: OutgoingProtocol = OutgoingProtocol {
    name: "graph",
    keys: &["base_url", "address", "login", "read_back"],
    read,
    server: Some(&SERVER),
};

pub static SERVER: ServerProtocol = graph::with_permission("Mail.Send");

/// Sending from a mailbox of Exchange Online.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphOutgoing {
    /// Including the version, such as `https://graph.microsoft.com/v1.0`.
    pub base: Url,
    pub server: Server,
    pub login: MailLogin,
    /// Whether mail is drafted first, so that its Message-ID can be read back.
    pub read_back: bool,
}

impl GraphOutgoing {
    pub(super) fn needs(&self) -> Vec<Need> {
        let is_shared = graph::is_shared(&self.login);
        let mut needs = vec![match is_shared {
            true => Need::GraphSendShared,
            false => Need::GraphSend,
        }];
        if self.read_back {
            needs.push(graph::need(&self.login));
        }
        needs
    }
}

fn read(section: &Section, place: &OutgoingPlace) -> Option<OutgoingConfig> {
    section.misplaced(
        &["host", "alternate_host", "port", "tls", "hello"],
        "has no meaning for a graph outgoing",
        "remove it; the profile's cloud has one address, and base_url names another",
    );
    let read_back = match section.item("read_back") {
        Some(item) => item.flag(),
        None => Some(true),
    };
    let address_item = section.item("address").map(|item| item.address());
    let profile_item = section.item("profile");
    match (&place.sign_in.way, &profile_item) {
        (Some(Some(CredentialKind::Password(_))), _) => {
            if let Some(item) = section.item("password") {
                item.problem(
                    "is not how Graph is signed in to",
                    "remove it, and add profile = \"NAME\"",
                );
            }
        }
        (Some(None), None) => section.missing(
            "profile",
            "add profile = \"NAME\"; Graph is signed in to by OAuth only",
        ),
        _ => {}
    }
    let profile = place.sign_in.profile.as_deref();
    let base = graph::read_base(section, profile_item.as_ref(), profile, place.facts, "smtp");
    let address = match address_item {
        Some(address) => Some(address?),
        None => place.from.map(|from| from.email.clone()),
    };
    let login = match &place.sign_in.way {
        Some(Some(way @ CredentialKind::Profile(_))) => servers::read_login(
            section,
            way.clone(),
            SignInService::Graph,
            address.as_deref(),
            place.facts,
        ),
        // Known, but without effect until there is a way to sign in.
        _ => {
            section.item("login");
            None
        }
    };
    let base = base?;
    Some(OutgoingConfig::Graph(GraphOutgoing {
        server: graph::server(&base)?,
        base,
        login: login?,
        read_back: read_back?,
    }))
}
