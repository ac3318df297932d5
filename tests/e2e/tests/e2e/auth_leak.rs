//! Leak test: runs every grant and its failures with all logging on, and hostile rules, then searches all results for every
//! secret.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postroom_e2e::grants::{ANSWERING, Case, Person, UNKNOWN_SECRET, Walk};
use postroom_e2e::leak::{Needles, forms};
use postroom_e2e::misbehaving::{Fault, Misbehaving};
use postroom_e2e::{PATIENCE, Room, both, mail, mail_from, root};
use postroom_stand::{
    AuthorityFailure, CLIENT_SECRET, DELEGATED_CLIENT_SECRET, Endpoint, GOOGLE_CLIENT_SECRET, Only,
    Options, PASSWORD, Stand, WEBHOOK_SECRET, wait_for,
};

/// The arguments of the listings.
const LISTINGS: &[&[&str]] = &[
    &["auth", "status", "--json"],
    &["auth", "status"],
    &["check", "--json"],
    &["decisions", "--json"],
    &["items", "--json"],
    &["outbox", "--json"],
    &["ledger", "--json"],
    &["quarantine", "list", "--json"],
    &["mailbox", "test", "support", "--trace", "--json"],
    &[
        "mailbox",
        "test",
        "support",
        "--trace",
        "--send-to",
        "dana@acme.example",
    ],
];

#[test]
fn a_planted_secret_is_found_in_every_form() {
    let secret = b"Xq8Q~planted/secret+0123456789=";
    let needles = Needles::new([secret]);
    let log = "2026-11-23T09:05:00Z DEBUG postroom: POST /token\n".repeat(50);
    assert_eq!(needles.found_in(log.as_bytes()), Vec::<String>::new());
    for (form, pattern) in forms(secret) {
        let planted = [log.as_bytes(), &pattern, log.as_bytes()].concat();
        assert_eq!(needles.found_in(&planted).len(), 1, "{form}");
    }
    // As a sign-in sends it, at every alignment.
    for before in ["user=a", "user=ab", "user=abc"] {
        let sasl = format!(
            "{before}\u{1}auth=Bearer {}\u{1}\u{1}",
            String::from_utf8_lossy(secret)
        );
        let planted = format!("AUTHENTICATE XOAUTH2 {}", STANDARD.encode(sasl));
        assert_eq!(needles.found_in(planted.as_bytes()).len(), 1, "{before}");
    }
}

