//! Fetching alone: Postroom's IMAP source beside mbsync on the same Dovecot, without a journal and without decisions.
//!
//! The source runs in a process of its own, which is this program started with [`CHILD`], so that its processor time can be
//! measured like mbsync's.

use std::collections::HashMap;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postroom_auth::{Login, Secret};
use postroom_mailbox::{FetchLimits, ImapSettings, ImapTimeouts, Import, Source, imap};
use postroom_net::{Proxies, TlsMode};
use postroom_stand::Stand;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::figures::{each, mebibytes, median, table};
use crate::filled::{append, copy_mailbox, fresh_folder};
use crate::process::{Usage, dovecot_cpu, measure};
use crate::room::target;
use crate::throughput::{has_mbsync, mbsync, mbsync_files, peak};

/// The argument with which this program fetches a mailbox and does nothing else. What is fetched comes from the environment.
pub const CHILD: &str = "fetch-mailbox";

/// The mailbox that is filled; the contenders get copies.
const MASTER: &str = "fetch@acme.example";
const INTO: &str = "BENCH_INTO";

/// The destination of a fetched mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Into {
    Memory,
    Files,
    DurableFiles,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contender {
    Postroom(Into),
    Mbsync { fsync: bool },
}

/// Each is compared with the mbsync that makes the same effort.
const CONTENDERS: [Contender; 5] = [
    Contender::Postroom(Into::Memory),
    Contender::Postroom(Into::Files),
    Contender::Mbsync { fsync: false },
    Contender::Postroom(Into::DurableFiles),
    Contender::Mbsync { fsync: true },
];

struct Run {
    usage: Usage,
    /// Dovecot's processor time meanwhile.
    server: Duration,
}

/// The mails by Message-ID, without carriage returns, which mbsync removes.
type Mails = HashMap<String, Vec<u8>>;

/// Fetches the same mails with each contender, `rounds` times, and prints a table of medians.
pub fn run(stand: &Stand, count: u32, rounds: usize) -> Result<()> {
    println!("Fetch only: {count} mails over IMAP, without journal and decision, {rounds} rounds");
    append(stand, MASTER, &(0..count).collect::<Vec<_>>())?;
    let mut mails = Mails::new();
    for mail in stand.folder(MASTER, "INBOX")? {
        mails.insert(message_id(&mail.bytes)?, without_returns(&mail.bytes));
    }
    ensure!(mails.len() == count as usize, "the mailbox is not filled");
    // Removed at the end only: a file system may be busy for seconds after thousands of files were deleted.
    let scratch = tempfile::tempdir_in(target()?)?;
    let mut runs: Vec<Vec<Run>> = CONTENDERS.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for (number, (contender, runs)) in CONTENDERS.into_iter().zip(&mut runs).enumerate() {
            if matches!(contender, Contender::Mbsync { .. }) && !has_mbsync() {
                continue;
            }
            let user = format!("f{round}-{number}@acme.example");
            copy_mailbox(stand, MASTER, &user)?;
            let dir = fresh_folder(scratch.path())?;
            let run = contender.run(stand, &user, &mails, &dir);
            runs.push(run.with_context(|| contender.name())?);
        }
    }
    report(count, &runs);
    Ok(())
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Contender::Postroom(Into::Memory) => "Postroom's source, to memory",
            Contender::Postroom(Into::Files) => "Postroom's source, to files",
            Contender::Postroom(Into::DurableFiles) => "Postroom's source, to files, each synced",
            Contender::Mbsync { fsync: false } => "mbsync, to files, FSync no",
            Contender::Mbsync { fsync: true } => "mbsync, to files, as it comes",
        }
    }

    /// Returns the mbsync that makes the same effort, or no more of it.
    fn peer(self) -> Contender {
        let fsync = matches!(
            self,
            Contender::Postroom(Into::DurableFiles) | Contender::Mbsync { fsync: true }
        );
        Contender::Mbsync { fsync }
    }

    /// Runs the contender once, with its files below `dir`, and checks each mail that it fetched.
    fn run(self, stand: &Stand, user: &str, mails: &Mails, dir: &Path) -> Result<Run> {
        let mut command = match self {
            Contender::Postroom(into) => child(stand, user, into, dir)?,
            Contender::Mbsync { fsync } => mbsync(stand, user, dir, fsync)?,
        };
        let before = dovecot_cpu(stand)?;
        let usage = measure(&mut command, &dir.join("log"))?;
        let server = dovecot_cpu(stand)?.saturating_sub(before);
        match self {
            Contender::Postroom(Into::Memory) => check_sizes(dir, mails)?,
            Contender::Postroom(_) => check_files(&files(&dir.join("mails"))?, mails)?,
            Contender::Mbsync { .. } => check_files(&mbsync_files(dir)?, mails)?,
        }
        let left = stand.message_count(user, "INBOX")?;
        ensure!(left == mails.len(), "{left} mails are left in INBOX");
        Ok(Run { usage, server })
    }
}

