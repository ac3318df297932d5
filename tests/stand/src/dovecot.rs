//! Dovecot as the stand's mail server: its own configuration, free ports, in the foreground as our child.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::authority::{INTROSPECTION_CLIENT, INTROSPECTION_SECRET};
use crate::ports;
use crate::process::Group;
use crate::wire::Wire;

/// The password of every mailbox, for PLAIN and LOGIN.
pub const PASSWORD: &str = "stand-password";

/// The number of retries if another process takes a port first.
const PORT_ATTEMPTS: usize = 10;
const READY_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The protocols that accept tokens, by Dovecot's names.
const TOKEN_PROTOCOLS: [&str; 3] = ["imap", "pop3", "submission"];
/// The conditions under which a token opens a mailbox, tried in this order: the claim and its value, the claim that must
/// equal the login, and the format of both. An app-only token opens any mailbox, so a constant format makes all logins
/// equal; a user's token opens the user's own mailbox and the shared ones.
const TOKEN_WAYS: [(&str, &str, &str, &str); 5] = [
    ("mail", "any", "mail", "app-only"),
    ("delegated", "yes", "owner", "%Lu"),
    ("delegated", "yes", "shared1", "%Lu"),
    ("delegated", "yes", "shared2", "%Lu"),
    ("delegated", "yes", "shared3", "%Lu"),
];

/// Dovecot's ports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DovecotPorts {
    pub(crate) imap: u16,
    pub(crate) imaps: u16,
    pub(crate) pop3: u16,
    pub(crate) pop3s: u16,
    pub(crate) submission: u16,
    pub(crate) submissions: u16,
    pub(crate) lmtp: u16,
}

/// The facts about the rest of the stand that the configuration needs.
#[derive(Clone, Copy)]
pub(crate) struct Neighbours {
    pub(crate) introspection_port: u16,
    pub(crate) smtp_sink_port: u16,
}

/// A Dovecot on fixed ports, running or stopped.
pub(crate) struct Dovecot {
    dir: PathBuf,
    binary: PathBuf,
    ports: DovecotPorts,
    running: Option<Group>,
}

impl Dovecot {
    /// Writes the configuration, ended by the `more` settings, and starts; the certificate must already be in `dir`.
    pub(crate) fn start(dir: &Path, neighbours: &Neighbours, more: &str) -> Result<Self> {
        let binary = binary()?;
        fs::create_dir(dir.join("mail"))?;
        // Dovecot writes mail as an unprivileged user.
        fs::set_permissions(dir.join("mail"), fs::Permissions::from_mode(0o777))?;

        for _ in 0..PORT_ATTEMPTS {
            let ports = free_ports()?;
            write_config(dir, &ports, neighbours, more)?;
            let mut dovecot = Self {
                dir: dir.to_owned(),
                binary: binary.clone(),
                ports,
                running: None,
            };
            match dovecot.resume() {
                Ok(()) => return Ok(dovecot),
                Err(_) if dovecot.log().contains("Address already in use") => {
                    fs::remove_file(dir.join("dovecot.log"))?;
                }
                Err(error) => return Err(error),
            }
        }
        bail!("no free ports for Dovecot after {PORT_ATTEMPTS} attempts")
    }

    pub(crate) fn ports(&self) -> DovecotPorts {
        self.ports
    }

