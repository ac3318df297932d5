//! Deliveries: several clients, receivers that are down, refused entries, and manual intervention.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postroom_e2e::{PATIENCE, Room, mail};
use postroom_stand::{Stand, WEBHOOK_SECRET, wait_for};
use serde_json::Value;

/// Much shorter than the time a receiver has for its response.
const SOON: Duration = Duration::from_secs(15);

/// Returns a receiver that responds to successive requests with these codes and reports each; it stops responding after the
/// last.
fn receiver(codes: &'static [u16]) -> (String, Receiver<u16>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut codes = codes.iter();
        let mut hanging = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            read_request(&mut stream);
            let code = codes.next().copied().unwrap_or_default();
            if code == 0 {
                hanging.push(stream);
            } else {
                let answer =
                    format!("HTTP/1.1 {code} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).unwrap();
            }
            if tell.send(code).is_err() {
                return;
            }
        }
    });
    (url, told)
}

fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    loop {
        let read = stream.read(&mut part).unwrap();
        request.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(read > 0, "half a head: {text}");
            continue;
        };
        let length = head
            .lines()
            .find_map(|it| it.strip_prefix("content-length:"));
        let length: usize = length.unwrap().trim().parse().unwrap();
        if body.len() >= length || read == 0 {
            return text;
        }
    }
}

#[test]
fn a_receiver_that_hangs_delays_no_other_clients_retry() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let (slow, slow_told) = receiver(&[]);
    let (busy, busy_told) = receiver(&[503, 200]);
    room.write("secret", WEBHOOK_SECRET);
    let mut config = String::from("data_dir = \"data\"\n");
    for (tenant, url) in [("slow", &slow), ("busy", &busy)] {
        config += &format!(
            "[tenants.{tenant}]\n[mailboxes.{tenant}]\ntenant = \"{tenant}\"\nprotocol = \"spool\"\npath = \"spool/{tenant}\"\nevery = \"1s\"\n[sinks.{tenant}]\nkind = \"webhook\"\nurl = {url:?}\nsecret = {{ file = \"secret\" }}\ntenants = [{tenant:?}]\n"
        );
    }
    room.write("postroom.toml", config);
    // More than run at a time.
    for number in 0..6 {
        room.write(
            &format!("spool/slow/{number}.eml"),
            mail(&format!("slow {number}"), "…"),
        );
    }
    let running = room.start();
    for _ in 0..4 {
        assert_eq!(slow_told.recv_timeout(SOON), Ok(0));
    }
    room.write("spool/busy/1.eml", mail("busy", "…"));
    assert_eq!(busy_told.recv_timeout(SOON), Ok(503));
    assert_eq!(busy_told.recv_timeout(SOON), Ok(200));
    drop(running);
}

/// The response of a [`Hook`] to requests whose text contains `about`.
#[derive(Clone)]
struct Answer {
    about: &'static str,
    code: u16,
    retry_after_secs: Option<u64>,
    delay: Duration,
}

/// A receiver that responds as configured, by default with 204, and records its requests.
struct Hook {
    url: String,
    answers: Arc<Mutex<Vec<Answer>>>,
    /// The code of each response, and the request.
    seen: Arc<Mutex<Vec<(u16, String)>>>,
}

impl Hook {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (answers, seen) = (Arc::<Mutex<Vec<Answer>>>::default(), Arc::default());
        let hook = Self {
            url,
            answers: answers.clone(),
            seen: Arc::clone(&seen),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read_request(&mut stream);
                let answers = answers.lock().unwrap().clone();
                let answer = answers.iter().find(|it| request.contains(it.about));
                let code = answer.map_or(204, |it| it.code);
                std::thread::sleep(answer.map_or(Duration::ZERO, |it| it.delay));
                let retry_after = answer.and_then(|it| it.retry_after_secs);
                let retry_after =
                    retry_after.map_or(String::new(), |secs| format!("Retry-After: {secs}\r\n"));
                let length = if code == 204 {
                    ""
                } else {
                    "Content-Length: 0\r\n"
                };
                let head =
                    format!("HTTP/1.1 {code} x\r\n{retry_after}{length}Connection: close\r\n\r\n");
                seen.lock().unwrap().push((code, request));
                let _ = stream.write_all(head.as_bytes());
            }
        });
        hook
    }

    fn answers(&self, about: &'static str, code: u16, retry_after_secs: Option<u64>) {
        *self.answers.lock().unwrap() = vec![Answer {
            about,
            code,
            retry_after_secs,
            delay: Duration::ZERO,
        }];
    }

    fn works(&self) {
        self.answers.lock().unwrap().clear();
    }

    fn asked(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Returns what it accepted, in order.
    fn taken(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let taken = seen.iter().filter(|(code, _)| *code == 204);
        taken.map(|(_, request)| request.clone()).collect()
    }
}

