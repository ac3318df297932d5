//! The Graph source against a scripted server that replies as no honest one would.

mod hostile;
mod reading;
mod throttling;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use postroom_auth::Resource;
use postroom_stand::Hostility;
use rustls::RootCertStore;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::*;
use crate::memory_journal::MemoryJournal;
use crate::token_server::TokenServer;
use crate::{After, InFlight};

const USER: &str = "support@acme.example";

/// The server's reaction to a request.
enum Act {
    /// Status, additional headers, content type and body.
    Answer(u16, String, &'static str, Vec<u8>),
    /// Never answers.
    Silence,
    /// Sends a head, then a byte now and then.
    Trickle,
    /// Does this, whatever the request.
    Play(Hostility),
    /// Sends a body of this type that does not end before this many bytes.
    Endless(&'static str, u64),
}

fn json(status: u16, body: impl ToString) -> Act {
    Act::Answer(
        status,
        String::new(),
        "application/json;odata.metadata=minimal",
        body.to_string().into_bytes(),
    )
}

fn mime(text: &str) -> Act {
    Act::Answer(200, String::new(), "text/plain", text.into())
}

fn error(status: u16, code: &str, headers: &str) -> Act {
    let body = serde_json::json!({"error": {"code": code, "message": "no"}});
    Act::Answer(
        status,
        headers.into(),
        "application/json",
        body.to_string().into_bytes(),
    )
}

fn folder() -> Act {
    json(
        200,
        serde_json::json!({"id": "F1", "displayName": "Inbox", "totalItemCount": 1}),
    )
}

fn item(id: &str, received: &str) -> serde_json::Value {
    serde_json::json!({"id": id, "receivedDateTime": received})
}

/// A request as the script sees it.
struct Asked {
    method: String,
    /// Path and query, decoded.
    path: String,
    head: String,
    body: String,
    /// The number of requests before this one.
    number: usize,
}

type Script = dyn Fn(&Asked) -> Act + Send + Sync;

struct Scripted {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    most: Arc<AtomicUsize>,
    authority: TokenServer,
    task: JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scripted {
    async fn start(script: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let most = Arc::new(AtomicUsize::new(0));
        let script: Arc<Script> = Arc::new(script);
        let task = tokio::spawn({
            let (asked, most) = (asked.clone(), most.clone());
            let now = Arc::new(AtomicUsize::new(0));
            async move {
                let mut serving = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let (asked, most) = (asked.clone(), most.clone());
                    let (now, script) = (now.clone(), script.clone());
                    serving.spawn(async move {
                        let _ = serve(stream, &asked, &now, &most, &*script).await;
                    });
                }
            }
        });
        Self {
            port,
            asked,
            most,
            authority: TokenServer::start().await,
            task,
        }
    }

    fn base(&self) -> String {
        format!("http://127.0.0.1:{}/v1.0", self.port)
    }

    fn source(&self) -> GraphSource {
        self.source_with(Import::All, |_| {})
    }

    fn source_with(&self, import: Import, change: impl FnOnce(&mut GraphSettings)) -> GraphSource {
        let mut settings = GraphSettings {
            name: "support".into(),
            base: self.base().parse().unwrap(),
            folder: "INBOX".into(),
            import,
            targets: Vec::new(),
            proxies: postroom_net::Proxies::default(),
            timeouts: GraphTimeouts::default(),
        };
        change(&mut settings);
        let login = self.authority.login_for(USER, Resource::Graph);
        graph(settings, login, tls())
    }

    /// Returns the requests so far.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn count(&self, part: &str) -> usize {
        self.asked().iter().filter(|it| it.contains(part)).count()
    }
}

fn tls() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Arc::new(config)
}

async fn serve(
    stream: TcpStream,
    asked: &Mutex<Vec<String>>,
    now: &AtomicUsize,
    most: &AtomicUsize,
    script: &Script,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let length = head.to_ascii_lowercase();
    let length = length
        .split_once("content-length: ")
        .and_then(|(_, rest)| rest.lines().next()?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    let mut words = head.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let path = decoded(words.next().unwrap_or_default());
    let number = {
        let mut asked = asked.lock().unwrap();
        asked.push(format!("{method} {path}"));
        asked.len() - 1
    };
    let request = Asked {
        method,
        path,
        body: String::from_utf8(body).unwrap(),
        head,
        number,
    };
    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    let act = script(&request);
    if matches!(act, Act::Answer(..)) && request.path.ends_with("$value") {
        // Long enough for others to arrive.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    now.fetch_sub(1, Ordering::SeqCst);
    match act {
        Act::Answer(status, headers, kind, body) => {
            let head = format!(
                "HTTP/1.1 {status} Scripted\r\ndate: Mon, 30 Nov 2026 10:00:00 GMT\r\n{headers}content-type: {kind}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await?;
        }
        Act::Play(hostility) => {
            let stream = stream.into_inner().into_std()?;
            // It ends when the client goes away.
            std::thread::spawn(move || hostility.play(stream));
            return Ok(());
        }
        Act::Silence => std::future::pending().await,
        Act::Trickle => {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            loop {
                stream.write_all(b" ").await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Act::Endless(kind, bytes) => {
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let part = vec![b' '; 64 * 1024];
            for _ in 0..bytes / part.len() as u64 {
                stream.write_all(&part).await?;
            }
        }
    }
    stream.shutdown().await
}

fn decoded(path: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    let query: Vec<String> = pairs
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let path = path.replace("%40", "@").replace("%24", "$");
    match query.is_empty() {
        true => path,
        false => format!("{path}?{}", query.join("&")),
    }
}

/// Fetches until nothing is left, as the service does. Returns the mails' ids and the last cursor.
async fn drain(
    source: &mut GraphSource,
    mut cursor: Option<Cursor>,
    journal: &MemoryJournal,
) -> (Vec<String>, Option<Cursor>) {
    let limits = FetchLimits::default();
    let mut ids = Vec::new();
    for _ in 0..200 {
        let batch = source.fetch(cursor.as_ref(), &limits).await.unwrap();
        for message in &batch.messages {
            ids.extend(id_at(&message.position));
        }
        journal.take(&batch);
        let is_new = batch.cursor != cursor;
        cursor = batch.cursor;
        if !batch.more && !is_new && batch.messages.is_empty() {
            return (ids, cursor);
        }
    }
    panic!("no end: {ids:?}");
}