/// Returns this program as it fetches a mailbox.
fn child(stand: &Stand, user: &str, into: Into, dir: &Path) -> Result<Command> {
    fs::create_dir(dir.join("mails"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg(CHILD)
        .env("BENCH_PORT", stand.ports().imaps.to_string())
        .env("BENCH_USER", user)
        .env("BENCH_PASSWORD", stand.password())
        .env("BENCH_CA", stand.ca_pem())
        .env("BENCH_OUT", dir)
        .env(
            INTO,
            match into {
                Into::Memory => "memory",
                Into::Files => "files",
                Into::DurableFiles => "durable-files",
            },
        );
    Ok(command)
}

/// Fetches a mailbox as the parent's environment says, and lists the mails with their sizes.
pub fn run_child() -> Result<()> {
    let variable = |name: &str| std::env::var(name).context(name.to_owned());
    let into = match variable(INTO)?.as_str() {
        "memory" => Into::Memory,
        "files" => Into::Files,
        _ => Into::DurableFiles,
    };
    let user = variable("BENCH_USER")?;
    let out = PathBuf::from(variable("BENCH_OUT")?);
    let settings = ImapSettings {
        name: "bench".into(),
        host: "localhost".into(),
        port: variable("BENCH_PORT")?.parse()?,
        tls: TlsMode::Implicit,
        folders: vec!["INBOX".into()],
        every: Duration::from_secs(3600),
        proxies: Proxies::default(),
        import: Import::All,
        targets: Vec::new(),
        unused: Vec::new(),
        timeouts: ImapTimeouts::default(),
    };
    let login = Login::Password {
        user,
        password: Secret::new(variable("BENCH_PASSWORD")?),
    };
    let mut source = imap(settings, login, tls(Path::new(&variable("BENCH_CA")?))?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(fetch_all(&mut source, into, &out))
}

async fn fetch_all(source: &mut impl Source, into: Into, out: &Path) -> Result<()> {
    let mut list = BufWriter::new(fs::File::create(out.join("list"))?);
    let (limits, mut cursor, mut number) = (FetchLimits::default(), None, 0_u32);
    loop {
        let batch = source.fetch(cursor.as_ref(), &limits).await?;
        for mail in &batch.messages {
            ensure!(mail.is_whole(), "a mail was fetched in part");
            writeln!(list, "{}\t{}", message_id(&mail.bytes)?, mail.bytes.len())?;
            if into != Into::Memory {
                let mut file = fs::File::create(out.join(format!("mails/{number}")))?;
                file.write_all(&mail.bytes)?;
                if into == Into::DurableFiles {
                    file.sync_data()?;
                }
            }
            number += 1;
        }
        if batch.messages.is_empty() && !batch.more {
            break;
        }
        cursor = batch.cursor;
    }
    source.close().await;
    list.flush()?;
    Ok(())
}

fn tls(ca: &Path) -> Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Fails unless the list names each mail once, with its size.
fn check_sizes(dir: &Path, mails: &Mails) -> Result<()> {
    let list = fs::read_to_string(dir.join("list"))?;
    let mut open: HashMap<&str, &Vec<u8>> = mails.iter().map(|(id, it)| (&**id, it)).collect();
    for line in list.lines() {
        let (id, size) = line.split_once('\t').context("a line of the list")?;
        let mail = open
            .remove(id)
            .with_context(|| format!("{id} came twice"))?;
        // Each line end has lost its carriage return.
        let lines = mail.iter().filter(|&&byte| byte == b'\n').count();
        ensure!(
            size.parse() == Ok(mail.len() + lines),
            "{id} has {size} bytes"
        );
    }
    ensure!(open.is_empty(), "{} mails were not fetched", open.len());
    Ok(())
}

/// Fails unless the files are the mails, each once.
fn check_files(files: &[PathBuf], mails: &Mails) -> Result<()> {
    let mut open: HashMap<&str, &Vec<u8>> = mails.iter().map(|(id, it)| (&**id, it)).collect();
    for file in files {
        let bytes = fs::read(file)?;
        let id = message_id(&bytes)?;
        let mail = open
            .remove(&*id)
            .with_context(|| format!("{id} came twice"))?;
        ensure!(
            *mail == without_returns(&bytes) || *mail == without_mark(&bytes),
            "{id} is changed"
        );
    }
    ensure!(open.is_empty(), "{} mails were not fetched", open.len());
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|it| Ok(it?.path())).collect()
}

fn message_id(mail: &[u8]) -> Result<String> {
    const NAME: &[u8] = b"message-id:";
    let mut lines = mail.split(|&byte| byte == b'\n');
    let value = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(value)
    });
    let value = value.context("a mail without a Message-ID")?;
    Ok(String::from_utf8_lossy(value).trim().to_owned())
}

