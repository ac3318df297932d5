//! `postroom target test`: tests the connection to a sink or an outgoing step by step, and explains the step that fails.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use postroom_net::Trace;
use postroom_target::TestDelivery;

use crate::commands::mailbox::{Parts, Report, mail_to};
use crate::commands::{load_config, runtime, with_tokens};
use crate::{connections, tls};
use postroom_config::Config;
use postroom_config::suggest::no_such;

/// The options of a test.
pub struct Options {
    /// The recipient of a test mail from an outgoing.
    pub send_to: Option<String>,
    /// Whether to post a test event to a sink.
    pub send_event: bool,
    /// Whether to print the protocol log, without secrets and contents.
    pub trace: bool,
    pub json: bool,
}

/// Tests the sink and the outgoing with this name.
pub fn test(config: &Path, name: &str, options: &Options) -> anyhow::Result<ExitCode> {
    let config = load_config(config)?;
    let (sink, outgoing) = (config.sink(name), config.outgoing(name));
    if sink.is_none() && outgoing.is_none() {
        return Err(no_target(&config, name));
    }
    if options.send_to.is_some() && outgoing.is_none() {
        bail!("{name} is a sink, which takes no mail; help: use --send-event");
    }
    if options.send_event && sink.is_none() {
        bail!("{name} is an outgoing, which takes mail only; help: use --send-to ADDRESS");
    }
    let mail = options.send_to.clone().map(mail_to);
    let event = options.send_event.then_some(TestDelivery::Event);
    let trace = options.trace.then(Trace::new);
    let mut report = Report::new(options.json, trace.clone());
    let tls = tls::client_config(&config.extra_roots)?;
    runtime()?.block_on(async {
        // A sink needs no token, so a vault that cannot be opened is reported by the outgoing that needs it.
        let tokens = connections::tokens_if_ready(&config, &tls)?;
        let tokens = tokens.map(|tokens| {
            let tokens = tokens.quiet();
            Arc::new(match &trace {
                Some(trace) => tokens.with_trace(trace.clone()),
                None => tokens,
            })
        });
        let parts = Parts {
            config: &config,
            tls: &tls,
            tokens: &tokens,
            trace,
        };
        let test = async {
            if let Some(sink) = sink {
                parts.sink(sink, event.as_ref(), &mut report).await?;
            }
            if let Some(way) = outgoing {
                parts.way_out(way, mail.as_ref(), &mut report).await?;
            }
            report.finish()
        };
        match &tokens {
            Ok(tokens) => with_tokens(tokens, test).await,
            Err(_) => test.await,
        }
    })
}

/// Returns the error for a target that is not in the configuration.
fn no_target(config: &Config, name: &str) -> anyhow::Error {
    let sinks = config.sinks.iter().map(|it| it.name.as_str());
    let outgoing = config.outgoing.iter().map(|it| it.name.as_str());
    let known: Vec<&str> = sinks.chain(outgoing).collect();
    anyhow::anyhow!(no_such("sink or outgoing", name, &known))
}
