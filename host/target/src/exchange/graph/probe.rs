//! The probe of a Graph outgoing: checks the permissions without sending anything.

use postroom_exchange::ExchangeError;
use postroom_exchange::graph::{Payload, Request};
use postroom_exchange::probe_connection;
use postroom_net::{ProbeReporter, ProbeStep, Step};
use reqwest::{Method, StatusCode};

use super::{GraphTarget, NotSent, Outbound, STEP};
use crate::exchange::report_test;
use crate::test_mail::test_mail;
use crate::{TargetError, TestDelivery};

/// No base64, so no mail: Graph refuses it once it has checked the permission.
const NO_MAIL: &str = "!";

impl GraphTarget {
    /// Reports `connect`, `tls`, `token`, `authenticate`, `select` (the drafts, if mail is drafted) and `send`.
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
        let (url, limit) = (self.client.base(), self.settings.limits.connect);
        probe_connection(url, &self.tls, &self.settings.proxies, limit, probe).await?;
        let account = self.client.ask_for_token().await?;
        probe.passed(Step::Token, || account);
        let user = self.client.login().user().to_owned();
        if self.settings.read_back {
            let url = self.client.url(["mailFolders", "drafts"]);
            self.allowed(Step::Select, Method::GET, url, None).await?;
            probe.passed(Step::Authenticate, || format!("token accepted for {user}"));
            probe.passed(Step::Select, || "the drafts open".into());
        }
        let url = self.client.url(["sendMail"]);
        let nothing = Payload::Mime(NO_MAIL.into());
        self.allowed(STEP, Method::POST, url, Some(nothing)).await?;
        if !self.settings.read_back {
            probe.passed(Step::Authenticate, || format!("token accepted for {user}"));
        }
        let Some(TestDelivery::Mail(to)) = test else {
            probe.passed(STEP, || "allowed; nothing was sent".into());
            return Ok(());
        };
        let mail = test_mail(&self.settings.name, &self.settings.from, to);
        let attempt = self
            .send(&Outbound {
                key: &mail.message_id,
                mail: &mail,
                attachments: &[],
                is_repeat: false,
            })
            .await;
        Ok(report_test(attempt, to, probe)?)
    }

    /// Sends a request that needs a permission and changes nothing. A refusal of its content passes.
    async fn allowed(
        &self,
        step: Step,
        method: Method,
        url: reqwest::Url,
        body: Option<Payload<'_>>,
    ) -> Result<(), ExchangeError> {
        let request = Request {
            step,
            method,
            url,
            prefer: &[],
            body,
        };
        match self.client.send(request).await.map_err(NotSent::from) {
            Ok(_) => Ok(()),
            Err(NotSent::Refused(refusal)) if refusal.status == StatusCode::BAD_REQUEST => Ok(()),
            Err(NotSent::Refused(refusal)) => {
                let failure = postroom_exchange::graph::Failure::Refused(refusal);
                Err(self.client.failed(step, failure))
            }
            Err(NotSent::Failed(error)) => Err(error),
            Err(NotSent::Final(text)) => Err(ExchangeError::Refused {
                step,
                code: None,
                text,
            }),
        }
    }
}
