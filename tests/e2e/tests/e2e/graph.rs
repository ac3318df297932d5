//! Mailboxes at Microsoft Graph, by the double of the stand: read, restarted, throttled, shared, and kept apart.

use std::sync::OnceLock;

use postroom_e2e::{PATIENCE, Room, both, mail};
use postroom_stand::{
    CLIENT_ID, GraphFailure, GraphRequest, NO_MAILBOX, PASSWORD, PUBLIC_CLIENT_ID, Stand, wait_for,
};

/// Returns a room whose mailbox is at Graph, opened by an application. `more` is appended to the mailbox's table.
pub fn at_graph<'a>(stand: &'a Stand, more: &str) -> Room<'a> {
    let room = Room::bare(stand);
    let profile = format!(
        r#"provider = "microsoft"
tenant = {tenant:?}
token_url = {token_url:?}
client_id = {CLIENT_ID:?}
client_secret = {{ env = "POSTROOM_TEST_CLIENT_SECRET" }}
grant = "client-credentials""#,
        tenant = room.directory(),
        token_url = stand.token_url(&room.directory()),
    );
    write_config(&room, &profile, more);
    room
}

fn write_config(room: &Room, profile: &str, more: &str) {
    let stand = room.stand;
    let imap = format!(
        "protocol = \"imap\"\nhost = \"localhost\"\nport = {}\ntls = \"implicit\"\n",
        stand.ports().imaps
    );
    let graph = format!(
        "protocol = \"graph\"\nbase_url = {:?}\n{more}",
        stand.graph().base_url()
    );
    let config = room.config_with(profile, &["standard"], "");
    assert!(config.contains(&imap), "{config}");
    room.write("postroom.toml", config.replace(&imap, &graph));
}

fn count(requests: &[GraphRequest], part: &str) -> usize {
    requests.iter().filter(|it| it.path.contains(part)).count()
}

fn subjects(room: &Room, folder: &str) -> Vec<String> {
    let mails = room.stand.graph().folder(&room.user, folder);
    mails.iter().map(|mail| mail.subject()).collect()
}

#[test]
fn a_mail_becomes_a_ticket_and_is_moved_with_its_category() {
    let stand = Stand::shared().expect("the test stand");
    let graph = stand.graph();
    let room = at_graph(stand, "");
    let id = graph.deliver(&room.user, mail("printer on fire", "help"));
    graph.categorize(&room.user, &id, "Red");
    for number in 0..30 {
        graph.deliver(&room.user, mail(&format!("many {number}"), "help"));
    }
    room.once();
    assert_eq!(room.decisions().len(), 31);
    assert_eq!(room.items().len(), 31);
    room.assert_balanced(31);
    assert!(subjects(&room, "inbox").is_empty());
    let moved = graph.folder(&room.user, "Processed");
    assert_eq!(moved.len(), 31);
    let first = moved
        .iter()
        .find(|mail| mail.id == id)
        .expect("the same id");
    assert_eq!(first.categories, ["Red"]);
    let requests = graph.requests_of(&room.user);
    assert_eq!(count(&requests, "$value"), 31);
    assert!(requests.iter().all(|it| it.status < 300), "{requests:?}");
    assert!(graph.most_at_a_time(&room.user) <= 4);
}

#[test]
fn a_restart_goes_on_from_the_delta_link() {
    let stand = Stand::shared().expect("the test stand");
    let graph = stand.graph();
    let room = at_graph(stand, "");
    graph.deliver(&room.user, mail("first", "help"));
    room.once();
    let before = graph.requests_of(&room.user).len();
    graph.deliver(&room.user, mail("second", "help"));
    room.once();
    assert_eq!(room.decisions().len(), 2);
    let requests = graph.requests_of(&room.user).split_off(before);
    let deltas = requests.iter().filter(|it| it.path.ends_with("/delta"));
    for delta in deltas {
        assert!(
            delta.query.iter().any(|(name, _)| name == "$deltatoken"),
            "{delta:?}"
        );
    }
    assert_eq!(count(&requests, "$value"), 1);
}

