//! Mail servers of other makers, and Dovecot without its extensions: the same mail on each of them.

use std::fmt::Write as _;

use postroom_e2e::{PATIENCE, Room, both, mail, mail_from};
use postroom_stand::{
    ImapMaker, ImapServer, PASSWORD, Stand, SubmissionMaker, SubmissionServer, wait_for,
};

/// The variable that holds the mailboxes' password.
const VARIABLE: &str = "INTEROP_PASSWORD";
/// The mailboxes: how each is read, and what happens to its mail.
const MAILBOXES: [(&str, &str, &str); 4] = [
    ("marked", "imap", "seen"),
    ("moved", "imap", "move:Geprüft"),
    ("deleted", "imap", "delete"),
    ("popped", "pop3", "delete"),
];

/// The folder of moved mail, as servers write it (RFC 3501 section 5.1.3).
const TARGET: &str = "Gepr&APw-ft";

/// The extensions of a server that change what Postroom does.
#[derive(Clone, Copy)]
struct Offers {
    moves: bool,
    uidplus: bool,
    idle: bool,
    /// Whether IDLE reports a new mail within seconds.
    is_prompt: bool,
    initial_response: bool,
    /// Whether a mail that is marked as deleted is gone at once.
    expunges_itself: bool,
}

const ALL: Offers = Offers {
    moves: true,
    uidplus: true,
    idle: true,
    is_prompt: true,
    initial_response: true,
    expunges_itself: false,
};

#[test]
fn cyrus() {
    is_served(ImapMaker::Cyrus, ALL);
}

#[test]
fn cyrus_with_folders_below_inbox() {
    is_served(ImapMaker::CyrusBelowInbox, ALL);
}

#[test]
fn courier() {
    let offers = Offers {
        moves: false,
        initial_response: false,
        ..ALL
    };
    is_served(ImapMaker::Courier, offers);
}

#[test]
fn dovecot_without_move() {
    let offers = Offers {
        moves: false,
        ..ALL
    };
    is_served(ImapMaker::DovecotWithout(&["MOVE"]), offers);
}

#[test]
fn dovecot_without_uidplus() {
    let offers = Offers {
        uidplus: false,
        ..ALL
    };
    is_served(ImapMaker::DovecotWithout(&["UIDPLUS"]), offers);
}

#[test]
fn dovecot_without_move_and_uidplus() {
    let offers = Offers {
        moves: false,
        uidplus: false,
        ..ALL
    };
    is_served(ImapMaker::DovecotWithout(&["MOVE", "UIDPLUS"]), offers);
}

#[test]
fn dovecot_without_idle() {
    let offers = Offers {
        idle: false,
        is_prompt: false,
        ..ALL
    };
    is_served(ImapMaker::DovecotWithout(&["IDLE"]), offers);
}

#[test]
fn dovecot_without_sasl_ir() {
    let offers = Offers {
        initial_response: false,
        ..ALL
    };
    is_served(ImapMaker::DovecotWithout(&["SASL-IR"]), offers);
}

#[test]
fn dovecot_with_no_extension() {
    let offers = Offers {
        moves: false,
        uidplus: false,
        idle: false,
        is_prompt: false,
        initial_response: false,
        expunges_itself: false,
    };
    is_served(ImapMaker::BareDovecot, offers);
}

/// A client of EWS that other people wrote: the mail comes from our double of Exchange.
#[test]
fn davmail() {
    let offers = Offers {
        moves: true,
        uidplus: false,
        idle: false,
        is_prompt: false,
        initial_response: false,
        expunges_itself: true,
    };
    is_served(ImapMaker::DavMail, offers);
}

#[test]
fn postfix() {
    takes_mail(SubmissionMaker::Postfix);
}

#[test]
fn exim() {
    takes_mail(SubmissionMaker::Exim);
}

