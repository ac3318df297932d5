//! A scripted server: does what real ones rarely do, and what no honest one does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postroom_auth::Secret;
use postroom_core::{Position, RawMessage};
use postroom_stand::Hostility;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::After;
use crate::memory_journal::MemoryJournal;

mod bounds;
mod deleting;
mod hostile;
mod known;
mod probe;
mod sign_in;
mod trouble;

/// The server's reaction to a line.
enum Act {
    Say(String),
    /// Sends this and hangs up.
    SayAndClose(String),
    /// Sends this one byte at a time.
    Trickle(String),
    Hush,
    /// Does this, whatever the command.
    Play(Hostility),
    /// Replies like an ordinary server with three mails.
    Usual,
}

fn say(text: &str) -> Act {
    Act::Say(format!("{text}\r\n"))
}

struct Server {
    port: u16,
    commands: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Starts a server. `script` is called for each line a client sends, with the number of its connection.
    async fn start(script: impl FnMut(usize, &str) -> Act + Send + 'static) -> Self {
        Self::greeting("+OK ready\r\n", script).await
    }

    async fn greeting(
        greeting: &'static str,
        script: impl FnMut(usize, &str) -> Act + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let commands = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(script));
        let seen = commands.clone();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let task = tokio::spawn(async move {
            let mut sessions = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
                let (script, seen) = (script.clone(), seen.clone());
                sessions.spawn(async move {
                    let (read, mut write) = stream.into_split();
                    let _ = write.write_all(greeting.as_bytes()).await;
                    let mut lines = BufReader::new(read).lines();
                    while let Ok(Some(line)) = lines.next_line().await {
                        seen.lock().unwrap().push(line.clone());
                        let act = (script.lock().unwrap())(number, &line);
                        let (text, close) = match act {
                            Act::Say(text) => (text, false),
                            Act::SayAndClose(text) => (text, true),
                            Act::Usual => (usual(&line), false),
                            Act::Hush => continue,
                            Act::Play(hostility) => {
                                let read = lines.into_inner().into_inner();
                                let stream = read.reunite(write).unwrap().into_std().unwrap();
                                // It ends when the client goes away.
                                std::thread::spawn(move || hostility.play(stream));
                                return;
                            }
                            Act::Trickle(text) => {
                                for byte in text.bytes() {
                                    if write.write_all(&[byte]).await.is_err() {
                                        return;
                                    }
                                    tokio::time::sleep(STALL / 4).await;
                                }
                                continue;
                            }
                        };
                        if write.write_all(text.as_bytes()).await.is_err() || close {
                            return;
                        }
                    }
                });
            }
        });
        Self {
            port,
            commands,
            connections,
            task,
        }
    }

    fn source(&self) -> Pop3Source {
        self.source_as(Login::Password {
            user: "u@example".into(),
            password: Secret::new("pw"),
        })
    }

    fn source_as(&self, login: Login) -> Pop3Source {
        pop3(self.settings(), login, tls())
    }

    fn settings(&self) -> Pop3Settings {
        Pop3Settings {
            name: "box".into(),
            host: "127.0.0.1".into(),
            port: self.port,
            tls: TlsMode::None,
            import: Import::All,
            every: Duration::ZERO,
            proxies: postroom_net::Proxies::default(),
            timeouts: Pop3Timeouts {
                connect: Duration::from_secs(5),
                stall: STALL,
                command: Duration::from_secs(5),
                quit: Duration::from_millis(200),
            },
        }
    }

    /// Returns the commands after the sign-in, from all sessions.
    fn commands(&self) -> Vec<String> {
        let commands = self.commands.lock().unwrap();
        let is_sign_in = |line: &str| {
            ["CAPA", "USER", "PASS", "AUTH"]
                .iter()
                .any(|word| line.starts_with(word))
        };
        let kept = commands.iter().filter(|line| !is_sign_in(line));
        kept.cloned().collect()
    }

    fn count_of(&self, command: &str) -> usize {
        let commands = self.commands();
        commands.iter().filter(|line| *line == command).count()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Replies like a server with three mails: `a`, `b` and `c`.
fn usual(command: &str) -> String {
    let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
    match word {
        "CAPA" => "+OK\r\nUSER\r\nTOP\r\nUIDL\r\n.\r\n".into(),
        "STAT" => "+OK 3 120\r\n".into(),
        "UIDL" if rest.is_empty() => listing(&["a", "b", "c"]),
        "UIDL" => format!("+OK {rest} x\r\n"),
        "LIST" if rest.is_empty() => listing(&["40", "40", "40"]),
        "LIST" => format!("+OK {rest} 40\r\n"),
        "RETR" => mail(rest),
        "TOP" => mail(rest.split(' ').next().unwrap()),
        _ => "+OK\r\n".into(),
    }
}

/// Returns the reply to UIDL or LIST.
fn listing(values: &[&str]) -> String {
    let lines = values.iter().zip(1..);
    let lines: String = lines
        .map(|(value, number)| format!("{number} {value}\r\n"))
        .collect();
    format!("+OK\r\n{lines}.\r\n")
}

fn mail(subject: &str) -> String {
    given(&format!("Subject: {subject}\r\n\r\nhelp\r\n"))
}

/// Returns the reply to RETR or TOP.
fn given(mail: &str) -> String {
    format!("+OK\r\n{mail}.\r\n")
}

fn tls() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Arc::new(
        rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth(),
    )
}

