//! `postroom mail import`: mail from files passes through the line as if it had been fetched.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use postroom_core::{Clock, Position, RawMessage, counted, stated_times_ms};
use postroom_mailbox::import;
use postroom_store::StoreError;
use tokio_util::sync::CancellationToken;

use crate::commands::readers::{self, with_readers};
use crate::commands::run::stop_on_signals;
use crate::commands::{INTERRUPTED, load_in_part, no_mailbox, progress, runtime};
use crate::service::{Options as ServiceOptions, Service};
use postroom_line::bus::Bus;

/// The most mails that are journalled and decided together; fewer if they are large.
const BATCH: usize = 64;
/// The age from which mail is old: nobody waits for a reply to it.
const YOUNG_MS: i64 = 24 * 60 * 60 * 1000;

/// The interval of progress lines where the error output is no terminal.
const PROGRESS_EVERY: Duration = Duration::from_secs(30);

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
    let mut config = load_in_part(config)?;
    let Some(owner) = config.mailbox(mailbox) else {
        return Err(no_mailbox(&config, mailbox));
    };
    let raw_bytes = owner.size.raw_bytes;
    for owner in &mut config.mailboxes {
        owner.deliver_old |= options.deliver && owner.name == mailbox;
    }
    let delivers = config.mailbox(mailbox).is_some_and(|it| it.deliver_old);
    let config = Arc::new(config);
    let young_since_ms = Clock::system().now_ms() - YOUNG_MS;
    let batch_bytes = config.limits.batch_bytes;
    let work = async |bus: &Bus| {
        let stop = CancellationToken::new();
        let events = bus.publisher();
        let service_options = ServiceOptions::new(events, options.start_anew);
        let mut service = match Service::build(config, service_options, stop.clone()).await {
            Ok(service) => service,
            Err(error) if error.downcast_ref().is_some_and(StoreError::is_locked) => {
                return Err(error.context(
                    "a running service uses the data folder: stop it first, or put .eml files into a spool mailbox's folder",
                ));
            }
            Err(error) => return Err(error),
        };
        let signals = tokio::spawn(stop_on_signals(stop.clone()));
        // A file that is not there is found before anything is decided.
        let mut bytes_total = 0;
        for file in files {
            let mails =
                import::open(file, raw_bytes).with_context(|| file.display().to_string())?;
            bytes_total += mails.bytes();
        }
        let mut progress = Progress::new(bytes_total);
        service.recover(mailbox).await?;
        let mut counts = Counts::default();
        'files: for file in files {
            let mails =
                import::open(file, raw_bytes).with_context(|| file.display().to_string())?;
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
                    counts
                        .add(&service, mailbox, &mut batch, &mut progress)
                        .await?;
                }
            }
            counts
                .add(&service, mailbox, &mut batch, &mut progress)
                .await?;
        }
        progress.bar.finish_and_clear();
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
                if undelivered > 0 {
                    format!("; {} pending", counted(undelivered, "delivery"))
                } else {
                    String::new()
                }
            );
            if counts.old > 0 {
                let sent = if delivers {
                    "none of it was answered"
                } else {
                    "nothing of it was sent"
                };
                println!("old mail among them: {}, {sent}", counts.old);
            }
        }
        if stop.is_cancelled() {
            eprintln!(
                "interrupted; the same command continues: mails that are known already are skipped"
            );
        }
        Ok(if stop.is_cancelled() {
            ExitCode::from(INTERRUPTED)
        } else if counts.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    };
    runtime()?.block_on(with_readers(Bus::default(), [readers::log()], work))
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
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        self.read += batch.len();
        let bytes = batch.iter().map(|mail| mail.size).sum();
        let settled = service.take_in(mailbox, std::mem::take(batch)).await?;
        self.decided += settled.decided;
        self.failed += settled.failed;
        progress.add(self.read, bytes);
        Ok(())
    }
}

/// Prints how far the import is: on a terminal all the time, elsewhere a line now and then.
struct Progress {
    bar: ProgressBar,
    began: Instant,
    printed: Instant,
    bytes: u64,
    bytes_total: u64,
}

impl Progress {
    fn new(bytes_total: u64) -> Self {
        Self {
            bar: progress("mails read").with_style(
                ProgressStyle::with_template("{spinner} {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            ),
            began: Instant::now(),
            printed: Instant::now(),
            bytes: 0,
            bytes_total,
        }
    }

    /// `read` mails were decided, the last of them with so many bytes.
    fn add(&mut self, read: usize, bytes: u64) {
        self.bytes += bytes;
        let text = described(read, self.bytes, self.bytes_total, self.began.elapsed());
        if self.bar.is_hidden() {
            if self.printed.elapsed() >= PROGRESS_EVERY {
                self.printed = Instant::now();
                eprintln!("{text}");
            }
            return;
        }
        self.bar.set_message(text);
        self.bar.tick();
    }
}

/// The count, the rate and what remains. Sizes are of the mails, without what an mbox puts between them.
fn described(read: usize, bytes: u64, bytes_total: u64, elapsed: Duration) -> String {
    let secs = elapsed.as_secs_f64().max(0.001);
    let mut text = format!(
        "{} mails read, {:.0}/s, {} of {}",
        HumanCount(read as u64),
        read as f64 / secs,
        HumanBytes(bytes.min(bytes_total)),
        HumanBytes(bytes_total)
    );
    let left = bytes_total.saturating_sub(bytes);
    if bytes > 0 && left > 0 {
        let left = Duration::from_secs_f64(left as f64 / (bytes as f64 / secs));
        text.push_str(&format!(", about {:#} left", HumanDuration(left)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_count_rate_and_what_remains() {
        let mib = 1024 * 1024;
        assert_eq!(
            described(12_345, 100 * mib, 400 * mib, Duration::from_secs(60)),
            "12,345 mails read, 206/s, 100.00 MiB of 400.00 MiB, about 3m left"
        );
        assert_eq!(
            described(3, 3 * mib, 2 * mib, Duration::from_secs(1)),
            "3 mails read, 3/s, 2.00 MiB of 2.00 MiB"
        );
        assert_eq!(
            described(0, 0, 0, Duration::ZERO),
            "0 mails read, 0/s, 0 B of 0 B"
        );
    }
}