#[test]
fn no_secret_is_in_anything_that_is_left() {
    let stand = Stand::start_with(Options {
        token_lifetime_secs: 6,
        ..Options::default()
    });
    let stand = stand.expect("a stand of its own");
    let cases = Case::all();
    let hostile = Case::named("app-secret");
    let walks: Vec<Walk> = std::thread::scope(|scope| {
        let mut walks = Vec::new();
        for case in &cases {
            walks.push(scope.spawn(|| trouble(loud(Walk::new(case, &stand)))));
        }
        walks.push(scope.spawn(|| dumped(loud(Walk::new(&hostile, &stand)))));
        let joined = walks.into_iter().map(|walk| walk.join().expect("a walk"));
        joined.collect()
    });

    let issued = stand.authority().secrets().expect("the stand's secrets");
    assert!(issued.len() > 5 * cases.len(), "{} secrets", issued.len());
    let mut secrets: Vec<Vec<u8>> = issued.into_iter().map(String::into_bytes).collect();
    let configured = [
        CLIENT_SECRET,
        DELEGATED_CLIENT_SECRET,
        GOOGLE_CLIENT_SECRET,
        UNKNOWN_SECRET,
        PASSWORD,
        WEBHOOK_SECRET,
    ];
    secrets.extend(configured.map(|secret| secret.as_bytes().to_vec()));
    secrets.push(STANDARD.decode(&WEBHOOK_SECRET["whsec_".len()..]).unwrap());
    for walk in &walks {
        let key = std::fs::read_to_string(vault_key(walk)).expect("the vault's key");
        secrets.push(STANDARD.decode(key.trim()).expect("base64"));
        secrets.push(key.trim().into());
    }
    secrets.sort();
    secrets.dedup();
    let needles = Needles::new(&secrets);

    let mut found = Vec::new();
    for walk in &walks {
        // The searched text must be what was written: all logging was on.
        let log = std::fs::read_to_string(walk.room.path().join("output.log")).unwrap();
        assert!(log.contains("TRACE"), "{}: no trace", walk.case.name);
        let but =
            ["certificate.pem", "service-account.json"].map(|name| walk.room.path().join(name));
        let but = [&but[..], &[vault_key(walk)]].concat();
        // A secret is found where it must be.
        let key = std::fs::read(vault_key(walk)).unwrap();
        assert!(!needles.found_in(&key).is_empty());
        let hits = needles.found_below(walk.room.path(), &but).into_iter();
        found.extend(hits.map(|hit| format!("{}: {hit}", walk.case.name)));
    }
    for posted in stand.webhook().received() {
        found.extend(needles.found_in(&posted.body));
    }
    for sent in stand.smtp().received() {
        found.extend(needles.found_in(&sent.data));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn servers_that_quote_a_sign_in_leave_no_secret_behind() {
    const QUOTED: &str = "Xq8Q~quoted/password+0123";
    let stand = Stand::start_with(Options::default()).expect("a stand of its own");
    for way in ["profile = \"acme\"", "password = { env = \"QUOTED\" }"] {
        let imap = Misbehaving::start(Fault::QuotesLogins);
        let smtp = Misbehaving::start(Fault::QuotesSenders);
        let mut room = Room::bare(&stand);
        room.set_env("QUOTED", QUOTED);
        room.set_env("RUST_LOG", "trace");
        let spool = "\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nrules = [\"standard\"]\noutgoing = \"out\"\n";
        let config = room.config(&["standard"], &format!("{spool}{ANSWERING}"));
        let (before, after) = config.split_once("[outgoing.out]").unwrap();
        let (_, sinks) = after.split_once("[sinks.psa]").unwrap();
        let (profiles, mailbox) = before.split_once("[mailboxes.support]").unwrap();
        let mailbox = mailbox
            .replace("host = \"localhost\"", "host = \"127.0.0.1\"")
            .replace(
                &format!("port = {}", stand.ports().imaps),
                &format!("port = {}", imap.port()),
            )
            .replace("\"implicit\"", "\"none\"")
            .replace(
                "profile = \"acme\"",
                &format!("{way}\nprotocol_log = \"1MiB\""),
            );
        room.write(
            "postroom.toml",
            format!(
                "{profiles}[mailboxes.support]{mailbox}[outgoing.out]\nprotocol = \"smtp\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nfrom = \"{}\"\n{way}\n\n[sinks.psa]{sinks}",
                smtp.port(),
                room.user
            ),
        );
        let person = format!("dana.{}", room.user);
        room.write("spool/1.eml", mail_from(&person, "quoted", "…", ""));
        let running = room.start();
        running.await_log("target down; its entries wait");
        assert!(wait_for(PATIENCE, || imap.sign_ins() > 1));
        room.await_decision("quoted");
        for _ in 0..2 {
            // The test fails, with each of the two kinds of quotation.
            room.postroom(&[
                "mailbox",
                "test",
                "support",
                "--trace",
                "--send-to",
                &person,
            ]);
            room.postroom(&["mailbox", "test", "support", "--trace", "--json"]);
            room.postroom(&["mailbox", "test", "drop", "--trace", "--send-to", &person]);
        }
        room.postroom(&["outbox", "--json"]);
        room.postroom(&["outbox"]);
        assert_eq!(running.stop(), Some(0));

        let issued = stand.authority().secrets().expect("the stand's secrets");
        let mut secrets: Vec<Vec<u8>> = issued.into_iter().map(String::into_bytes).collect();
        secrets.push(QUOTED.into());
        secrets.push(format!("\0{}\0{QUOTED}", room.user).into());
        let log = std::fs::read_to_string(room.path().join("output.log")).unwrap();
        assert!(
            log.contains("501 5.5.4 Syntax error: \\\"AUTH ")
                || log.contains("501 5.5.4 Syntax error: \"AUTH "),
            "{log}"
        );
        assert!(log.contains("not an IMAP response: "), "{log}");
        assert!(log.contains("[redacted]"), "{log}");
        let protocol = std::fs::read_to_string(room.path().join("data/logs/support.log")).unwrap();
        assert!(protocol.contains(" C: "), "{protocol}");
        assert!(protocol.contains("[redacted"), "{protocol}");
        let found = Needles::new(&secrets).found_below(room.path(), &[]);
        assert!(found.is_empty(), "{way}: {}", found.join("\n"));
    }
}

/// Returns the case with all logging of every part of the program switched on.
fn loud(mut walk: Walk) -> Walk {
    walk.room.set_env("RUST_LOG", "trace");
    walk.room.set_env("RUST_BACKTRACE", "full");
    walk
}

/// Signs in, carries mail, lists, fails in every way, panics.
fn trouble<'a>(walk: Walk<'a>) -> Walk<'a> {
    walk.sign_in();
    walk.carry("first");
    for listing in LISTINGS {
        let output = walk.room.postroom(listing);
        assert!(output.status.success(), "{listing:?}: {}", both(&output));
    }
    walk.room.deliver(mail("panics", "…"));
    panic_at(&walk, "before-commit");
    walk.room.once();

    walk.outlive_token();
    let large = AuthorityFailure::Large { bytes: 5 << 20 };
    for failure in [
        AuthorityFailure::html(),
        AuthorityFailure::empty(),
        large,
        AuthorityFailure::retry_after(503, 1),
        AuthorityFailure::Echo,
        AuthorityFailure::oauth(400, "invalid_request"),
    ] {
        order(&walk, failure);
        let failed = walk.room.postroom(&["run", "--once"]);
        assert_eq!(failed.status.code(), Some(1), "{}", both(&failed));
    }
    panic_at(&walk, "before-token-stored");
    // A rotated refresh token is lost at this point: the next one is refused permanently.
    walk.room.postroom(&["run", "--once"]);
    for listing in LISTINGS {
        walk.room.postroom(listing);
    }
    if walk.case.person == Person::Nobody {
        walk.room.postroom(&["auth", "login", "acme"]);
    } else {
        walk.sign_in();
    }
    walk.carry("second");
    let running = walk.room.start();
    walk.room.deliver(mail("third", "…"));
    walk.room.await_decision("third");
    assert_eq!(running.stop(), Some(0));
    walk.room.ok(&["auth", "logout", "acme"]);
    walk
}

