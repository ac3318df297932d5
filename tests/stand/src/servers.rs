//! Mail servers beside the stand's Dovecot: those of other makers, run from packages that `make setup` unpacked, and Dovecot
//! without some of its extensions.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::Stand;
use crate::dovecot::{Dovecot, PASSWORD};
use crate::mail::{Imap, Lmtp, StoredMail};
use crate::ports;
use crate::process::Group;
use crate::wire::Wire;

const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// The number of attempts to start a server: another process may take its ports first.
const ATTEMPTS: usize = 3;
/// The user and the group `mail`, which Debian's base-passwd defines.
const MAIL_ID: u32 = 8;
/// The largest mail that the submission servers accept, as they are configured.
const SIZE_LIMIT: u32 = 1_000_000;
const SENDER: &str = "someone@outside.example";

/// The capabilities of Dovecot 2.3.19 after a login.
const DOVECOT_EXTENSIONS: &str = "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE SORT SORT=DISPLAY \
    THREAD=REFERENCES THREAD=REFS THREAD=ORDEREDSUBJECT MULTIAPPEND URL-PARTIAL CATENATE UNSELECT CHILDREN NAMESPACE UIDPLUS \
    LIST-EXTENDED I18NLEVEL=1 CONDSTORE QRESYNC ESEARCH ESORT SEARCHRES WITHIN CONTEXT=SEARCH LIST-STATUS BINARY MOVE \
    SNIPPET=FUZZY PREVIEW=FUZZY PREVIEW STATUS=SIZE SAVEDATE LITERAL+ NOTIFY SPECIAL-USE";

/// An IMAP server to start.
#[derive(Clone, Copy, Debug)]
pub enum ImapMaker {
    /// Cyrus with folders beside INBOX.
    Cyrus,
    /// Cyrus as it was installed for long: folders are below INBOX, separated by dots.
    CyrusBelowInbox,
    Courier,
    /// Dovecot that lacks these extensions.
    DovecotWithout(&'static [&'static str]),
    /// Dovecot that offers `IMAP4rev1` and nothing else.
    BareDovecot,
    /// DavMail, whose mailboxes are those of the EWS double. It offers no TLS here.
    DavMail,
}

/// A server for submission to start.
#[derive(Clone, Copy, Debug)]
pub enum SubmissionMaker {
    /// Postfix, whose users sign in by the stand's Dovecot.
    Postfix,
    Exim,
}

/// A running IMAP server, with POP3 where its maker has it. Dropping it stops it.
pub struct ImapServer<'s> {
    stand: &'s Stand,
    maker: ImapMaker,
    dir: PathBuf,
    /// IMAP, unencrypted or STARTTLS.
    pub imap: u16,
    /// POP3, unencrypted or STLS.
    pub pop3: u16,
    lmtp: u16,
    _process: Process,
}

/// A running server for submission. It stores mail to `outside.example`, where only `gone@` is unknown. Dropping it stops it.
pub struct SubmissionServer {
    dir: PathBuf,
    /// STARTTLS.
    pub port: u16,
    _process: Group,
}

enum Process {
    Unpacked { _group: Group },
    Dovecot { _dovecot: Dovecot },
}

impl<'s> ImapServer<'s> {
    pub(crate) fn start(stand: &'s Stand, maker: ImapMaker, users: &[&str]) -> Result<Self> {
        let (package, script, alternate) = match maker {
            ImapMaker::Cyrus => ("cyrus", include_str!("../servers/cyrus.sh"), "yes"),
            ImapMaker::CyrusBelowInbox => ("cyrus", include_str!("../servers/cyrus.sh"), "no"),
            ImapMaker::Courier => ("courier", include_str!("../servers/courier.sh"), ""),
            ImapMaker::DavMail => ("davmail", include_str!("../servers/davmail.sh"), ""),
            ImapMaker::DovecotWithout(lacking) => {
                let offered = DOVECOT_EXTENSIONS
                    .split_whitespace()
                    .filter(|name| !lacking.contains(name));
                return Self::dovecot(stand, maker, offered.collect());
            }
            ImapMaker::BareDovecot => {
                return Self::dovecot(stand, maker, vec!["IMAP4rev1"]);
            }
        };
        let dir = folder(stand.dir(), package)?;
        let settings = |[imap, pop3, lmtp]: [u16; 3]| {
            format!(
                "IMAP={imap}\nPOP3={pop3}\nLMTP={lmtp}\nALTERNATE={alternate}\nEWS={}\nUSERS=\"{}\"\n",
                stand.ews.url(),
                users.join(" ")
            )
        };
        let ([imap, pop3, lmtp], group) = start(stand.dir(), &dir, package, script, settings)?;
        Ok(Self {
            stand,
            maker,
            dir,
            imap,
            pop3,
            lmtp,
            _process: Process::Unpacked { _group: group },
        })
    }

    fn dovecot(stand: &'s Stand, maker: ImapMaker, extensions: Vec<&str>) -> Result<Self> {
        let dir = folder(stand.dir(), "dovecot")?;
        for file in ["server.pem", "server.key"] {
            fs::copy(stand.dir().join(file), dir.join(file))?;
        }
        let more = format!("imap_capability = {}\n", extensions.join(" "));
        let dovecot = Dovecot::start(&dir, &stand.neighbours, &more)?;
        let ports = dovecot.ports();
        Ok(Self {
            stand,
            maker,
            dir,
            imap: ports.imap,
            pop3: ports.pop3,
            lmtp: ports.lmtp,
            _process: Process::Dovecot { _dovecot: dovecot },
        })
    }