fn without_returns(mail: &[u8]) -> Vec<u8> {
    mail.iter().copied().filter(|&byte| byte != b'\r').collect()
}

/// Returns a mail as mbsync fetched it, without the header line with which it recognises its own copies.
fn without_mark(mail: &[u8]) -> Vec<u8> {
    const MARK: &[u8] = b"X-TUID: ";
    let mut lines = mail.split_inclusive(|&byte| byte == b'\n');
    let mut kept = Vec::with_capacity(mail.len());
    for line in lines.by_ref() {
        if line.starts_with(MARK) {
            break;
        }
        kept.extend_from_slice(line);
    }
    lines.for_each(|line| kept.extend_from_slice(line));
    kept
}

fn report(count: u32, runs: &[Vec<Run>]) {
    let middle = |runs: &[Run], of: fn(&Run) -> Duration| {
        median(&runs.iter().map(of).collect::<Vec<Duration>>())
    };
    let rate = |contender: Contender| {
        let at = CONTENDERS.iter().position(|it| *it == contender)?;
        let runs = runs.get(at).filter(|runs| !runs.is_empty())?;
        Some(f64::from(count) / middle(runs, |run| run.usage.wall).as_secs_f64())
    };
    let mut rows = Vec::new();
    for (contender, runs) in CONTENDERS.into_iter().zip(runs) {
        let Some(own) = rate(contender) else {
            continue;
        };
        let usages: Vec<Usage> = runs.iter().map(|run| run.usage).collect();
        rows.push(vec![
            contender.name().to_owned(),
            format!("{own:.0}"),
            rate(contender.peer()).map_or("-".into(), |peer| format!("{:.2}x", own / peer)),
            each(middle(runs, |run| run.usage.cpu), count),
            each(middle(runs, |run| run.server), count),
            mebibytes(peak(&usages)),
        ]);
    }
    table(
        &[
            "contender",
            "mails/s",
            "to mbsync",
            "CPU a mail",
            "Dovecot's",
            "peak RSS",
        ],
        &rows,
    );
    println!(
        "  each mail was fetched once and unchanged, and none left INBOX: checked after every run"
    );
    if !has_mbsync() {
        println!("  mbsync is not installed: left out");
    }
}
