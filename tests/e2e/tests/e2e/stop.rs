//! A stop of the service: what it waits for, for how long, and what it leaves. What a line of the log is within.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use postroom_e2e::{PATIENCE, Room, interrupt, mail};
use postroom_stand::{Stand, wait_for};

/// A receiver of webhooks that answers nothing before it may.
struct SlowReceiver {
    port: u16,
    requests: Arc<AtomicUsize>,
    may_answer: Arc<AtomicBool>,
}

impl SlowReceiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, may_answer) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (seen, may) = (requests.clone(), may_answer.clone());
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let (seen, may) = (seen.clone(), may.clone());
                std::thread::spawn(move || {
                    let mut bytes = [0; 16 * 1024];
                    if client.read(&mut bytes).is_ok_and(|read| read > 0) {
                        seen.fetch_add(1, Ordering::Relaxed);
                        while !may.load(Ordering::Relaxed) {
                            std::thread::sleep(Duration::from_millis(20));
                        }
                        let answer =
                            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                        let _ = client.write_all(answer.as_bytes());
                    }
                });
            }
        });
        Self {
            port,
            requests,
            may_answer,
        }
    }

    /// A room with a spool whose tickets go here.
    fn room(&self, limits: &str) -> Room<'static> {
        let room = Room::bare(Stand::shared().expect("the test stand"));
        let config = format!(
            r#"data_dir = "data"
[tenants.acme]
[mailboxes.support]
tenant = "acme"
protocol = "spool"
path = "spool"
rules = ["standard"]
[sinks.psa]
kind = "webhook"
url = "http://127.0.0.1:{}/"
secret = {{ env = "POSTROOM_TEST_HOOK_SECRET" }}
{limits}"#,
            self.port
        );
        room.write("postroom.toml", config);
        room.write("spool/one.eml", mail("one", "…"));
        room
    }

    fn await_request(&self) {
        assert!(wait_for(PATIENCE, || self.requests.load(Ordering::Relaxed) > 0));
    }
}

fn outbox_state(room: &Room) -> String {
    let rows = room.rows(&["outbox"]);
    rows[0]["state"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_stop_names_the_delivery_that_it_waits_for_and_ends_with_it() {
    let receiver = SlowReceiver::start();
    let room = receiver.room("");
    let running = room.start_with(&[("RUST_LOG", "postroom=debug")]);
    receiver.await_request();
    interrupt(running.pid());
    running.await_log(r#"draining parts=["deliveries psa"]"#);
    receiver.may_answer.store(true, Ordering::Relaxed);
    running.await_log("entry delivered");
    assert_eq!(running.end(), Some(0));
    assert_eq!(outbox_state(&room), "delivered");
    assert!(!room.log().contains("drain limit reached"));

    // Every line has its context, and no field twice.
    let log = room.log();
    let decided = log.lines().find(|line| line.contains("mail decided"));
    let decided = decided.unwrap_or_else(|| panic!("{log}"));
    for field in [
        " tenant=acme",
        " mailbox=support",
        " mail=1",
        " outcome=\"ticket\"",
    ] {
        assert!(decided.contains(field), "{field}: {decided}");
    }
    for line in log.lines() {
        for name in ["tenant", "mailbox", "mail", "target", "entry", "part"] {
            let field = format!(" {name}=");
            assert!(line.matches(&field).count() < 2, "{field}: {line}");
        }
    }
}

#[test]
fn a_stop_leaves_at_its_limit_what_hangs_and_the_next_start_resumes_it() {
    let receiver = SlowReceiver::start();
    let room = receiver.room("[limits]\ndrain = \"1s\"\n");
    let running = room.start();
    receiver.await_request();
    assert_eq!(running.stop(), Some(0));
    let log = room.log();
    let left = log
        .lines()
        .find(|line| line.contains("drain limit reached"));
    assert!(
        left.is_some_and(|line| line.contains(r#"parts=["deliveries psa"]"#)),
        "{log}"
    );
    assert_eq!(outbox_state(&room), "waiting");

    receiver.may_answer.store(true, Ordering::Relaxed);
    room.once();
    assert_eq!(outbox_state(&room), "delivered");
    room.assert_balanced(1);
}

#[test]
fn a_single_run_that_is_stopped_leaves_at_its_limit_what_hangs() {
    let receiver = SlowReceiver::start();
    let room = receiver.room("[limits]\ndrain = \"1s\"\n");
    let mut command = room.command(&["run", "--once"]);
    let mut run = command.stderr(Stdio::null()).spawn().unwrap();
    receiver.await_request();
    interrupt(run.id());
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert_eq!(outbox_state(&room), "waiting");
    room.assert_balanced(1);
}