/// Runs rules that reveal everything they can reach.
fn dumped<'a>(walk: Walk<'a>) -> Walk<'a> {
    let room = &walk.room;
    let core = root().join("target/guests/hostile/dump-all.wasm");
    room.write("rules/dump.wasm", "");
    room.ok(&[
        "plugin",
        "build",
        core.to_str().unwrap(),
        "-o",
        "rules/dump.wasm",
    ]);
    let script = root().join("tests/hostile/scripts/dump-all/rule.js");
    room.write("rules/dump.js", std::fs::read(script).expect("the rule"));
    let config = std::fs::read_to_string(room.path().join("postroom.toml")).unwrap();
    let person = format!("dana.{}", room.user);
    for rule in ["rules/dump.js", "rules/dump.wasm"] {
        let rules = format!("rules = [{rule:?}]");
        let granted = "domains = [\"acme.example\"]\ngrants = [\"kv\"]";
        let config = config
            .replace("rules = [\"standard\"]", &rules)
            .replace("domains = [\"acme.example\"]", granted)
            .replace(
                "[tenants.acme.settings.standard]",
                &format!(
                    "[tenants.acme.settings.{rule:?}]\nkeys = [\"token\", \"secret\", \"vault\"]"
                ),
            );
        room.write("postroom.toml", config);
        room.deliver(mail_from(&person, rule, "…", ""));
        room.once();
        let decision = room.decision(rule);
        assert_eq!(decision["rule"], rule, "{decision:#}");
        let items = room.items();
        let dump = items.last().unwrap()["body"].as_str().unwrap();
        assert!(dump.contains("We have it"), "nothing was dumped: {dump}");
    }
    assert_eq!(room.sent().len(), 2);
    walk
}

/// Orders a failure for the next token request of this case only.
fn order(walk: &Walk, failure: AuthorityFailure) {
    let directory = walk.room.directory();
    let google = walk.case.name == "code-google" || walk.case.name == "service-account";
    let grant = (walk.case.name == "service-account")
        .then_some("urn:ietf:params:oauth:grant-type:jwt-bearer")
        .or((walk.case.name == "code-google").then_some("refresh_token"));
    let only = Only {
        client_id: (walk.case.name == "code-google").then_some(postroom_stand::GOOGLE_CLIENT_ID),
        tenant: (!google).then_some(directory.as_str()),
        grant_type: grant,
    };
    let authority = walk.room.stand.authority();
    let ordered = authority.fail_only(Endpoint::Token, 1, only, failure);
    ordered.expect("ordering a failure");
}

/// Runs `run --once` with a panic at this point.
fn panic_at(walk: &Walk, point: &str) {
    let mut command = walk.room.command(&["run", "--once"]);
    command.env("POSTROOM_CRASH_AT", format!("panic:{point}"));
    let output = command.output().expect("starting postroom");
    walk.room.keep_output(&output);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains(&format!("ordered at {point}")),
        "{}: {point} was not reached: {}",
        walk.case.name,
        both(&output)
    );
}

fn vault_key(walk: &Walk) -> PathBuf {
    walk.room.path().join("config/postroom/vault.key")
}
