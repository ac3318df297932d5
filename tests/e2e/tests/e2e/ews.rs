//! Exchange Web Services: mail read, marked and moved at the double, which other people's clients prove (`ews_clients`).

use std::time::{Duration, SystemTime};

use postroom_e2e::{PATIENCE, Room, both, mail};
use postroom_stand::{Ews, EwsFailure, EwsRequest, MAIL_SCOPE, PASSWORD, Stand, wait_for};
use serde_json::Value;

const VARIABLE: &str = "POSTROOM_TEST_EWS_PASSWORD";

/// A room whose mailbox is read by EWS, with `keys` of its own.
pub fn room(keys: &str) -> Room<'static> {
    let stand = Stand::shared().expect("the test stand");
    let mut room = Room::bare(stand);
    room.set_env(VARIABLE, PASSWORD);
    configure(&room, keys);
    room
}

fn configure(room: &Room, keys: &str) {
    let stand = room.stand;
    let profile = match keys.contains("profile =") {
        true => format!(
            "[profiles.app]\nprovider = \"custom\"\ntoken_url = {:?}\nclient_id = {:?}\nclient_secret = {{ env = \"POSTROOM_TEST_CLIENT_SECRET\" }}\nscopes = [{MAIL_SCOPE:?}]\ngrant = \"client-credentials\"\n",
            stand.token_url(&room.directory()),
            stand.client_id(),
        ),
        false => String::new(),
    };
    let after = match keys.contains("after") {
        true => "",
        false => "after = { done = \"move:Processed\", failed = \"move:Failed\" }",
    };
    let import = match keys.contains("import") {
        true => "",
        false => "import = \"all\"",
    };
    room.write(
        "postroom.toml",
        format!(
            "data_dir = \"data\"\n[tls]\nca = {:?}\n{profile}[tenants.acme]\ndomains = [\"acme.example\"]\n[mailboxes.support]\ntenant = \"acme\"\nprotocol = \"ews\"\nurl = {:?}\naddress = {:?}\n{import}\n{after}\n{keys}\nrules = [\"standard\"]\n",
            stand.ca_pem(),
            stand.ews().url(),
            room.user
        ),
    );
}

pub fn by_password(more: &str) -> String {
    format!("password = {{ env = \"{VARIABLE}\" }}\n{more}")
}

fn ews(room: &Room) -> &'static Ews {
    // All rooms of this module are on the shared stand.
    let _ = room;
    Stand::shared().expect("the test stand").ews()
}

fn deliver(room: &Room, subject: &str) {
    ews(room).deliver(&room.user, mail(subject, "…").as_bytes());
}

fn of(room: &Room, operation: &str) -> Vec<EwsRequest> {
    let all = ews(room).requests(&room.user).into_iter();
    all.filter(|request| request.operation == operation)
        .collect()
}

/// Returns the number of mails that were asked for with their content.
fn given(room: &Room) -> usize {
    let requests = of(room, "GetItem").into_iter();
    let with_mime = requests.filter(|it| it.body.contains("IncludeMimeContent"));
    with_mime
        .map(|it| it.body.matches("<t:ItemId").count())
        .sum()
}

fn state(room: &Room) -> String {
    let ledger = room.postroom(&["ledger"]);
    let text = String::from_utf8_lossy(&ledger.stdout).into_owned();
    let line = text.lines().find(|it| it.contains("support is "));
    line.unwrap_or_default().to_owned()
}

#[test]
fn mail_becomes_a_ticket_and_is_moved_to_a_folder_that_is_made() {
    let room = room(&by_password(""));
    let before = SystemTime::now() - Duration::from_secs(3 * 24 * 3600);
    ews(&room).deliver_at(
        &room.user,
        "inbox",
        before,
        mail("from before", "…").as_bytes(),
    );
    deliver(&room, "by Basic");
    room.once();
    assert_eq!(room.decision("by Basic")["outcome"], "ticket");
    assert_eq!(room.decisions().len(), 2);
    assert_eq!(room.items().len(), 2);
    assert_eq!(ews(&room).folder(&room.user, "inbox").len(), 0);
    assert_eq!(ews(&room).folder(&room.user, "Processed").len(), 2);
    room.assert_balanced(2);
    let schemes: Vec<_> = of(&room, "GetItem")
        .into_iter()
        .map(|it| it.scheme)
        .collect();
    assert!(
        schemes.iter().all(|scheme| scheme == "Basic"),
        "{schemes:?}"
    );
}

