//! `postroom mailbox test`: tests a mailbox and its outgoing step by step, and explains the step that fails.

mod advice;
mod report;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use postroom_auth::Tokens;
use postroom_core::Address;
use postroom_mailbox::SourceError;
use postroom_net::Trace;
use postroom_target::smtp::SendError;
use rustls::ClientConfig;

use crate::commands::{load_config, no_mailbox, runtime, with_tokens};
use crate::connections;
use crate::tls;
use advice::Place;
use postroom_config::{Config, Mailbox, Outgoing, Ready};
use report::{Part, Report};

/// The options of a test.
pub struct Options {
    /// The recipient of a test mail.
    pub send_to: Option<String>,
    /// Print the protocol log, without secrets and mails.
    pub trace: bool,
    pub json: bool,
}

pub fn test(config: &Path, name: &str, options: &Options) -> anyhow::Result<ExitCode> {
    let config = load_config(config)?;
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
                report.unavailable(why);
                return report.end();
            }
        };
        let smtp = match &self.trace {
            Some(trace) => smtp.with_trace(trace.clone()),
            None => smtp,
        };
        let advice = |error: &SendError| place.of_sending(error);
        let mut listener = |step| report.probed(step, advice);
        smtp.probe(send_to, &mut listener).await;
        report.end()
    }
}