#[test]
fn a_killed_import_is_taken_up_where_it_was() {
    let stand = Stand::shared().expect("the test stand");
    let graph = stand.graph();
    let room = at_graph(stand, "");
    for number in 0..250 {
        graph.deliver(&room.user, mail(&format!("mail {number}"), "help"));
    }
    room.once_killed_at("after-commit");
    room.once_killed_at("before-acknowledge");
    room.once();
    assert_eq!(room.decisions().len(), 250);
    assert_eq!(room.items().len(), 250);
    room.assert_balanced(250);
    assert!(subjects(&room, "inbox").is_empty());
}

#[test]
fn a_lost_place_brings_known_mail_not_again_and_loses_none() {
    let stand = Stand::start().expect("a stand of its own");
    let graph = stand.graph();
    let room = at_graph(&stand, "");
    let keep = std::fs::read_to_string(room.path().join("postroom.toml")).unwrap();
    let keep = keep
        .replace("done = \"move:Processed\"", "done = \"keep\"")
        .replace("import = \"all\"", "import = \"new\"");
    room.write("postroom.toml", keep);
    let long_ago = "2020-11-30T10:00:00Z".parse().unwrap();
    for number in 0..40 {
        let mail = mail(&format!("old {number}"), "help");
        graph.deliver_dated(&room.user, "inbox", long_ago, mail);
    }
    room.once();
    assert!(room.decisions().is_empty());
    for number in 0..20 {
        graph.deliver(&room.user, mail(&format!("new {number}"), "help"));
    }
    room.once();
    assert_eq!(room.decisions().len(), 20);
    let before = graph.requests_of(&room.user).len();
    graph.forget_places();
    graph.deliver(&room.user, mail("meanwhile", "help"));
    room.once();
    assert_eq!(room.decisions().len(), 21);
    assert_eq!(room.items().len(), 21);
    let requests = graph.requests_of(&room.user).split_off(before);
    assert_eq!(requests.iter().filter(|it| it.status == 410).count(), 1);
    assert_eq!(count(&requests, "$value"), 1);
}

