//! Servers that stop, dawdle, flood or lie: each ends the session with an error within a limit, and the next session works.

use super::*;

const LISTING: &str = "UID FETCH 1:* (UID RFC822.SIZE INTERNALDATE)";
const BODIES: &str = "UID FETCH 10:12 (UID BODY.PEEK[])";
/// Shorter than a trickled response takes.
const COMMAND_LIMIT: Duration = Duration::from_secs(2);

/// The beginning of a command, the response to it on the first connection, and the kind of the error.
type Case = (&'static str, fn() -> Act, &'static str);

fn kind(error: &SourceError) -> &'static str {
    match error {
        SourceError::Timeout { .. } => "timeout",
        SourceError::Protocol { .. } => "protocol",
        SourceError::Transient { .. } => "transient",
        SourceError::Tls { .. } => "tls",
        _ => "other",
    }
}

#[tokio::test]
async fn each_hostile_answer_ends_the_session_and_the_next_one_works() {
    let cases: [Case; 17] = [
        // Accepts, then silence.
        ("AUTHENTICATE PLAIN", || Act::Say(String::new()), "timeout"),
        ("CAPABILITY", || Act::Say(String::new()), "timeout"),
        ("SELECT", || Act::Say("* 3 EXISTS\r\n".into()), "timeout"),
        (LISTING, || Act::Say(String::new()), "timeout"),
        (BODIES, || Act::Say(mail(10, "mail")), "timeout"),
        // A byte at a time.
        (
            LISTING,
            || Act::Trickle("* OK Still here\r\n".repeat(200)),
            "timeout",
        ),
        (
            BODIES,
            || Act::Trickle(mail(10, &"m".repeat(5000))),
            "timeout",
        ),
        // Wrong sizes of literals.
        (
            BODIES,
            || Act::Say("* 1 FETCH (UID 10 BODY[] {2}\r\nmail)\r\n{tag} OK\r\n".into()),
            "protocol",
        ),
        (
            BODIES,
            || Act::Say("* 1 FETCH (UID 10 BODY[] {40}\r\nmail)\r\n{tag} OK\r\n".into()),
            "timeout",
        ),
        // Literals of 2 GB: of a body, and where none belongs.
        (
            BODIES,
            || Act::Say("* 1 FETCH (UID 10 BODY[] {2147483648}\r\nmail".into()),
            "timeout",
        ),
        (
            LISTING,
            || Act::Say("* LIST () \"/\" {2147483648}\r\nmail".into()),
            "timeout",
        ),
        (
            BODIES,
            || {
                Act::Endless(
                    "* 1 FETCH (UID 10 BODY[] {60000}\r\n".to_owned()
                        + &"m".repeat(60000)
                        + ")\r\n",
                )
            },
            "protocol",
        ),
        // Lines without end.
        (
            "SELECT",
            || Act::Endless("* 1 EXISTS\r\n".into()),
            "protocol",
        ),
        (
            LISTING,
            || Act::Endless("* 2 FETCH (FLAGS (\\Seen))\r\n".into()),
            "protocol",
        ),
        // Responses to commands that nobody sent.
        (LISTING, || Act::Say("P77 OK done\r\n".into()), "protocol"),
        (LISTING, || Act::Say("+ go ahead\r\n".into()), "protocol"),
        (
            BODIES,
            || Act::Say("P1 NO of an earlier command\r\n".into()),
            "protocol",
        ),
    ];
    for (at, act, expected) in cases {
        let server = Server::greeting(
            "* OK ready\r\n",
            move |connection, command| match connection {
                1 if command.starts_with(at) => act(),
                _ => Act::Usual,
            },
        )
        .await;
        let mut source = server.source();
        source.settings.timeouts.command = COMMAND_LIMIT;
        let limits = FetchLimits::default();
        let error = source.fetch(None, &limits).await.unwrap_err();
        // A flood may reach the limit of time before that of bytes.
        let is_slow_flood = matches!(act(), Act::Endless(_)) && kind(&error) == "timeout";
        assert!(kind(&error) == expected || is_slow_flood, "{at}: {error}");
        source.settings.timeouts.command = Duration::from_secs(20);
        let mut got = Vec::new();
        let mut cursor = None;
        loop {
            let batch = source.fetch(cursor.as_ref(), &limits).await.unwrap();
            got.extend(uids(&batch));
            cursor = batch.cursor;
            if !batch.more {
                break;
            }
        }
        assert_eq!(got, [10, 11, 12], "{at}");
        assert_eq!(server.connections.load(Ordering::SeqCst), 2, "{at}");
    }
}

