//! Sign-in to a submission server (RFC 4954): PLAIN or LOGIN with a password, XOAUTH2 with a profile's token.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use postroom_auth::{AccessToken, Login, Secret};
use postroom_net::{Trace, TraceRedactor};

use crate::smtp::error::{SendError, SmtpStep};
use crate::smtp::reply::Reply;
use crate::smtp::session::Session;

/// The server sends a challenge or asks for more.
const CONTINUE: u16 = 334;

/// Signs in once. From then on, nothing shown from the server contains the secret.
pub(crate) async fn sign_in(
    session: &mut Session,
    login: &Login,
    token: Option<&AccessToken>,
    trace: Option<&Trace>,
) -> Result<(), SendError> {
    let (secret, response) = match (login, token) {
        (Login::Password { user, password }, _) => {
            let response = format!("\0{user}\0{}", password.expose());
            (password.expose(), Secret::new(response))
        }
        (Login::Bearer { user, .. }, Some(token)) => {
            let response = format!("user={user}\x01auth=Bearer {}\x01\x01", token.expose());
            (token.expose(), Secret::new(response))
        }
        (Login::Bearer { .. }, None) => {
            return Err(SendError::Settings {
                problem: "a sign-in by token has no token".into(),
            });
        }
    };
    let secrets = TraceRedactor::new([secret]).with_response(response.expose());
    if let Some(trace) = trace {
        trace.hide(&secrets);
    }
    session.line.hide(secrets);
    let mut exchange = Exchange {
        session,
        user: login.user(),
    };
    match login {
        Login::Password { user, password } => exchange.by_password(user, password, &response).await,
        Login::Bearer { .. } => exchange.by_token(&response).await,
    }
}

/// One AUTH command up to its final reply.
struct Exchange<'s> {
    session: &'s mut Session,
    user: &'s str,
}

impl Exchange<'_> {
    async fn by_password(
        &mut self,
        user: &str,
        password: &Secret,
        response: &Secret,
    ) -> Result<(), SendError> {
        if self.session.offers.can_sign_in_by("PLAIN") {
            let response = BASE64.encode(response.expose());
            let reply = self.start("PLAIN", &response).await?;
            return self.done(&reply, None);
        }
        if !self.session.offers.can_sign_in_by("LOGIN") {
            return Err(SendError::Unsupported {
                step: SmtpStep::Login,
                feature: "AUTH PLAIN or LOGIN",
            });
        }
        let mut reply = self.say("AUTH LOGIN").await?;
        for answer in [user, password.expose()] {
            if reply.code != CONTINUE {
                break;
            }
            reply = self.say(&BASE64.encode(answer)).await?;
        }
        self.done(&reply, None)
    }

    async fn by_token(&mut self, response: &Secret) -> Result<(), SendError> {
        if !self.session.offers.can_sign_in_by("XOAUTH2") {
            return Err(SendError::Unsupported {
                step: SmtpStep::Login,
                feature: "AUTH XOAUTH2",
            });
        }
        let reply = self
            .start("XOAUTH2", &BASE64.encode(response.expose()))
            .await?;
        if reply.code != CONTINUE {
            return self.done(&reply, None);
        }
        // The details of the error, which must be acknowledged before the server ends the exchange.
        let challenge = BASE64.decode(reply.text().trim()).ok();
        let challenge =
            challenge.map(|json| self.session.line.shown(&String::from_utf8_lossy(&json)));
        let reply = self.say("").await?;
        if reply.is_positive() {
            return Err(SendError::Transient {
                step: SmtpStep::Login,
                code: Some(reply.code),
                problem: "the server refused the token, then accepted an empty answer".into(),
            });
        }
        self.done(&reply, challenge)
    }

    /// Begins with an initial response, and sends it again to a server that ignored it and asks for it.
    async fn start(&mut self, mechanism: &str, response: &str) -> Result<Reply, SendError> {
        let reply = self.say(&format!("AUTH {mechanism} {response}")).await?;
        if reply.code == CONTINUE && (mechanism == "PLAIN" || reply.text().trim().is_empty()) {
            return self.say(response).await;
        }
        Ok(reply)
    }

    async fn say(&mut self, line: &str) -> Result<Reply, SendError> {
        self.session.command(SmtpStep::Login, line).await
    }

    fn done(&self, reply: &Reply, challenge: Option<String>) -> Result<(), SendError> {
        match reply.code {
            200..300 => Ok(()),
            500.. => Err(SendError::RefusedLogin {
                user: self.user.to_owned(),
                code: reply.code,
                text: self.session.words(reply),
                challenge,
            }),
            _ => Err(self.session.refusal(SmtpStep::Login, reply)),
        }
    }
}
