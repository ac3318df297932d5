//! Signing in to an IMAP server: XOAUTH2 with a profile's token, or a password; then ID.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use postroom_auth::{AccessToken, Login, Secret};
use postroom_net::{ProbeReporter, Step, TraceRedactor};

use super::connection::{Connection, protocol, quoted};
use super::response::{Code, Done, Response, Status, Untagged, shown};
use crate::{SourceError, bearer};

/// Signs in; see [`bearer::Tries::is_over`] on `distrusted`.
pub(super) async fn sign_in(
    connection: &mut Connection,
    login: &Login,
    distrusted: &mut bool,
    probe: &mut ProbeReporter<'_, SourceError>,
) -> Result<(), SourceError> {
    connection.learn_capabilities().await?;
    let way = match login {
        Login::Password { user, password } => {
            sign_in_by_password(connection, user, password).await?
        }
        Login::Bearer { user, .. } => {
            if let Some(mut tries) = bearer::Tries::begin(login, probe).await? {
                loop {
                    let outcome = xoauth2(connection, user, tries.token()).await;
                    if tries.is_over(outcome, distrusted).await? {
                        break;
                    }
                }
            }
            XOAUTH2
        }
    };
    connection.learn_capabilities().await?;
    probe.passed(Step::Authenticate, || format!("{way} as {}", login.user()));
    Ok(())
}

/// Tells the server which program this is (RFC 2971), if it asks for that: NetEase opens no folder otherwise. Servers that
/// advertise ID and refuse it are passed over.
pub(super) async fn identify(connection: &mut Connection) -> Result<(), SourceError> {
    const ID: &str = concat!(
        "ID (\"name\" \"postroom\" \"version\" \"",
        env!("CARGO_PKG_VERSION"),
        "\")"
    );
    connection.learn_capabilities().await?;
    if connection.can("ID") {
        connection.command(Step::Authenticate, ID).await?;
    }
    Ok(())
}

const XOAUTH2: &str = "XOAUTH2";

async fn xoauth2(
    connection: &mut Connection,
    user: &str,
    token: &AccessToken,
) -> Result<(), SourceError> {
    let answer = format!("user={user}\x01auth=Bearer {}\x01\x01", token.expose());
    connection.hide(TraceRedactor::new([token.expose()]).with_response(&answer));
    authenticate(connection, user, XOAUTH2, &answer).await
}

/// Signs in with a password, and returns the method that was used.
async fn sign_in_by_password(
    connection: &mut Connection,
    user: &str,
    password: &Secret,
) -> Result<&'static str, SourceError> {
    let answer = format!("\0{user}\0{}", password.expose());
    connection.hide(TraceRedactor::new([password.expose()]).with_response(&answer));
    if connection.can("AUTH=PLAIN") {
        authenticate(connection, user, "PLAIN", &answer).await?;
        return Ok("PLAIN");
    }
    if connection.can("LOGINDISABLED") {
        return Err(SourceError::RefusedLogin {
            user: user.to_owned(),
            challenge: None,
            code: Some("LOGINDISABLED".into()),
            text: "the server accepts no passwords on this connection (LOGINDISABLED)".into(),
        });
    }
    let command = format!(
        "LOGIN {} {}",
        quoted(user, Step::Authenticate)?,
        quoted(password.expose(), Step::Authenticate)?
    );
    connection.forget_capabilities();
    let done = connection.command(Step::Authenticate, &command).await?;
    signed_in(user, None, done)?;
    Ok("LOGIN")
}

/// Runs one SASL exchange with a single client response (RFC 9051 section 6.2.2; RFC 4959 for the initial response).
async fn authenticate(
    connection: &mut Connection,
    user: &str,
    mechanism: &str,
    answer: &str,
) -> Result<(), SourceError> {
    const STEP: Step = Step::Authenticate;
    /// The most lines of a sign-in.
    const EXCHANGES_MAX: usize = 100;
    let answer = BASE64.encode(answer);
    let mut unsent = Some(answer.as_str()).filter(|_| !connection.can("SASL-IR"));
    let command = match unsent {
        None => format!("AUTHENTICATE {mechanism} {answer}"),
        Some(_) => format!("AUTHENTICATE {mechanism}"),
    };
    connection.forget_capabilities();
    connection.busy = true;
    let tag = connection.send(&command);
    let deadline = connection.deadline(0);
    connection.flush(STEP, deadline).await?;
    let mut challenge = None;
    for _ in 0..EXCHANGES_MAX {
        match connection.next(STEP, deadline).await? {
            Response::Continue(text) => {
                // After its response a client has nothing more to send: further challenges contain the details of the
                // error, and have to be acknowledged with an empty line before the server ends the exchange.
                let line = unsent.take().unwrap_or_else(|| {
                    challenge = Some(connection.redacted(&decoded(&text)));
                    ""
                });
                connection.wire.queue(format!("{line}\r\n").as_bytes());
                connection.flush(STEP, deadline).await?;
            }
            Response::Tagged { tag: ended, done } if ended == tag => {
                connection.busy = false;
                return signed_in(user, challenge, done);
            }
            Response::Untagged(Untagged::Status(_) | Untagged::Capability(_) | Untagged::Other) => {
            }
            _ => break,
        }
    }
    Err(protocol(STEP, "no sign-in exchange"))
}

fn signed_in(user: &str, challenge: Option<String>, done: Done) -> Result<(), SourceError> {
    match (done.status, done.code) {
        (Status::Ok, _) => Ok(()),
        // The server's own failure says nothing about the token or the password.
        (_, Some(Code::Passing)) => Err(SourceError::Transient {
            step: Step::Authenticate,
            reason: done.text,
        }),
        (_, Some(Code::Limit)) => Err(SourceError::OverLimit {
            step: Step::Authenticate,
            text: done.text,
            retry_after: None,
        }),
        (_, code) => Err(SourceError::RefusedLogin {
            user: user.to_owned(),
            challenge,
            code: code.and_then(Code::into_name),
            text: done.text,
        }),
    }
}

fn decoded(challenge: &[u8]) -> String {
    BASE64
        .decode(challenge.trim_ascii())
        .map_or_else(|_| shown(challenge), |json| shown(&json))
}