/// Returns a room whose tenants have a spool folder each and share one sink.
fn room(hook: &Hook, tenants: &[&str], limits: &str) -> Room<'static> {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    room.write("secret", WEBHOOK_SECRET);
    let mut config = format!(
        "data_dir = \"data\"\n{limits}\n[sinks.psa]\nkind = \"webhook\"\nurl = {:?}\nsecret = {{ file = \"secret\" }}\n",
        hook.url
    );
    for tenant in tenants {
        config += &format!(
            "[tenants.{tenant}]\n[mailboxes.{tenant}]\ntenant = \"{tenant}\"\nprotocol = \"spool\"\npath = \"spool/{tenant}\"\nevery = \"1s\"\n"
        );
    }
    room.write("postroom.toml", config);
    room
}

fn put(room: &Room, tenant: &str, subject: &str) {
    let file = format!("spool/{tenant}/{}.eml", subject.replace(' ', "-"));
    room.write(&file, mail(subject, "…"));
}

/// Returns the outbox entry about a subject, once it meets a condition.
fn await_entry(room: &Room, subject: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut found = None;
    let is_there = wait_for(PATIENCE, || {
        let output = room.postroom(&["outbox", "--json"]);
        let rows = String::from_utf8_lossy(&output.stdout).into_owned();
        let rows = rows
            .lines()
            .filter_map(|row| serde_json::from_str(row).ok());
        let mut rows = rows.filter(|row: &Value| row["title"] == subject);
        found = rows.next();
        found.as_ref().is_some_and(&wanted)
    });
    assert!(is_there, "{found:#?}\n{}", room.log());
    found.unwrap()
}

