//! The probe of an outgoing: checks whether mail can be sent.

use postroom_auth::Login;
use postroom_net::{ProbeReporter, ProbeStep, Step};

use crate::mail::Sender;
use crate::smtp::client::{ALTERNATE, FIRST};
use crate::smtp::draft::Draft;
use crate::smtp::session::Session;
use crate::smtp::submit::submit;
use crate::smtp::{SendError, Smtp, SmtpTimeouts};
use crate::test_mail::test_mail;
use crate::{TargetError, TestDelivery};

/// Reports the steps of a probe. A session that only sends has no listener.
pub(crate) type Reporter<'t> = ProbeReporter<'t, TargetError>;

impl Smtp {
    /// Checks whether mail can be sent: connects, signs in and sends a short mail if one is given. Reports each step as it ends;
    /// a failed step is the last. The steps are `connect`, `tls` (not to this machine without TLS), `hello`, `token` (not with a
    /// password), `authenticate` (not without a login) and `send`. The alternate server goes through the same steps up to
    /// `authenticate` before the mail is sent, by the first server that works. If the first one fails, its failed step is followed
    /// by those of the alternate one.
    pub async fn probe(
        &self,
        test: Option<&TestDelivery>,
        report: &mut (dyn FnMut(ProbeStep<TargetError>) + Send),
    ) {
        let mut probe = Reporter::to(report);
        if let Err(error) = self.probe_steps(test, &mut probe).await {
            probe.failed(error);
        }
    }

    async fn probe_steps(
        &self,
        test: Option<&TestDelivery>,
        probe: &mut Reporter<'_>,
    ) -> Result<(), TargetError> {
        let send_to = match test {
            Some(TestDelivery::Mail(to)) => Some(to),
            None => None,
            Some(TestDelivery::Event) => {
                return Err(TargetError::NoSuchTest("an outgoing takes mail only"));
            }
        };
        let mut sessions = Vec::new();
        let first = self.probe_server(FIRST, probe).await;
        match (&self.settings().alternate_host, first) {
            (None, first) => sessions.push(first?),
            (Some(host), first) => {
                match first {
                    Ok(session) => sessions.push(session),
                    // The service would go on to the alternate server, and so does the probe.
                    Err(error) => probe.failed(error.into()),
                }
                let alternate = self.probe_server(ALTERNATE, probe).await;
                sessions.push(alternate.map_err(|error| TargetError::Alternate {
                    host: host.clone(),
                    error,
                })?);
            }
        }
        if let (Some(to), Some(session)) = (send_to, sessions.first_mut()) {
            let settings = self.settings();
            let mail = test_mail(&settings.name, &settings.from, to);
            let sender = Sender {
                from: &settings.from,
                reply_to: None,
                tagged: false,
            };
            let draft = Draft::new(&mail, &[], sender)?;
            let receipt = submit(session, draft).await?;
            probe.passed(Step::Send, || {
                format!("to {}: {} {}", to.email, receipt.code, receipt.text)
            });
        }
        for session in sessions {
            session.quit().await;
        }
        Ok(())
    }

    /// Opens a session with one of the servers.
    async fn probe_server(
        &self,
        server: usize,
        probe: &mut Reporter<'_>,
    ) -> Result<Session, SendError> {
        let connection = self.connect(server, probe).await?;
        let token = self.token().await?;
        if let Some(Login::Bearer { account, .. }) = self.login() {
            probe.passed(Step::Token, || account.to_string());
        }
        let session = self.sign_in(connection, token).await?;
        if let Some(login) = self.login() {
            probe.passed(Step::Authenticate, || format!("as {}", login.user()));
        }
        Ok(session)
    }
}

/// Returns the time limits of a session. A person waits for a probe, so none of its commands gets more time than connecting.
pub(crate) fn limits(probe: &Reporter<'_>, timeouts: SmtpTimeouts) -> SmtpTimeouts {
    match probe.is_probe() {
        true => SmtpTimeouts {
            command: timeouts.command.min(timeouts.connect),
            ..timeouts
        },
        false => timeouts,
    }
}
