//! Outgoings that use SMTP submission (RFC 6409): their server, EHLO name and sign-in.

use postroom_auth::Provider;
use postroom_net::{TlsMode, is_loopback};

use super::{OutgoingConfig, OutgoingPlace, OutgoingProtocol};
use crate::reader::{Item, Section};
use crate::servers::{self, Ports, ServerProtocol, SignInService};
use crate::{MailLogin, Server};

pub static PROTOCOL: OutgoingProtocol = OutgoingProtocol {
    name: "smtp",
    keys: &["host", "alternate_host", "port", "tls", "hello", "login"],
    read,
    server: Some(&SERVER),
};

pub static SERVER: ServerProtocol = ServerProtocol {
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

/// A submission server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpConfig {
    pub server: Server,
    /// Used while the server cannot be reached; port, TLS and sign-in stay the same.
    pub alternate_host: Option<String>,
    /// The name that EHLO sends.
    pub hello: Option<String>,
    /// `None` for a relay that requires no sign-in.
    pub login: Option<MailLogin>,
}

fn read(section: &Section, place: &OutgoingPlace) -> Option<OutgoingConfig> {
    let server = servers::read_server(
        section,
        &SERVER.ports,
        &place.sign_in,
        place.facts,
        Provider::smtp_host,
    );
    let alternate_host = section
        .item("alternate_host")
        .map(|item| read_alternate(&item, server.as_ref()));
    let hello = section.item("hello").map(|item| item.domain());
    let login = read_login(section, place);
    Some(OutgoingConfig::Smtp(SmtpConfig {
        server: server?,
        alternate_host: alternate_host.map_or(Some(None), |host| host.map(Some))?,
        hello: hello.map_or(Some(None), |name| name.map(Some))?,
        login: login?,
    }))
}

/// Refuses a host that is not a second server, and one that would be contacted without TLS over the network.
fn read_alternate(item: &Item, server: Option<&Server>) -> Option<String> {
    let host = item.host()?;
    let Some(server) = server else {
        return Some(host);
    };
    if host.eq_ignore_ascii_case(&server.host) {
        item.problem(
            "is the same server as host",
            "name another server, or remove it",
        );
        return None;
    }
    if server.tls == TlsMode::None && !is_loopback(&host) {
        item.problem(
            format!("tls = \"none\" would send mail and secrets in clear to {host}"),
            "write tls = \"implicit\" or \"starttls\"; \"none\" is for this machine only (localhost, 127.0.0.1)",
        );
        return None;
    }
    Some(host)
}

/// Reads the login. The outer `None` means that a problem was reported, the inner one that there is no sign-in.
fn read_login(section: &Section, place: &OutgoingPlace) -> Option<Option<MailLogin>> {
    let login_item = section.item("login");
    match (&place.sign_in.way, login_item) {
        (Some(Some(way)), _) => {
            let address = place.from.map(|from| from.email.as_str());
            let service = SignInService::Submission;
            servers::read_login(section, way.clone(), service, address, place.facts).map(Some)
        }
        (Some(None), Some(item)) => {
            item.problem(
                "has nothing to sign in with",
                "add profile = \"NAME\" or password = { env = \"NAME\" }, or remove login",
            );
            None
        }
        (Some(None), None) => Some(None),
        (None, _) => None,
    }
}
