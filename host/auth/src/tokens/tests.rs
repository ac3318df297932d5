//! Token requests against a small scripted HTTP server: what is asked, shared, renewed and refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::Secret;

type Judge = fn(&AuthError) -> bool;

struct Server {
    url: String,
    requests: Arc<AtomicUsize>,
    last_body: Arc<Mutex<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers the n-th request with what `answer` gives for n, counted from 1.
    async fn start(answer: impl Fn(usize) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "http://{}/t/oauth2/v2.0/token",
            listener.local_addr().unwrap()
        );
        let requests = Arc::new(AtomicUsize::new(0));
        let last_body = Arc::new(Mutex::new(String::new()));
        let (count, body) = (requests.clone(), last_body.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut read = Vec::new();
                let mut block = [0; 4096];
                loop {
                    let n = stream.read(&mut block).await.unwrap();
                    read.extend_from_slice(&block[..n]);
                    let text = String::from_utf8_lossy(&read).into_owned();
                    if let Some((head, sent)) = text.split_once("\r\n\r\n") {
                        let length = head
                            .to_lowercase()
                            .split_once("content-length: ")
                            .and_then(|(_, rest)| rest.lines().next()?.trim().parse().ok())
                            .unwrap_or(0);
                        if sent.len() >= length {
                            *body.lock().await = sent.to_owned();
                            break;
                        }
                    }
                    if n == 0 {
                        break;
                    }
                }
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
                let _ = stream.write_all(answer(number).as_bytes()).await;
            }
        });
        Self {
            url,
            requests,
            last_body,
            task,
        }
    }

    fn tokens(&self) -> Tokens {
        let limits = ExchangeLimits {
            timeout: Duration::from_secs(2),
            answer_bytes: 10_000,
            ..ExchangeLimits::default()
        };
        Tokens::with_limits(client(), vec![profile(&self.url)], limits)
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn client() -> reqwest::Client {
    // Plain HTTP needs no crypto, but the client builder still wants a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap()
}

fn profile(url: &str) -> Profile {
    Profile {
        name: "contoso".into(),
        token_url: url.parse().unwrap(),
        client_id: "app".into(),
        credential: Secret::new("s3cr&t"),
        scopes: vec!["https://mail.example/.default".into()],
        tenants: None,
    }
}

fn http(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn token(number: usize, expires_in: &str) -> String {
    let body = format!(
        r#"{{"access_token":"tok{number}","token_type":"Bearer","expires_in":{expires_in}}}"#
    );
    http("200 OK", "application/json; charset=utf-8", &body)
}

#[tokio::test]
async fn many_mailboxes_share_one_request() {
    let server = Server::start(|n| token(n, "3600")).await;
    let tokens = server.tokens();
    let all = (0..20).map(|_| tokens.access_token("contoso"));
    for got in futures::future::join_all(all).await {
        assert_eq!(got.unwrap().expose(), "tok1");
    }
    assert_eq!(server.requests(), 1);
    let body = server.last_body.lock().await.clone();
    for part in [
        "grant_type=client_credentials",
        "client_id=app",
        "client_secret=s3cr%26t",
        "scope=https%3A%2F%2Fmail.example%2F.default",
    ] {
        assert!(body.contains(part), "{body}");
    }
}

#[tokio::test]
async fn who_waited_shares_the_failure() {
    let server = Server::start(|_| http("503 Service Unavailable", "text/html", "<p>")).await;
    let tokens = server.tokens();
    let all = (0..20).map(|_| tokens.access_token("contoso"));
    for got in futures::future::join_all(all).await {
        assert!(got.unwrap_err().is_transient());
    }
    assert_eq!(server.requests(), 1);
    tokens.access_token("contoso").await.unwrap_err();
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn retry_after_is_kept_without_asking_again() {
    let server = Server::start(|_| {
        "HTTP/1.1 429 Too Many\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n".into()
    })
    .await;
    let tokens = server.tokens();
    tokens.access_token("contoso").await.unwrap_err();
    let again = tokens.access_token("contoso").await.unwrap_err();
    let left = again.retry_after().unwrap();
    assert!(left > Duration::from_secs(25) && left <= Duration::from_secs(30));
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_rejected_token_is_replaced_and_an_older_one_is_not() {
    let server = Server::start(|n| token(n, "\"3600\"")).await;
    let tokens = server.tokens();
    let first = tokens.access_token("contoso").await.unwrap();
    tokens.reject("contoso", &first).await;
    let second = tokens.access_token("contoso").await.unwrap();
    assert_eq!(second.expose(), "tok2");
    tokens.reject("contoso", &first).await;
    assert_eq!(tokens.access_token("contoso").await.unwrap(), second);
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_expiry_and_used_on_when_that_fails() {
    let server = Server::start(|n| match n {
        1 => token(1, "1"),
        2 => http("503 Service Unavailable", "text/plain", "busy"),
        _ => token(n, "3600"),
    })
    .await;
    let tokens = server.tokens();
    tokens.access_token("contoso").await.unwrap();
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(
        tokens.access_token("contoso").await.unwrap().expose(),
        "tok1"
    );
    assert_eq!(server.requests(), 2);
    assert_eq!(
        tokens.access_token("contoso").await.unwrap().expose(),
        "tok3"
    );
}

#[tokio::test]
async fn answers_are_judged() {
    let microsoft = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.","error_codes":[7000215],"correlation_id":"c-1"}"#;
    let cases: Vec<(&str, String, Judge)> = vec![
        (
            "refused",
            http("401 Unauthorized", "application/json", microsoft),
            |e| {
                matches!(e, AuthError::Refused { error, codes, correlation_id, .. }
                if error == "invalid_client" && codes == &[7000215] && correlation_id.as_deref() == Some("c-1"))
            },
        ),
        (
            "passing",
            http(
                "400 Bad Request",
                "application/json",
                r#"{"error":"invalid_request","error_codes":[90033]}"#,
            ),
            AuthError::is_transient,
        ),
        ("html", http("200 OK", "text/html", "<html>hello"), |e| {
            matches!(e, AuthError::Nonsense { .. })
        }),
        (
            "html error",
            http("404 Not Found", "text/html", "<html>hello"),
            |e| matches!(e, AuthError::Nonsense { .. }),
        ),
        ("empty", http("200 OK", "application/json", ""), |e| {
            matches!(e, AuthError::Nonsense { .. })
        }),
        (
            "huge",
            http("200 OK", "application/json", &"x".repeat(20_000)),
            |e| matches!(e, AuthError::Nonsense { .. }),
        ),
        (
            "no token",
            http("200 OK", "application/json", r#"{"token_type":"Bearer"}"#),
            |e| matches!(e, AuthError::Nonsense { .. }),
        ),
        (
            "not a bearer",
            http(
                "200 OK",
                "application/json",
                r#"{"access_token":"tokx","token_type":"mac"}"#,
            ),
            |e| matches!(e, AuthError::Nonsense { .. }),
        ),
        (
            "injection",
            http(
                "200 OK",
                "application/json",
                "{\"access_token\":\"tokx\\u0001\",\"token_type\":\"Bearer\"}",
            ),
            |e| matches!(e, AuthError::Nonsense { .. }),
        ),
        (
            "bad lifetime",
            http(
                "200 OK",
                "application/json",
                r#"{"access_token":"tokx","token_type":"Bearer","expires_in":"soon"}"#,
            ),
            |e| matches!(e, AuthError::Nonsense { .. }),
        ),
        (
            "redirect",
            "HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
                .into(),
            |e| matches!(e, AuthError::Nonsense { .. }),
        ),
        (
            "cut off",
            "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".into(),
            AuthError::is_transient,
        ),
    ];
    for (name, answer, judged) in cases {
        let server = Server::start(move |_| answer.clone()).await;
        let error = server.tokens().access_token("contoso").await.unwrap_err();
        assert!(judged(&error), "{name}: {error:?}");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("contoso"), "{name}: {shown}");
        assert!(
            !shown.contains("s3cr") && !shown.contains("tokx"),
            "{name}: {shown}"
        );
    }
}

#[tokio::test]
async fn no_server_and_no_profile() {
    let tokens = Tokens::new(client(), vec![profile("http://127.0.0.1:1/token")]);
    assert!(
        tokens
            .access_token("contoso")
            .await
            .unwrap_err()
            .is_transient()
    );
    assert!(matches!(
        tokens.access_token("other").await,
        Err(AuthError::UnknownProfile { .. })
    ));
}