/// Tests a receiver, or a proxy in front of it, that refuses everything for a while: no entry is dead, nothing is lost, and
/// the log has a few lines.
fn outage(code: u16) {
    let hook = Hook::start();
    let room = room(&hook, &["acme"], "");
    hook.answers("", code, None);
    for number in 0..30 {
        put(&room, "acme", &format!("mail {number}"));
    }
    let running = room.start();
    running.await_log("target down");
    room.await_decision("mail 29");
    assert!(wait_for(PATIENCE, || hook.asked() > 5), "{}", running.log());
    assert!(room.rows(&["outbox", "--state", "dead"]).is_empty());
    let waiting = room.rows(&["outbox", "--state", "waiting"]);
    assert_eq!(waiting.len(), 30);
    // With a proxy that refuses each item, the first few count.
    let tries: u64 = waiting
        .iter()
        .map(|row| row["attempts"].as_u64().unwrap())
        .sum();
    assert!(tries <= 2, "{waiting:#?}");
    hook.works();
    assert!(
        wait_for(PATIENCE, || hook.taken().len() == 30),
        "{}",
        running.log()
    );
    running.await_log("target works again");
    assert!(wait_for(PATIENCE, || room
        .rows(&["outbox", "--state", "delivered"])
        .len()
        == 30));
    assert_eq!(
        running.lines("WARN", "target down").len(),
        1,
        "{}",
        running.log()
    );
    assert_eq!(running.lines("INFO", "target works again").len(), 1);
    let others = running.lines("WARN", "").len() + running.lines("ERROR", "").len();
    assert!(others <= 3, "{}", running.log());
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_receiver_that_is_down_costs_no_entry_and_a_few_lines() {
    outage(503);
}

#[test]
fn a_proxy_that_answers_400_kills_nothing() {
    outage(400);
}

#[test]
fn a_receiver_that_knows_us_no_more_kills_nothing() {
    outage(403);
}

#[test]
fn a_refused_entry_is_dropped_or_retried_beside_the_running_service() {
    let hook = Hook::start();
    let room = room(&hook, &["acme"], "");
    hook.answers("poison", 422, Some(3_600));
    put(&room, "acme", "poison one");
    put(&room, "acme", "poison two");
    put(&room, "acme", "good");
    let running = room.start();
    let refused = |row: &Value| row["refused"].is_string();
    let one = await_entry(&room, "poison one", refused);
    let two = await_entry(&room, "poison two", refused);
    await_entry(&room, "good", |row| row["state"] == "delivered");
    assert_eq!(one["state"], "waiting");
    assert!(one["error"].as_str().unwrap().contains("422"));
    assert_eq!(
        running.lines("WARN", "entry refused").len(),
        2,
        "{}",
        running.log()
    );
    let people = room.ok(&["outbox", "list"]);
    assert!(
        people.contains("refused") && people.contains("TENANT"),
        "{people}"
    );
    assert!(people.contains(one["ticket"].as_str().unwrap()), "{people}");
    let shown = room.ok(&["outbox", "show", &one["id"].to_string()]);
    assert!(
        shown.contains("poison one") && shown.contains("422"),
        "{shown}"
    );

    let dropped = room.ok(&[
        "outbox",
        "drop",
        &one["id"].to_string(),
        "--reason",
        "typed in by hand",
    ]);
    assert!(dropped.contains("1 entry dropped"), "{dropped}");
    let row = await_entry(&room, "poison one", |row| row["state"] == "dropped");
    assert_eq!(row["dropped_reason"], "typed in by hand");
    assert!(row["dropped_by"].is_string() && row["finished"].is_string());

    // Its own next try is in an hour.
    hook.works();
    room.ok(&["outbox", "retry", &two["id"].to_string()]);
    let row = await_entry(&room, "poison two", |row| row["state"] == "delivered");
    assert_eq!(row["idempotency_key"], two["idempotency_key"]);
    let none = room.ok(&["outbox", "--state", "dead"]);
    assert!(none.contains("no entry is dead"), "{none}");
    let output = room.postroom(&["outbox", "retry", &two["id"].to_string(), "999"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(room.postroom(&["outbox", "retry"]).status.code(), Some(2));
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_target_that_asked_for_a_long_pause_is_tried_at_once_when_a_person_says_so() {
    let hook = Hook::start();
    let room = room(&hook, &["acme"], "");
    hook.answers("", 503, Some(3_600));
    put(&room, "acme", "one");
    put(&room, "acme", "two");
    let running = room.start();
    running.await_log("target down");
    room.await_decision("one");
    room.await_decision("two");
    hook.works();
    room.ok(&["outbox", "retry", "--target", "psa"]);
    assert!(
        wait_for(PATIENCE, || hook.taken().len() == 2),
        "{}",
        running.log()
    );
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_backlog_of_one_client_does_not_come_before_another_clients_mail() {
    let hook = Hook::start();
    let room = room(&hook, &["busy", "quiet"], "");
    hook.answers("", 503, None);
    for number in 0..40 {
        put(&room, "busy", &format!("backlog {number}"));
    }
    let running = room.start();
    running.await_log("target down");
    room.await_decision("backlog 39");
    put(&room, "quiet", "urgent");
    room.await_decision("urgent");
    hook.works();
    assert!(
        wait_for(PATIENCE, || hook.taken().len() == 41),
        "{}",
        running.log()
    );
    let taken = hook.taken();
    let place = taken.iter().position(|it| it.contains("urgent")).unwrap();
    assert!(place < 8, "came as number {place}");
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_client_that_fills_its_share_of_the_outbox_waits_and_others_do_not() {
    let hook = Hook::start();
    let limits = "[limits]\noutbox_entries = 10\nbatch_mails = 1";
    let room = room(&hook, &["busy", "quiet"], limits);
    hook.answers("", 503, None);
    for number in 0..30 {
        put(&room, "busy", &format!("flood {number:02}"));
    }
    let running = room.start();
    running.await_log("outbox share full");
    put(&room, "quiet", "urgent");
    room.await_decision("urgent");
    let decided = room.decisions().len();
    assert!(decided < 20, "{decided}");
    let full = || room.ok(&["ledger"]).contains("outbox-full");
    assert!(wait_for(PATIENCE, full), "{}", room.ok(&["ledger"]));
    assert_eq!(running.lines("WARN", "outbox share full").len(), 1);
    // Nothing is lost: the waiting mail is in the journal.
    hook.works();
    assert!(
        wait_for(PATIENCE, || hook.taken().len() == 31),
        "{}",
        running.log()
    );
    assert!(wait_for(PATIENCE, || !full()));
    assert_eq!(room.decisions().len(), 31);
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn once_lets_a_delivery_under_way_end() {
    let hook = Hook::start();
    let room = room(&hook, &["acme"], "");
    *hook.answers.lock().unwrap() = vec![Answer {
        about: "",
        code: 204,
        retry_after_secs: None,
        // Beyond the time in which `--once` starts deliveries.
        delay: Duration::from_secs(12),
    }];
    put(&room, "acme", "slow");
    room.once();
    let rows = room.rows(&["outbox"]);
    assert_eq!(rows[0]["state"], "delivered", "{rows:#?}");
    assert_eq!(hook.asked(), 1);
}
