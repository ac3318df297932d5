//! Token failures while the service runs: reported once with help, nothing lost, and resumed without intervention.

use std::fmt::Write as _;
use std::time::Duration;

use postroom_e2e::grants::{ANSWERING, Person, sign_in};
use postroom_e2e::misbehaving::{Fault, Misbehaving};
use postroom_e2e::{PATIENCE, Room, mail_from};
use postroom_stand::{
    AuthorityFailure, CLIENT_ID, Endpoint, Only, PUBLIC_CLIENT_ID, Stand, wait_for,
};

/// Long enough for a loop to repeat several times.
const A_WHILE: Duration = Duration::from_secs(4);

fn shared() -> &'static Stand {
    Stand::shared().expect("the test stand")
}

/// Returns the addresses of a room's three mailboxes; the first is its user's own.
fn addresses(room: &Room) -> [String; 3] {
    let user = &room.user;
    [
        user.clone(),
        format!("second.{user}"),
        format!("third.{user}"),
    ]
}

/// Returns a room with three mailboxes on one account, and a folder of mails whose replies are sent through it as well.
fn three_on_one_account<'a>(stand: &'a Stand, profile: &str) -> Room<'a> {
    let room = Room::bare(stand);
    let [user, shared @ ..] = addresses(&room);
    let mut more = String::new();
    let login = match profile.contains("client-credentials") {
        true => String::new(),
        false => format!("login = \"{user}\"\n"),
    };
    for (name, address) in ["second", "third"].into_iter().zip(&shared) {
        stand.authority().share(&user, address).expect("sharing");
        let _ = write!(
            more,
            r#"
[mailboxes.{name}]
tenant = "acme"
protocol = "imap"
host = "localhost"
port = {port}
tls = "implicit"
address = "{address}"
{login}profile = "acme"
import = "all"
after = {{ done = "move:Processed", failed = "move:Failed" }}
rules = ["standard"]
outgoing = "out"
"#,
            port = stand.ports().imaps
        );
    }
    more.push_str("\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nrules = [\"standard\"]\noutgoing = \"out\"\n");
    more.push_str(ANSWERING);
    let profile = profile
        .replace("@DIRECTORY@", &room.directory())
        .replace("@STAND@", &stand.authority().issuer());
    room.write(
        "postroom.toml",
        room.config_with(&profile, &["standard"], &more),
    );
    room
}

fn delegated() -> String {
    format!(
        r#"provider = "microsoft"
tenant = "@DIRECTORY@"
authorize_url = "@STAND@/@DIRECTORY@/oauth2/v2.0/authorize"
token_url = "@STAND@/@DIRECTORY@/oauth2/v2.0/token"
client_id = "{PUBLIC_CLIENT_ID}"
grant = "authorization-code""#
    )
}

fn app_only() -> String {
    format!(
        r#"provider = "microsoft"
tenant = "@DIRECTORY@"
token_url = "@STAND@/@DIRECTORY@/oauth2/v2.0/token"
client_id = "{CLIENT_ID}"
client_secret = {{ env = "POSTROOM_TEST_CLIENT_SECRET" }}
grant = "client-credentials""#
    )
}

/// Delivers one mail to each mailbox, named after the stage of the test.
fn deliver_to_all(room: &Room, when: &str) {
    for (number, address) in addresses(room).iter().enumerate() {
        let subject = format!("{when} {number}");
        let mail = mail_from(&format!("dana.{}", room.user), &subject, "…", "");
        room.stand.deliver(address, mail.as_bytes()).expect("LMTP");
    }
}

fn await_all(room: &Room, when: &str) {
    for number in 0..3 {
        room.await_decision(&format!("{when} {number}"));
    }
}

fn kick_all(room: &Room) {
    for address in addresses(room) {
        room.stand.kick(&address).expect("kicking");
    }
}

/// Orders failures for the next token requests of this room only.
fn fail(room: &Room, count: usize, failure: AuthorityFailure) {
    let directory = room.directory();
    let only = Only {
        tenant: Some(&directory),
        ..Only::default()
    };
    let authority = room.stand.authority();
    authority
        .fail_only(Endpoint::Token, count, only, failure)
        .expect("ordering a failure");
}

