//! `postroom run`: the service, or one drain of every mailbox.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use postroom_core::counted;
use tokio::signal;
use tokio::signal::unix::{Signal, SignalKind};
use tokio_util::sync::CancellationToken;

use crate::commands::readers::{self, Read, with_readers};
use crate::commands::{INTERRUPTED, load_in_part, progress, runtime};
use crate::service::{Options, Service};
use postroom_config::Config;
use postroom_line::bus::{Bus, Heard};
use postroom_line::event::LineEvent;

pub fn run(config: &Path, once: bool, start_anew: bool) -> anyhow::Result<ExitCode> {
    let config = Arc::new(load_in_part(config)?);
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        let signals = tokio::spawn(stop_on_signals(stop.clone()));
        let ended = match once {
            true => drain(config, start_anew, stop).await,
            false => {
                with_readers(Bus::default(), [readers::log()], async |bus: &Bus| {
                    let options = Options {
                        reload: hangups(),
                        ..Options::new(bus.publisher(), start_anew)
                    };
                    serve(config, options, stop).await
                })
                .await
            }
        };
        signals.abort();
        ended
    });
    // Everything that must be written is written: the runtime does not wait for a rule that is being loaded or tested.
    runtime.shutdown_background();
    ended
}

async fn serve(
    config: Arc<Config>,
    options: Options,
    stop: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let building = Service::build(config, options, stop.clone());
    let service = tokio::select! {
        service = building => service?,
        () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
    };
    service.run().await.map(|()| ExitCode::SUCCESS)
}

/// Returns the signal that asks a service to read its configuration again. In a terminal it means that the terminal is gone, and ends
/// the process.
fn hangups() -> Option<Signal> {
    match std::io::stderr().is_terminal() {
        true => None,
        false => signal::unix::signal(SignalKind::hangup()).ok(),
    }
}

async fn drain(
    config: Arc<Config>,
    start_anew: bool,
    stop: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let progress = progress("mails decided");
    let counter = progress.clone();
    let count: Read = Box::new(move |heard| {
        if let Heard::Event(LineEvent::Decided(mails)) = heard {
            counter.inc(mails.len() as u64);
        }
    });
    let drained = with_readers(
        Bus::default(),
        [readers::log(), count],
        async |bus: &Bus| {
            let options = Options::new(bus.publisher(), start_anew);
            let service = Service::build(config, options, stop.clone()).await?;
            service.once().await
        },
    )
    .await?;
    progress.finish_and_clear();
    // The log has the reasons, with help.
    let mut pending = Vec::new();
    let failed: Vec<&str> = drained.failed.iter().map(|(name, _)| &**name).collect();
    if !failed.is_empty() {
        pending.push(format!("failed: {}", failed.join(", ")));
    }
    let mut misconfigured: Vec<&str> = drained
        .misconfigured
        .iter()
        .map(|(part, _)| &**part)
        .collect();
    misconfigured.dedup();
    if !misconfigured.is_empty() {
        pending.push(format!("misconfigured: {}", misconfigured.join(", ")));
    }
    if drained.undelivered > 0 {
        pending.push(format!(
            "{} pending: see `postroom outbox`",
            counted(drained.undelivered, "delivery")
        ));
    }
    if drained.unacknowledged > 0 {
        pending.push(format!(
            "{} decided and not yet acknowledged on the server",
            counted(drained.unacknowledged, "mail")
        ));
    }
    if drained.undelivered == 0 && drained.unacknowledged == 0 {
        pending.push("nothing is pending".into());
    }
    let decided = counted(drained.decided, "mail");
    eprintln!("drained {decided}; {}", pending.join("; "));
    Ok(if stop.is_cancelled() {
        ExitCode::from(INTERRUPTED)
    } else if drained.failed.is_empty()
        && drained.misconfigured.is_empty()
        && drained.unacknowledged == 0
    {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Drains at the first signal, and quits at the second.
pub async fn stop_on_signals(stop: CancellationToken) {
    crate::commands::signal().await;
    tracing::info!("draining; press Ctrl-C again to quit immediately");
    stop.cancel();
    crate::commands::signal().await;
    std::process::exit(INTERRUPTED.into());
}