const STALL: Duration = Duration::from_millis(500);

/// Returns the unique ids of a batch.
fn uids(batch: &Batch) -> Vec<String> {
    let uid = |mail: &RawMessage| uid_of(&mail.position);
    batch.messages.iter().map(uid).collect()
}

fn uid_of(position: &Position) -> String {
    let place: serde_json::Value = serde_json::from_str(position.on_server().unwrap()).unwrap();
    place["uid"].as_str().unwrap().to_owned()
}

fn ack(uid: &str, after: After) -> Acknowledge {
    Acknowledge {
        position: progress::position("u@example@127.0.0.1", uid),
        after,
    }
}

/// Returns the unique ids that a journal holds, in order.
fn held_uids(journal: &MemoryJournal) -> Vec<String> {
    let mut uids: Vec<String> = journal.positions().iter().map(uid_of).collect();
    uids.sort();
    uids
}

/// Fetches until there is no more, and returns the unique ids.
async fn drain(
    source: &mut Pop3Source,
    journal: &MemoryJournal,
    cursor: &mut Option<Cursor>,
) -> Vec<RawMessage> {
    let mut mails = Vec::new();
    loop {
        let batch = source
            .fetch(cursor.as_ref(), &FetchLimits::default())
            .await
            .unwrap();
        *cursor = journal.take(&batch);
        mails.extend(batch.messages);
        if !batch.more {
            return mails;
        }
    }
}

#[tokio::test]
async fn a_check_is_one_session() {
    let server = Server::start(|_, _| Act::Usual).await;
    let mut source = server.source();
    let limits = FetchLimits {
        batch_mails: 2,
        ..FetchLimits::default()
    };
    source.connect().await.unwrap();
    let first = source.fetch(None, &limits).await.unwrap();
    assert_eq!(
        (uids(&first), first.more),
        (vec!["a".into(), "b".into()], true)
    );
    assert_eq!(&first.messages[0].bytes[..], b"Subject: 1\r\n\r\nhelp\r\n");
    let second = source.fetch(first.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!((uids(&second), second.more), (vec!["c".into()], false));
    let third = source.fetch(second.cursor.as_ref(), &limits).await.unwrap();
    assert!(third.messages.is_empty() && third.cursor == second.cursor && !third.more);
    source.wait(Duration::ZERO).await.unwrap();
    assert_eq!(
        server.commands(),
        ["STAT", "UIDL", "LIST", "RETR 1", "RETR 2", "RETR 3", "QUIT"]
    );
    assert_eq!(server.connections(), 1);
    // The next check requests nothing that is known.
    let fourth = source.fetch(third.cursor.as_ref(), &limits).await.unwrap();
    assert!(fourth.messages.is_empty() && !fourth.more);
    assert_eq!(server.commands()[7..], ["STAT", "UIDL", "LIST"]);
}

#[tokio::test]
async fn between_two_checks_no_server_is_dialled() {
    let server = Server::start(|_, _| Act::Usual).await;
    let settings = Pop3Settings {
        every: Duration::from_secs(3600),
        ..server.settings()
    };
    let login = Login::Password {
        user: "u@example".into(),
        password: Secret::new("pw"),
    };
    let mut source = pop3(settings, login, tls());
    let limits = FetchLimits::default();
    let mut cursor = source.fetch(None, &limits).await.unwrap().cursor;
    for _ in 0..3 {
        // This happens, for example, when mail waits for its tenant's budget.
        source.wait(Duration::from_millis(1)).await.unwrap();
        let batch = source.fetch(cursor.as_ref(), &limits).await.unwrap();
        assert!(batch.messages.is_empty() && batch.cursor == cursor);
        cursor = batch.cursor;
    }
    assert_eq!(server.connections(), 1);
    // Connecting makes a check due.
    source.connect().await.unwrap();
    source.fetch(cursor.as_ref(), &limits).await.unwrap();
    assert_eq!(server.count_of("UIDL"), 2);
}

#[tokio::test]
async fn an_empty_mailbox_is_listed_by_one_command() {
    let server = Server::start(|_, line| match line {
        "STAT" => say("+OK 0 0"),
        _ => Act::Usual,
    })
    .await;
    let batch = server
        .source()
        .fetch(None, &FetchLimits::default())
        .await
        .unwrap();
    assert!(batch.messages.is_empty() && batch.cursor.is_some() && !batch.more);
    assert_eq!(server.commands(), ["STAT"]);
}
