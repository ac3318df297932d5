//! A scripted server: rare behaviour of real servers, and dishonest behaviour.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use postroom_auth::Secret;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::*;
use crate::After;

mod bounds;
mod copying;
mod folders;
mod hostile;
mod probe;
mod renumbering;
mod tokens;
mod trouble;

/// The server's reaction to a line. `{tag}` in a response becomes the tag of the last command that had one.
enum Act {
    Say(String),
    /// Sends a text after twice the time that the client waits for a silent server.
    SayLater(String),
    /// Sends a text and disconnects.
    SayAndClose(String),
    /// Sends a text one byte at a time, each well within the time that the client waits for a silent server.
    Trickle(String),
    /// Sends a text again and again, until the client disconnects.
    Endless(String),
    /// Responds like an ordinary server with three mails.
    Usual,
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
    /// Starts a server. `script` is called with each line of a client, without the tag, and with the number of its
    /// connection.
    async fn start(script: impl FnMut(usize, &str) -> Act + Send + 'static) -> Self {
        Self::greeting("* OK [CAPABILITY IMAP4REV1 AUTH=PLAIN] ready\r\n", script).await
    }

    async fn greeting(
        greeting: &'static str,
        script: impl FnMut(usize, &str) -> Act + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let commands = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(std::sync::Mutex::new(script));
        let seen = commands.clone();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = accepted.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
                let (script, seen) = (script.clone(), seen.clone());
                connections.spawn(async move {
                    let (read, mut write) = stream.into_split();
                    let _ = write.write_all(greeting.as_bytes()).await;
                    let mut lines = BufReader::new(read).lines();
                    let mut tag = String::new();
                    while let Ok(Some(line)) = lines.next_line().await {
                        let command = match line.split_once(' ') {
                            Some((new, command)) if new.starts_with('P') => {
                                new.clone_into(&mut tag);
                                command
                            }
                            _ => line.as_str(),
                        };
                        seen.lock().await.push(command.to_owned());
                        let act = (script.lock().unwrap())(number, command);
                        let (text, close) = match act {
                            Act::Trickle(text) => {
                                for byte in text.as_bytes() {
                                    tokio::time::sleep(STALL / 10).await;
                                    if write.write_all(&[*byte]).await.is_err() {
                                        return;
                                    }
                                }
                                continue;
                            }
                            Act::Endless(text) => {
                                let text = text.repeat(64 * 1024 / text.len());
                                while write.write_all(text.as_bytes()).await.is_ok() {}
                                return;
                            }
                            Act::SayLater(text) => {
                                tokio::time::sleep(STALL * 2).await;
                                (text, false)
                            }
                            Act::Say(text) => (text, false),
                            Act::SayAndClose(text) => (text, true),
                            Act::Usual => (usual(command), false),
                        };
                        let text = text.replace("{tag}", &tag);
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
            connections: accepted,
            task,
        }
    }

    fn source(&self) -> ImapSource {
        let login = Login::Password {
            user: "u@example".into(),
            password: Secret::new("pw"),
        };
        self.source_as(login)
    }

    fn source_as(&self, login: Login) -> ImapSource {
        let settings = ImapSettings {
            name: "box".into(),
            host: "127.0.0.1".into(),
            port: self.port,
            tls: TlsMode::None,
            folders: vec!["INBOX".into()],
            every: Duration::from_secs(3600),
            import: Import::All,
            targets: Vec::new(),
            unused: Vec::new(),
            proxies: postroom_net::Proxies::default(),
            timeouts: ImapTimeouts {
                connect: Duration::from_secs(5),
                stall: STALL,
                command: Duration::from_secs(20),
                idle: Duration::from_millis(600),
                reconcile: Duration::from_secs(3600),
                poll: Duration::from_millis(100),
                logout: Duration::from_millis(200),
            },
        };
        imap(settings, login, tls())
    }

    /// Returns the commands after the folder was first opened.
    async fn after_select(&self) -> Vec<String> {
        let commands = self.commands.lock().await;
        let selected = commands.iter().position(|c| c.starts_with("SELECT"));
        commands[selected.map_or(0, |at| at + 1)..].to_vec()
    }
}

/// Returns the responses of a server with three mails: UIDs 10, 11 and 12.
fn usual(command: &str) -> String {
    let word = command.split(' ').next().unwrap_or_default();
    match word {
        "CAPABILITY" => {
            "* CAPABILITY IMAP4REV1 AUTH=PLAIN IDLE UIDPLUS MOVE\r\n{tag} OK\r\n".into()
        }
        "AUTHENTICATE" => "+ \r\n".into(),
        "SELECT" => {
            "* 3 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 13] x\r\n{tag} OK\r\n".into()
        }
        "IDLE" => "+ idling\r\n".into(),
        "UID" if command.ends_with("(UID RFC822.SIZE INTERNALDATE)") => {
            let (from, _) = command["UID FETCH ".len()..].split_once(':').unwrap();
            let from: u32 = from.parse().unwrap();
            let mut answer: String = (10..=12u32)
                .filter(|uid| *uid >= from || *uid == 12)
                .map(|uid| format!("* {} FETCH (UID {uid} RFC822.SIZE 4)\r\n", uid - 9))
                .collect();
            answer.push_str("{tag} OK\r\n");
            answer
        }
        "UID" if command.contains("BODY.PEEK[]") => {
            let mails: String = (10..=12).map(|uid| mail(uid, "mail")).collect();
            format!("{mails}{{tag}} OK\r\n")
        }
        _ => "{tag} OK\r\n".into(),
    }
}

fn mail(uid: u32, body: &str) -> String {
    format!(
        "* {} FETCH (FLAGS (\\Seen) UID {uid} BODY[] {{{}}}\r\n{body})\r\n",
        uid.saturating_sub(9),
        body.len()
    )
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

const SELECT: &str = "SELECT \"INBOX\"";

/// Returns a cursor of the first version, which contained only a place.
fn cursor(uid: u32) -> Cursor {
    Cursor(place(uid).write())
}

/// Returns the UID that a batch leads to.
fn reached(batch: &Batch) -> u32 {
    let cursor = batch.cursor.as_ref().unwrap();
    progress::Progress::read(&cursor.0).unwrap().uid
}

fn place(uid: u32) -> Place {
    Place {
        folder: "INBOX".into(),
        uid_validity: 7,
        uid,
    }
}

fn uids(batch: &Batch) -> Vec<u32> {
    let uid = |m: &postroom_core::RawMessage| Place::at(&m.position).unwrap().uid;
    batch.messages.iter().map(uid).collect()
}

fn ack(uid: u32, after: After) -> Acknowledge {
    Acknowledge {
        position: place(uid).position(),
        after,
    }
}

#[tokio::test]
async fn the_last_mail_that_n_to_star_names_is_not_new() {
    let server = Server::start(|_, _| Act::Usual).await;
    let mut source = server.source();
    let limits = FetchLimits {
        batch_mails: 2,
        ..FetchLimits::default()
    };
    let first = source.fetch(None, &limits).await.unwrap();
    assert_eq!((uids(&first), first.more), (vec![10, 11], true));
    assert_eq!(&first.messages[0].bytes[..], b"mail");
    let second = source.fetch(first.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!((uids(&second), second.more), (vec![12], false));
    assert_eq!(reached(&second), 12);
    let third = source.fetch(second.cursor.as_ref(), &limits).await.unwrap();
    assert!(third.messages.is_empty() && third.cursor == second.cursor && !third.more);
    // The backlog provided the second batch without another listing.
    assert_eq!(
        server.after_select().await,
        [
            "UID FETCH 1:* (UID RFC822.SIZE INTERNALDATE)",
            "UID FETCH 10:11 (UID BODY.PEEK[])",
            "UID FETCH 12 (UID BODY.PEEK[])",
            SELECT,
            "UID FETCH 13:* (UID RFC822.SIZE INTERNALDATE)",
        ]
    );
    // An earlier cursor gives the same mails again.
    let again = source.fetch(first.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!(uids(&again), [12]);
}

#[tokio::test]
async fn first_contact_and_renumbering() {
    let server = Server::start(|_, command| match command {
        "UID SEARCH SINCE 09-Nov-2026" => Act::Say("* SEARCH 12 11\r\n{tag} OK\r\n".into()),
        _ => Act::Usual,
    })
    .await;
    let limits = FetchLimits::default();
    let mut source = server.source();
    source.settings.import = Import::New;
    let batch = source.fetch(None, &limits).await.unwrap();
    assert!(batch.messages.is_empty() && reached(&batch) == 12);
    source.settings.import = Import::Since(jiff::civil::date(2026, 11, 9));
    assert_eq!(uids(&source.fetch(None, &limits).await.unwrap()), [11, 12]);
    let mut other = place(12);
    other.uid_validity = 6;
    let batch = source
        .fetch(Some(&Cursor(other.write())), &limits)
        .await
        .unwrap();
    assert_eq!((uids(&batch), reached(&batch)), (vec![10, 11, 12], 12));
    for unknown in ["", "garbage", r#"{"folder":"INBOX","uid_validity":-1}"#] {
        let refused = source.fetch(Some(&Cursor(unknown.into())), &limits).await;
        assert!(matches!(refused, Err(SourceError::UnknownCursor { .. })));
    }
}

#[tokio::test]
async fn stated_sizes_may_be_lies() {
    let large = "x".repeat(3_000_000);
    let server = Server::start(move |_, command| match command {
        "UID FETCH 10:12 (UID BODY.PEEK[])" => Act::Say(format!(
            "{}{}{{tag}} OK\r\n",
            mail(10, &large),
            mail(11, &large)
        )),
        "UID FETCH 10 (UID BODY.PEEK[])" => Act::Say(format!("{}{{tag}} OK\r\n", mail(10, &large))),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    let limits = FetchLimits {
        raw_bytes: 1_000_000,
        ..FetchLimits::default()
    };
    let whole = FetchLimits::default();
    let refused = source.fetch(Some(&cursor(9)), &whole).await;
    assert!(matches!(refused, Err(SourceError::Protocol { .. })));
    // From then on one at a time, each bounded by the raw limit alone.
    let batch = source.fetch(Some(&cursor(9)), &whole).await.unwrap();
    assert_eq!(
        (uids(&batch), batch.messages[0].bytes.len(), batch.more),
        (vec![10], 3_000_000, true)
    );
    let batch = source.fetch(Some(&cursor(9)), &limits).await.unwrap();
    assert_eq!(
        (batch.messages[0].bytes.len(), batch.messages[0].size),
        (65536, 3_000_000)
    );
    assert!(!batch.messages[0].is_whole());
}

#[tokio::test]
async fn of_a_mail_over_the_limit_the_beginning_is_fetched() {
    let server = Server::start(|_, command| match command {
        "UID FETCH 1:* (UID RFC822.SIZE INTERNALDATE)" => Act::Say(
            "* 1 FETCH (RFC822.SIZE 5000000 UID 10)\r\n* 2 FETCH (UID 11 RFC822.SIZE 4)\r\n{tag} OK\r\n".into(),
        ),
        "UID FETCH 10 (UID BODY.PEEK[]<0.65536>)" => Act::Say(format!(
            "* 1 FETCH (UID 10 BODY[]<0> {{65536}}\r\n{})\r\n{{tag}} OK\r\n",
            "y".repeat(65536)
        )),
        _ => Act::Usual,
    })
    .await;
    let limits = FetchLimits {
        raw_bytes: 1_000_000,
        ..FetchLimits::default()
    };
    let batch = server.source().fetch(None, &limits).await.unwrap();
    assert_eq!(uids(&batch), [10, 11]);
    assert_eq!(
        (batch.messages[0].size, batch.messages[0].is_whole()),
        (5_000_000, false)
    );
    assert!(batch.messages[1].is_whole());
}

#[tokio::test]
async fn servers_that_are_none() {
    let long: &'static str = Box::leak("* x".repeat(6_000_000).into_boxed_str());
    let cases: [(&'static str, &str); 6] = [
        ("220 mail.example ESMTP\r\n", "protocol"),
        ("* BYE too many connections\r\n", "transient"),
        ("", "timeout"),
        ("* OK half a li", "timeout"),
        (long, "protocol"),
        ("\r\n", "protocol"),
    ];
    for (greeting, expected) in cases {
        let server = Server::greeting(greeting, |_, _| Act::Usual).await;
        let mut source = server.source();
        let error = source.connect().await.unwrap_err();
        let kind = match &error {
            SourceError::Protocol { .. } => "protocol",
            SourceError::Transient { .. } => "transient",
            SourceError::Timeout { .. } => "timeout",
            _ => "other",
        };
        assert_eq!(kind, expected, "{error}");
        assert_eq!(error.step(), Step::Greeting);
        assert!(error.to_string().len() < 700);
    }
    for answer in [
        "* 1 FETCH (UID 10 RFC822.SIZE\r\n{tag} OK\r\n",
        "* 1 FETCH (UID 10 BODY[] {99999999999999999999}\r\n",
        "+ more?\r\n",
        "P999 OK\r\n",
        "garbage\r\n",
    ] {
        let server = Server::start(move |_, command| match command {
            _ if command.contains("RFC822.SIZE") => Act::Say(answer.into()),
            _ => Act::Usual,
        })
        .await;
        let error = server
            .source()
            .fetch(None, &FetchLimits::default())
            .await
            .unwrap_err();
        assert!(
            matches!(error, SourceError::Protocol { .. }),
            "{answer}: {error}"
        );
    }
    let refused = Server::start(|_, command| match command {
        _ if command.contains("RFC822.SIZE") => Act::Say("{tag} NO [UNAVAILABLE] later\r\n".into()),
        _ => Act::Usual,
    })
    .await;
    // A refused listing is an error, never an empty folder.
    assert!(
        refused
            .source()
            .fetch(None, &FetchLimits::default())
            .await
            .unwrap_err()
            .is_transient()
    );
}

#[tokio::test]
async fn nobody_slips_data_in_before_tls() {
    let server = Server::start(|_, command| match command {
        "STARTTLS" => Act::Say("{tag} OK begin\r\n* CAPABILITY AUTH=PLAIN\r\n".into()),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    source.settings.tls = TlsMode::StartTls;
    assert!(matches!(
        source.connect().await,
        Err(SourceError::Tls { .. })
    ));
    let server = Server::greeting("* PREAUTH welcome\r\n", |_, _| Act::Usual).await;
    let mut source = server.source();
    source.settings.tls = TlsMode::StartTls;
    assert!(matches!(
        source.connect().await,
        Err(SourceError::Tls { .. })
    ));
}

#[tokio::test]
async fn acknowledgements_go_out_in_sets() {
    let mut tried = false;
    let server = Server::start(move |_, command| match command {
        _ if command.starts_with("UID MOVE") && !std::mem::replace(&mut tried, true) => {
            Act::Say("{tag} NO [TRYCREATE] missing\r\n".into())
        }
        "UID STORE 20 +FLAGS.SILENT (\\Deleted)" => Act::Say("{tag} NO [NOPERM] no\r\n".into()),
        SELECT => Act::Say(
            "* 3 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 50] x\r\n{tag} OK\r\n".into(),
        ),
        _ => Act::Usual,
    })
    .await;
    let done = || After::Move("Erl\u{e4}digt \"x\"".into());
    let mut stale = place(40);
    stale.uid_validity = 1;
    let acks = [
        ack(12, done()),
        ack(10, done()),
        ack(11, done()),
        ack(15, After::Seen),
        ack(20, After::Delete),
        ack(30, After::Keep),
        Acknowledge {
            position: stale.position(),
            after: After::Seen,
        },
    ];
    let refused = server.source().acknowledge(&acks).await;
    assert!(matches!(refused, Err(SourceError::Refused { .. })));
    let target = "\"Erl&AOQ-digt \\\"x\\\"\"";
    assert_eq!(
        server.after_select().await,
        [
            "UID STORE 15 +FLAGS.SILENT (\\Seen)".to_owned(),
            "UID STORE 20 +FLAGS.SILENT (\\Deleted)".to_owned(),
            format!("UID MOVE 10:12 {target}"),
            "LIST \"\" \"\"".into(),
            format!("LIST \"\" {target}"),
            format!("CREATE {target}"),
            format!("SUBSCRIBE {target}"),
            format!("UID MOVE 10:12 {target}"),
        ]
    );
}

#[tokio::test]
async fn without_move_a_mail_is_copied_once() {
    let server = Server::start(|_, command| match command {
        "CAPABILITY" => {
            Act::Say("* CAPABILITY IMAP4REV1 AUTH=PLAIN UIDPLUS\r\n{tag} OK\r\n".into())
        }
        "UID SEARCH UID 10:11 UNDELETED" => Act::Say("* SEARCH 11\r\n{tag} OK\r\n".into()),
        _ => Act::Usual,
    })
    .await;
    let acks = [
        ack(10, After::Move("Done".into())),
        ack(11, After::Move("Done".into())),
    ];
    server.source().acknowledge(&acks).await.unwrap();
    assert_eq!(
        server.after_select().await,
        [
            "UID SEARCH UID 10:11 UNDELETED",
            "UID STORE 10 +FLAGS.SILENT (\\Deleted)",
            "UID EXPUNGE 10",
            // An earlier process may have copied it.
            "UID FETCH 11 (UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])",
            "UID COPY 11 \"Done\"",
            "UID STORE 11 +FLAGS.SILENT (\\Deleted)",
            "UID EXPUNGE 11",
        ]
    );
}

#[tokio::test]
async fn idle_is_left_properly_and_renewed_by_our_own_clock() {
    let server = Server::start(|_, command| match command {
        "IDLE" => Act::Say("+ idling\r\n* OK Still here\r\n".into()),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    source
        .fetch(Some(&cursor(12)), &FetchLimits::default())
        .await
        .unwrap();
    // Dropped while it waits, the connection remains usable.
    let waited = tokio::time::timeout(
        Duration::from_millis(200),
        source.wait(Duration::from_secs(60)),
    )
    .await;
    assert!(waited.is_err());
    source.acknowledge(&[ack(10, After::Seen)]).await.unwrap();
    source.wait(Duration::from_millis(900)).await.unwrap();
    source.close().await;
    assert_eq!(
        server.after_select().await[1..],
        [
            "IDLE",
            "DONE",
            SELECT,
            "UID STORE 10 +FLAGS.SILENT (\\Seen)",
            "IDLE",
            "DONE",
            "IDLE",
            "DONE",
            "LOGOUT",
        ]
    );
}

#[tokio::test]
async fn news_end_the_wait() {
    for capabilities in ["IDLE", "NOTHING"] {
        let mut noops = 0;
        let server = Server::start(move |_, command| match command {
            "CAPABILITY" => Act::Say(format!(
                "* CAPABILITY AUTH=PLAIN {capabilities}\r\n{{tag}} OK\r\n"
            )),
            "IDLE" => Act::Say("+ idling\r\n* 4 EXISTS\r\n".into()),
            // The first one belongs to the listing.
            "NOOP" => {
                noops += 1;
                Act::Say(format!("* {} EXISTS\r\n{{tag}} OK\r\n", 2 + noops))
            }
            _ => Act::Usual,
        })
        .await;
        let mut source = server.source();
        // A new connection may have missed something.
        tokio::time::timeout(Duration::from_secs(5), source.wait(Duration::from_secs(60)))
            .await
            .unwrap()
            .unwrap();
        source
            .fetch(Some(&cursor(12)), &FetchLimits::default())
            .await
            .unwrap();
        tokio::time::timeout(Duration::from_secs(5), source.wait(Duration::from_secs(60)))
            .await
            .unwrap()
            .unwrap();
        let last = server.after_select().await.pop();
        assert_eq!(
            last.as_deref(),
            Some(if capabilities == "IDLE" {
                "IDLE"
            } else {
                "NOOP"
            })
        );
    }
}

#[tokio::test]
async fn a_refused_idle_becomes_a_poll() {
    let server = Server::start(|_, command| match command {
        "IDLE" => Act::Say("{tag} NO not today\r\n".into()),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    source
        .fetch(Some(&cursor(12)), &FetchLimits::default())
        .await
        .unwrap();
    source.wait(Duration::from_millis(350)).await.unwrap();
    let commands = server.after_select().await;
    assert_eq!(commands.iter().filter(|c| *c == "IDLE").count(), 1);
    assert!(commands.iter().filter(|c| *c == "NOOP").count() >= 2);
}