#[test]
fn a_restart_goes_on_from_the_sync_state_and_fetches_nothing_twice() {
    let room = room(&by_password("after.done = \"keep\""));
    deliver(&room, "first");
    room.once();
    deliver(&room, "second");
    room.once();
    room.once();
    assert_eq!(room.decisions().len(), 2);
    assert_eq!(given(&room), 2);
    let states = of(&room, "SyncFolderItems").into_iter();
    let fresh = states
        .filter(|it| !it.body.contains("<m:SyncState>"))
        .count();
    assert_eq!(fresh, 1);
}

#[test]
fn old_mail_stays_where_it_is_unless_it_is_imported() {
    let room = room(&by_password("import = \"new\""));
    let before = SystemTime::now() - Duration::from_secs(3600);
    let old = mail("old", "…");
    ews(&room).deliver_at(&room.user, "inbox", before, old.as_bytes());
    room.once();
    assert!(room.decisions().is_empty());
    deliver(&room, "new");
    // Old by its date, and new in the folder: somebody moved it there.
    ews(&room).deliver_at(
        &room.user,
        "inbox",
        before,
        mail("moved in", "…").as_bytes(),
    );
    room.once();
    assert_eq!(room.decisions().len(), 2);
    assert_eq!(ews(&room).folder(&room.user, "inbox").len(), 1);
    assert_eq!(given(&room), 2);
}

#[test]
fn a_sync_state_that_the_server_no_longer_takes_neither_floods_nor_loses() {
    let room = room(&by_password(
        "import = \"new\"\nevery = \"1s\"\nafter.done = \"keep\"",
    ));
    let before = SystemTime::now() - Duration::from_secs(3600);
    for number in 0..40 {
        let old = mail(&format!("old {number}"), "…");
        ews(&room).deliver_at(&room.user, "inbox", before, old.as_bytes());
    }
    room.once();
    let running = room.start();
    deliver(&room, "first");
    room.await_decision("first");
    ews(&room).forget_states(&room.user);
    deliver(&room, "second");
    room.await_decision("second");
    running.await_log("no longer takes the stored sync state");
    running.await_log("serving again");
    assert_eq!(running.stop(), Some(0));
    // A restart behind it is no different.
    ews(&room).forget_states(&room.user);
    deliver(&room, "third");
    room.once();
    assert_eq!(room.decisions().len(), 3);
    assert_eq!(given(&room), 3);
    room.assert_balanced(3);
}

#[test]
fn a_busy_server_is_left_alone_for_as_long_as_it_asks() {
    const PAUSE: Duration = Duration::from_secs(4);
    let millis = u64::try_from(PAUSE.as_millis()).unwrap();
    for failure in [
        EwsFailure::Busy {
            back_off_millis: millis,
        },
        EwsFailure::BusyMessage {
            back_off_millis: millis,
        },
        EwsFailure::Status {
            code: 503,
            headers: vec![("Retry-After", PAUSE.as_secs().to_string())],
            body: String::new(),
        },
    ] {
        let room = room(&by_password("every = \"1s\""));
        ews(&room).fail_next(&room.user, Some("SyncFolderItems"), 1, failure.clone());
        deliver(&room, "after the pause");
        let running = room.start();
        room.await_decision("after the pause");
        assert_eq!(running.stop(), Some(0));
        let requests = ews(&room).requests(&room.user);
        let busy = requests
            .iter()
            .position(|it| it.operation == "SyncFolderItems")
            .unwrap();
        let gap = requests[busy + 1]
            .received
            .duration_since(requests[busy].received)
            .unwrap();
        assert!(gap >= PAUSE, "{failure:?}: asked again after {gap:?}");
    }
}

