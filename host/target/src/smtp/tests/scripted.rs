//! A scripted server whose every byte is set by a test, and functions to send one mail to it.

use super::*;
use crate::MailAttachment;
use crate::smtp::SmtpReceipt;

/// The next action of a server.
pub(super) enum Act {
    /// Sends these bytes.
    Send(&'static [u8]),
    /// Reads a line.
    Hear,
    /// Reads a line, which must be this one.
    Expect(&'static str),
    /// Reads the text of a mail.
    HearText,
    /// Waits this many milliseconds.
    Wait(u64),
}

pub(super) use Act::{Expect, Hear, HearText, Send, Wait};

pub(super) const GREETING: Act = Send(b"220 hi\r\n");
pub(super) const HELLO: &[Act] = &[GREETING, Hear, Send(b"250 scripted\r\n")];

/// Serves one connection, then closes it. Returns everything received.
pub(super) async fn act(
    listener: TcpListener,
    acts: impl IntoIterator<Item = &'static Act>,
) -> Vec<String> {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut heard = Vec::new();
    for act in acts {
        match act {
            Send(bytes) => drop(stream.write_all(bytes).await),
            Wait(millis) => tokio::time::sleep(Duration::from_millis(*millis)).await,
            Hear | Expect(_) | HearText => {
                let mut line = Vec::new();
                let end: &[u8] = match act {
                    HearText => b"\r\n.\r\n",
                    _ => b"\r\n",
                };
                while !line.ends_with(end) {
                    if stream.read_until(b'\n', &mut line).await.unwrap_or(0) == 0 {
                        return heard;
                    }
                }
                let line = String::from_utf8(line).unwrap().trim_end().to_owned();
                if let Expect(expected) = act {
                    assert_eq!(line, *expected);
                }
                heard.push(line);
            }
        }
    }
    heard
}

/// Returns settings with time limits that a loaded machine does not reach.
pub(super) fn patient(port: u16) -> SmtpSettings {
    let limit = Duration::from_secs(30);
    SmtpSettings {
        proxies: postroom_net::Proxies::default(),
        timeouts: SmtpTimeouts {
            connect: limit,
            command: limit,
            data: limit,
            stall: limit,
            answer: limit,
            return_after: limit,
        },
        ..settings(port, TlsMode::None)
    }
}

/// Sends one mail over one connection that begins with [`HELLO`].
pub(super) async fn sent(
    acts: &'static [Act],
    to: &[&str],
) -> (Result<SmtpReceipt, SendError>, Vec<String>) {
    sent_by(None, &[HELLO, acts], (&mail(to), &[]), |_| {}).await
}

pub(super) async fn sent_by(
    login: Option<Login>,
    acts: &[&'static [Act]],
    (mail, attachments): (&OutgoingMail, &[MailAttachment]),
    adjust: impl FnOnce(&mut SmtpSettings),
) -> (Result<SmtpReceipt, SendError>, Vec<String>) {
    let (listener, port) = listener().await;
    let mut settings = patient(port);
    adjust(&mut settings);
    let smtp = Smtp::new(settings, login, tls(&[])).unwrap();
    let serving = tokio::spawn(act(listener, acts.concat_refs()));
    let outcome = smtp.send(mail, attachments).await;
    smtp.close().await;
    (outcome, serving.await.unwrap())
}

trait ConcatRefs {
    fn concat_refs(&self) -> Vec<&'static Act>;
}

impl ConcatRefs for [&'static [Act]] {
    fn concat_refs(&self) -> Vec<&'static Act> {
        self.iter().flat_map(|acts| acts.iter()).collect()
    }
}

pub(super) const TWO: &[&str] = &["late@client.example", "ann@client.example"];

pub(super) const ACCEPTED: &[Act] = &[
    Hear,
    Send(b"250 ok\r\n"),
    Hear,
    Send(b"354 go\r\n"),
    HearText,
    Send(b"250 queued\r\n"),
];

pub(super) fn password() -> Option<Login> {
    Some(Login::Password {
        user: "ann".into(),
        password: Secret::new(PASSWORD),
    })
}

pub(super) const PASSWORD: &str = "Xq8Q~hunter/two+0123";
pub(super) const SIGNED_IN: &[Act] = &[Send(b"235 ok\r\n"), Hear, Send(b"250 ok\r\n")];
