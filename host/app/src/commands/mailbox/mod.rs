//! `postroom mailbox test`: tests a mailbox and its outgoing step by step, and explains the step that fails.

mod advice;
mod report;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;
use postroom_auth::Tokens;
use postroom_core::{Address, Clock};
use postroom_mailbox::SourceError;
use postroom_net::{Step, Trace};
use postroom_target::{Target, TargetError, TestDelivery};
use rustls::ClientConfig;

use crate::commands::{load_with_warnings, no_mailbox, runtime, with_tokens};
use crate::connections;
use crate::tls;
use postroom_config::{Config, MailboxConfig, Outgoing, Ready, Sink};

use advice::Place;
use report::Part;
pub(super) use report::Report;

/// The options of a test.
pub struct Options {
    /// The recipient of a test mail.
    pub send_to: Option<String>,
    /// Mailboxes that the same account must not open.
    pub must_not_open: Vec<String>,
    /// Whether to print the protocol log, without secrets and mails.
    pub trace: bool,
    pub json: bool,
}

pub fn test(config: &Path, name: &str, options: &Options) -> anyhow::Result<ExitCode> {
    let config = load_with_warnings(config)?;
    let Some(mailbox) = config.mailbox(name) else {
        return Err(no_mailbox(&config, name));
    };
    let outgoing = mailbox
        .outgoing
        .as_deref()
        .and_then(|name| config.outgoing(name));
    if let (Some(to), None) = (&options.send_to, outgoing) {
        bail!(
            "mailbox {name} has no outgoing, so nothing can be sent to {to}: add outgoing = \"NAME\""
        );
    }
    let mut forbidden = Vec::new();
    for address in &options.must_not_open {
        let Some(source) = mailbox.source.for_mailbox(address) else {
            bail!(
                "mailbox {name} does not sign in by a profile, so --must-not-open {address} cannot be tried"
            );
        };
        forbidden.push((address, source));
    }
    let trace = options.trace.then(Trace::new);
    let mut report = Report::new(options.json, trace.clone());
    let tls = tls::client_config(&config.extra_roots)?;
    runtime()?.block_on(async {
        let tokens = match connections::tokens(&config, &tls) {
            // The failing step shows the reason.
            Ok(tokens) => tokens.quiet(),
            Err(error) => return report.no_vault(error),
        };
        let tokens = Arc::new(match &trace {
            Some(trace) => tokens.with_trace(trace.clone()),
            None => tokens,
        });
        let ready = Ok(tokens.clone());
        let parts = Parts {
            config: &config,
            tls: &tls,
            tokens: &ready,
            trace,
        };
        let send_to = options.send_to.clone();
        let send_to = send_to.map(mail_to);
        let test = async {
            parts.way_in(mailbox, &mut report).await?;
            for (address, source) in forbidden {
                let other = MailboxConfig {
                    address: Some(address.clone()),
                    source,
                    ..mailbox.clone()
                };
                parts.must_not_open(&other, address, &mut report).await?;
            }
            match outgoing {
                Some(way) => parts.way_out(way, send_to.as_ref(), &mut report).await?,
                None => report.remark("no outgoing: nothing is sent from this mailbox")?,
            }
            report.finish()
        };
        with_tokens(&tokens, test).await
    })
}

/// Returns a test mail to an address.
pub(super) fn mail_to(email: String) -> TestDelivery {
    TestDelivery::Mail(Address { name: None, email })
}

/// Everything that the parts under test are built from.
pub(super) struct Parts<'c> {
    pub config: &'c Config,
    pub tls: &'c Arc<ClientConfig>,
    pub tokens: &'c Ready<Arc<Tokens>>,
    pub trace: Option<Trace>,
}

impl Parts<'_> {
    async fn way_in(&self, mailbox: &MailboxConfig, report: &mut Report) -> anyhow::Result<()> {
        let place = Place::of_mailbox(self.config, mailbox);
        report.begin(Part::In, &format!("in   mailbox {}", mailbox.name))?;
        match connections::source(mailbox, self.tokens, self.tls) {
            Err(why) => report.unavailable(why),
            Ok(mut source) => {
                if let Some(trace) = &self.trace {
                    source.set_trace(trace.clone());
                }
                let advice = |error: &SourceError| place.of_source(error);
                source.probe(&mut |step| report.probed(step, advice)).await;
            }
        }
        report.end()
    }

    /// Tries to open a mailbox that the tested one's account must not open.
    async fn must_not_open(
        &self,
        other: &MailboxConfig,
        address: &str,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        if report.has_failed() {
            // A refusal would say nothing about the account's rights.
            return report.remark(&format!(
                "{address} was not tried, since a step before failed"
            ));
        }
        let place = Place::of_mailbox(self.config, other);
        report.begin(Part::In, &format!("in   {address} must not open"))?;
        let mut source = match connections::source(other, self.tokens, self.tls) {
            Ok(source) => source,
            Err(why) => {
                report.unavailable(why);
                return report.end();
            }
        };
        if let Some(trace) = &self.trace {
            source.set_trace(trace.clone());
        }
        let began = Instant::now();
        let outcome = match source.connect().await {
            Ok(()) => Err((
                format!("{address} opens with the account of this mailbox"),
                place.of_open_mailbox(),
            )),
            Err(
                error @ (SourceError::AccessDenied { .. }
                | SourceError::RefusedLogin { .. }
                | SourceError::NotConnected { .. }
                | SourceError::Folder { missing: false, .. }),
            ) => Ok(format!("does not open: {error}")),
            Err(error) => Err((
                format!("it is not known whether {address} opens: {error}"),
                place.of_source(&error),
            )),
        };
        source.close().await;
        report.step(Step::MustNotOpen, began.elapsed(), outcome);
        report.end()
    }

    /// Tests an outgoing.
    pub async fn way_out(
        &self,
        way: &Outgoing,
        test: Option<&TestDelivery>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let place = Place::of_outgoing(self.config, way);
        report.begin(Part::Out, &format!("out  outgoing {}", way.name))?;
        let target = connections::outgoing(way, self.tokens, self.tls)?;
        self.target(target, place, test, report).await
    }

    /// Tests a sink.
    pub async fn sink(
        &self,
        sink: &Sink,
        test: Option<&TestDelivery>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let place = Place::of_sink(self.config, sink);
        report.begin(Part::Out, &format!("out  sink {}", sink.name))?;
        let http = postroom_target::webhook::client(self.tls, &self.config.proxies)?;
        let target = connections::sink(sink, &http, self.tls, &Clock::system())?;
        self.target(target, place, test, report).await
    }

    async fn target(
        &self,
        target: Ready<Box<dyn Target>>,
        mut place: Place<'_>,
        test: Option<&TestDelivery>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        match target {
            Err(why) => report.unavailable(why),
            Ok(mut target) => {
                if let Some(trace) = &self.trace {
                    target.set_trace(trace.clone());
                }
                let mut listener = |step| {
                    let advice = |error: &TargetError| place.of_target(error);
                    report.probed(step, advice);
                };
                target.probe(test, &mut listener).await;
            }
        }
        report.end()
    }
}
