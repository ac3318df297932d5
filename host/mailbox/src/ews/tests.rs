//! A scripted server that plays Exchange, and does what no Exchange should do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use postroom_auth::Secret;
use postroom_stand::{Hostile, Hostility, Then, http_hostilities};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const PASSWORD: &str = "correct-horse-battery";
const USER: &str = "support@acme.example";

/// The server's reaction to a request.
#[derive(Clone)]
enum Act {
    /// Replies with status 200 and this body.
    Say(String),
    /// Sends raw bytes, then closes the connection.
    Raw(String),
    /// Sends a head, then the letter A without end; the bytes sent are counted.
    Endless(String),
    /// Sends a byte now and then, without end.
    Drip,
    Silence,
    /// Does this, whatever the request.
    Play(Hostility),
}

struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    sent: Arc<AtomicU64>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    /// Starts a server. `script` returns the reply to a request from its operation and the number of such requests before it.
    async fn start(script: impl Fn(&str, usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let sent = Arc::new(AtomicU64::new(0));
        let script = Arc::new(script);
        let serving = tokio::spawn({
            let (requests, sent) = (requests.clone(), sent.clone());
            async move {
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.spawn(serve(
                        stream,
                        script.clone(),
                        requests.clone(),
                        sent.clone(),
                    ));
                }
            }
        });
        Self {
            port,
            requests,
            sent,
            serving,
        }
    }

    fn source(&self) -> EwsSource {
        self.source_with(|_| {})
    }

    fn source_with(&self, change: impl FnOnce(&mut EwsSettings)) -> EwsSource {
        let mut settings = EwsSettings {
            name: "support".into(),
            url: format!("http://127.0.0.1:{}/EWS/Exchange.asmx", self.port),
            host: "127.0.0.1".into(),
            port: self.port,
            tls: TlsMode::None,
            address: USER.into(),
            impersonation: false,
            folder: "INBOX".into(),
            import: Import::All,
            targets: Vec::new(),
            proxies: postroom_net::Proxies::default(),
            timeouts: EwsTimeouts::default(),
        };
        change(&mut settings);
        let login = Login::Password {
            user: USER.into(),
            password: Secret::new(PASSWORD),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        ews(settings, login, Arc::new(tls)).unwrap()
    }

    fn operations(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    script: Arc<impl Fn(&str, usize) -> Act>,
    requests: Arc<Mutex<Vec<String>>>,
    sent: Arc<AtomicU64>,
) {
    while let Some(request) = read(&mut stream).await {
        let operation = request
            .split("<s:Body><m:")
            .nth(1)
            .and_then(|rest| rest.split([' ', '>']).next())
            .unwrap_or_default()
            .to_owned();
        let before = {
            let mut requests = requests.lock().unwrap();
            let before = requests.iter().filter(|it| **it == operation).count();
            requests.push(operation.clone());
            before
        };
        match script(&operation, before) {
            Act::Say(body) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                if stream.write_all((head + &body).as_bytes()).await.is_err() {
                    return;
                }
            }
            Act::Raw(bytes) => {
                let _ = stream.write_all(bytes.as_bytes()).await;
                return;
            }
            Act::Endless(head) => {
                let _ = stream.write_all(head.as_bytes()).await;
                let block = [b'A'; 16 * 1024];
                while stream.write_all(&block).await.is_ok() {
                    sent.fetch_add(block.len() as u64, Ordering::Relaxed);
                }
                return;
            }
            Act::Drip => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                while stream.write_all(b"<").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                return;
            }
            Act::Silence => std::future::pending().await,
            Act::Play(hostility) => {
                let stream = stream.into_std().unwrap();
                // It ends when the client goes away.
                std::thread::spawn(move || hostility.play(stream));
                return;
            }
        }
    }
}

/// Reads one request with a Content-Length.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}

fn answer(messages: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"e\"><s:Body><m:Response xmlns:m=\"m\"><m:ResponseMessages>{messages}</m:ResponseMessages></m:Response></s:Body></s:Envelope>"
    )
}

