//! `postroom run`: the service, or one drain of every mailbox.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::commands::{load_config, runtime};
use crate::service::Service;

/// The exit code of a process that a second Ctrl-C ended (128 + SIGINT).
const INTERRUPTED: i32 = 130;

pub fn run(config: &Path, once: bool) -> anyhow::Result<ExitCode> {
    let config = Arc::new(load_config(config)?);
    runtime()?.block_on(async {
        let stop = CancellationToken::new();
        let service = Service::build(config, None, stop.clone()).await?;
        if once {
            return drain(service).await;
        }
        let signals = tokio::spawn(stop_on_signals(stop));
        service.run().await;
        signals.abort();
        Ok(ExitCode::SUCCESS)
    })
}

async fn drain(service: Service) -> anyhow::Result<ExitCode> {
    let drained = service.once().await?;
    for (mailbox, reason) in &drained.failed {
        eprintln!("mailbox {mailbox} failed: {reason}");
    }
    match drained.undelivered {
        0 => eprintln!("drained {} mails; nothing is pending", drained.decided),
        n => eprintln!(
            "drained {} mails; {n} deliveries stay pending: see `postroom outbox`",
            drained.decided
        ),
    }
    Ok(if drained.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The first signal drains, the second quits.
pub async fn stop_on_signals(stop: CancellationToken) {
    signal().await;
    tracing::info!("draining; once more to quit at once");
    stop.cancel();
    signal().await;
    std::process::exit(INTERRUPTED);
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
