//! The probe of an outgoing: finds out whether mail can be sent.

use std::time::{SystemTime, UNIX_EPOCH};

use postroom_auth::Login;
use postroom_core::Address;
use postroom_net::{ProbeReporter, ProbeStep, Step};

use crate::smtp::mail::{Draft, GENERATED, OutgoingMail};
use crate::smtp::submit::submit;
use crate::smtp::{SendError, Smtp, SmtpTimeouts};

/// Reports the steps of a probe; a session that only sends has no listener.
pub(crate) type Reporter<'t> = ProbeReporter<'t, SendError>;

impl Smtp {
    /// Finds out whether mail can be sent: connects, signs in, sends a short mail to `send_to` when it is given, and reports
    /// each step as it ends; a failed step is the last one. The steps are `connect`, `tls` (not to this machine in clear),
    /// `hello`, `token` (not with a password), `authenticate` (not without a login) and `send`.
    pub async fn probe(
        &self,
        send_to: Option<&Address>,
        report: &mut (dyn FnMut(ProbeStep<SendError>) + Send),
    ) {
        let mut probe = Reporter::to(report);
        if let Err(error) = self.probe_steps(send_to, &mut probe).await {
            probe.failed(error);
        }
    }

    async fn probe_steps(
        &self,
        send_to: Option<&Address>,
        probe: &mut Reporter<'_>,
    ) -> Result<(), SendError> {
        let connection = self.connect(probe).await?;
        let token = self.token().await?;
        if let Some(Login::Bearer { account, .. }) = self.login() {
            probe.passed(Step::Token, || account.to_string());
        }
        let mut session = self.sign_in(connection, token).await?;
        if let Some(login) = self.login() {
            probe.passed(Step::Authenticate, || format!("as {}", login.user()));
        }
        if let Some(to) = send_to {
            let settings = self.settings();
            let mail = test_mail(&settings.name, &settings.from, to);
            let draft = Draft::new(&mail, &settings.from, None, GENERATED)?;
            let receipt = submit(&mut session, draft).await?;
            probe.passed(Step::Send, || {
                format!("to {}: {} {}", to.email, receipt.code, receipt.text)
            });
        }
        session.quit().await;
        Ok(())
    }
}

/// Returns the time limits of a session. Somebody waits for a probe: none of its commands has longer than connecting.
pub(crate) fn limits(probe: &Reporter<'_>, timeouts: SmtpTimeouts) -> SmtpTimeouts {
    match probe.is_probe() {
        true => SmtpTimeouts {
            command: timeouts.command.min(timeouts.connect),
            ..timeouts
        },
        false => timeouts,
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