fn success(body: &str) -> String {
    format!(
        "<m:Message ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>{body}</m:Message>"
    )
}

fn error(code: &str, text: &str) -> String {
    format!(
        "<m:Message ResponseClass=\"Error\"><m:MessageText>{text}</m:MessageText><m:ResponseCode>{code}</m:ResponseCode></m:Message>"
    )
}

fn folder() -> Act {
    let folder = "<m:Folders><t:Folder><t:FolderId Id=\"in\"/><t:TotalCount>2</t:TotalCount></t:Folder></m:Folders>";
    Act::Say(answer(&success(folder)))
}

/// Returns a page of changes. Each is an id with its stated size.
fn page(state: &str, is_last: bool, mails: &[(&str, u64)]) -> String {
    let created: String = mails
        .iter()
        .map(|(id, size)| {
            format!("<t:Create><t:Message><t:ItemId Id=\"{id}\" ChangeKey=\"1\"/><t:Size>{size}</t:Size></t:Message></t:Create>")
        })
        .collect();
    success(&format!(
        "<m:SyncState>{state}</m:SyncState><m:IncludesLastItemInRange>{is_last}</m:IncludesLastItemInRange><m:Changes>{created}</m:Changes>"
    ))
}

fn mime(text: &str) -> String {
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode(text);
    success(&format!(
        "<m:Items><t:Message><t:MimeContent>{encoded}</t:MimeContent></t:Message></m:Items>"
    ))
}

/// Returns the result of a fetch when the request for changes is answered like this.
async fn listed(act: Act) -> Result<Batch, SourceError> {
    let server = Server::start(move |operation, _| match operation {
        "GetFolder" => folder(),
        _ => act.clone(),
    })
    .await;
    let mut source = server.source_with(|settings| {
        settings.timeouts.stall = Duration::from_millis(300);
        settings.timeouts.command = Duration::from_millis(600);
    });
    source.fetch(None, &FetchLimits::default()).await
}