#[test]
fn a_revoked_sign_in_pauses_its_mailboxes_until_somebody_signs_in() {
    let room = three_on_one_account(shared(), &delegated());
    sign_in(&room, "acme", Person::Listener);
    let running = room.start();
    deliver_to_all(&room, "before");
    await_all(&room, "before");
    assert!(wait_for(PATIENCE, || room.sent().len() == 3));
    let asked = room.token_requests().len();

    room.stand.authority().revoke_user(&room.user).unwrap();
    kick_all(&room);
    running.await_log("ERROR");
    // A reply made meanwhile waits, and no try is counted.
    let held = mail_from(&format!("dana.{}", room.user), "held", "…", "");
    room.write("spool/held.eml", held);
    room.await_decision("held");
    deliver_to_all(&room, "meanwhile");
    let once_more = || room.token_requests().len() > asked + 1;
    assert!(!wait_for(A_WHILE, once_more), "{}", running.log());
    assert_eq!(room.token_requests().len(), asked + 1);
    let errors = running.lines("ERROR", "");
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(
        errors[0].contains("postroom auth login acme") && errors[0].contains("50173"),
        "{}",
        errors[0]
    );
    let outbox = room.rows(&["outbox", "--state", "waiting"]);
    assert_eq!(outbox.len(), 1, "{outbox:#?}");
    assert_eq!(outbox[0]["attempts"], 0, "{outbox:#?}");
    let reason = outbox[0]["error"].as_str().unwrap();
    assert!(reason.contains("50173"), "{outbox:#?}");
    let status = room.postroom(&["auth", "status"]);
    assert_eq!(status.status.code(), Some(1));

    sign_in(&room, "acme", Person::Listener);
    await_all(&room, "meanwhile");
    // The held-back one does not wait for its next check.
    assert!(
        wait_for(Duration::from_secs(20), || room.sent().len() == 7),
        "{}",
        running.log()
    );
    let recoveries = running.lines("INFO", "access token acquired");
    assert_eq!(recoveries.len(), 1, "{}", running.log());
    assert_eq!(running.lines("ERROR", "").len(), 1, "{}", running.log());
    assert_eq!(running.stop(), Some(0));
    assert_eq!(room.decisions().len(), 7);
    room.assert_balanced(7);
}

#[test]
fn a_busy_server_is_given_the_time_it_asks_for() {
    let room = three_on_one_account(shared(), &app_only());
    fail(&room, 1, AuthorityFailure::retry_after(503, 3));
    deliver_to_all(&room, "patience");
    let running = room.start();
    await_all(&room, "patience");
    let requests = room.token_requests();
    assert_eq!(requests.len(), 2, "{requests:#?}");
    let waited = requests[1].time_ms - requests[0].time_ms;
    assert!(waited >= 3000, "only {waited} ms");
    assert_eq!(running.lines("WARN", "no access token; retrying").len(), 1);
    assert_eq!(running.lines("INFO", "access token acquired").len(), 1);
    assert!(running.lines("ERROR", "").is_empty(), "{}", running.log());
}

#[test]
fn a_server_that_takes_us_for_a_loop_is_left_alone() {
    let room = three_on_one_account(shared(), &app_only());
    fail(
        &room,
        100,
        AuthorityFailure::microsoft(400, "invalid_request", 50196),
    );
    let running = room.start();
    running.await_log("50196");
    assert!(!wait_for(A_WHILE, || room.token_requests().len() > 1));
    assert_eq!(running.lines("ERROR", "50196").len(), 1);
}

#[test]
fn a_token_that_dies_under_a_session_is_replaced_and_one_that_cannot_be_checked_is_kept() {
    let stand = Stand::start().expect("a stand of its own");
    let room = three_on_one_account(&stand, &app_only());
    let running = room.start();
    deliver_to_all(&room, "before");
    await_all(&room, "before");
    assert_eq!(room.token_requests().len(), 1);

    stand.authority().revoke_access_tokens().unwrap();
    kick_all(&room);
    deliver_to_all(&room, "revoked");
    await_all(&room, "revoked");
    assert_eq!(room.token_requests().len(), 2);

    // Dovecot responds [UNAVAILABLE], which says nothing about the token.
    let ill = AuthorityFailure::status(500, "");
    stand.authority().fail_introspection(4, ill).unwrap();
    kick_all(&room);
    deliver_to_all(&room, "unchecked");
    await_all(&room, "unchecked");
    assert_eq!(room.token_requests().len(), 2, "{}", running.log());
    assert!(wait_for(PATIENCE, || room.sent().len() == 9));
    assert_eq!(running.stop(), Some(0));
    room.assert_balanced(9);
}

/// Returns a room with a mailbox that signs in with a password, on a server that misbehaves.
fn password_mailbox<'a>(stand: &'a Stand, server: &Misbehaving) -> Room<'a> {
    let mut room = Room::bare(stand);
    room.set_env("MAILBOX_PASSWORD", "a-password-of-old");
    let port = server.port();
    room.write(
        "postroom.toml",
        format!(
            r#"data_dir = "data"

[tenants.acme]
domains = ["acme.example"]

[mailboxes.support]
tenant = "acme"
protocol = "imap"
host = "127.0.0.1"
port = {port}
tls = "none"
address = "{user}"
password = {{ env = "MAILBOX_PASSWORD" }}
every = "1s"
rules = ["standard"]
"#,
            user = room.user
        ),
    );
    room
}

