//! `postroom mailbox test`: walks a mailbox's way in and its way out step by step, and explains the step that fails.

mod advice;
mod report;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use postroom_auth::{Tokens, Trace};
use postroom_core::Address;
use rustls::ClientConfig;

use crate::commands::{load_config, runtime, with_tokens};
use crate::config::{Config, Mailbox, Outgoing, Ready, closest};
use crate::connections::{self, AnySource};
use crate::tls;
use advice::Place;
use report::{Part, Report, of_unavailable};

/// The step that fails where a secret, key or certificate cannot be had.
const CONFIGURATION: &str = "configuration";

/// How a test was asked for.
pub struct Options {
    /// Whom to send a test mail to.
    pub send_to: Option<String>,
    /// Shows what is said to the servers, secrets and mails left out.
    pub trace: bool,
    pub json: bool,
}

pub fn test(config: &Path, name: &str, options: &Options) -> anyhow::Result<ExitCode> {
    let config = load_config(config)?;
    let Some(mailbox) = config.mailbox(name) else {
        let names = config.mailboxes.iter().map(|mailbox| mailbox.name.as_str());
        match closest(name, names) {
            Some(near) => bail!("no mailbox is named {name}; is it {near}?"),
            None => bail!("no mailbox is named {name}"),
        }
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
    let trace = options.trace.then(Trace::new);
    let mut report = Report::new(options.json, trace.clone());
    let tls = tls::client_config(&config.extra_roots)?;
    runtime()?.block_on(async {
        let tokens = match connections::tokens(&config, &tls) {
            // The step that fails tells why.
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
        let send_to = send_to.map(|email| Address { name: None, email });
        let test = async {
            parts.way_in(mailbox, &mut report).await?;
            match outgoing {
                Some(way) => parts.way_out(way, send_to.as_ref(), &mut report).await?,
                None => report.remark("no outgoing: nothing is sent from this mailbox")?,
            }
            report.finish()
        };
        with_tokens(&tokens, test).await
    })
}

struct Parts<'c> {
    config: &'c Config,
    tls: &'c Arc<ClientConfig>,
    tokens: &'c Ready<Arc<Tokens>>,
    trace: Option<Trace>,
}

impl Parts<'_> {
    async fn way_in(&self, mailbox: &Mailbox, report: &mut Report) -> anyhow::Result<()> {
        let place = Place::of_mailbox(self.config, mailbox);
        report.begin(Part::In, &format!("in   mailbox {}", mailbox.name))?;
        let tell = |step: postroom_mailbox::ProbeStep| {
            let outcome = step
                .outcome
                .map_err(|error| (error.to_string(), place.of_source(&error)));
            report.step(step.name, step.elapsed, outcome);
        };
        match connections::source(mailbox, self.tokens, self.tls) {
            Err(why) => report.step(CONFIGURATION, Duration::ZERO, Err(of_unavailable(why))),
            Ok(AnySource::Imap(source)) => {
                let mut source = match &self.trace {
                    Some(trace) => source.with_trace(trace.clone()),
                    None => *source,
                };
                source.probe(tell).await;
            }
            Ok(AnySource::Spool(mut source)) => source.probe(tell).await,
        }
        report.end()
    }

    async fn way_out(
        &self,
        way: &Outgoing,
        send_to: Option<&Address>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let place = Place::of_outgoing(self.config, way);
        report.begin(Part::Out, &format!("out  outgoing {}", way.name))?;
        let smtp = match connections::smtp(way, self.tokens, self.tls)? {
            Ok(smtp) => smtp,
            Err(why) => {
                report.step(CONFIGURATION, Duration::ZERO, Err(of_unavailable(why)));
                return report.end();
            }
        };
        let smtp = match &self.trace {
            Some(trace) => smtp.with_trace(trace.clone()),
            None => smtp,
        };
        let tell = |step: postroom_target::smtp::ProbeStep| {
            let outcome = step
                .outcome
                .map_err(|error| (error.to_string(), place.of_sending(&error)));
            report.step(step.name, step.elapsed, outcome);
        };
        smtp.probe(send_to, tell).await;
        report.end()
    }
}
