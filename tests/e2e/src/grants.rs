//! The cases of `tests/cases/grants`: each is a profile that is signed in to by its grant, receives mail and sends replies.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;

use jiff::{Timestamp, ToSpan};
use postroom_stand::{
    CERTIFICATE_CLIENT_ID, CLIENT_ID, CLIENT_SECRET, DELEGATED_CLIENT_ID, DELEGATED_CLIENT_SECRET,
    EndpointRequest, GOOGLE_CLIENT_ID, GOOGLE_CLIENT_SECRET, PASSWORD, PUBLIC_CLIENT_ID, Stand,
    TokenRequest, Wire, wait_for,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{PATIENCE, Room, both, cases, mail_from};

/// A secret that no application has.
pub const UNKNOWN_SECRET: &str = "Qm3T~stand.unknown-secret_5555555555";
/// Settings that make the standard rule reply.
pub const ANSWERING: &str =
    "\n[tenants.acme.settings.standard]\nacknowledge = \"We have it as {ticket}.\"\n";

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    #[serde(skip)]
    pub name: String,
    /// The lines below `[profiles.acme]`, with placeholders.
    #[serde(skip)]
    profile: String,
    /// The purpose of the case, for a reader of a failure.
    pub about: String,
    #[serde(default)]
    pub person: Person,
    pub renewal: Renewal,
    /// Whether each renewal returns a new refresh token.
    #[serde(default = "yes")]
    pub rotates: bool,
    /// Whether the first token request is refused, and the second granted.
    #[serde(default)]
    pub refused_first: bool,
    /// Whether the server reports the user who signed in.
    pub identity: bool,
    /// The scopes shown by `auth status`.
    pub scopes: Vec<String>,
    pub request: Expected,
    /// Parameters of the authorize request.
    #[serde(default)]
    authorize: BTreeMap<String, String>,
}

/// The person who signs in, and how the result is returned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Person {
    #[default]
    Nobody,
    Listener,
    PastedUrl,
    PastedCode,
    Device,
}

/// How an expired token is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Renewal {
    /// With the refresh token.
    Refresh,
    /// With the same request as the first.
    Request,
}

/// The expected form of a token request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    #[serde(default = "v2_path")]
    path: String,
    has: Vec<String>,
    lacks: Vec<String>,
    #[serde(default)]
    basic: bool,
}

/// A case in its own room.
pub struct Walk<'a> {
    pub case: &'a Case,
    pub room: Room<'a>,
    /// The grant, as in the profile.
    pub grant: String,
    port: u16,
}

impl Case {
    /// Returns every case, by name.
    pub fn all() -> Vec<Self> {
        cases("tests/cases/grants").into_iter().map(read).collect()
    }

    /// Returns the case with this name.
    pub fn named(name: &str) -> Self {
        let mut all = Self::all().into_iter();
        all.find(|case| case.name == name)
            .unwrap_or_else(|| panic!("no case {name}"))
    }
}

impl<'a> Walk<'a> {
    /// Writes the configuration, with the standard rule replying to each mail; no request is sent yet.
    pub fn new(case: &'a Case, stand: &'a Stand) -> Self {
        let mut room = Room::bare(stand);
        for (name, value) in [
            ("APP_SECRET", CLIENT_SECRET),
            ("DELEGATED_SECRET", DELEGATED_CLIENT_SECRET),
            ("GOOGLE_SECRET", GOOGLE_CLIENT_SECRET),
            ("UNKNOWN_SECRET", UNKNOWN_SECRET),
            ("USER_PASSWORD", PASSWORD),
        ] {
            room.set_env(name, value);
        }
        let mut walk = Self {
            case,
            room,
            grant: String::new(),
            port: free_port(),
        };
        let profile = walk.filled(&case.profile);
        if profile.contains("certificate.pem") {
            let pem = stand.certificate_pem().expect("a certificate");
            walk.room.write("certificate.pem", pem);
        }
        if profile.contains("service-account.json") {
            let json = stand.service_account_json().expect("a key file");
            walk.room.write("service-account.json", json);
        }
        let table: toml::Table = profile.parse().expect("a profile");
        walk.grant = table["grant"].as_str().expect("a grant").into();
        if let Some(redirect) = table.get("redirect_url").and_then(toml::Value::as_str) {
            let client = table["client_id"].as_str().expect("a client id");
            stand
                .authority()
                .register_redirect(client, redirect)
                .expect("registering a redirect");
        }
        let config = walk.room.config_with(&profile, &["standard"], ANSWERING);
        walk.room.write("postroom.toml", config);
        walk
    }