#[test]
fn a_server_that_ends_each_session_is_told_of_once_and_asked_less_and_less() {
    let server = Misbehaving::start(Fault::EndsSessions);
    let room = password_mailbox(shared(), &server);
    let running = room.start();
    running.await_log("unsteady");
    assert!(
        !wait_for(2 * A_WHILE, || server.sign_ins() > 6),
        "{} sign-ins\n{}",
        server.sign_ins(),
        running.log()
    );
    assert_eq!(running.lines("INFO", "connection lost").len(), 1);
    let errors = running.lines("ERROR", "");
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(running.lines("INFO", "serving again").is_empty());
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_refused_password_is_not_tried_until_the_account_is_locked() {
    let server = Misbehaving::start(Fault::RefusesLogins);
    let room = password_mailbox(shared(), &server);
    let running = room.start();
    running.await_log("refused");
    assert!(!wait_for(A_WHILE, || server.sign_ins() > 1));
    let errors = running.lines("ERROR", "");
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn an_account_that_works_again_wakes_no_mailbox_of_another() {
    let mut room = Room::bare(shared());
    room.set_env("RUST_LOG", "info,postroom=debug");
    let (well, ill) = (room.directory(), format!("ill.{}", room.directory()));
    let server = Misbehaving::start(Fault::EndsSessions);
    let port = server.port();
    let mut config = String::from("data_dir = \"data\"\n");
    let _ = write!(
        config,
        "[tls]\nca = {:?}\n[tenants.acme]\ndomains = [\"acme.example\"]\n",
        room.stand.ca_pem().display().to_string()
    );
    for (name, directory) in [("well", &well), ("ill", &ill)] {
        let profile = app_only()
            .replace("@DIRECTORY@", directory)
            .replace("@STAND@", &room.stand.authority().issuer());
        let _ = write!(
            config,
            r#"
[profiles.{name}]
{profile}

[mailboxes.{name}]
tenant = "acme"
protocol = "imap"
host = "127.0.0.1"
port = {port}
tls = "none"
address = "{name}.{user}"
profile = "{name}"
rules = ["standard"]
"#,
            user = room.user
        );
    }
    room.write("postroom.toml", config);
    fail(&room, 1, AuthorityFailure::retry_after(503, 3));
    let only = Only {
        tenant: Some(&ill),
        ..Only::default()
    };
    let refused = AuthorityFailure::microsoft(401, "invalid_client", 7_000_222);
    let authority = room.stand.authority();
    authority
        .fail_only(Endpoint::Token, 100, only, refused)
        .expect("ordering a failure");
    let running = room.start();
    running.await_log("access token acquired");
    assert!(wait_for(PATIENCE, || server.sign_ins() > 0));
    let looks = || running.lines("DEBUG", "mailbox=ill").len();
    assert!(!wait_for(A_WHILE, || looks() > 1), "{}", running.log());
    assert_eq!(looks(), 1, "{}", running.log());
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_way_out_that_lets_nobody_in_holds_the_replies_and_is_told_of_once() {
    let server = Misbehaving::start(Fault::RefusesSenders);
    let room = Room::bare(shared());
    let profile = app_only()
        .replace("@DIRECTORY@", &room.directory())
        .replace("@STAND@", &room.stand.authority().issuer());
    let spool = "\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nrules = [\"standard\"]\noutgoing = \"out\"\n";
    let config = room.config_with(&profile, &["standard"], &format!("{spool}{ANSWERING}"));
    let (before, after) = config.split_once("[outgoing.out]").unwrap();
    let (_, sinks) = after.split_once("[sinks.psa]").unwrap();
    room.write(
        "postroom.toml",
        format!(
            "{before}[outgoing.out]\nprotocol = \"smtp\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nfrom = \"{}\"\nprofile = \"acme\"\n\n[sinks.psa]{sinks}",
            server.port(),
            room.user
        ),
    );
    for number in 0..5 {
        let person = format!("dana{number}.{}", room.user);
        let mail = mail_from(&person, &format!("reply {number}"), "…", "");
        room.write(&format!("spool/{number}.eml"), mail);
    }
    let running = room.start();
    running.await_log("target down");
    room.await_decision("reply 4");
    // A refused token is replaced once; then there is one sign-in per pause, however many replies wait.
    assert!(
        !wait_for(A_WHILE, || server.sign_ins() > 5),
        "{}",
        running.log()
    );
    assert_eq!(running.lines("ERROR", "").len(), 1, "{}", running.log());
    assert!(running.lines("WARN", "target").is_empty());
    let waiting: Vec<_> = room
        .rows(&["outbox", "--state", "waiting"])
        .into_iter()
        .filter(|row| row["kind"] == "mail")
        .collect();
    assert_eq!(waiting.len(), 5, "{waiting:#?}");
    assert!(waiting.iter().all(|row| row["attempts"] == 0));
    assert!(waiting.iter().any(|row| {
        let reason = row["error"].as_str();
        reason.is_some_and(|reason| reason.contains("may not sign in"))
    }));

    server.mend();
    assert!(
        wait_for(PATIENCE, || server.mails() == 5),
        "{}",
        running.log()
    );
    running.await_log("target works again");
    assert_eq!(running.stop(), Some(0));
}