/// Starts a server that handles each raw connection by itself, and returns a source for it.
async fn raw<F>(
    serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static,
) -> (ImapSource, JoinHandle<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let server = Server::start(|_, _| Act::Usual).await;
    let mut source = server.source();
    source.settings.port = port;
    source.settings.timeouts.connect = COMMAND_LIMIT;
    (source, task)
}

#[tokio::test]
async fn a_greeting_byte_by_byte_ends_at_its_limit() {
    let (mut source, task) = raw(|mut stream| async move {
        for byte in "* OK ".bytes().chain(std::iter::repeat_n(b'x', 500)) {
            tokio::time::sleep(STALL / 10).await;
            if stream.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    })
    .await;
    let error = source.connect().await.unwrap_err();
    assert_eq!(
        (kind(&error), error.step()),
        ("timeout", Step::Greeting),
        "{error}"
    );
    task.abort();
}

#[tokio::test]
async fn failures_of_tls_are_told_from_silence() {
    for (answer, expected) in [
        ("* OK [CAPABILITY IMAP4REV1] plain text, no TLS\r\n", "tls"),
        ("", "timeout"),
        // A TLS alert: handshake failure.
        ("\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{28}", "tls"),
    ] {
        let (mut source, task) = raw(move |mut stream| async move {
            let _ = stream.write_all(answer.as_bytes()).await;
            tokio::time::sleep(COMMAND_LIMIT * 4).await;
        })
        .await;
        source.settings.tls = TlsMode::Implicit;
        let error = source.connect().await.unwrap_err();
        assert_eq!(
            (kind(&error), error.step()),
            (expected, Step::Tls),
            "{error}"
        );
        task.abort();
    }
}

#[tokio::test]
async fn a_connection_that_died_while_idle_is_noticed_at_the_next_check() {
    let server = Server::start(|connection, command| match command {
        "IDLE" if connection == 1 => Act::Say("+ idling\r\n".into()),
        "DONE" if connection == 1 => Act::Say(String::new()),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    let batch = source.fetch(None, &FetchLimits::default()).await.unwrap();
    source.wait(Duration::from_millis(100)).await.unwrap();
    let dead = source
        .fetch(batch.cursor.as_ref(), &FetchLimits::default())
        .await;
    assert_eq!(kind(&dead.unwrap_err()), "timeout");
    let again = source
        .fetch(batch.cursor.as_ref(), &FetchLimits::default())
        .await
        .unwrap();
    assert!(again.messages.is_empty());
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_flood_during_idle_ends_the_session() {
    let server = Server::start(|connection, command| match command {
        "IDLE" if connection == 1 => Act::Endless("+ idling\r\n* OK Still here\r\n".into()),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    let batch = source.fetch(None, &FetchLimits::default()).await.unwrap();
    let flooded = source.wait(Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(kind(&flooded), "protocol", "{flooded}");
    source
        .fetch(batch.cursor.as_ref(), &FetchLimits::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_folder_that_shrinks_while_it_is_listed_loses_no_mail() {
    let server = Server::start(|_, command| match command {
        LISTING => Act::Say(
            "* 1 FETCH (UID 10 RFC822.SIZE 4)\r\n* 3 EXPUNGE\r\n* 1 EXISTS\r\n* 0 EXISTS\r\n{tag} OK\r\n".into(),
        ),
        "UID FETCH 10 (UID BODY.PEEK[])" => Act::Say(format!("{}{{tag}} OK\r\n", mail(10, "mail"))),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    let first = source.fetch(None, &FetchLimits::default()).await.unwrap();
    assert_eq!((uids(&first), reached(&first)), (vec![10], 10));
    let next = source
        .fetch(first.cursor.as_ref(), &FetchLimits::default())
        .await
        .unwrap();
    assert_eq!(uids(&next), [11, 12]);
}
