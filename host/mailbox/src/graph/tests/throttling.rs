//! Throttling and refused tokens.

use super::*;

#[tokio::test]
async fn a_short_pause_is_waited_for_and_a_long_one_is_handed_on() {
    let server = Scripted::start(|asked| match asked.number {
        0 => error(429, "ApplicationThrottled", "retry-after: 0\r\n"),
        1 => error(503, "ServiceUnavailable", "retry-after: 1\r\n"),
        2 => folder(),
        _ => error(429, "MailboxConcurrency", "retry-after: 900\r\n"),
    })
    .await;
    let mut source = server.source();
    source.connect().await.unwrap();
    source.close().await;
    let error = source.connect().await.unwrap_err();
    let SourceError::OverLimit { text, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(text, "no");
    assert!(error.is_transient());
    let pause = error.retry_after().unwrap();
    assert_eq!(pause, Duration::from_secs(900));
    // No request is sent during the pause.
    assert_eq!(server.asked().len(), 4);
    let error = source.connect().await.unwrap_err();
    assert!(
        error.retry_after().unwrap() > Duration::from_secs(600),
        "{error}"
    );
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn a_server_that_always_asks_for_a_moment_ends_the_session() {
    let server = Scripted::start(|_| error(429, "TooManyRequests", "retry-after: 0\r\n")).await;
    let error = server.source().connect().await.unwrap_err();
    assert!(matches!(error, SourceError::OverLimit { .. }), "{error}");
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let server = Scripted::start(|asked| match asked.head.contains("Bearer tok1") {
        true => error(401, "InvalidAuthenticationToken", ""),
        false => folder(),
    })
    .await;
    server.source().connect().await.unwrap();
    assert_eq!(server.asked().len(), 2);

    let server = Scripted::start(|_| error(401, "InvalidAuthenticationToken", "")).await;
    let mut source = server.source();
    let error = source.connect().await.unwrap_err();
    let SourceError::RefusedLogin { code, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(code.as_deref(), Some("InvalidAuthenticationToken"));
    // The token is not at fault: the profile's other mailboxes keep it.
    source.connect().await.unwrap_err();
    assert_eq!(server.asked().len(), 3);
    assert_eq!(server.authority.requests(), 2);
}

#[tokio::test]
async fn a_mailbox_that_is_not_covered_is_access_denied() {
    let server = Scripted::start(|_| error(403, "ErrorAccessDenied", "")).await;
    let error = server.source().connect().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "select: no access to the mailbox support@acme.example: HTTP 403 ErrorAccessDenied no"
    );
    assert!(!error.is_transient());
}