    /// Delivers a mail to a mailbox, as the server's maker means it: by LMTP, or as a file of the Maildir.
    pub fn deliver(&self, user: &str, mail: &str) -> Result<()> {
        match self.maker {
            ImapMaker::Courier => {
                let maildir = self.dir.join("mail").join(user).join("Maildir");
                let name = unique();
                let written = maildir.join("tmp").join(&name);
                // A Maildir holds lines as the system does.
                fs::write(&written, mail.replace("\r\n", "\n"))?;
                chown(&written, Some(MAIL_ID), Some(MAIL_ID))?;
                fs::rename(&written, maildir.join("new").join(&name))?;
                Ok(())
            }
            ImapMaker::Cyrus | ImapMaker::CyrusBelowInbox => {
                Lmtp::connect(self.lmtp)?.deliver_as_data(SENDER, user, mail)
            }
            ImapMaker::DovecotWithout(_) | ImapMaker::BareDovecot => {
                Lmtp::connect(self.lmtp)?.deliver(SENDER, user, mail.as_bytes())
            }
            ImapMaker::DavMail => {
                self.stand.ews.deliver(user, mail.as_bytes());
                Ok(())
            }
        }
    }

    /// Returns the mails of INBOX, or of a folder that is beside it for people, in the order of their UIDs.
    pub fn folder(&self, user: &str, folder: &str) -> Result<Vec<StoredMail>> {
        let prefix = match self.maker {
            ImapMaker::Courier | ImapMaker::CyrusBelowInbox if folder != "INBOX" => "INBOX.",
            _ => "",
        };
        Imap::login(self.imap, user, PASSWORD)?.folder(&format!("{prefix}{folder}"))
    }
}

impl SubmissionServer {
    pub(crate) fn start(stand: &Path, maker: SubmissionMaker) -> Result<Self> {
        let (package, script) = match maker {
            SubmissionMaker::Postfix => ("postfix", include_str!("../servers/postfix.sh")),
            SubmissionMaker::Exim => ("exim", include_str!("../servers/exim.sh")),
        };
        let dir = folder(stand, package)?;
        let sasl = Dovecot::sasl_socket(stand);
        let ([port], group) = start(stand, &dir, package, script, |[port]| {
            format!(
                "SUBMISSION={port}\nSIZE_LIMIT={SIZE_LIMIT}\nSASL={}\n",
                sasl.display()
            )
        })?;
        Ok(Self {
            dir,
            port,
            _process: group,
        })
    }

    /// Returns the mails that the server stored, in any order.
    pub fn stored(&self) -> Result<Vec<String>> {
        let folder = self.dir.join("mail/new");
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        fs::read_dir(folder)?
            .map(|entry| Ok(String::from_utf8_lossy(&fs::read(entry?.path())?).into_owned()))
            .collect()
    }

    /// Returns the largest mail that the server accepts.
    pub fn size_limit(&self) -> usize {
        SIZE_LIMIT as usize
    }
}

/// Makes a folder for a server in the stand's. Its processes run as users of their own.
fn folder(stand: &Path, name: &str) -> Result<PathBuf> {
    let dir = stand.join(format!("{name}-{}", unique()));
    fs::create_dir(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
    Ok(dir)
}

fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed).to_string()
}

/// Starts a server from its unpacked packages on free ports, and waits until the first of them greets. `settings` returns the
/// lines of `settings.sh` beside those that every server has.
///
/// A PID namespace of its own ends all its processes with the first, however they detached themselves.
fn start<const N: usize>(
    stand: &Path,
    dir: &Path,
    package: &str,
    script: &str,
    settings: impl Fn([u16; N]) -> String,
) -> Result<([u16; N], Group)> {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/servers")
        .join(package);
    ensure!(
        packages.join("packages").exists(),
        "{package} is missing: run `make setup`"
    );
    ensure!(
        fs::metadata(dir)?.uid() == 0,
        "{package} runs in a mount namespace, under several users: run its tests as root"
    );
    let packages = fs::canonicalize(packages)?;
    fs::write(dir.join("enter.sh"), include_str!("../servers/enter.sh"))?;
    fs::write(dir.join("start.sh"), script)?;
    let enter = dir.join("enter.sh");
    let log = dir.join("log");
    for _ in 0..ATTEMPTS {
        let ports = ports::free::<N>()?;
        let common = format!(
            "PASSWORD={PASSWORD}\nCERTIFICATES={}\n{}",
            stand.display(),
            settings(ports)
        );
        fs::write(dir.join("settings.sh"), common)?;
        let mut group = Group::spawn(
            dir,
            package,
            &log,
            Path::new("unshare"),
            &[
                "--mount",
                "--pid",
                "--fork",
                "--kill-child=KILL",
                "--mount-proc",
                "sh",
                &enter.to_string_lossy(),
                &packages.to_string_lossy(),
                &dir.to_string_lossy(),
            ],
        )?;
        let [first, ..] = ports[..] else {
            bail!("a server without a port")
        };
        let deadline = Instant::now() + READY_TIMEOUT;
        while group.is_running()? && Instant::now() < deadline {
            if greets(first) {
                return Ok((ports, group));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    bail!(
        "{package} did not start:\n{}",
        fs::read_to_string(&log).context("reading its log")?
    )
}

/// Returns whether a server greets, by IMAP or SMTP.
fn greets(port: u16) -> bool {
    Wire::plain(port)
        .and_then(|mut wire| wire.line())
        .is_ok_and(|line| line.starts_with("* OK") || line.starts_with("220 "))
}
