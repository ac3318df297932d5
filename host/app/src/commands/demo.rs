//! `postroom demo`: the example of three clients, created for the reader to edit, on a spool folder and SQLite.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use include_dir::{Dir, File, include_dir};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cli::DemoArgs;
use crate::commands::readers::{self, Read, with_readers};
use crate::commands::run::stop_on_signals;
use crate::commands::screen::pad;
use crate::commands::{load_config, mail_line, runtime};
use crate::service::{Options, Service};
use crate::store;
use postroom_line::bus::{Bus, Heard};
use postroom_line::event::{LineEvent, MailDecided};
use postroom_rules::rulebook::RuleBook;

static QUICKSTART: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../examples/quickstart");
static TYPES: &str = include_str!("../../../../plugins/script/postroom.d.ts");

/// The mailboxes of the example, in the order in which they get their mail.
const MAILBOXES: [&str; 3] = ["brightwater", "larkfield", "osprey"];
/// The file that marks a folder as the demo's own.
const MARKER: &str = ".postroom-demo";
/// The interval at which the demo checks whether a saved rule went live.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let dir = &args.dir;
    lay_out(dir).with_context(|| format!("laying out the example in {}", dir.display()))?;
    let mut config = load_config(&dir.join("postroom.toml"))?;
    // Includes its data, which each demo removes, so that the next one counts from T-1.
    config.installations = config.data_dir.join("installations");
    let config = Arc::new(config);
    let json = args.output.json;
    let watched = std::io::stdout().is_terminal() && !args.once;
    if !json {
        println!(
            "Three clients, {} mails. The outcome of each, and the rule that decided:\n",
            mails().count()
        );
    }
    let (count, decided) = watch::channel(0);
    let show: Read = Box::new(move |heard| {
        if let Heard::Event(LineEvent::Decided(mails)) = heard {
            for mail in mails.iter() {
                if json {
                    println!("{}", json_line(mail));
                } else {
                    println!("{}", line(mail));
                }
            }
            count.send_modify(|count| *count += mails.len());
        }
    });
    runtime()?.block_on(async {
        if !watched {
            for mailbox in MAILBOXES {
                drop_mail(dir, mailbox, 1)?;
            }
        }
        let code = with_readers(Bus::default(), [readers::log(), show], async |bus: &Bus| {
            let stop = CancellationToken::new();
            let options = Options::new(bus.publisher(), false);
            let service = Service::build(config, options, stop.clone()).await?;
            if !watched {
                let drained = service.once_in_turn().await?;
                return anyhow::Ok(if drained.failed.is_empty() {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                });
            }
            let rounds = Rounds {
                dir: dir.clone(),
                decided,
                stop: stop.clone(),
            };
            let again = tokio::spawn(rounds.follow(service.rules()));
            let signals = tokio::spawn(stop_on_signals(stop));
            let ended = service.run().await;
            signals.abort();
            again.await??;
            ended.map(|()| ExitCode::SUCCESS)
        })
        .await?;
        if !watched && !json {
            println!("{}", invitation(dir, false));
        }
        Ok(code)
    })
}

