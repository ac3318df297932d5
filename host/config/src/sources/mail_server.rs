//! Reads the keys that mailboxes on a server share: the server, the sign-in, the folder and the import.

use postroom_auth::Provider;

use super::{Import, Place};
use crate::mailboxes::{refuse_foreign, sound_folder};
use crate::reader::{Item, Section};
use crate::servers::{self, CredentialKind, ServerProtocol, SignIn, SignInService};
use crate::{MailLogin, Server};

/// Reads the server, the login, and the mail to import at the first contact. `known_host` selects the provider's host.
pub(super) fn read_at_server(
    section: &Section,
    place: &Place,
    protocol: &'static ServerProtocol,
    known_host: fn(Provider) -> Option<&'static str>,
) -> Option<(Server, MailLogin, Import)> {
    let sign_in = read_sign_in(
        section,
        place,
        "add address = \"support@acme.example\", by which its mail arrives",
        "add profile = \"NAME\", or password = { env = \"NAME\" } where the server still allows it",
    );
    let server = servers::read_server(
        section,
        &protocol.ports,
        &sign_in,
        place.around.facts,
        known_host,
    );
    let login = read_login(section, place, sign_in.way);
    let import = read_import(section);
    Some((server?, login?, import?))
}

/// Reads how to sign in, and reports a missing address or a missing way to sign in with the help for the protocol.
pub(super) fn read_sign_in(
    section: &Section,
    place: &Place,
    address_help: &str,
    sign_in_help: &str,
) -> SignIn {
    let around = place.around;
    if !place.has_address {
        section.missing("address", address_help);
    }
    let sign_in = servers::read_sign_in(section, around.names);
    if let (Some(Some(_)) | None, Some(profile), Some(tenant)) =
        (&sign_in.way, &sign_in.profile, place.tenant)
        && let Some(item) = section.item("profile")
    {
        refuse_foreign(&item, profile, tenant, around);
    }
    if let Some(None) = sign_in.way {
        section.problem("has neither profile nor password", sign_in_help);
    }
    sign_in
}

pub(super) fn read_login(
    section: &Section,
    place: &Place,
    way: Option<Option<CredentialKind>>,
) -> Option<MailLogin> {
    let Some(Some(way)) = way else {
        // Known, but without effect until there is a way to sign in.
        section.item("login");
        return None;
    };
    servers::read_login(
        section,
        way,
        SignInService::Mailbox,
        place.address,
        place.around.facts,
    )
}

/// Reads the folder; without the key it is `inbox`.
pub(super) fn read_folder(section: &Section, inbox: &str) -> Option<String> {
    match section.item("folder") {
        Some(item) => item.text().and_then(|text| sound_folder(&item, text)),
        None => Some(inbox.into()),
    }
}

/// Refuses `folders` for a protocol that reads one folder of a mailbox.
pub(super) fn refuse_folders(section: &Section) {
    section.misplaced(
        &["folders"],
        "is a key of imap mailboxes; by this protocol one folder is read",
        "write folder = \"NAME\", and let the server put all mail into it",
    );
}

/// Reads the mail to import at the first contact; without the key it is new mail.
pub(super) fn read_import(section: &Section) -> Option<Import> {
    match section.item("import") {
        Some(item) => import_of(&item),
        None => Some(Import::New),
    }
}

fn import_of(item: &Item) -> Option<Import> {
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