#[test]
fn a_throttled_mailbox_waits_as_long_as_it_is_told() {
    let stand = Stand::shared().expect("the test stand");
    let graph = stand.graph();
    let room = at_graph(stand, "");
    graph.deliver(&room.user, mail("first", "help"));
    let moment = GraphFailure::Throttled {
        retry_after_secs: 1,
    };
    graph.fail_next_of(&room.user, 2, moment);
    room.once();
    assert_eq!(room.decisions().len(), 1);

    let hour = GraphFailure::Throttled {
        retry_after_secs: 3600,
    };
    graph.fail_next_of(&room.user, 1, hour);
    let before = graph.requests_of(&room.user).len();
    let running = room.start();
    running.await_log("the server's limit is reached");
    // The hour, and up to ten seconds by which mailboxes that were throttled together come back apart.
    running.await_log("retry_secs=36");
    assert_eq!(graph.requests_of(&room.user).len(), before + 1);
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_server_in_trouble_and_a_dropped_connection_cost_no_mail() {
    let stand = Stand::shared().expect("the test stand");
    let graph = stand.graph();
    let room = at_graph(stand, "");
    graph.deliver(&room.user, mail("first", "help"));
    let trouble = GraphFailure::Status {
        status: 502,
        code: "UnknownError",
    };
    graph.fail_next_of(&room.user, 1, trouble);
    graph.fail_next_of(&room.user, 1, GraphFailure::Drop);
    let running = room.start();
    room.await_decision("first");
    assert!(wait_for(PATIENCE, || subjects(&room, "Processed") == ["first"]));
    assert_eq!(running.stop(), Some(0));
}

/// A profile by whose password grant a person signs in.
fn person(room: &Room, login: &str) -> String {
    format!(
        r#"provider = "microsoft"
tenant = {tenant:?}
token_url = {token_url:?}
client_id = {PUBLIC_CLIENT_ID:?}
grant = "password"
username = {login:?}
password = {{ env = "PERSON_PASSWORD" }}"#,
        tenant = room.directory(),
        token_url = room.stand.token_url(&room.directory()),
    )
}

#[test]
fn a_shared_mailbox_is_opened_with_its_users_token_and_the_own_one_as_me() {
    let stand = Stand::shared().expect("the test stand");
    let graph = stand.graph();
    let mut room = Room::bare(stand);
    room.set_env("PERSON_PASSWORD", PASSWORD);
    let login = format!("person-of-{}", room.user);
    write_config(&room, &person(&room, &login), "");
    graph.deliver(&room.user, mail("shared", "help"));
    // Not yet shared.
    let output = room.postroom(&["mailbox", "test", "support"]);
    assert_eq!(output.status.code(), Some(1));
    let said = both(&output);
    for words in [
        "403 ErrorAccessDenied",
        "has no access to",
        "Add-MailboxPermission",
        "Mail.ReadWrite.Shared",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    graph.share(&login, &room.user);
    room.once();
    assert_eq!(room.decision("shared")["subject"], "shared");
    let requests = graph.requests_of(&room.user);
    assert!(requests.iter().all(|it| it.path.starts_with("/users/")));
    let tokens = room.token_requests();
    let scopes = tokens.iter().filter_map(|it| it.form.get("scope"));
    let graph_scopes: Vec<_> = scopes.filter(|it| it.contains("graph")).collect();
    assert!(!graph_scopes.is_empty());
    for scope in graph_scopes {
        assert!(scope.contains("/Mail.ReadWrite.Shared"), "{scope}");
        assert!(!scope.contains("Mail.Send"), "{scope}");
    }

    let mut own = Room::bare(stand);
    own.set_env("PERSON_PASSWORD", PASSWORD);
    write_config(&own, &person(&own, &own.user), "");
    graph.deliver(&own.user, mail("own", "help"));
    own.once();
    assert_eq!(own.decision("own")["subject"], "own");
    let requests = graph.requests_of(&own.user);
    assert!(requests.iter().all(|it| it.path.starts_with("/me/")));
}

/// A stand whose application is restricted by tests, and nobody else's.
fn restricted() -> &'static Stand {
    static STAND: OnceLock<Stand> = OnceLock::new();
    STAND.get_or_init(|| Stand::start().expect("a stand of its own"))
}

#[test]
fn a_mailbox_that_must_not_open_is_tried_and_one_that_is_not_covered_says_how() {
    let stand = restricted();
    let graph = stand.graph();
    let room = at_graph(stand, "");
    graph.deliver(&room.user, mail("newest of all", "help"));
    let ceo = "ceo@acme.example";

    // Every mailbox opens.
    let output = room.postroom(&["mailbox", "test", "support", "--must-not-open", ceo]);
    let said = both(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in [
        "FAIL must-not-open",
        "ceo@acme.example opens with the account of this mailbox",
        "Permissions add up",
        "\"newest of all\"",
        "Processed is missing, and would be created",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }

    graph.cover(CLIENT_ID, &[&room.user]);
    let said = room.ok(&["mailbox", "test", "support", "--must-not-open", ceo]);
    assert!(said.contains("ok   must-not-open"), "{said}");
    let steps = room.rows(&["mailbox", "test", "support", "--must-not-open", ceo]);
    let names: Vec<_> = steps
        .iter()
        .filter_map(|step| step["step"].as_str())
        .collect();
    let expected = [
        "connect",
        "tls",
        "token",
        "authenticate",
        "select",
        "fetch",
        "target",
        "target",
        "must-not-open",
    ];
    assert_eq!(names[..9], expected, "{steps:?}");

    // One that nobody has is no proof.
    graph.cover(CLIENT_ID, &[&room.user, NO_MAILBOX]);
    let output = room.postroom(&["mailbox", "test", "support", "--must-not-open", NO_MAILBOX]);
    let said = both(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("it is not known whether"), "{said}");

    graph.cover(CLIENT_ID, &[]);
    let output = room.postroom(&[
        "mailbox",
        "test",
        "support",
        "--trace",
        "--must-not-open",
        ceo,
    ]);
    let said = both(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in [
        "no access to the mailbox",
        "New-ManagementRoleAssignment",
        "Application Mail.ReadWrite",
        "New-ApplicationAccessPolicy",
        "ceo@acme.example was not tried",
        "-> HTTP 403 Forbidden",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let secrets = stand.authority().secrets().unwrap();
    assert!(secrets.iter().all(|secret| !said.contains(secret.as_str())));
}