/// Writes the example: configuration and rules unless they exist (they may be edited), data and spool from scratch. Refuses
/// a folder that is not the demo's.
fn lay_out(dir: &Path) -> anyhow::Result<()> {
    let marker = dir.join(MARKER);
    if !marker.exists()
        && dir
            .read_dir()
            .is_ok_and(|mut inside| inside.next().is_some())
    {
        bail!("it contains other files; name a new folder: postroom demo DIR");
    }
    std::fs::create_dir_all(dir)?;
    std::fs::write(marker, "")?;
    let data = dir.join("data");
    if data.exists() {
        // Refused while another demo runs here.
        store::is_free(&data)?;
    }
    for stale in ["data", "spool"] {
        match std::fs::remove_dir_all(dir.join(stale)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    for file in files(&QUICKSTART) {
        let target = dir.join(file.path());
        if !target.exists() {
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(target, file.contents())?;
        }
    }
    Ok(std::fs::write(dir.join("postroom.d.ts"), TYPES)?)
}

/// Puts the mails of one mailbox of the example into its spool, in order. Each round differs in a header, so that no mail
/// counts as a copy of the last round's.
fn drop_mail(dir: &Path, mailbox: &str, round: u32) -> std::io::Result<()> {
    let folder = dir.join("spool").join(mailbox);
    std::fs::create_dir_all(&folder)?;
    // A spool takes the oldest file first, and skips files that may still be written.
    let mut written =
        SystemTime::from(postroom_core::Clock::system().now()) - Duration::from_secs(60);
    for mail in mails_of(mailbox) {
        let name = mail.path().file_name().unwrap_or_default();
        let target = folder.join(format!("{round:03}-{}", name.to_string_lossy()));
        let partial = target.with_extension("tmp");
        let mut bytes = format!("X-Demo-Round: {round}\r\n").into_bytes();
        bytes.extend_from_slice(mail.contents());
        std::fs::write(&partial, bytes)?;
        let file = std::fs::File::options().write(true).open(&partial)?;
        written += Duration::from_secs(1);
        file.set_modified(written)?;
        std::fs::rename(&partial, &target)?;
    }
    Ok(())
}

/// Sends the mails of the example again whenever an edited rule goes live, so that the difference shows.
struct Rounds {
    dir: PathBuf,
    /// How many mails were decided.
    decided: watch::Receiver<usize>,
    stop: CancellationToken,
}

impl Rounds {
    async fn follow(mut self, rules: Arc<RuleBook>) -> anyhow::Result<()> {
        tokio::select! {
            () = rules.all_loaded() => {}
            () = self.stop.cancelled() => return Ok(()),
        }
        let mut generation = rules.generation();
        let mut round = 1;
        self.send(round).await?;
        println!("{}", invitation(&self.dir, true));
        while !self.stop.is_cancelled() {
            tokio::time::sleep(LOOK_EVERY).await;
            if rules.generation() != generation {
                generation = rules.generation();
                round += 1;
                println!("\nYour rule is live as generation {generation}. The same mails again:\n");
                self.send(round).await?;
            }
        }
        Ok(())
    }

    /// Sends each mailbox its mails once those of the previous one are decided, so that every round has the same order.
    async fn send(&mut self, round: u32) -> anyhow::Result<()> {
        for mailbox in MAILBOXES {
            let wanted = *self.decided.borrow() + mails_of(mailbox).count();
            drop_mail(&self.dir, mailbox, round)?;
            tokio::select! {
                _ = self.decided.wait_for(|decided| *decided >= wanted) => {}
                () = self.stop.cancelled() => return Ok(()),
            }
        }
        Ok(())
    }
}

fn mails_of(mailbox: &str) -> impl Iterator<Item = &'static File<'static>> {
    let folder = Path::new("mail").join(mailbox);
    mails().filter(move |mail| mail.path().starts_with(&folder))
}

fn mails() -> impl Iterator<Item = &'static File<'static>> {
    files(&QUICKSTART)
        .into_iter()
        .filter(|file| file.path().starts_with("mail"))
}

fn files(dir: &'static Dir<'static>) -> Vec<&'static File<'static>> {
    let mut all: Vec<_> = dir.files().collect();
    for inner in dir.dirs() {
        all.extend(files(inner));
    }
    all
}

fn line(mail: &MailDecided) -> String {
    let (name, decision) = (&mail.mailbox.name, &mail.conclusion.decision);
    let subject = mail.subject.as_deref().unwrap_or("(not parsed)");
    let mut text = format!(
        "  {name:<11} {:<11} {} {} {}",
        decision.outcome.as_str(),
        pad(&mail_line::detail(decision, &mail.committed), 26),
        pad(subject, 46),
        decision.rule
    );
    for repair in &decision.repairs {
        text.push_str(&format!("\n  {:<23} repaired: {repair}", ""));
    }
    text
}

fn json_line(mail: &MailDecided) -> serde_json::Value {
    let decision = &mail.conclusion.decision;
    serde_json::json!({
        "id": mail.committed.decision_id.to_string(),
        "mailbox": mail.mailbox.name,
        "tenant": mail.mailbox.tenant,
        "subject": mail.subject,
        "outcome": decision.outcome,
        "rule": decision.rule,
        "tickets": mail.committed.tickets,
        "actions": decision.actions,
        "repairs": decision.repairs,
    })
}

fn invitation(dir: &Path, watching: bool) -> String {
    let dir = dir.display();
    let next = if watching {
        "Postroom is watching. Save the file, and the same mails come again under your rule. Ctrl-C ends it.".to_owned()
    } else {
        format!(
            "Then see what it does with one mail:\n  postroom rule try {dir}/rules/people.js {dir}/mail/osprey/04-urgent.eml --config {dir}/postroom.toml --mailbox osprey\nor run `postroom demo` in a terminal: it keeps watching, and a saved rule is live immediately."
        )
    };
    format!(
        "\nNow change a rule: open {dir}/rules/people.js and give the urgent mails another priority.\n{next}\n\nMore: postroom decisions --config {dir}/postroom.toml, and likewise items, ledger, quarantine."
    )
}
