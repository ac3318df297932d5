//! Sign-in to a POP3 server (RFC 5034): XOAUTH2 or OAUTHBEARER with a profile's token, or a password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use postroom_auth::{AccessToken, Login, Secret};
use postroom_net::{ProbeReporter, Step, TraceRedactor};

use super::Pop3Settings;
use super::reply::{Code, Reply, shown};
use super::session::{Session, protocol};
use crate::{SourceError, bearer};

const STEP: Step = Step::Authenticate;
const XOAUTH2: &str = "XOAUTH2";
/// The mechanism of RFC 7628.
const OAUTHBEARER: &str = "OAUTHBEARER";

/// Signs in. See [`bearer::Tries::is_over`] for `distrusted`.
pub(super) async fn sign_in(
    session: &mut Session,
    settings: &Pop3Settings,
    login: &Login,
    distrusted: &mut bool,
    probe: &mut ProbeReporter<'_, SourceError>,
) -> Result<(), SourceError> {
    session.learn_capabilities().await?;
    let way = match login {
        Login::Password { user, password } => by_password(session, user, password).await?,
        Login::Bearer { user, .. } => {
            // Most servers that list no mechanism accept XOAUTH2.
            let mechanism = match session.offers(OAUTHBEARER) && !session.offers(XOAUTH2) {
                true => OAUTHBEARER,
                false => XOAUTH2,
            };
            if let Some(mut tries) = bearer::Tries::begin(login, probe).await? {
                loop {
                    let token = tries.token();
                    let outcome = by_token(session, settings, mechanism, user, token).await;
                    if tries.is_over(outcome, distrusted).await? {
                        break;
                    }
                }
            }
            mechanism
        }
    };
    probe.passed(STEP, || format!("{way} as {}", login.user()));
    Ok(())
}

async fn by_token(
    session: &mut Session,
    settings: &Pop3Settings,
    mechanism: &'static str,
    user: &str,
    token: &AccessToken,
) -> Result<(), SourceError> {
    let token = token.expose();
    let (answer, acknowledged) = match mechanism {
        OAUTHBEARER => {
            let user = user.replace('=', "=3D").replace(',', "=2C");
            let place = format!("host={}\x01port={}", settings.host, settings.port);
            let answer = format!("n,a={user},\x01{place}\x01auth=Bearer {token}\x01\x01");
            // RFC 7628 section 3.2.3.
            (answer, "AQ==")
        }
        _ => (format!("user={user}\x01auth=Bearer {token}\x01\x01"), ""),
    };
    session.hide(TraceRedactor::new([token]).with_response(&answer));
    authenticate(session, user, mechanism, &answer, acknowledged).await
}

/// Signs in with a password. Returns the method used.
async fn by_password(
    session: &mut Session,
    user: &str,
    password: &Secret,
) -> Result<&'static str, SourceError> {
    let answer = format!("\0{user}\0{}", password.expose());
    session.hide(TraceRedactor::new([password.expose()]).with_response(&answer));
    if session.offers("PLAIN") {
        authenticate(session, user, "PLAIN", &answer, "").await?;
        return Ok("PLAIN");
    }
    let reply = session.command(STEP, &format!("USER {user}")).await?;
    signed_in(user, None, reply)?;
    let command = format!("PASS {}", password.expose());
    let reply = session.command(STEP, &command).await?;
    signed_in(user, None, reply)?;
    Ok("USER")
}

/// Runs one SASL exchange with a single client response. The response goes in a line of its own: Exchange accepts no other form,
/// and a token is longer than a command may be (RFC 5034 section 4). A server that refuses the bare command is sent both in one
/// line.
async fn authenticate(
    session: &mut Session,
    user: &str,
    mechanism: &str,
    answer: &str,
    acknowledged: &str,
) -> Result<(), SourceError> {
    let answer = BASE64.encode(answer);
    let deadline = session.send(STEP, &format!("AUTH {mechanism}")).await?;
    let line = session.next(STEP, deadline).await?;
    if challenge(&line).is_some() {
        session.say(STEP, &answer, deadline).await?;
        return end(session, user, acknowledged, deadline).await;
    }
    let reply = session.reply(STEP, &line)?;
    if reply.is_ok {
        return Err(protocol(STEP, "a sign-in accepted before it was made"));
    }
    if reply.code.is_some() {
        return signed_in(user, None, reply);
    }
    let command = format!("AUTH {mechanism} {answer}");
    let deadline = session.send(STEP, &command).await?;
    end(session, user, acknowledged, deadline).await
}

/// Returns the server's verdict. Lines before it are the details of an error, to be acknowledged before the server ends the
/// exchange.
async fn end(
    session: &mut Session,
    user: &str,
    acknowledged: &str,
    deadline: tokio::time::Instant,
) -> Result<(), SourceError> {
    /// The most lines before the end of a sign-in.
    const EXCHANGES_MAX: usize = 10;
    let mut details = None;
    for _ in 0..EXCHANGES_MAX {
        let line = session.next(STEP, deadline).await?;
        match challenge(&line) {
            Some(text) => {
                details = Some(session.redacted(&decoded(text)));
                session.say(STEP, acknowledged, deadline).await?;
            }
            None => {
                let reply = session.reply(STEP, &line)?;
                return signed_in(user, details, reply);
            }
        }
    }
    Err(protocol(STEP, "no sign-in exchange"))
}

fn signed_in(user: &str, challenge: Option<String>, reply: Reply) -> Result<(), SourceError> {
    if reply.is_ok {
        return Ok(());
    }
    match reply.code {
        // A failure of the server itself: the token or the password may be right.
        Some(Code::InUse | Code::LoginDelay | Code::Temporary | Code::Permanent) => {
            Err(reply.refusal(STEP))
        }
        code => Err(SourceError::RefusedLogin {
            user: user.to_owned(),
            challenge,
            code: code.map(Code::into_name),
            text: reply.text,
        }),
    }
}

/// Returns the text of a continuation; `None` for a status line.
fn challenge(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"+")?;
    (rest.is_empty() || rest.starts_with(b" ")).then_some(rest)
}

fn decoded(challenge: &[u8]) -> String {
    BASE64
        .decode(challenge.trim_ascii())
        .map_or_else(|_| shown(challenge), |json| shown(&json))
}