    /// Starts on its previous ports; does nothing if it is running.
    pub(crate) fn resume(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let config = self.dir.join("dovecot.conf");
        let mut process = Group::spawn(
            &self.dir,
            "dovecot",
            &self.dir.join("dovecot.log"),
            &self.binary,
            &["-F", "-c", &config.to_string_lossy()],
        )?;
        let deadline = Instant::now() + READY_TIMEOUT;
        while !greets(self.ports.imap) {
            if !process.is_running()? || Instant::now() > deadline {
                bail!(
                    "Dovecot did not start (is `make setup` done?):\n{}",
                    self.log()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.running = Some(process);
        Ok(())
    }

    /// Stops, closing every connection; does nothing if it is stopped.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.running
            .take()
            .map_or(Ok(()), |process| process.terminate(STOP_TIMEOUT))
    }

    /// Ends every session of a user.
    pub(crate) fn kick(&self, user: &str) -> Result<()> {
        let output = Command::new("doveadm")
            .arg("-c")
            .arg(self.dir.join("dovecot.conf"))
            .args(["kick", user])
            .output()
            .context("running doveadm")?;
        ensure!(
            output.status.success(),
            "doveadm kick {user}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Returns the socket on which other servers check passwords (`auth-client`).
    pub(crate) fn sasl_socket(dir: &Path) -> PathBuf {
        dir.join("run/sasl")
    }

    /// Returns Dovecot's log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("dovecot.log")).unwrap_or_default()
    }
}

/// Returns Dovecot's binary, after checking that the whole server is installed.
fn binary() -> Result<PathBuf> {
    let binary = ["/usr/sbin/dovecot", "/usr/local/sbin/dovecot"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .context("Dovecot is missing: run `make setup`")?;
    let output = Command::new(&binary).arg("--version").output()?;
    let version = String::from_utf8_lossy(&output.stdout);
    ensure!(
        version.starts_with("2.3."),
        "Dovecot 2.3 (Debian 12) is needed, found {}: its config differs from 2.4's",
        version.trim()
    );
    let debian = Path::new("/usr/lib/dovecot");
    if debian.is_dir() {
        for server in ["imap", "pop3", "submission", "lmtp"] {
            ensure!(
                debian.join(server).exists(),
                "Dovecot's {server} is missing: run `make setup`"
            );
        }
    }
    Ok(binary)
}

fn write_config(
    dir: &Path,
    ports: &DovecotPorts,
    neighbours: &Neighbours,
    more: &str,
) -> Result<()> {
    let owner = fs::metadata(dir)?;
    let (users, uid, gid) = if owner.uid() == 0 {
        (String::new(), "mail".to_owned(), "mail".to_owned())
    } else {
        (
            unprivileged()?,
            owner.uid().to_string(),
            owner.gid().to_string(),
        )
    };
    let folder = dir.to_string_lossy();
    let tokens = write_token_checks(dir, neighbours)?;
    let config = include_str!("../dovecot/dovecot.conf")
        .replace("@TOKENS@\n", &tokens)
        .replace("@DIR@", &folder)
        .replace("@USERS@", &users)
        .replace("@UID@", &uid)
        .replace("@GID@", &gid)
        .replace("@PASSWORD@", PASSWORD)
        .replace("@SMTP_SINK@", &neighbours.smtp_sink_port.to_string())
        .replace("@IMAP@", &ports.imap.to_string())
        .replace("@IMAPS@", &ports.imaps.to_string())
        .replace("@POP3@", &ports.pop3.to_string())
        .replace("@POP3S@", &ports.pop3s.to_string())
        .replace("@SUBMISSION@", &ports.submission.to_string())
        .replace("@SUBMISSIONS@", &ports.submissions.to_string())
        .replace("@LMTP@", &ports.lmtp.to_string());
    fs::write(dir.join("dovecot.conf"), config + more)?;
    Ok(())
}

/// Writes the query of each protocol about a token, and returns the settings that make Dovecot send it. The query's URL
/// names the protocol, since Dovecot does not pass it otherwise.
fn write_token_checks(dir: &Path, neighbours: &Neighbours) -> Result<String> {
    let mut settings = String::new();
    for protocol in TOKEN_PROTOCOLS {
        settings.push_str(&format!("protocol {protocol} {{\n"));
        for (index, (active, value, claim, format)) in TOKEN_WAYS.into_iter().enumerate() {
            let path = dir.join(format!("oauth2-{protocol}-{index}.conf"));
            let check = include_str!("../dovecot/oauth2.conf")
                .replace("@CLIENT@", INTROSPECTION_CLIENT)
                .replace("@SECRET@", INTROSPECTION_SECRET)
                .replace(
                    "@INTROSPECTION@",
                    &neighbours.introspection_port.to_string(),
                )
                .replace("@PROTOCOL@", protocol)
                .replace("@ACTIVE@", active)
                .replace("@VALUE@", value)
                .replace("@CLAIM@", claim)
                .replace("@FORMAT@", format);
            fs::write(&path, check)?;
            // A query that fails ends the login: the next condition must not hide the failure.
            settings.push_str(&format!(
                "  passdb {{\n    driver = oauth2\n    mechanisms = xoauth2 oauthbearer\n    args = {}\n    \
                 result_internalfail = return-fail\n  }}\n",
                path.display()
            ));
        }
        settings.push_str("}\n");
    }
    Ok(settings)
}

/// Returns the settings that let Dovecot run as an ordinary user: every role is that user, and nothing is chrooted.
fn unprivileged() -> Result<String> {
    let id = |option: &str| -> Result<String> {
        let output = Command::new("id").arg(option).output()?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let (user, group) = (id("-un")?, id("-gn")?);
    let mut settings = format!(
        "default_internal_user = {user}\ndefault_internal_group = {group}\ndefault_login_user = {user}\n"
    );
    for service in [
        "anvil",
        "imap-login",
        "pop3-login",
        "submission-login",
        "imap-urlauth-login",
    ] {
        settings.push_str(&format!("service {service} {{\n  chroot =\n}}\n"));
    }
    Ok(settings)
}

fn free_ports() -> Result<DovecotPorts> {
    let [imap, imaps, pop3, pop3s, submission, submissions, lmtp] = ports::free()?;
    Ok(DovecotPorts {
        imap,
        imaps,
        pop3,
        pop3s,
        submission,
        submissions,
        lmtp,
    })
}

fn greets(port: u16) -> bool {
    Wire::plain(port)
        .and_then(|mut wire| wire.line())
        .is_ok_and(|line| line.starts_with("* OK"))
}