    /// Returns the text with its placeholders filled in.
    fn filled(&self, text: &str) -> String {
        text.replace("@STAND@", &self.room.stand.authority().issuer())
            .replace("@TENANT@", &self.room.directory())
            .replace("@USER@", &self.room.user)
            .replace("@PORT@", &self.port.to_string())
            .replace("@APP_ID@", CLIENT_ID)
            .replace("@CERTIFICATE_ID@", CERTIFICATE_CLIENT_ID)
            .replace("@PUBLIC_ID@", PUBLIC_CLIENT_ID)
            .replace("@DELEGATED_ID@", DELEGATED_CLIENT_ID)
            .replace("@GOOGLE_ID@", GOOGLE_CLIENT_ID)
    }

    /// Signs a person in, if the grant needs one.
    pub fn sign_in(&self) {
        if self.case.person != Person::Nobody {
            sign_in(&self.room, "acme", self.case.person);
        }
    }

    /// Carries a mail: it arrives by IMAP and becomes a ticket, and the reply is submitted.
    pub fn carry(&self, subject: &str) {
        let (room, name) = (&self.room, &self.case.name);
        let answered = room.sent().len();
        let person = format!("dana.{}", room.user);
        room.deliver(mail_from(&person, subject, "…", ""));
        let run = room.postroom(&["run", "--once"]);
        assert!(run.status.success(), "{name}: {}", both(&run));
        assert_eq!(room.decision(subject)["outcome"], "ticket", "{name}");
        let sent = room.sent();
        assert_eq!(sent.len(), answered + 1, "{name}: {}", both(&run));
        assert_eq!(sent[answered].to, [person], "{name}");
    }

    /// Returns the one row of `auth status --json`.
    pub fn status(&self) -> Value {
        let rows = self.room.rows(&["auth", "status"]);
        assert_eq!(rows.len(), 1, "{rows:#?}");
        rows[0].clone()
    }

    /// Waits until the stored access token has expired, however its expiry was rounded.
    pub fn outlive_token(&self) {
        let ends = timestamp(&self.status()["access_expires"]) + 1.second();
        let over = || Timestamp::now() > ends;
        assert!(wait_for(PATIENCE, over), "a token that lives until {ends}");
    }

    /// Returns this room's token requests, oldest first.
    pub fn requests(&self) -> Vec<TokenRequest> {
        if self.expected_path().starts_with("/google/") {
            let all = self.room.stand.authority().token_requests();
            let mine = |request: &TokenRequest| {
                let by_key = request.form.contains_key("assertion");
                request.path == self.expected_path()
                    && by_key == self.case.request.has.iter().any(|it| it == "assertion")
            };
            return all.expect("asking").into_iter().filter(mine).collect();
        }
        self.room.token_requests()
    }

    /// Checks that the first granted token request, and that of the page, are as the case expects.
    pub fn assert_requests(&self) {
        let (name, expected) = (&self.case.name, &self.case.request);
        let requests = self.requests();
        let refused = requests.iter().take_while(|it| it.status != Some(200));
        assert_eq!(
            refused.filter(|it| !is_pending(it)).count(),
            usize::from(self.case.refused_first),
            "{name}: {requests:#?}"
        );
        let granted = requests.iter().find(|it| it.status == Some(200));
        let granted = granted.unwrap_or_else(|| panic!("{name}: none of {requests:#?}"));
        assert_eq!(granted.path, self.expected_path(), "{name}");
        assert_eq!(granted.basic, expected.basic, "{name}");
        for field in &expected.has {
            assert!(granted.form.contains_key(field), "{name}: no {field}");
        }
        for field in &expected.lacks {
            assert!(!granted.form.contains_key(field), "{name}: {field}");
        }
        if self.case.authorize.is_empty() {
            return;
        }
        let page = self.page_request();
        for (parameter, value) in &self.case.authorize {
            let asked = page.form.get(parameter);
            assert_eq!(asked, Some(&self.filled(value)), "{name}: {parameter}");
        }
    }