/// Reads four mailboxes of a server while they receive mail, and looks at what is left in them.
fn is_served(maker: ImapMaker, offers: Offers) {
    let mut room = Room::bare(Stand::shared().expect("the test stand"));
    let users: Vec<String> = MAILBOXES
        .iter()
        .map(|(name, ..)| format!("{name}@acme.example"))
        .collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let server = room.stand.imap_server(maker, &users).expect("a server");
    room.set_env(VARIABLE, PASSWORD);
    room.write("postroom.toml", reading(&room, &server, maker, offers));
    for (name, ..) in MAILBOXES {
        deliver(&server, name, "early");
    }

    let running = room.start();
    for (name, ..) in MAILBOXES {
        room.await_decision(&format!("{name} early"));
    }
    // With a prompt IDLE, the server alone can report these in time: the next check is ten minutes away.
    for (name, ..) in MAILBOXES {
        deliver(&server, name, "late");
    }
    for (name, ..) in MAILBOXES {
        room.await_decision(&format!("{name} late"));
    }
    let folder = |name: &str, folder: &str| {
        server
            .folder(&format!("{name}@acme.example"), folder)
            .unwrap()
    };
    // How many mails of a folder are there for a reader: a server without UIDPLUS keeps those that are marked as deleted.
    let shown = |name: &str, of: &str| {
        let mails = folder(name, of).into_iter();
        let kept = mails.filter(|mail| !mail.flags.iter().any(|flag| flag == r"\Deleted"));
        kept.count()
    };
    let is_done = || {
        folder("marked", "INBOX")
            .iter()
            .all(|mail| mail.flags.iter().any(|flag| flag == r"\Seen"))
            && shown("moved", TARGET) == 2
            && ["moved", "deleted", "popped"]
                .iter()
                .all(|name| shown(name, "INBOX") == 0)
    };
    assert!(wait_for(PATIENCE, is_done), "{maker:?}: {}", room.log());
    assert_eq!(shown("marked", "INBOX"), 2);
    // A fast server may have answered everything before the first wait for news.
    let waited = || {
        let log = std::fs::read_to_string(room.path().join("data/logs/deleted.log"));
        log.unwrap_or_default().contains(" NOOP")
    };
    assert!(offers.idle || wait_for(PATIENCE, waited), "{maker:?}");
    assert_eq!(running.stop(), Some(0));
    for trouble in ["ERROR", "WARN"] {
        assert!(!room.log().contains(trouble), "{maker:?}: {}", room.log());
    }

    room.once();
    assert_eq!(room.decisions().len(), 8, "{:#?}", room.decisions());
    room.assert_balanced(8);
    for (name, ..) in MAILBOXES {
        room.ok(&["mailbox", "test", name]);
    }
    uses_what_is_offered(&room, offers);
    let marked_as_deleted = |name| folder(name, "INBOX").len();
    assert_eq!(
        (marked_as_deleted("moved"), marked_as_deleted("deleted")),
        match (offers.uidplus || offers.expunges_itself, offers.moves) {
            (true, _) => (0, 0),
            (false, true) => (0, 2),
            (false, false) => (2, 2),
        }
    );
    assert_eq!(folder("popped", "INBOX").len(), 0);
    // The mail in its new folder is the one that was delivered.
    for mail in folder("moved", TARGET) {
        let text = String::from_utf8_lossy(&mail.bytes);
        assert!(
            text.contains("Tür zu.\r\n.\r\n..gehört dazu."),
            "{}",
            &text[..400]
        );
        assert!(text.trim_end().ends_with("Ende."));
    }
}

fn reading(room: &Room<'_>, server: &ImapServer<'_>, maker: ImapMaker, offers: Offers) -> String {
    let mut config = format!(
        "data_dir = \"data\"\n[tls]\nca = {:?}\n[tenants.acme]\ndomains = [\"acme.example\"]\n",
        room.stand.ca_pem().display().to_string()
    );
    let tls = match maker {
        ImapMaker::DavMail => "none",
        _ => "starttls",
    };
    for (name, protocol, done) in MAILBOXES {
        let (port, every) = match protocol {
            "pop3" => (server.pop3, "1s"),
            _ if offers.is_prompt => (server.imap, "10m"),
            _ => (server.imap, "1s"),
        };
        let _ = write!(
            config,
            r#"
[mailboxes.{name}]
tenant = "acme"
protocol = "{protocol}"
host = "localhost"
port = {port}
tls = "{tls}"
address = "{name}@acme.example"
password = {{ env = "{VARIABLE}" }}
import = "all"
every = "{every}"
after = {{ done = "{done}", failed = "keep" }}
rules = ["standard"]
protocol_log = "4MiB"
"#
        );
    }
    config
}

fn deliver(server: &ImapServer<'_>, name: &str, when: &str) {
    // More than a server sends at once, in lines that SMTP must stuff.
    let lines = match when {
        "early" => 20_000,
        _ => 1,
    };
    let body = format!(
        "Tür zu.\r\n{}Ende.",
        ".\r\n..gehört dazu.\r\n".repeat(lines)
    );
    let mail = mail(&format!("{name} {when}"), &body);
    server
        .deliver(&format!("{name}@acme.example"), &mail)
        .expect("delivering a mail");
}

