//! Hostile token endpoints: whatever they answer, a request ends, is retried later, and takes the secret nowhere else.

use std::time::Duration;

use postroom_auth::{AuthError, Endpoints, ExchangeLimits, Need};
use postroom_stand::{Hostile, Hostility, Then, http_hostilities};

use crate::kit::app_only;
use crate::rig::Rig;

/// The time limit of waits, never reached when everything works.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns an application whose token endpoint is at a port of this machine.
fn at(port: u16) -> Rig {
    let endpoints = Endpoints::Fixed {
        authorize: None,
        token: format!("http://127.0.0.1:{port}/token").parse().unwrap(),
        device: None,
    };
    let limits = ExchangeLimits {
        timeout: Duration::from_millis(300),
        answer_bytes: 64 * 1024,
        ..ExchangeLimits::default()
    };
    Rig::with(
        app_only("hostile.example", endpoints),
        None,
        &[Need::Imap],
        |tokens| tokens.with_limits(limits),
    )
}

async fn refused(rig: &Rig, name: &str) -> AuthError {
    let asked = rig
        .tokens
        .access_token(&rig.account, postroom_auth::Resource::Mail);
    let asked = tokio::time::timeout(PATIENCE, asked).await;
    match asked.unwrap_or_else(|_| panic!("{name}: no end")) {
        Ok(_) => panic!("{name}: a token"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_answer_ends_and_is_retried() {
    for status in ["200 OK", "400 Bad Request", "503 Busy"] {
        for (name, hostility) in http_hostilities(status) {
            let name = format!("{status}, {name}");
            let server = Hostile::start(hostility).unwrap();
            let rig = at(server.port());
            let error = refused(&rig, &name).await;
            assert!(
                matches!(
                    error,
                    AuthError::Transient { .. } | AuthError::Nonsense { .. }
                ),
                "{name}: {error:?}"
            );
            assert!(error.to_string().len() < 1000, "{name}: {error}");
            // What the client did not read is in the buffers of the loopback connection. Interim answers are dropped as they come,
            // and end with the time limit only.
            let sent = server.sent();
            let is_bounded = sent < 32 * 1024 * 1024 || name.contains("interim");
            assert!(is_bounded, "{name}: {sent} bytes");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_takes_the_secret_nowhere() {
    let elsewhere = Hostile::start(Hostility::new("", Then::Close)).unwrap();
    for status in [301, 302, 303, 307, 308] {
        let moved = format!(
            "HTTP/1.1 {status} Moved\r\nLocation: http://127.0.0.1:{}/token\r\nContent-Length: 0\r\n\r\n",
            elsewhere.port()
        );
        let server = Hostile::start(Hostility::new(moved, Then::Close)).unwrap();
        let rig = at(server.port());
        let error = refused(&rig, "a redirect").await;
        assert!(matches!(error, AuthError::Nonsense { .. }), "{error:?}");
        assert!(error.to_string().contains("a redirect"), "{error}");
    }
    assert_eq!(elsewhere.connections(), 0);
}
