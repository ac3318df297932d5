//! Freshness of mailboxes: one alert for a mailbox that is not checked in time, over kills and restarts.

use std::time::Duration;

use postroom_e2e::{PATIENCE, Room, mail};
use postroom_stand::{Stand, WEBHOOK_SECRET, wait_for};
use serde_json::Value;

const KEY: &str = "postroom/mailbox/support/fresh";
/// Longer than the objectives of these tests, which a restart must not exceed unnoticed.
const TWO_OBJECTIVES: Duration = Duration::from_secs(4);

/// A room with a mailbox whose folder is a file, and one that works. Both must be fresh within two seconds.
fn room() -> Room<'static> {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::bare(stand);
    let url = format!("{}/{}", stand.webhook().url(), room.directory());
    room.write("secret", WEBHOOK_SECRET);
    let mut config = format!(
        "data_dir = \"data\"\n[tenants.acme]\n[sinks.psa]\nkind = \"webhook\"\nurl = {url:?}\nsecret = {{ file = \"secret\" }}\nkinds = [\"alert\"]\n"
    );
    for name in ["support", "alarms"] {
        config += &format!(
            "[mailboxes.{name}]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = {name:?}\nevery = \"1s\"\nfresh = \"2s\"\n"
        );
    }
    room.write("postroom.toml", config);
    room.write("support", "not a folder");
    room
}

/// Returns the kind, key and webhook id of each alert that the sink received.
fn alerts(room: &Room) -> Vec<(String, String, String)> {
    let mine = format!("/{}", room.directory());
    let requests = Stand::shared().unwrap().webhook().received();
    let requests = requests.iter().filter(|it| it.path.ends_with(&mine));
    requests
        .map(|request| {
            assert_eq!(request.signature, Ok(()));
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            assert!(body["data"].get("decision").is_none(), "{body:#}");
            assert!(body["data"].get("message_id").is_none(), "{body:#}");
            assert_eq!(body["data"]["mailbox"], "support");
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let id = request.header("webhook-id").unwrap().to_owned();
            (text(&body["type"]), text(&body["data"]["alert_key"]), id)
        })
        .collect()
}

fn await_alerts(room: &Room, wanted: usize) {
    let come = wait_for(PATIENCE, || alerts(room).len() >= wanted);
    assert!(come, "{:?}\n{}", alerts(room), room.log());
}

#[test]
fn a_mailbox_that_is_not_checked_raises_one_alert_over_restarts_and_resolves_it() {
    let room = room();
    let running = room.start();
    await_alerts(&room, 1);
    let lines = running.lines("ERROR", "mailbox not checked in time; alert raised");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("state=\"refused\""), "{lines:#?}");
    let items = room.items();
    assert_eq!(items.len(), 1, "{items:#?}");
    assert_eq!(items[0]["state"], "firing");
    assert_eq!(items[0]["fields"]["mailbox_state"], "refused");
    running.kill();

    let running = room.start();
    std::thread::sleep(TWO_OBJECTIVES);
    assert_eq!(alerts(&room).len(), 1);
    std::fs::remove_file(room.path().join("support")).unwrap();
    room.write("support/one.eml", mail("late", "first"));
    room.await_decision("late");
    await_alerts(&room, 2);
    assert_eq!(running.stop(), Some(0));

    let told = alerts(&room);
    let kinds: Vec<&str> = told.iter().map(|(kind, ..)| &**kind).collect();
    assert_eq!(kinds, ["alert.firing", "alert.resolved"]);
    assert!(told.iter().all(|(_, key, _)| key == KEY), "{told:?}");
    assert_ne!(told[0].2, told[1].2);
    let rows = room.rows(&["items", "--kind", "alert", "--mailbox", "support"]);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(
        (&rows[0]["state"], &rows[0]["count"]),
        (&"resolved".into(), &2.into())
    );
    let entries = room.rows(&["outbox"]);
    assert!(
        entries.iter().all(|it| it["decision"].is_null()),
        "{entries:#?}"
    );
    // Only the mail counts.
    room.assert_balanced(1);
}

#[test]
fn a_full_outbox_makes_a_mailbox_late() {
    let room = room();
    std::fs::remove_file(room.path().join("support")).unwrap();
    let text = std::fs::read_to_string(room.path().join("postroom.toml")).unwrap();
    // Nobody listens at port 1, so every delivery waits.
    let (config, _) = text.split_once("[sinks.psa]").unwrap();
    let (_, mailboxes) = text.split_once("[mailboxes.support]").unwrap();
    room.write(
        "postroom.toml",
        format!(
            "{config}[limits]\noutbox_entries = 1\n[sinks.psa]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\nsecret = {{ file = \"secret\" }}\n[mailboxes.support]{mailboxes}"
        ),
    );
    room.write("support/one.eml", mail("decided", "first"));
    let running = room.start();
    room.await_decision("decided");
    room.write("support/two.eml", mail("waits", "second"));
    let firing = || {
        let items = room.items();
        let alert = items.iter().find(|it| it["alert_key"] == KEY);
        alert.is_some_and(|it| {
            it["state"] == "firing" && it["fields"]["mailbox_state"] == "outbox-full"
        })
    };
    assert!(wait_for(PATIENCE, firing), "{}", running.log());
    assert_eq!(running.stop(), Some(0));
}
