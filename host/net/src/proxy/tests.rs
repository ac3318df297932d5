//! Which connection takes which proxy, and scripted proxies: what each reply means, and that nothing behind it is lost.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::{ConnectError, Unreachable, dial};

const LIMIT: Duration = Duration::from_millis(500);

/// Connects to `mail.example:993` through a proxy with this script. Returns the connection or the fault with its text.
async fn through(
    url: &str,
    script: impl AsyncFnOnce(TcpStream),
) -> Result<TcpStream, (ProxyFault, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let proxy = Proxy::parse(&url.replace("PROXY", &format!("127.0.0.1:{port}"))).unwrap();
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        script(stream).await;
    };
    let (connected, ()) = tokio::join!(
        dial("mail.example", 993, Some(&proxy), LIMIT, None),
        serving
    );
    connected.map_err(|error| match error {
        ConnectError::Unreachable {
            why: Unreachable::Proxy(fault),
            reason,
        } => {
            assert!(reason.contains(&proxy.to_string()), "{reason}");
            assert!(!reason.contains("hunter2"), "{reason}");
            (fault, reason)
        }
        error => panic!("{error}"),
    })
}

/// Reads the head of a request.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn by_connect(url: &str, answer: &[u8]) -> Result<TcpStream, (ProxyFault, String)> {
    through(url, async |mut stream| {
        head(&mut stream).await;
        stream.write_all(answer).await.unwrap();
    })
    .await
}

/// Plays a SOCKS proxy without authentication whose reply has this code.
async fn by_socks(code: u8) -> Result<TcpStream, (ProxyFault, String)> {
    through("socks5://PROXY", async |mut stream| {
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting).await.unwrap();
        stream.write_all(&[5, 0]).await.unwrap();
        // The name travels to the proxy, which resolves it.
        let mut request = [0; 19];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(&request[..5], &[5, 1, 0, 3, 12]);
        assert_eq!(&request[5..17], b"mail.example");
        stream
            .write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0])
            .await
            .unwrap();
    })
    .await
}

#[tokio::test]
async fn a_tunnel_keeps_what_the_server_says_first() {
    let mut tunnel = through("http://us:hunter2@PROXY", async |mut stream| {
        let head = head(&mut stream).await;
        assert!(
            head.starts_with("CONNECT mail.example:993 HTTP/1.1\r\nHost: mail.example:993\r\n"),
            "{head}"
        );
        // us:hunter2
        assert!(
            head.contains("\r\nProxy-Authorization: Basic dXM6aHVudGVyMg==\r\n"),
            "{head}"
        );
        let answer = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n* OK ready\r\n";
        stream.write_all(answer).await.unwrap();
    })
    .await
    .unwrap();
    let mut greeting = String::new();
    tunnel.read_to_string(&mut greeting).await.unwrap();
    assert_eq!(greeting, "* OK ready\r\n");
}

#[tokio::test]
async fn each_answer_to_connect_has_its_fault() {
    for (url, answer, expected) in [
        (
            "http://PROXY",
            "HTTP/1.1 407 x\r\n\r\n",
            ProxyFault::CredentialsRequired,
        ),
        (
            "http://us:hunter2@PROXY",
            "HTTP/1.1 407 x\r\n\r\n",
            ProxyFault::CredentialsRefused,
        ),
        (
            "http://us:hunter2@PROXY",
            "HTTP/1.0 401 x\r\n\r\n",
            ProxyFault::CredentialsRefused,
        ),
        (
            "http://PROXY",
            "HTTP/1.0 403 Forbidden\r\n\r\n",
            ProxyFault::Forbidden,
        ),
        (
            "http://PROXY",
            "HTTP/1.1 503 x\r\n\r\n",
            ProxyFault::ServerUnreachable,
        ),
        (
            "http://PROXY",
            "HTTP/1.1 302 x\r\n\r\n",
            ProxyFault::NotAProxy,
        ),
        ("http://PROXY", "* OK IMAP ready\r\n", ProxyFault::NotAProxy),
        (
            "http://PROXY",
            "HTTP/1.1 abc\r\n\r\n",
            ProxyFault::NotAProxy,
        ),
        ("http://PROXY", "", ProxyFault::NotAProxy),
    ] {
        let (fault, text) = by_connect(url, answer.as_bytes()).await.unwrap_err();
        assert_eq!(fault, expected, "{answer}: {text}");
    }
}

#[tokio::test]
async fn an_endless_head_ends_at_its_limit() {
    let endless = b"HTTP/1.1 200 x\r\nx: "
        .iter()
        .chain([b'a'; 32 * 1024].iter());
    let endless: Vec<u8> = endless.copied().collect();
    let (fault, text) = through("http://PROXY", async |mut stream| {
        head(&mut stream).await;
        // The client goes away before the end.
        let _ = stream.write_all(&endless).await;
    })
    .await
    .unwrap_err();
    assert_eq!(fault, ProxyFault::NotAProxy, "{text}");
    assert!(text.contains("16384 bytes"), "{text}");
}

#[tokio::test]
async fn a_silent_or_slow_proxy_ends_in_a_timeout() {
    for url in ["http://PROXY", "socks5://PROXY"] {
        let silent = async |mut stream: TcpStream| {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
        };
        let (fault, text) = through(url, silent).await.unwrap_err();
        assert_eq!(fault, ProxyFault::Timeout, "{text}");
    }
    let (fault, _) = through("http://PROXY", async |mut stream| {
        head(&mut stream).await;
        for byte in b"HTTP/1.1 200 Connection established\r\n\r\n" {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(LIMIT / 5).await;
        }
    })
    .await
    .unwrap_err();
    assert_eq!(fault, ProxyFault::Timeout);
}

