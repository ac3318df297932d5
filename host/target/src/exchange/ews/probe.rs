//! The probe of an EWS outgoing: signs in and opens the sent items, without sending anything.

use postroom_auth::Login;
use postroom_exchange::ExchangeError;
use postroom_exchange::ews::parsed;
use postroom_exchange::probe_connection;
use postroom_net::{ProbeReporter, ProbeStep, Step};

use super::EwsTarget;
use crate::exchange::report_test;
use crate::test_mail::test_mail;
use crate::{TargetError, TestDelivery};

impl EwsTarget {
    /// Reports `connect`, `tls`, `token` (not with a password), `authenticate`, `select` (the sent items) and `send` (with a test
    /// mail).
    pub(super) async fn probe_and_report(
        &self,
        test: Option<&TestDelivery>,
        report: &mut (dyn FnMut(ProbeStep<TargetError>) + Send),
    ) {
        let mut probe = ProbeReporter::to(report);
        if let Err(error) = self.probe_steps(test, &mut probe).await {
            probe.failed(error);
        }
    }

    async fn probe_steps(
        &self,
        test: Option<&TestDelivery>,
        probe: &mut ProbeReporter<'_, TargetError>,
    ) -> Result<(), TargetError> {
        if let Some(TestDelivery::Event) = test {
            return Err(TargetError::NoSuchTest("an outgoing takes mail only"));
        }
        let limit = self.settings.limits.connect;
        let (url, proxies) = (&self.settings.url, &self.settings.proxies);
        probe_connection(url, &self.tls, proxies, limit, probe).await?;
        self.open_sent_items(probe).await?;
        let Some(TestDelivery::Mail(to)) = test else {
            return Ok(());
        };
        let mail = test_mail(&self.settings.name, &self.settings.from, to);
        let attempt = self.send(&mail.message_id, &mail, &[], false).await;
        Ok(report_test(attempt, to, probe)?)
    }

    async fn open_sent_items(
        &self,
        probe: &mut ProbeReporter<'_, TargetError>,
    ) -> Result<(), ExchangeError> {
        const STEP: Step = Step::Select;
        let mut exchange = self.exchange.lock().await;
        if let Some(account) = exchange.ask_for_token().await? {
            probe.passed(Step::Token, || account);
        }
        let body = format!(
            "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape><m:FolderIds>{}</m:FolderIds></m:GetFolder>",
            self.sent_items()
        );
        let answer = exchange.call(STEP, "GetFolder", body).await?;
        let login = exchange.login();
        probe.passed(Step::Authenticate, || {
            let way = match login {
                Login::Password { .. } => "Basic",
                Login::Bearer { .. } => "Bearer",
            };
            match self.settings.impersonation {
                true => format!("{way} as {}, for {}", login.user(), self.settings.address),
                false => format!("{way} as {}", login.user()),
            }
        });
        let root = parsed(STEP, &answer.body)?;
        exchange
            .outcome(STEP, &root)?
            .map_err(|refusal| refusal.into_error(STEP))?;
        probe.passed(STEP, || "the sent items open".into());
        Ok(())
    }
}
