//! Which account a command line names, and the error if it names none.

use std::ffi::OsString;

use super::*;

const CONFIG: &str = r#"
[profiles.app]
provider = "microsoft"
tenant = "contoso.example"
client_id = "app"
client_secret = { env = "SECRET" }
grant = "client-credentials"

[profiles.person]
provider = "microsoft"
tenant = "contoso.example"
client_id = "person"
grant = "device-code"

[profiles.team]
provider = "microsoft"
tenant = "contoso.example"
client_id = "team"
grant = "device-code"

[profiles.idle]
provider = "microsoft"
tenant = "contoso.example"
client_id = "idle"
grant = "device-code"

[tenants.acme]

[mailboxes.by-app]
tenant = "acme"
protocol = "imap"
address = "app@acme.example"
profile = "app"

[mailboxes.by-person]
tenant = "acme"
protocol = "imap"
address = "shared@acme.example"
login = "eva@acme.example"
profile = "person"

[mailboxes.first]
tenant = "acme"
protocol = "imap"
address = "first@acme.example"
profile = "team"

[mailboxes.second]
tenant = "acme"
protocol = "imap"
address = "second@acme.example"
profile = "team"

[mailboxes.old]
tenant = "acme"
protocol = "imap"
host = "imap.acme.example"
address = "old@acme.example"
password = { env = "SECRET" }

[mailboxes.drop]
tenant = "acme"
protocol = "spool"
path = "spool"
"#;

fn config() -> Config {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("postroom.toml");
    std::fs::write(&file, CONFIG).unwrap();
    Config::load_with(&file, &|name| match name {
        "HOME" => Some(OsString::from("/home/postroom")),
        "SECRET" => Some(OsString::from("hunter2")),
        _ => None,
    })
    .unwrap()
}

#[test]
fn a_command_line_names_one_account_or_is_told_which_there_are() {
    let config = config();
    for (target, login, expected) in [
        ("app", None, Ok("app")),
        ("by-app", None, Ok("app")),
        ("person", None, Ok("person as eva@acme.example")),
        ("by-person", None, Ok("person as eva@acme.example")),
        (
            "person",
            Some("Eva@ACME.example"),
            Ok("person as eva@acme.example"),
        ),
        (
            "team",
            Some("second@acme.example"),
            Ok("team as second@acme.example"),
        ),
        ("first", None, Ok("team as first@acme.example")),
        (
            "team",
            None,
            Err(
                "profile team has several logins; name one of them:\n  postroom auth login team --as first@acme.example\n  postroom auth login team --as second@acme.example",
            ),
        ),
        (
            "person",
            Some("shared@acme.example"),
            Err(
                "profile person has no login shared@acme.example; name one of them:\n  postroom auth login person --as eva@acme.example",
            ),
        ),
        (
            "app",
            Some("eva@acme.example"),
            Err("profile app signs in as itself (client-credentials): omit --as eva@acme.example"),
        ),
        (
            "first",
            Some("eva@acme.example"),
            Err(
                "mailbox first signs in with team as first@acme.example: omit --as eva@acme.example",
            ),
        ),
        (
            "idle",
            None,
            Err("no mailbox and no outgoing uses profile idle: add profile = \"idle\" to one"),
        ),
        (
            "old",
            None,
            Err("mailbox old signs in with a password, not with OAuth: it needs no sign-in"),
        ),
        (
            "drop",
            None,
            Err("mailbox drop is a folder on this machine: there is no sign-in"),
        ),
        (
            "persn",
            None,
            Err(
                "no profile and no mailbox is named persn (known: app, person, team, idle, by-app, by-person, first, second, old, drop); did you mean `person`?",
            ),
        ),
        (
            "xyzzy-42",
            None,
            Err(
                "no profile and no mailbox is named xyzzy-42 (known: app, person, team, idle, by-app, by-person, first, second, old, drop)",
            ),
        ),
    ] {
        let who = Who {
            target: target.into(),
            login: login.map(str::to_owned),
        };
        let found = account_of(&config, &who);
        let found = found
            .map(|account| account.to_string())
            .map_err(|error| error.to_string());
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(found, expected, "{target} {login:?}");
    }
}

#[test]
fn a_servers_words_cannot_move_the_cursor() {
    assert_eq!(harmless("a\u{1b}[2Jb\r\nc"), "a [2Jb  c");
}