/// Looks into the protocol logs: an extension is used if the server offers it, and only then.
fn uses_what_is_offered(room: &Room<'_>, offers: Offers) {
    let log = |name: &str| -> Vec<String> {
        let file = room.path().join(format!("data/logs/{name}.log"));
        let text = std::fs::read_to_string(file).unwrap();
        let commands = text.lines().filter(|line| line.contains(" C: "));
        commands.map(str::to_owned).collect()
    };
    let (moved, deleted) = (log("moved"), log("deleted"));
    let has = |log: &[String], words: &str| log.iter().any(|line| line.contains(words));
    for (log, words, expected) in [
        (&moved, " UID MOVE ", offers.moves),
        (&moved, " UID COPY ", !offers.moves),
        (&moved, " UID EXPUNGE ", !offers.moves && offers.uidplus),
        (&deleted, " UID EXPUNGE ", offers.uidplus),
        (&deleted, " UID STORE ", true),
        (&deleted, " IDLE", offers.idle),
        (&deleted, " NOOP", !offers.idle),
        (&deleted, " AUTHENTICATE PLAIN [", offers.initial_response),
    ] {
        assert_eq!(has(log, words), expected, "{words}\n{}", log.join("\n"));
    }
}

/// Sends by a server, and looks at what it stored and refused.
fn takes_mail(maker: SubmissionMaker) {
    let mut room = Room::bare(Stand::shared().expect("the test stand"));
    let server = room.stand.submission_server(maker).expect("a server");
    room.set_env(VARIABLE, PASSWORD);
    room.write("postroom.toml", sending(&room, &server));

    // A reply of the service.
    room.write(
        "spool/1.eml",
        mail_from("jo@outside.example", "Drucker", "Es brennt.", ""),
    );
    room.once();
    let reply = stored(&server, "We have it as T-1.");
    assert!(reply.contains("To: jo@outside.example"), "{reply}");
    assert!(reply.contains("Auto-Submitted: auto-replied"), "{reply}");

    // Text and addresses that are not ASCII, lines with a dot, and one that is longer than SMTP allows.
    let text = format!("Tür zu.\n.\n..\n{}\n", "x".repeat(5000));
    room.write("text", &text);
    let (code, output) = send(&room, &["jörg@outside.example"], "text");
    assert_eq!(code, Some(0), "{output}");
    let mail = stored(&server, "jörg@outside.example");
    assert!(
        mail.contains("T\u{fc}r zu.") || mail.contains("T=C3=BCr zu."),
        "{mail}"
    );

    // Unknown recipients, alone and beside another.
    room.write("short", "Short.");
    let before = server.stored().unwrap().len();
    let (code, output) = send(&room, &["gone@outside.example"], "short");
    assert_eq!(code, Some(3), "{output}");
    assert_eq!(server.stored().unwrap().len(), before);
    let both_of_them = ["gone@outside.example", "ann@outside.example"];
    let (code, output) = send(&room, &both_of_them, "short");
    assert_eq!(code, Some(6), "{output}");
    assert!(output.contains("gone@outside.example"), "{output}");
    stored(&server, "ann@outside.example");

    // More than the server takes: refused before it is sent.
    room.write("long", "All work.\n".repeat(server.size_limit() / 9));
    let (code, output) = send(&room, &["jo@outside.example"], "long");
    assert_eq!(code, Some(3), "{output}");

    room.set_env(VARIABLE, "not-the-password");
    let (code, output) = send(&room, &["jo@outside.example"], "short");
    assert_ne!(code, Some(0), "{output}");
    assert!(!output.contains("not-the-password"), "{output}");
}

fn sending(room: &Room<'_>, server: &SubmissionServer) -> String {
    format!(
        r#"data_dir = "data"
[tls]
ca = {ca:?}
[tenants.acme]
domains = ["outside.example"]
[tenants.acme.settings.standard]
acknowledge = "We have it as {{ticket}}."
[mailboxes.drop]
tenant = "acme"
protocol = "spool"
path = "spool"
rules = ["standard"]
outgoing = "out"
[outgoing.out]
protocol = "smtp"
host = "localhost"
port = {port}
tls = "starttls"
from = "Acme Support <{user}>"
password = {{ env = "{VARIABLE}" }}
"#,
        ca = room.stand.ca_pem().display().to_string(),
        port = server.port,
        user = room.user,
    )
}

/// Runs `postroom send`; returns its exit code and what it printed.
fn send(room: &Room<'_>, to: &[&str], body: &str) -> (Option<i32>, String) {
    let mut args = vec!["send", "--subject", "Prüfung", "--body", body];
    for address in to {
        args.extend(["--to", address]);
    }
    let output = room.postroom(&args);
    (output.status.code(), both(&output))
}

/// Waits for the mail that contains these words.
fn stored(server: &SubmissionServer, words: &str) -> String {
    let mut found = None;
    wait_for(PATIENCE, || {
        let mails = server.stored().unwrap();
        found = mails.into_iter().find(|mail| mail.contains(words));
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("{words:?} is in none of {:#?}", server.stored()))
}
