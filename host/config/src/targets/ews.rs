//! Outgoings that use Exchange Web Services: their URL, sign-in, mailbox and impersonation.

use postroom_auth::Provider;

use super::{OutgoingConfig, OutgoingPlace, OutgoingProtocol};
use crate::profiles::Signer;
use crate::reader::Section;
use crate::servers::{self, SignInService};
use crate::sources::ews;
use crate::{EwsAddress, MailLogin};

pub static PROTOCOL: OutgoingProtocol = OutgoingProtocol {
    name: "ews",
    keys: &["url", "host", "address", "login", "impersonation"],
    read,
    server: Some(&ews::SERVER),
};

/// Sending from a mailbox of an Exchange server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EwsOutgoing {
    pub address: EwsAddress,
    pub login: MailLogin,
    /// The address of the mailbox that sends.
    pub mailbox: String,
    /// Whether the user who signs in acts as its owner.
    pub impersonation: bool,
}

fn read(section: &Section, place: &OutgoingPlace) -> Option<OutgoingConfig> {
    section.misplaced(
        &["port", "tls", "alternate_host", "hello"],
        "is no key of EWS outgoings",
        "write the port in the url, such as url = \"https://mail.example:8443/EWS/Exchange.asmx\"",
    );
    let sign_in = &place.sign_in;
    if let Some(None) = sign_in.way {
        section.problem(
            "has neither profile nor password",
            "add password = { env = \"NAME\" } for an Exchange server of your own, or profile = \"NAME\"",
        );
    }
    let facts = sign_in.profile.as_ref().and_then(|it| place.facts.get(it));
    let provider = facts.and_then(|it| it.provider);
    let address = ews::read_address(section, sign_in, provider);
    let is_application = facts.is_some_and(|it| it.signer == Some(Signer::Application));
    let impersonation = ews::read_impersonation(section, is_application);
    let mailbox_item = section.item("address").map(|item| item.address());
    if provider == Some(Provider::Google)
        && let Some(item) = section.item("profile")
    {
        item.problem(
            "is a Google profile, and Gmail has no EWS",
            "use protocol = \"smtp\" for Gmail",
        );
        return None;
    }
    let is_online = address
        .as_ref()
        .is_some_and(|address| ews::is_exchange_online(&address.server.host));
    if is_online {
        if sign_in.profile.is_none()
            && let Some(item) = section.item("password")
        {
            item.problem(
                "is a password, and Exchange Online takes none for EWS",
                "sign in by OAuth: profile = \"NAME\"",
            );
            return None;
        }
        if let Some(item) = section.item("protocol") {
            let (off, retired) = (ews::OFF_BY_DEFAULT, ews::RETIRED);
            item.warning(
                format!("\"ews\" is off by default at Exchange Online since {off}, and ends there on {retired}"),
                "send by Microsoft Graph: protocol = \"graph\", with the permissions Mail.Send and Mail.ReadWrite; the other keys stay",
            );
        }
    }
    let mailbox = match mailbox_item {
        Some(address) => Some(address?),
        None => place.from.map(|from| from.email.clone()),
    };
    let login = match &sign_in.way {
        Some(Some(way)) => servers::read_login(
            section,
            way.clone(),
            SignInService::Mailbox,
            mailbox.as_deref(),
            place.facts,
        ),
        // Known, but without effect until there is a way to sign in.
        _ => {
            section.item("login");
            None
        }
    };
    Some(OutgoingConfig::Ews(EwsOutgoing {
        address: address?,
        login: ews::for_ews(login?),
        mailbox: mailbox?,
        impersonation: impersonation?,
    }))
}
