//! Finding out whether mail can be sent: the steps, each named, timed and told as soon as it ended.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postroom_auth::Login;
use postroom_core::Address;

use crate::smtp::mail::{Draft, GENERATED, OutgoingMail};
use crate::smtp::submit::submit;
use crate::smtp::{SendError, Smtp, SmtpTimeouts};

/// One step of a probe.
#[derive(Debug)]
pub struct ProbeStep {
    pub name: &'static str,
    pub elapsed: Duration,
    /// What was found, for people.
    pub outcome: Result<String, SendError>,
}

/// Tells of the steps of a probe; where mail is merely sent there is nobody to tell.
pub(crate) struct Walk<'t> {
    tell: Option<&'t mut (dyn FnMut(ProbeStep) + Send)>,
    since: Instant,
    has_token: bool,
}

impl Smtp {
    /// Finds out whether mail can be sent: connects, signs in, sends a short mail to `send_to` when it is given, and tells of
    /// each step as it ends, the failed one being the last. The steps are `connect`, `tls` (not to this machine in clear),
    /// `hello`, `token` (not with a password), `authenticate` (not without a login) and `send`.
    pub async fn probe(&self, send_to: Option<&Address>, mut tell: impl FnMut(ProbeStep) + Send) {
        let mut walk = Walk {
            tell: Some(&mut tell),
            ..Walk::quiet()
        };
        if let Err(error) = self.walk_through(send_to, &mut walk).await {
            walk.failed(error);
        }
    }

    async fn walk_through(
        &self,
        send_to: Option<&Address>,
        walk: &mut Walk<'_>,
    ) -> Result<(), SendError> {
        let connection = self.connect(walk).await?;
        let token = self.token().await?;
        if let Some(Login::Bearer { account, .. }) = self.login() {
            walk.done("token", || account.to_string());
        }
        let mut session = self.sign_in(connection, token).await?;
        if let Some(login) = self.login() {
            walk.done("authenticate", || format!("as {}", login.user()));
        }
        if let Some(to) = send_to {
            let settings = self.settings();
            let mail = test_mail(&settings.name, &settings.from, to);
            let draft = Draft::new(&mail, &settings.from, None, GENERATED)?;
            let receipt = submit(&mut session, draft).await?;
            walk.done("send", || {
                format!("to {}: {} {}", to.email, receipt.code, receipt.text)
            });
        }
        session.quit().await;
        Ok(())
    }
}

impl<'t> Walk<'t> {
    pub(crate) fn quiet() -> Self {
        Self {
            tell: None,
            since: Instant::now(),
            has_token: false,
        }
    }

    /// A step ended well, and the next begins.
    pub(crate) fn done(&mut self, name: &'static str, detail: impl FnOnce() -> String) {
        self.has_token |= name == "token";
        if self.tell.is_some() {
            self.ended(name, Ok(detail()));
        }
    }

    /// Somebody waits for a probe: no command of it has longer than connecting.
    pub(crate) fn limits(&self, timeouts: SmtpTimeouts) -> SmtpTimeouts {
        match self.tell {
            Some(_) => SmtpTimeouts {
                command: timeouts.command.min(timeouts.connect),
                ..timeouts
            },
            None => timeouts,
        }
    }

    fn failed(&mut self, error: SendError) {
        let name = match &error {
            // The new token, in place of one that the server refused.
            SendError::Auth(_) if self.has_token => "authenticate",
            _ => error.step(),
        };
        self.ended(name, Err(error));
    }

    fn ended(&mut self, name: &'static str, outcome: Result<String, SendError>) {
        let now = Instant::now();
        let elapsed = now - std::mem::replace(&mut self.since, now);
        if let Some(tell) = &mut self.tell {
            tell(ProbeStep {
                name,
                elapsed,
                outcome,
            });
        }
    }
}

fn test_mail(outgoing: &str, from: &Address, to: &Address) -> OutgoingMail {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let unique = format!(
        "{}.{}",
        now.unwrap_or_default().as_nanos(),
        std::process::id()
    );
    OutgoingMail {
        to: vec![to.clone()],
        subject: format!("Postroom test mail from outgoing {outgoing}"),
        text: format!(
            "Somebody ran `postroom mailbox test --send-to` to find out whether mail can be sent by outgoing {outgoing}.\n\
             It can. Nothing else needs to be done."
        ),
        html: None,
        message_id: format!("postroom-test.{unique}@{}", from.domain()),
        in_reply_to: None,
        references: Vec::new(),
        auto_submitted: true,
        attached: None,
    }
}
