//! Servers that nobody should talk to, by the whole program: certificates that no client may accept, names without an address, and
//! silence, for each protocol; and a mailbox that is served meanwhile.

use postroom_e2e::{PATIENCE, Room, both, mail};
use postroom_stand::{BadCertificate, CLIENT_ID, Hostile, Hostility, Stand, Then, wait_for};
use serde_json::Value;

/// One part for each protocol, at this host and port: mailboxes `pop3`, `graph` and `ews`, an outgoing `smtp` and a sink `hook`, and
/// the mailbox `token`, whose authorization server is there.
fn parts(room: &Room, host: &str, port: u16) -> String {
    let (stand, user) = (room.stand, &room.user);
    let token_url = stand.token_url(&room.directory());
    format!(
        r#"
[profiles.ms]
provider = "microsoft"
tenant = "{directory}"
token_url = {token_url:?}
client_id = {CLIENT_ID:?}
client_secret = {{ env = "POSTROOM_TEST_CLIENT_SECRET" }}
grant = "client-credentials"

[profiles.elsewhere]
provider = "custom"
token_url = "https://{host}:{port}/token"
client_id = {CLIENT_ID:?}
client_secret = {{ env = "POSTROOM_TEST_CLIENT_SECRET" }}
scopes = ["mail"]
grant = "client-credentials"

[mailboxes.pop3]
tenant = "acme"
protocol = "pop3"
host = "{host}"
port = {port}
tls = "implicit"
address = "pop3.{user}"
password = {{ env = "POSTROOM_TEST_CLIENT_SECRET" }}

[mailboxes.graph]
tenant = "acme"
protocol = "graph"
base_url = "https://{host}:{port}/v1.0"
address = "graph.{user}"
profile = "ms"

[mailboxes.ews]
tenant = "acme"
protocol = "ews"
url = "https://{host}:{port}/EWS/Exchange.asmx"
address = "ews.{user}"
password = {{ env = "POSTROOM_TEST_CLIENT_SECRET" }}

[mailboxes.token]
tenant = "acme"
protocol = "imap"
host = "localhost"
port = {imaps}
tls = "implicit"
address = "token.{user}"
profile = "elsewhere"

[outgoing.smtp]
protocol = "smtp"
host = "{host}"
port = {port}
tls = "implicit"
from = "smtp.{user}"

[sinks.hook]
kind = "webhook"
url = "https://{host}:{port}/hook"
secret = {{ env = "POSTROOM_TEST_HOOK_SECRET" }}
"#,
        directory = room.directory(),
        imaps = stand.ports().imaps,
    )
}

/// Tests a part, which must fail. Returns the step that failed, and its error and advice.
fn failing(room: &Room, part: &str) -> (String, String) {
    let command = match part {
        "smtp" | "hook" => "target",
        _ => "mailbox",
    };
    let output = room.postroom(&[command, "test", part, "--json"]);
    let steps = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = steps
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a JSON line"))
        .find(|step| step["ok"] == false);
    let failed = failed.unwrap_or_else(|| panic!("{part} works: {}", both(&output)));
    let said = format!("{} {}", failed["error"], failed["advice"]);
    (failed["step"].as_str().unwrap_or_default().to_owned(), said)
}

const PARTS: [&str; 6] = ["pop3", "graph", "ews", "smtp", "hook", "token"];

#[test]
fn a_bad_certificate_is_accepted_by_no_protocol() {
    let stand = Stand::shared().expect("the test stand");
    for (certificate, word) in [
        (BadCertificate::WrongName, "not for the name"),
        (BadCertificate::Expired, "has expired"),
        (BadCertificate::SelfSigned, "not signed by an authority"),
    ] {
        let (server, authority) = Hostile::start_tls(certificate).expect("a server");
        let room = Room::bare(stand);
        let own = std::fs::read_to_string(stand.ca_pem()).expect("the stand's CA");
        room.write("ca.pem", own + &authority);
        let ca = format!("ca = {:?}", stand.ca_pem().display().to_string());
        let more = parts(&room, "localhost", server.port());
        let config = room.config(&["standard"], &more);
        assert!(config.contains(&ca), "{config}");
        room.write("postroom.toml", config.replace(&ca, "ca = \"ca.pem\""));
        for part in PARTS {
            let (step, said) = failing(&room, part);
            match part {
                // The connection for a token is no step of its own.
                "token" => {
                    assert_eq!(step, "token", "{said}");
                    assert!(said.contains("certificate"), "{said}");
                }
                _ => {
                    assert_eq!(step, "tls", "{part}: {said}");
                    assert!(said.contains(word), "{part}: {said}");
                }
            }
        }
        assert!(server.connections() >= PARTS.len());
        assert_eq!(server.sent(), 0, "a client spoke after the handshake");
    }
}

#[test]
fn a_name_without_an_address_is_said_by_every_protocol() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::bare(stand);
    let more = parts(&room, "nowhere.invalid", 4433);
    room.write("postroom.toml", room.config(&["standard"], &more));
    for part in PARTS {
        let (step, said) = failing(&room, part);
        match part {
            "token" => assert_eq!(step, "token", "{said}"),
            _ => {
                assert_eq!(step, "connect", "{part}: {said}");
                assert!(said.contains("has no known address"), "{part}: {said}");
            }
        }
    }
}

/// While every other server is silent, floods or drips, the honest mailbox is served, and stopping takes no longer than its limit.
#[test]
fn hostile_servers_delay_no_other_mailbox() {
    let stand = Stand::shared().expect("the test stand");
    for (name, hostility) in [
        ("silence", Hostility::new("", Then::Stall)),
        (
            "a drip",
            Hostility::new("", Then::Drip(b"+OK 220".to_vec())),
        ),
        ("a flood", Hostility::new("", Then::Flood(b"\0".to_vec()))),
    ] {
        let server = Hostile::start(hostility).expect("a server");
        let room = Room::bare(stand);
        let more = parts(&room, "localhost", server.port());
        room.write("postroom.toml", room.config(&["standard"], &more));
        room.deliver(mail("first", "help"));
        let running = room.start();
        assert_eq!(room.await_decision("first")["outcome"], "ticket");
        assert!(
            wait_for(PATIENCE, || server.connections() >= 3),
            "{name}: {}",
            room.log()
        );
        // What is over at once has a state and is retried; the others wait for their time limits.
        if name == "a flood" {
            for mailbox in ["pop3", "graph", "ews"] {
                let has_state = || {
                    let log = room.log();
                    let mut lines = log.lines();
                    lines.any(|line| {
                        line.contains(&format!("mailbox={mailbox}")) && line.contains("state=")
                    })
                };
                assert!(wait_for(PATIENCE, has_state), "{mailbox}: {}", room.log());
            }
        }
        room.deliver(mail("second", "help"));
        assert_eq!(room.await_decision("second")["outcome"], "ticket");
        assert!(
            wait_for(PATIENCE, || room.posted_once() >= 2),
            "{name}: {}",
            room.log()
        );
        assert_eq!(running.stop(), Some(0), "{name}");
    }
}
