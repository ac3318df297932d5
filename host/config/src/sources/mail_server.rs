//! Reads the keys that IMAP and POP3 mailboxes share: the server, the sign-in and the import.

use postroom_auth::Provider;

use super::{Import, Place};
use crate::mailboxes::refuse_foreign;
use crate::reader::{Item, Section};
use crate::servers::{self, ServerProtocol, SignInService};
use crate::{MailLogin, Server};

/// Reads the server, the login, and the mail to import at the first contact. `known_host` selects the provider's host.
pub(super) fn read_at_server(
    section: &Section,
    place: &Place,
    protocol: &'static ServerProtocol,
    known_host: fn(Provider) -> Option<&'static str>,
) -> Option<(Server, MailLogin, Import)> {
    let around = place.around;
    if !place.has_address {
        section.missing(
            "address",
            "add address = \"support@acme.example\", by which its mail arrives",
        );
    }
    let sign_in = servers::read_sign_in(section, around.names);
    if let (Some(Some(_)) | None, Some(profile), Some(tenant)) =
        (&sign_in.way, &sign_in.profile, place.tenant)
        && let Some(item) = section.item("profile")
    {
        refuse_foreign(&item, profile, tenant, around);
    }
    if let Some(None) = sign_in.way {
        section.problem(
            "has neither profile nor password",
            "add profile = \"NAME\", or password = { env = \"NAME\" } where the server still allows it",
        );
    }
    let server = servers::read_server(section, &protocol.ports, &sign_in, around.facts, known_host);
    let login = match sign_in.way {
        Some(Some(way)) => servers::read_login(
            section,
            way,
            SignInService::Mailbox,
            place.address,
            around.facts,
        ),
        // Known, but without effect until there is a way to sign in.
        _ => {
            section.item("login");
            None
        }
    };
    let import = match section.item("import") {
        Some(item) => read_import(&item),
        None => Some(Import::New),
    };
    Some((server?, login?, import?))
}

pub(super) fn read_import(item: &Item) -> Option<Import> {
    let text = item.text()?;
    match text {
        "new" => return Some(Import::New),
        "all" => return Some(Import::All),
        _ => {}
    }
    let since = text
        .strip_prefix("since:")
        .and_then(|date| date.parse().ok());
    if since.is_none() {
        item.problem(
            format!("\"{text}\" is not known"),
            "use \"new\", \"all\" or \"since:2026-01-31\"",
        );
    }
    since.map(Import::Since)
}