    /// Checks that each renewal was requested with the newest refresh token, or by another request like the first.
    pub fn assert_renewed(&self, since: usize) {
        let name = &self.case.name;
        let requests = self.requests();
        let granted: Vec<_> = requests
            .iter()
            .filter(|it| it.status == Some(200))
            .collect();
        assert!(
            requests[since..].iter().any(|it| it.status == Some(200)),
            "{name}: no renewal in {requests:#?}"
        );
        let mut newest = granted[0].refresh_token.clone();
        for request in &granted[1..] {
            match self.case.renewal {
                Renewal::Request => assert_eq!(request.grant_type, granted[0].grant_type, "{name}"),
                Renewal::Refresh => {
                    assert_eq!(request.grant_type, "refresh_token", "{name}");
                    let used = request.form.get("refresh_token");
                    assert_eq!(used, newest.as_ref(), "{name}: not the newest");
                    assert_eq!(request.refresh_token.is_some(), self.case.rotates, "{name}");
                    newest = request.refresh_token.clone().or(newest);
                }
            }
        }
    }

    fn page_request(&self) -> EndpointRequest {
        let all = self.room.stand.authority().authorize_requests();
        let mine = self.room.directory();
        let is_mine = |request: &EndpointRequest| {
            request.tenant == mine || request.form.get("login_hint") == Some(&self.room.user)
        };
        let found = all.expect("asking").into_iter().find(is_mine);
        found.unwrap_or_else(|| panic!("{}: no page was asked for", self.case.name))
    }

    fn expected_path(&self) -> String {
        self.filled(&self.case.request.path)
    }
}

/// Signs the room's user in through a profile, by `auth login` and the stand's pages.
pub fn sign_in(room: &Room, profile: &str, person: Person) {
    let mut session = room.talk(&["auth", "login", profile]);
    if person == Person::Device {
        let code = session.user_code();
        room.stand
            .approve_device(&code, &room.user, PASSWORD)
            .expect("the device page");
    } else {
        let redirect = room
            .stand
            .sign_in_by_http(&session.address(), &room.user, PASSWORD)
            .expect("the sign-in pages");
        match person {
            Person::PastedUrl => session.type_line(&redirect),
            Person::PastedCode => session.type_line(&parameter(&redirect, "code")),
            Person::Listener => {
                let page = follow(&redirect);
                assert!(page.contains("You are signed in"), "{page}");
            }
            Person::Device | Person::Nobody => {}
        }
    }
    let output = session.end();
    assert!(output.status.success(), "{}", both(&output));
}

/// Follows a browser's redirect to this machine, and returns the page.
pub fn follow(redirect: &str) -> String {
    let rest = redirect.strip_prefix("http://localhost:");
    let (port, path) = rest
        .and_then(|rest| rest.split_once('/'))
        .unwrap_or_else(|| panic!("not on this machine: {redirect}"));
    let port = port.parse().expect("a port");
    let answer = Wire::plain(port)
        .and_then(|wire| wire.exchange("GET", &format!("/{path}"), &[], b""))
        .expect("the listener's page");
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// Returns a parameter of a URL's query; none of the stand's needs decoding.
pub fn parameter(address: &str, name: &str) -> String {
    let (_, query) = address.split_once('?').expect("an address with a query");
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs
        .find(|(key, _)| *key == name)
        .unwrap_or_else(|| panic!("no {name} in {address}"));
    value.to_owned()
}

/// Returns a time of a listing.
pub fn timestamp(value: &Value) -> Timestamp {
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}"));
    text.parse().expect("RFC 3339")
}

/// Returns whether this is a poll for a code that nobody had typed yet.
fn is_pending(request: &TokenRequest) -> bool {
    request.form.contains_key("device_code")
}

fn read(folder: PathBuf) -> Case {
    let text = |name: &str| {
        let file = folder.join(name);
        std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
    };
    let case: Result<Case, _> = toml::from_str(&text("case.toml"));
    Case {
        name: folder
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        profile: text("profile.toml"),
        ..case.unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn yes() -> bool {
    true
}

fn v2_path() -> String {
    "/@TENANT@/oauth2/v2.0/token".into()
}