#[tokio::test]
async fn hostile_answers_end_in_an_error_of_their_kind() {
    let bomb = "<?xml version=\"1.0\"?><!DOCTYPE b [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\">]><b>&b;</b>";
    let external = "<?xml version=\"1.0\"?><!DOCTYPE b [<!ENTITY a SYSTEM \"http://127.0.0.1:1/x\">]><b>&a;</b>";
    let long_state = "x".repeat(2 * 1024 * 1024 + 1);
    let mails: Vec<String> = (0..513).map(|n| n.to_string()).collect();
    let mails: Vec<(&str, u64)> = mails.iter().map(|id| (id.as_str(), 1)).collect();
    for (body, expected) in [
        (bomb.into(), "a document type"),
        (external.into(), "a document type"),
        ("<a>".repeat(100_000), "deeper than"),
        (
            format!("<a>{}</a>", "<b/>".repeat(100_000)),
            "more than 20000 elements",
        ),
        ("<s:Envelope><s:Body>".into(), "ends early"),
        ("<s:Envelope></s:Body>".into(), "not XML"),
        (
            "<Envelope><Body><Unknown/></Body></Envelope>".into(),
            "no answer of Exchange",
        ),
        (
            "<!DOCTYPE html><html><br></html>".into(),
            "a page for people",
        ),
        (String::new(), "an empty answer"),
        ("{}".into(), "something else than SOAP"),
        (answer(""), "no answer of Exchange"),
        (answer(&page("", true, &[])), "without a sync state"),
        (
            answer(&page("state", false, &[])),
            "an empty page that is not the last",
        ),
        (
            answer(&page("state", true, &mails)),
            "more than 512 changes",
        ),
        (
            answer(&page(&long_state, true, &[])),
            "a sync state of more than",
        ),
        (
            answer(&page("state", true, &[]).replace("true", "maybe")),
            "does not say whether",
        ),
        (
            answer(&page("state", true, &[("", 1)]).replace(" Id=", " X=")),
            "without an id",
        ),
    ] {
        let error = listed(Act::Say(body)).await.expect_err(expected);
        assert!(
            matches!(error, SourceError::Protocol { .. }),
            "{expected}: {error:?}"
        );
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
}

#[tokio::test]
async fn statuses_are_told_apart() {
    let page = "<html><body>no</body></html>";
    let raw = |head: &str, body: &str| {
        Act::Raw(format!(
            "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    let refused = listed(raw("401 No\r\nWWW-Authenticate: NTLM", page))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, SourceError::RefusedLogin { .. }),
        "{refused:?}"
    );
    let moved = listed(raw("302 Found\r\nLocation: http://127.0.0.1:1/owa", ""))
        .await
        .unwrap_err();
    assert!(matches!(moved, SourceError::Protocol { .. }), "{moved:?}");
    assert!(
        moved.to_string().contains("redirects are not followed"),
        "{moved}"
    );
    for head in ["500 No", "502 No", "408 No"] {
        let failed = listed(raw(head, page)).await.unwrap_err();
        assert!(
            matches!(failed, SourceError::Transient { .. }),
            "{head}: {failed:?}"
        );
    }
    let busy = listed(raw("503 Busy\r\nRetry-After: 70", page))
        .await
        .unwrap_err();
    assert_eq!(
        busy.retry_after(),
        Some(Duration::from_secs(70)),
        "{busy:?}"
    );
    let missing = listed(raw("404 No", page)).await.unwrap_err();
    assert!(
        matches!(missing, SourceError::Refused { .. }),
        "{missing:?}"
    );
    let cut = listed(Act::Raw(
        "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n<a>".into(),
    ))
    .await;
    assert!(cut.unwrap_err().is_transient());
    let nonsense = listed(Act::Raw("220 smtp ready\r\n".into()))
        .await
        .unwrap_err();
    assert!(nonsense.is_transient(), "{nonsense:?}");
}

#[tokio::test]
async fn silence_and_single_bytes_end_in_a_timeout_and_an_endless_answer_at_its_limit() {
    for act in [Act::Silence, Act::Drip] {
        let error = listed(act).await.unwrap_err();
        assert!(matches!(error, SourceError::Timeout { .. }), "{error:?}");
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n<a>";
    let error = listed(Act::Endless(head.into())).await.unwrap_err();
    assert!(
        error.to_string().contains("more than 4194304 bytes"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_answer_ends_at_every_stage() {
    let limits = FetchLimits {
        raw_bytes: 1024 * 1024,
        ..FetchLimits::default()
    };
    for stage in ["GetFolder", "SyncFolderItems", "GetItem"] {
        for status in ["200 OK", "500 No"] {
            for (name, hostility) in http_hostilities(status) {
                let at = format!("{status}, {name} at {stage}");
                let server = Server::start(move |operation, _| match operation {
                    _ if operation == stage => Act::Play(hostility.clone()),
                    "GetFolder" => folder(),
                    "SyncFolderItems" => Act::Say(answer(&page("state", true, &[("a", 100)]))),
                    _ => Act::Say(answer(&mime("Subject: a\r\n\r\nhelp\r\n"))),
                })
                .await;
                let mut source = server.source_with(|settings| {
                    settings.timeouts.stall = Duration::from_millis(150);
                    settings.timeouts.command = Duration::from_millis(300);
                });
                let patience = Duration::from_secs(60);
                let fetched = tokio::time::timeout(patience, source.fetch(None, &limits)).await;
                let error = fetched
                    .unwrap_or_else(|_| panic!("{at}: no end"))
                    .expect_err(&at);
                assert!(
                    matches!(
                        error,
                        SourceError::Timeout { .. }
                            | SourceError::Transient { .. }
                            | SourceError::Unreachable { .. }
                            | SourceError::Protocol { .. }
                    ),
                    "{at}: {error:?}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_takes_the_password_nowhere() {
    let elsewhere = Hostile::start(Hostility::new("", Then::Close)).unwrap();
    for status in [301, 302, 303, 307, 308] {
        let moved = format!(
            "HTTP/1.1 {status} Moved\r\nLocation: http://127.0.0.1:{}/EWS\r\nContent-Length: 0\r\n\r\n",
            elsewhere.port()
        );
        let error = listed(Act::Raw(moved)).await.unwrap_err().to_string();
        assert!(error.contains("redirects are not followed"), "{error}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn of_a_mail_without_end_the_beginning_is_kept() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n<s:Envelope><s:Body><m:GetItemResponse><m:ResponseMessages><m:Message ResponseClass=\"Success\"><m:Items><t:Message><t:MimeContent>";
    let server = Server::start(move |operation, _| match operation {
        "GetFolder" => folder(),
        "SyncFolderItems" => Act::Say(answer(&page("state", true, &[("large", 100)]))),
        _ => Act::Endless(head.into()),
    })
    .await;
    let mut source = server.source();
    let limits = FetchLimits {
        raw_bytes: 1024 * 1024,
        ..FetchLimits::default()
    };
    let batch = source.fetch(None, &limits).await.unwrap();
    let [mail] = &batch.messages[..] else {
        panic!("{:?}", batch.messages.len());
    };
    assert_eq!(mail.bytes.len() as u64, crate::BEGINNING_BYTES);
    assert!(!mail.is_whole());
    // It is requested twice: with the room for its stated size, then with the room for any mail. Sockets hold some more.
    let sent = server.sent.load(Ordering::Relaxed);
    assert!(sent < 16 * 1024 * 1024, "{sent} bytes");
}

#[tokio::test]
async fn a_mail_that_is_listed_and_not_given_is_given_up_and_those_behind_it_are_given() {
    let server = Server::start(|operation, _| match operation {
        "GetFolder" => folder(),
        "SyncFolderItems" => Act::Say(answer(&page("state", true, &[("bad", 10), ("good", 10)]))),
        _ => {
            let both =
                error("ErrorContentConversionFailed", "broken") + &mime("Subject: good\r\n\r\n");
            Act::Say(answer(&both))
        }
    })
    .await;
    let mut source = server.source();
    for _ in 1..5 {
        let error = source
            .fetch(None, &FetchLimits::default())
            .await
            .unwrap_err();
        assert!(error.is_transient(), "{error:?}");
    }
    let batch = source.fetch(None, &FetchLimits::default()).await.unwrap();
    let texts: Vec<_> = batch
        .messages
        .iter()
        .map(|mail| String::from_utf8_lossy(&mail.bytes))
        .collect();
    assert!(
        texts[0].contains("ErrorContentConversionFailed broken"),
        "{texts:?}"
    );
    assert!(!batch.messages[0].is_whole());
}

#[tokio::test]
async fn a_batch_that_was_not_journalled_is_given_again() {
    let server = Server::start(|operation, _| match operation {
        "GetFolder" => folder(),
        "SyncFolderItems" => Act::Say(answer(&page(
            "state",
            true,
            &[("a", 10), ("b", 10), ("c", 10)],
        ))),
        _ => Act::Say(answer(&mime("Subject: one\r\n\r\n"))),
    })
    .await;
    let mut source = server.source();
    let limits = FetchLimits {
        batch_mails: 1,
        ..FetchLimits::default()
    };
    let position = |batch: &Batch| batch.messages[0].position.clone();
    let first = source.fetch(None, &limits).await.unwrap();
    assert!(first.more && first.remember);
    let second = source.fetch(first.cursor.as_ref(), &limits).await.unwrap();
    assert_ne!(position(&first), position(&second));
    // The journal could not store the second one.
    source.set_known(Arc::new(Known(position(&first))));
    let again = source.fetch(first.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!(position(&second), position(&again));
    let third = source.fetch(again.cursor.as_ref(), &limits).await.unwrap();
    assert!(!third.more);
    assert_ne!(third.cursor, again.cursor);
}

#[tokio::test]
async fn a_server_that_ends_each_stream_at_once_is_polled() {
    let server = Server::start(|operation, _| match operation {
        "GetFolder" => folder(),
        "Subscribe" => Act::Say(answer(&success("<m:SubscriptionId>1</m:SubscriptionId>"))),
        _ => Act::Say(answer(&success(
            "<m:ConnectionStatus>Closed</m:ConnectionStatus>",
        ))),
    })
    .await;
    let mut source = server.source();
    for _ in 0..20 {
        source.wait(Duration::from_millis(10)).await.unwrap();
    }
    let operations = server.operations();
    let subscribed = operations.iter().filter(|it| *it == "Subscribe").count();
    assert_eq!(subscribed, 3, "{operations:?}");
}

#[tokio::test]
async fn a_notification_without_end_ends_the_session() {
    let server = Server::start(|operation, _| match operation {
        "GetFolder" => folder(),
        "Subscribe" => Act::Say(answer(&success("<m:SubscriptionId>1</m:SubscriptionId>"))),
        _ => Act::Endless("HTTP/1.1 200 OK\r\n\r\n<s:Envelope>".into()),
    })
    .await;
    let mut source = server.source();
    source.wait(Duration::from_secs(60)).await.unwrap();
    let error = source.wait(Duration::from_secs(60)).await.unwrap_err();
    assert!(
        error.to_string().contains("a notification of more than"),
        "{error}"
    );
}

struct Known(Position);

#[async_trait]
impl KnownPositions for Known {
    async fn known(
        &self,
        positions: Vec<Position>,
    ) -> Result<std::collections::HashSet<Position>, SourceError> {
        Ok(positions.into_iter().filter(|it| *it == self.0).collect())
    }

    async fn count(&self) -> Result<u64, SourceError> {
        Ok(1)
    }

    async fn forget(&self, _: Vec<Position>) -> Result<(), SourceError> {
        Ok(())
    }

    async fn forget_all_but(&self, _: Vec<Position>) -> Result<(), SourceError> {
        Ok(())
    }
}

#[tokio::test]
async fn what_the_server_quotes_of_the_sign_in_is_left_out() {
    use base64::Engine;
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let quoting = format!("you said {PASSWORD} and {basic}");
    let fault = format!(
        "<s:Envelope><s:Body><s:Fault><faultcode>x</faultcode><faultstring>{quoting}</faultstring></s:Fault></s:Body></s:Envelope>"
    );
    for act in [
        Act::Say(fault),
        Act::Say(answer(&error("ErrorX", &quoting))),
    ] {
        let error = listed(act).await.unwrap_err().to_string();
        assert!(error.contains("[redacted]"), "{error}");
        assert!(
            !error.contains(PASSWORD) && !error.contains(&basic),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_foreign_position_is_left_alone_and_no_server_is_asked() {
    let server = Server::start(|_, _| folder()).await;
    let mut source = server.source();
    let ack = Acknowledge {
        position: Position::OnServer("{\"uid\":1}".into()),
        after: crate::After::Delete,
    };
    source.acknowledge(&[ack]).await.unwrap();
    assert!(server.operations().is_empty());
}

#[tokio::test]
async fn another_protocols_cursor_counts_as_none_and_nonsense_is_refused() {
    let server = Server::start(|operation, _| match operation {
        "GetFolder" => folder(),
        _ => Act::Say(answer(&page("state", true, &[]))),
    })
    .await;
    let mut source = server.source();
    let imap = Cursor("{\"folder\":\"INBOX\",\"uid_validity\":1,\"uid\":2}".into());
    let batch = source
        .fetch(Some(&imap), &FetchLimits::default())
        .await
        .unwrap();
    assert_ne!(batch.cursor, Some(imap));
    for text in ["", "batch 3", "{\"sync_state\":3}"] {
        let error = source
            .fetch(Some(&Cursor(text.into())), &FetchLimits::default())
            .await;
        assert!(
            matches!(error, Err(SourceError::UnknownCursor { .. })),
            "{text}"
        );
    }
}

#[test]
fn a_user_that_basic_authentication_cannot_carry_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(Server::start(|_, _| Act::Silence));
    let settings = server.source().session.settings.clone();
    let login = Login::Password {
        user: "a:b".into(),
        password: Secret::new(PASSWORD),
    };
    let tls = server.source().tls.clone();
    assert!(matches!(
        ews(settings, login, tls).err(),
        Some(SourceError::Unusable { .. })
    ));
}
