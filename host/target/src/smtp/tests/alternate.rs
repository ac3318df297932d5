//! The alternate server: used while the first one fails, and abandoned when the first may work again.

use super::scripted::*;
use super::*;

/// Binds both servers, each to its own loopback address.
async fn pair() -> (TcpListener, TcpListener, SmtpSettings) {
    let (first, port) = listener().await;
    let alternate = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let settings = SmtpSettings {
        alternate_host: Some("127.0.0.2".into()),
        ..patient(port)
    };
    (first, alternate, settings)
}

const TAKEN: &[Say] = &[OK, OK, GO, QUEUED];
const TAKEN_TWICE: &[Say] = &[OK, OK, GO, QUEUED, OK, OK, OK, GO, QUEUED];

/// Greets one connection with this line, then closes it.
async fn greet(listener: &TcpListener, greeting: &str) {
    let (mut stream, _) = listener.accept().await.unwrap();
    write(&mut stream, greeting).await;
}

#[tokio::test]
async fn while_the_first_server_fails_mail_leaves_by_the_alternate_one() {
    let (first, alternate, settings) = pair().await;
    let smtp = Smtp::new(settings, None, tls(&[])).unwrap();
    let serving = async {
        greet(&first, "421 too busy").await;
        serve(alternate, vec![Script(TAKEN_TWICE)]).await
    };
    let sending = async {
        smtp.send(&mail(ANN), &[]).await.unwrap();
        // The first server is left alone for a while, and the connection is kept.
        smtp.send(&mail(ANN), &[]).await.unwrap();
        smtp.close().await;
    };
    let (heard, ()) = tokio::join!(serving, sending);
    assert_eq!(heard.iter().filter(|it| *it == "DATA").count(), 2);
}

#[tokio::test]
async fn a_server_where_nobody_listens_is_passed_over() {
    let (first, alternate, settings) = pair().await;
    drop(first);
    let smtp = Smtp::new(settings, None, tls(&[])).unwrap();
    let served = serve(alternate, vec![Script(TAKEN)]);
    beside(served, smtp.send(&mail(ANN), &[])).await.unwrap();
}

#[tokio::test]
async fn the_first_server_is_used_again_although_the_other_connection_is_kept() {
    let (first, alternate, mut settings) = pair().await;
    settings.timeouts.return_after = Duration::ZERO;
    let smtp = Smtp::new(settings, None, tls(&[])).unwrap();
    let serving = async {
        greet(&first, "421 too busy").await;
        let script = Script(&[OK, OK, GO, QUEUED, Line("221 bye")]);
        let by_alternate = serve(alternate, vec![script]).await;
        let by_first = serve(first, vec![Script(TAKEN)]).await;
        (by_alternate, by_first)
    };
    let sending = async {
        smtp.send(&mail(ANN), &[]).await.unwrap();
        smtp.send(&mail(ANN), &[]).await.unwrap();
        smtp.close().await;
    };
    let ((by_alternate, by_first), ()) = tokio::join!(serving, sending);
    assert_eq!(by_alternate.last().unwrap(), "QUIT");
    assert!(by_first.contains(&"DATA".to_owned()), "{by_first:?}");
}

#[tokio::test]
async fn a_refused_sign_in_is_not_tried_at_the_alternate_server() {
    let (first, alternate, settings) = pair().await;
    let smtp = Smtp::new(settings, password(), tls(&[])).unwrap();
    let refusal = serve(first, vec![Script(&[Line("535 5.7.8 no")])]);
    let error = beside(refusal, smtp.send(&mail(ANN), &[]))
        .await
        .unwrap_err();
    assert!(matches!(error, SendError::RefusedLogin { .. }), "{error:?}");
    let asked = tokio::time::timeout(Duration::ZERO, alternate.accept()).await;
    assert!(
        asked.is_err(),
        "the password was shown to the alternate server"
    );
}

#[tokio::test]
async fn a_server_that_ends_a_session_is_avoided_by_the_next_mail() {
    let (first, alternate, settings) = pair().await;
    let smtp = Smtp::new(settings, None, tls(&[])).unwrap();
    let ends = Script(&[OK, Line("421 going down")]);
    let error = beside(serve(first, vec![ends]), smtp.send(&mail(ANN), &[]))
        .await
        .unwrap_err();
    assert!(!error.is_permanent(), "{error:?}");
    let served = serve(alternate, vec![Script(TAKEN)]);
    beside(served, smtp.send(&mail(ANN), &[])).await.unwrap();
}

#[tokio::test]
async fn when_both_servers_fail_the_first_ones_error_is_reported() {
    let (first, alternate, settings) = pair().await;
    drop(alternate);
    let smtp = Smtp::new(settings, None, tls(&[])).unwrap();
    for _ in 0..2 {
        let greeting = greet(&first, "421 too busy");
        let mail = mail(ANN);
        let (outcome, ()) = tokio::join!(smtp.send(&mail, &[]), greeting);
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains("421"), "{error}");
    }
}