#[tokio::test]
async fn each_socks_reply_has_its_fault() {
    assert!(by_socks(0).await.is_ok());
    for (code, expected) in [
        (1, ProxyFault::ServerUnreachable),
        (2, ProxyFault::Forbidden),
        (3, ProxyFault::ServerUnreachable),
        (4, ProxyFault::ServerUnreachable),
        (5, ProxyFault::ServerUnreachable),
        (6, ProxyFault::ServerUnreachable),
        (99, ProxyFault::NotAProxy),
    ] {
        let (fault, text) = by_socks(code).await.unwrap_err();
        assert_eq!(fault, expected, "{code}: {text}");
    }
}

#[tokio::test]
async fn socks_credentials_are_required_or_refused() {
    let (fault, _) = through("socks5://PROXY", async |mut stream| {
        stream.read_exact(&mut [0; 3]).await.unwrap();
        stream.write_all(&[5, 0xff]).await.unwrap();
    })
    .await
    .unwrap_err();
    assert_eq!(fault, ProxyFault::CredentialsRequired);
    let (fault, _) = through("socks5://us:hunter2@PROXY", async |mut stream| {
        let mut greeting = vec![0; 2];
        stream.read_exact(&mut greeting).await.unwrap();
        stream
            .read_exact(&mut vec![0; greeting[1].into()])
            .await
            .unwrap();
        stream.write_all(&[5, 2]).await.unwrap();
        let mut pair = [0; 12];
        stream.read_exact(&mut pair).await.unwrap();
        assert_eq!(&pair, b"\x01\x02us\x07hunter2");
        stream.write_all(&[1, 1]).await.unwrap();
    })
    .await
    .unwrap_err();
    assert_eq!(fault, ProxyFault::CredentialsRefused);
    let (fault, _) = through("socks5://PROXY", async |mut stream| {
        stream.write_all(b"HTTP/1.1 400 Bad\r\n\r\n").await.unwrap();
    })
    .await
    .unwrap_err();
    assert_eq!(fault, ProxyFault::NotAProxy);
}

#[tokio::test]
async fn a_proxy_that_is_down_or_unknown_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    for (url, expected) in [
        (format!("http://127.0.0.1:{port}"), ProxyFault::Unreachable),
        (
            format!("socks5://127.0.0.1:{port}"),
            ProxyFault::Unreachable,
        ),
        ("http://proxy.invalid:3128".into(), ProxyFault::UnknownHost),
    ] {
        let proxy = Proxy::parse(&url).unwrap();
        let limit = Duration::from_secs(30);
        let error = dial("mail.example", 993, Some(&proxy), limit, None).await;
        match error.unwrap_err() {
            ConnectError::Unreachable { why, reason } => {
                assert_eq!(why, Unreachable::Proxy(expected), "{reason}");
                assert!(reason.contains(&url), "{reason}");
            }
            error => panic!("{error}"),
        }
    }
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

#[test]
fn a_proxy_is_shown_without_its_password() {
    let proxy = Proxy::parse("http://us%40er:hunter2@proxy.example:3128").unwrap();
    for shown in [proxy.to_string(), format!("{proxy:?}")] {
        assert!(
            !shown.contains("hunter2") && shown.contains("proxy.example:3128"),
            "{shown}"
        );
    }
    let url = proxy.url_with_password().unwrap();
    assert_eq!(
        url.as_str(),
        "http://us%40er:hunter2@proxy.example:3128/",
        "the library needs it"
    );
}

#[test]
fn proxies_are_urls_of_a_known_kind() {
    for (text, shown) in [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("http://proxy.example", "http://proxy.example:80"),
        ("socks5://proxy.example", "socks5://proxy.example:1080"),
        ("socks5h://[::1]:9050/", "socks5://[::1]:9050"),
    ] {
        assert_eq!(Proxy::parse(text).unwrap().to_string(), shown);
    }
    for text in [
        "",
        "proxy.example:3128",
        "http://",
        "http://proxy.example/path",
        "https://proxy.example",
        "socks4://proxy.example",
    ] {
        assert!(Proxy::parse(text).is_err(), "{text}");
    }
}

#[test]
fn this_machine_and_exempt_hosts_are_contacted_directly() {
    let proxy = || Some(Proxy::parse("http://proxy.example:3128").unwrap());
    let rules = |loopback| ProxyRules {
        https: proxy(),
        mail: proxy(),
        direct: vec![HostPattern::parse("corp.example").unwrap()],
        loopback,
        ..ProxyRules::default()
    };
    let proxies = Proxies::new(rules(false));
    assert!(
        proxies
            .for_url(&url("https://graph.microsoft.com/"))
            .is_some()
    );
    assert!(proxies.for_mail("outlook.office365.com").is_some());
    assert!(
        proxies
            .for_url(&url("http://graph.microsoft.com/"))
            .is_none()
    );
    for host in ["localhost", "127.0.0.1", "mail.corp.example"] {
        assert!(proxies.for_mail(host).is_none(), "{host}");
    }
    assert!(proxies.for_url(&url("https://[::1]:8443/")).is_none());
    assert!(
        Proxies::new(rules(true))
            .for_url(&url("https://[::1]:8443/"))
            .is_some()
    );
    assert!(
        Proxies::only(proxy().unwrap())
            .for_mail("mail.corp.example")
            .is_some()
    );
}