#[test]
fn a_notification_wakes_the_mailbox_long_before_its_poll() {
    let room = room(&by_password("every = \"1h\""));
    let running = room.start();
    let is_subscribed = || !of(&room, "GetStreamingEvents").is_empty();
    assert!(wait_for(PATIENCE, is_subscribed), "{}", running.log());
    deliver(&room, "by notification");
    room.await_decision("by notification");
    // A subscription that the server forgets is made again.
    ews(&room).forget_subscriptions(&room.user);
    assert!(
        wait_for(PATIENCE, || of(&room, "Subscribe").len() >= 2),
        "{}",
        running.log()
    );
    deliver(&room, "by the next one");
    room.await_decision("by the next one");
    assert_eq!(running.stop(), Some(0));
    assert_eq!(ews(&room).subscriptions(&room.user), 0);
}

#[test]
fn without_notifications_the_poll_finds_the_mail() {
    let room = room(&by_password("every = \"1s\""));
    let refusal = EwsFailure::Code("ErrorExceededSubscriptionCount");
    ews(&room).fail_next(&room.user, Some("Subscribe"), 1000, refusal);
    let running = room.start();
    running.await_log("the server sends no notifications");
    deliver(&room, "by the poll");
    room.await_decision("by the poll");
    assert!(!running.log().contains("paused"), "{}", running.log());
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn an_application_acts_as_the_owner_of_the_mailbox() {
    let room = room("profile = \"app\"");
    deliver(&room, "app-only");
    room.once();
    assert_eq!(room.decision("app-only")["outcome"], "ticket");
    let requests = ews(&room).requests(&room.user);
    let by_token = requests
        .iter()
        .all(|it| it.scheme == "Bearer" && it.impersonated.as_deref() == Some(&*room.user));
    assert!(by_token, "{requests:#?}");

    ews(&room).close_to_applications(&room.user);
    let output = room.postroom(&["run", "--once"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        state(&room).contains("ErrorAccessDenied"),
        "{}",
        both(&output)
    );
}

#[test]
fn a_service_user_needs_the_right_to_impersonate_or_full_access() {
    let stand = Stand::shared().expect("the test stand");
    for (keys, grant) in [
        (
            "impersonation = true",
            Ews::let_impersonate as fn(&Ews, &str),
        ),
        ("", |_: &Ews, _: &str| {}),
    ] {
        let mut room = Room::bare(stand);
        room.set_env(VARIABLE, PASSWORD);
        let service = format!("svc-{}", room.user);
        configure(&room, &by_password(&format!("login = {service:?}\n{keys}")));
        deliver(&room, "by the service user");
        let output = room.postroom(&["run", "--once"]);
        assert_eq!(output.status.code(), Some(1), "{}", both(&output));
        assert!(
            state(&room).contains("signed in, but not connected"),
            "{}",
            state(&room)
        );
        grant(stand.ews(), &service);
        stand.ews().share(&service, &room.user);
        room.once();
        assert_eq!(room.decision("by the service user")["outcome"], "ticket");
        assert_eq!(stand.ews().folder(&room.user, "Processed").len(), 1);
    }
}

#[test]
fn mail_is_marked_as_read_although_others_change_it() {
    let room = room(&by_password("after.done = \"seen\""));
    for failure in [EwsFailure::Conflict, EwsFailure::AnswerLost] {
        ews(&room).fail_next(&room.user, Some("UpdateItem"), 1, failure);
    }
    deliver(&room, "marked");
    let running = room.start();
    let is_read = || ews(&room).folder(&room.user, "inbox")[0].is_read;
    assert!(wait_for(PATIENCE, is_read), "{}", running.log());
    assert_eq!(running.stop(), Some(0));
    let updates = of(&room, "UpdateItem");
    assert!(
        updates
            .iter()
            .all(|it| it.body.contains("SuppressReadReceipts=\"true\""))
    );
    assert_eq!(room.decisions().len(), 1);
}

#[test]
fn a_lost_answer_to_a_move_or_a_deletion_is_harmless() {
    for (after, operation) in [("move:Processed", "MoveItem"), ("delete", "DeleteItem")] {
        let room = room(&by_password(&format!("after.done = {after:?}")));
        ews(&room).fail_next(&room.user, Some(operation), 1, EwsFailure::AnswerLost);
        deliver(&room, "once");
        let running = room.start();
        room.await_decision("once");
        assert!(
            wait_for(PATIENCE, || of(&room, operation).len() >= 2),
            "{}",
            running.log()
        );
        assert_eq!(running.stop(), Some(0));
        assert!(ews(&room).folder(&room.user, "inbox").is_empty());
        let moved = ews(&room).folder(&room.user, "Processed").len();
        assert_eq!(moved, usize::from(operation == "MoveItem"));
        room.assert_balanced(1);
    }
}

#[test]
fn a_kill_in_the_middle_of_a_page_loses_nothing_and_repeats_nothing() {
    for point in [
        "before-journal",
        "before-decision",
        "after-commit",
        "after-acknowledge",
    ] {
        let room = room(&by_password(""));
        for number in 0..20 {
            deliver(&room, &format!("mail {number}"));
        }
        room.once_killed_at(point);
        room.once();
        assert_eq!(room.decisions().len(), 20, "{point}");
        assert_eq!(
            ews(&room).folder(&room.user, "Processed").len(),
            20,
            "{point}"
        );
        room.assert_balanced(20);
    }
}

#[test]
fn a_mail_larger_than_stated_comes_whole() {
    let room = room(&by_password(""));
    let large = mail("larger than stated", &"all of it\r\n".repeat(40_000));
    ews(&room).deliver_misstated(&room.user, large.as_bytes(), 10);
    deliver(&room, "behind it");
    room.once();
    assert_eq!(room.decision("larger than stated")["outcome"], "ticket");
    assert_eq!(room.decisions().len(), 2);
}

#[test]
fn a_test_shows_each_step_and_its_trace_no_secret() {
    for (keys, secret, expected) in [
        (
            by_password(""),
            Some(PASSWORD),
            &[
                "connect",
                "tls",
                "authenticate",
                "select",
                "fetch",
                "target",
                "target",
            ][..],
        ),
        (
            "profile = \"app\"".into(),
            None,
            &[
                "connect",
                "tls",
                "token",
                "authenticate",
                "select",
                "fetch",
                "target",
                "target",
            ],
        ),
    ] {
        let room = room(&keys);
        deliver(&room, "the newest one");
        let output = room.postroom(&["mailbox", "test", "support", "--trace", "--json"]);
        assert!(output.status.success(), "{}", both(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let steps: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let names: Vec<_> = steps
            .iter()
            .filter_map(|step| step["step"].as_str())
            .collect();
        assert_eq!(names, expected);
        assert!(text.contains("the newest one"), "{text}");
        assert!(text.contains("POST https://localhost"), "{text}");
        assert!(text.contains("[redacted, "), "{text}");
        let mut secrets = room.stand.authority().secrets().unwrap();
        secrets.extend(secret.map(str::to_owned));
        // Base64 of user and password, as Basic sends it.
        secrets.extend(secret.map(|it| base64_of(&format!("{}:{it}", room.user))));
        for secret in secrets.iter().filter(|it| it.len() >= 8) {
            assert!(!text.contains(secret.as_str()), "{secret} in {text}");
        }
        // A test takes no mail.
        assert_eq!(ews(&room).folder(&room.user, "inbox").len(), 1);
        assert!(ews(&room).folder(&room.user, "Processed").is_empty());
    }
}

#[test]
fn a_test_that_fails_says_what_to_do() {
    for (keys, failure, step, expected) in [
        (
            "password = { env = \"POSTROOM_TEST_HOOK_SECRET\" }",
            None,
            "authenticate",
            "User or password is wrong",
        ),
        (
            "login = \"svc@acme.example\"\nimpersonation = true",
            None,
            "select",
            "ApplicationImpersonation",
        ),
        (
            "folder = \"Nowhere\"",
            None,
            "select",
            "has no folder Nowhere",
        ),
        (
            "",
            Some(EwsFailure::Status {
                code: 302,
                headers: vec![("Location", "https://elsewhere.example/owa".into())],
                body: String::new(),
            }),
            "select",
            "redirects are not followed",
        ),
    ] {
        let keys = match keys.contains("password") {
            true => keys.to_owned(),
            false => by_password(keys),
        };
        let room = room(&keys);
        if let Some(failure) = failure {
            ews(&room).fail_next(&room.user, None, 1, failure);
        }
        let output = room.postroom(&["mailbox", "test", "support", "--json"]);
        assert_eq!(output.status.code(), Some(1), "{}", both(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["step"], step, "{text}");
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

fn base64_of(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}
