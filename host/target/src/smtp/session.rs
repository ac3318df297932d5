//! One SMTP session: commands and their replies, each under its time limit (RFC 5321 section 4.5.3.2).

use std::future::Future;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use postroom_auth::AccessToken;
use tokio::time::timeout;

use crate::smtp::error::{SendError, SmtpStep};
use crate::smtp::extensions::Extensions;
use crate::smtp::line::Line;
use crate::smtp::reply::Reply;

/// The time limit for QUIT.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);

/// The time limits of a session.
#[derive(Debug, Clone, Copy)]
pub struct SmtpTimeouts {
    /// For name resolution, TCP and TLS, each by itself, and for a kept connection to show that it is still usable.
    pub connect: Duration,
    /// For the greeting and for each command up to the recipients.
    pub command: Duration,
    /// For the reply to DATA.
    pub data: Duration,
    /// The longest time without any progress while the text of a mail is sent.
    pub stall: Duration,
    /// For the reply to the whole mail: many servers scan it first.
    pub answer: Duration,
    /// How long the alternate server is used before the first one is tried again.
    pub return_after: Duration,
}

impl Default for SmtpTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(60),
            command: Duration::from_secs(5 * 60),
            data: Duration::from_secs(2 * 60),
            stall: Duration::from_secs(60),
            answer: Duration::from_secs(10 * 60),
            return_after: Duration::from_secs(5 * 60),
        }
    }
}

/// An open connection.
pub(crate) struct Session {
    pub line: Line,
    /// The index of its server among those of the outgoing.
    pub server: usize,
    pub timeouts: SmtpTimeouts,
    pub offers: Extensions,
    /// The token that it was opened with: a different token requires a different connection.
    pub token: Option<AccessToken>,
    pub used: Instant,
    /// Set while the text of a mail is being sent: a command would become part of it.
    pub in_text: bool,
}

impl Session {
    pub fn over(line: Line, server: usize, timeouts: SmtpTimeouts) -> Self {
        Self {
            line,
            server,
            timeouts,
            offers: Extensions::default(),
            token: None,
            used: Instant::now(),
            in_text: false,
        }
    }

    /// Reads the greeting.
    pub async fn greeting(&mut self) -> Result<(), SendError> {
        let greeting = within(
            SmtpStep::Hello,
            self.timeouts.command,
            self.line.reply(SmtpStep::Hello),
        );
        let greeting = greeting.await?;
        self.positive(SmtpStep::Hello, &greeting)
    }

    /// Gives our name with EHLO and learns what the server offers. If the server does not know EHLO, sends HELO.
    pub async fn hello(&mut self, step: SmtpStep, name: &str) -> Result<(), SendError> {
        let mut reply = self.command(step, &format!("EHLO {name}")).await?;
        if reply.code >= 500 {
            reply = self.command(step, &format!("HELO {name}")).await?;
            // HELO announces no extensions, whatever its lines say.
            reply.lines.truncate(1);
        }
        self.positive(step, &reply)?;
        self.offers = Extensions::read(&reply);
        Ok(())
    }

    /// Requests TLS (RFC 3207), up to the handshake.
    pub async fn start_tls(&mut self) -> Result<(), SendError> {
        if !self.offers.start_tls {
            return Err(SendError::Unsupported {
                step: SmtpStep::Tls,
                feature: "STARTTLS",
            });
        }
        let reply = self.command(SmtpStep::Tls, "STARTTLS").await?;
        self.positive(SmtpStep::Tls, &reply)
    }

    /// Sends a command and reads its reply, whatever it is.
    pub async fn command(&mut self, step: SmtpStep, command: &str) -> Result<Reply, SendError> {
        let limit = match step {
            SmtpStep::Data => self.timeouts.data,
            _ => self.timeouts.command,
        };
        let line = &mut self.line;
        within(step, limit, async {
            line.say(step, command).await?;
            line.reply(step).await
        })
        .await
    }

    /// Sends commands together if the server offers PIPELINING (RFC 2920), and reads their replies. There are fewer replies than
    /// commands if the session ended after a refusal.
    pub async fn commands(
        &mut self,
        commands: &[(SmtpStep, String)],
    ) -> Result<Vec<Reply>, SendError> {
        let mut replies = Vec::with_capacity(commands.len());
        let limit = self.timeouts.command;
        let Some((first, _)) = commands.first() else {
            return Ok(replies);
        };
        let texts: Vec<&str> = commands.iter().map(|(_, text)| text.as_str()).collect();
        within(*first, limit, self.line.say_all(*first, &texts)).await?;
        for (step, _) in commands {
            match within(*step, limit, self.line.reply(*step)).await {
                Ok(reply) => replies.push(reply),
                Err(_) if replies.iter().any(|reply: &Reply| !reply.is_positive()) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(replies)
    }

    /// Fails unless the reply is a 2xx.
    pub fn positive(&self, step: SmtpStep, reply: &Reply) -> Result<(), SendError> {
        match reply.is_positive() {
            true => Ok(()),
            false => Err(self.refusal(step, reply)),
        }
    }

    /// Classifies an unexpected reply.
    pub fn refusal(&self, step: SmtpStep, reply: &Reply) -> SendError {
        SendError::refused(step, reply.code, self.words(reply))
    }

    /// Returns a reply's text in a form that may be shown and stored.
    pub fn words(&self, reply: &Reply) -> String {
        self.line.shown(&reply.text())
    }

    /// Returns whether a kept connection still replies.
    pub async fn still_answers(&mut self) -> bool {
        let asked = timeout(
            self.timeouts.connect,
            self.command(SmtpStep::Sender, "NOOP"),
        )
        .await;
        matches!(asked, Ok(Ok(reply)) if reply.is_positive())
    }

    pub async fn quit(mut self) {
        if !self.in_text {
            // It makes no difference whether QUIT arrived.
            let _ = timeout(QUIT_TIMEOUT, self.command(SmtpStep::Hello, "QUIT")).await;
        }
    }
}

/// Runs a step under its time limit.
pub(crate) async fn within<T>(
    step: SmtpStep,
    limit: Duration,
    work: impl Future<Output = Result<T, SendError>>,
) -> Result<T, SendError> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        Err(SendError::Timeout {
            step,
            secs: limit.as_secs(),
        })
    })
}

/// Returns the name for EHLO: the machine's full name, otherwise its local address (RFC 5321 section 4.1.3).
pub(crate) fn own_name(local: IpAddr) -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_str().unwrap_or_default();
    match (is_full_name(name), local) {
        (true, _) => name.to_owned(),
        (false, IpAddr::V4(address)) => format!("[{address}]"),
        (false, IpAddr::V6(address)) => format!("[IPv6:{address}]"),
    }
}

/// Returns whether it is a name of at least two labels (RFC 5321 section 4.1.2).
fn is_full_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let top = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253
        && name.contains('.')
        && name.split('.').all(is_label)
        && !top.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_name_introduces_us() {
        for (name, full) in [
            ("mail.acme.example", true),
            ("a-1.example", true),
            ("mail", false),
            ("localhost", false),
            ("", false),
            ("mail.", false),
            ("-a.example", false),
            ("a b.example", false),
            ("10.0.0.1", false),
            ("büro.example", false),
        ] {
            assert_eq!(is_full_name(name), full, "{name}");
        }
    }
}
