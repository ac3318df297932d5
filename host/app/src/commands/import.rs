//! `postroom mail import`: mail from files passes through the line as if it had been fetched.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use indicatif::ProgressBar;
use postroom_core::{Position, RawMessage, counted, stated_times_ms};
use postroom_mailbox::import;
use postroom_store::StoreError;
use tokio_util::sync::CancellationToken;

use crate::commands::run::stop_on_signals;
use crate::commands::{INTERRUPTED, load_config, no_mailbox, progress, runtime};
use crate::service::Service;

/// The most mails that are journalled and decided together; fewer if they are large.
const BATCH: usize = 64;
/// The age from which mail is old: nobody waits for a reply to it.
const YOUNG_MS: i64 = 24 * 60 * 60 * 1000;

/// The options of an import.
pub struct Options {
    /// Whether all mail is old.
    pub old: bool,
    /// Whether old mail goes to the sinks.
    pub deliver: bool,
    pub start_anew: bool,
    pub json: bool,
}

pub fn import(
    config: &Path,
    mailbox: &str,
    files: &[PathBuf],
    options: &Options,
) -> anyhow::Result<ExitCode> {
    let mut config = load_config(config)?;
    if config.mailbox(mailbox).is_none() {
        return Err(no_mailbox(&config, mailbox));
    }
    for owner in &mut config.mailboxes {
        owner.deliver_old |= options.deliver && owner.name == mailbox;
    }
    let delivers = config.mailbox(mailbox).is_some_and(|it| it.deliver_old);
    let config = Arc::new(config);
    let young_since_ms = jiff::Timestamp::now().as_millisecond() - YOUNG_MS;
    let (raw_bytes, batch_bytes) = (config.limits.raw_bytes, config.limits.batch_bytes);
    runtime()?.block_on(async {
        let stop = CancellationToken::new();
        let mut service = match Service::build(config, None, options.start_anew, stop.clone()).await {
            Ok(service) => service,
            Err(error) if error.downcast_ref().is_some_and(StoreError::is_locked) => {
                return Err(error.context(
                    "a running service uses the data folder: stop it first, or put .eml files into a spool mailbox's folder",
                ));
            }
            Err(error) => return Err(error),
        };
        let signals = tokio::spawn(stop_on_signals(stop.clone()));
        let progress = progress("mails read");
        service.recover(mailbox).await?;
        let mut counts = Counts::default();
        'files: for file in files {
            let mails = import::open(file, raw_bytes)
                .with_context(|| file.display().to_string())?;
            let (mut batch, mut bytes) = (Vec::with_capacity(BATCH), 0);
            for mail in mails {
                if stop.is_cancelled() {
                    break 'files;
                }
                let mail = mail.with_context(|| file.display().to_string())?;
                bytes += mail.bytes.len() as u64;
                let old = options.old || is_old(&mail.bytes, young_since_ms);
                counts.old += usize::from(old);
                batch.push(RawMessage {
                    position: Position::Imported(mail.name),
                    size: mail.size,
                    bytes: mail.bytes,
                    old,
                });
                if batch.len() == BATCH || bytes >= batch_bytes {
                    bytes = 0;
                    counts.add(&service, mailbox, &mut batch, &progress).await?;
                }
            }
            counts.add(&service, mailbox, &mut batch, &progress).await?;
        }
        progress.finish_and_clear();
        let undelivered = service.deliver_once().await?;
        signals.abort();
        if options.json {
            println!(
                "{}",
                serde_json::json!({"mailbox": mailbox, "read": counts.read, "decided": counts.decided, "known": counts.read - counts.decided - counts.failed, "failed": counts.failed, "old": counts.old, "undelivered": undelivered})
            );
        } else {
            println!(
                "{} read, {} decided, {} known already{}",
                counted(counts.read, "mail"),
                counts.decided,
                counts.read - counts.decided - counts.failed,
                if undelivered > 0 { format!("; {} pending", counted(undelivered, "delivery")) } else { String::new() }
            );
            if counts.old > 0 {
                let sent = if delivers { "none of it was answered" } else { "nothing of it was sent" };
                println!("old mail among them: {}, {sent}", counts.old);
            }
        }
        Ok(if stop.is_cancelled() {
            ExitCode::from(INTERRUPTED)
        } else if counts.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    })
}

/// Returns whether a mail is old. A mail without any time may have any age.
fn is_old(mail: &[u8], young_since_ms: i64) -> bool {
    let times = stated_times_ms(mail);
    times.is_empty() || times.iter().any(|time| *time < young_since_ms)
}

#[derive(Default)]
struct Counts {
    read: usize,
    old: usize,
    decided: usize,
    failed: usize,
}

impl Counts {
    async fn add(
        &mut self,
        service: &Service,
        mailbox: &str,
        batch: &mut Vec<RawMessage>,
        progress: &ProgressBar,
    ) -> anyhow::Result<()> {
        self.read += batch.len();
        progress.inc(batch.len() as u64);
        let settled = service.take_in(mailbox, std::mem::take(batch)).await?;
        self.decided += settled.decided;
        self.failed += settled.failed;
        Ok(())
    }
}
