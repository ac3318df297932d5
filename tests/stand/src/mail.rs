//! Delivers mail to Dovecot and Cyrus (LMTP, IMAP APPEND) and reads folders (IMAP with a password).

use anyhow::{Context, Result, bail, ensure};

use crate::wire::Wire;

/// A mail in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMail {
    /// IMAP UID.
    pub uid: u32,
    /// Flags as the server spells them, such as `\Seen`, without `\Recent`.
    pub flags: Vec<String>,
    /// The whole mail, with CRLF line ends.
    pub bytes: Vec<u8>,
}

/// One LMTP connection (RFC 2033).
pub(crate) struct Lmtp {
    wire: Wire,
}

impl Lmtp {
    pub(crate) fn connect(port: u16) -> Result<Self> {
        let mut wire = Wire::plain(port)?;
        accepted(&wire.reply()?)?;
        accepted(&wire.command("LHLO stand")?)?;
        Ok(Self { wire })
    }

    /// Delivers one mail; an empty `sender` is the null sender.
    ///
    /// BDAT (RFC 3030) transfers the bytes unchanged, even NULs, bare CRs or lines that start with a dot.
    ///
    /// A temporary refusal is retried once: Dovecot creates a mailbox at the first visit, and two visits may be concurrent.
    pub(crate) fn deliver(&mut self, sender: &str, rcpt: &str, mail: &[u8]) -> Result<()> {
        let mut replies = self.exchange(sender, rcpt, mail)?;
        if replies.iter().any(|reply| reply.starts_with('4')) {
            replies = self.exchange(sender, rcpt, mail)?;
        }
        replies.iter().try_for_each(|reply| accepted(reply))
    }

    /// Delivers one mail with DATA, for servers without BDAT.
    pub(crate) fn deliver_as_data(&mut self, sender: &str, rcpt: &str, mail: &str) -> Result<()> {
        accepted(&self.wire.command(&format!("MAIL FROM:<{sender}>"))?)?;
        accepted(&self.wire.command(&format!("RCPT TO:<{rcpt}>"))?)?;
        self.wire.command("DATA")?;
        let stuffed = mail.replace("\n.", "\n..");
        accepted(&self.wire.command(&format!("{stuffed}\r\n."))?)
    }

    fn exchange(&mut self, sender: &str, rcpt: &str, mail: &[u8]) -> Result<[String; 3]> {
        let envelope = format!(
            "MAIL FROM:<{sender}>\r\nRCPT TO:<{rcpt}>\r\nBDAT {} LAST\r\n",
            mail.len()
        );
        self.wire.send(&[envelope.as_bytes(), mail].concat())?;
        Ok([self.wire.reply()?, self.wire.reply()?, self.wire.reply()?])
    }
}

/// One IMAP session of a mailbox's owner.
pub(crate) struct Imap {
    wire: Wire,
}

impl Imap {
    pub(crate) fn login(port: u16, user: &str, password: &str) -> Result<Self> {
        let mut imap = Self {
            wire: Wire::plain(port)?,
        };
        imap.wire.line()?;
        let (ok, _) = imap.run(&format!("LOGIN {} {}", quoted(user), quoted(password)))?;
        ensure!(ok, "the server refused the login of {user}");
        Ok(imap)
    }

    /// Returns every mail of a folder in UID order; none if the folder does not exist.
    pub(crate) fn folder(&mut self, folder: &str) -> Result<Vec<StoredMail>> {
        let (exists, _) = self.run(&format!("EXAMINE {}", quoted(folder)))?;
        if !exists {
            return Ok(Vec::new());
        }
        let (ok, answers) = self.run("UID FETCH 1:* (UID FLAGS BODY.PEEK[])")?;
        ensure!(ok, "the server refused to fetch {folder}");
        answers
            .into_iter()
            .filter(|answer| answer.text.contains(" FETCH ("))
            .map(stored)
            .collect()
    }

    /// Returns the number of mails in a folder; 0 if it does not exist.
    pub(crate) fn message_count(&mut self, folder: &str) -> Result<usize> {
        let (exists, answers) = self.run(&format!("STATUS {} (MESSAGES)", quoted(folder)))?;
        if !exists {
            return Ok(0);
        }
        answers
            .iter()
            .find_map(|answer| number_after(&answer.text, "(MESSAGES "))
            .context("the STATUS response names no count")
    }

    /// Deletes a folder with its mails.
    pub(crate) fn delete(&mut self, folder: &str) -> Result<()> {
        let (ok, _) = self.run(&format!("DELETE {}", quoted(folder)))?;
        ensure!(ok, "the server refused to delete {folder}");
        Ok(())
    }

    /// Stores mails in a folder, created if missing, in one MULTIAPPEND (RFC 3502). `date` is the date of arrival, such as
    /// `01-Nov-2020 10:00:00 +0000`; now by default.
    pub(crate) fn append<B: AsRef<[u8]>>(
        &mut self,
        folder: &str,
        flags: &str,
        date: Option<&str>,
        mails: impl IntoIterator<Item = B>,
    ) -> Result<()> {
        // An existing folder is not an error.
        self.run(&format!("CREATE {}", quoted(folder)))?;
        let mut command = format!("APPEND {}", quoted(folder)).into_bytes();
        let date = date.map_or_else(String::new, |date| format!(" {}", quoted(date)));
        for mail in mails {
            let mail = mail.as_ref();
            let head = format!(" ({flags}){date} {{{}+}}\r\n", mail.len());
            command.extend_from_slice(head.as_bytes());
            command.extend_from_slice(mail);
        }
        let (ok, _) = self.run_bytes(&command)?;
        ensure!(ok, "the server refused to append to {folder}");
        Ok(())
    }

    fn run(&mut self, command: &str) -> Result<(bool, Vec<Answer>)> {
        self.run_bytes(command.as_bytes())
    }

    /// Runs one command; returns whether it succeeded, and the untagged responses.
    fn run_bytes(&mut self, command: &[u8]) -> Result<(bool, Vec<Answer>)> {
        self.wire.send(&[b"t ", command, b"\r\n"].concat())?;
        let mut answers = Vec::new();
        loop {
            let answer = self.answer()?;
            match answer.text.strip_prefix("t ") {
                Some(result) => return Ok((result.starts_with("OK"), answers)),
                None => answers.push(answer),
            }
        }
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut text = String::new();
        let mut literal = Vec::new();
        loop {
            let line = self.wire.line()?;
            text.push_str(&line);
            match line
                .strip_suffix('}')
                .and_then(|line| line.rsplit_once('{'))
            {
                Some((_, length)) => literal = self.wire.exact(length.parse()?)?,
                None => return Ok(Answer { text, literal }),
            }
        }
    }
}

/// An untagged response: its text without literals, and its last literal.
struct Answer {
    text: String,
    literal: Vec<u8>,
}

fn stored(answer: Answer) -> Result<StoredMail> {
    let uid = number_after(&answer.text, "UID ").context("a FETCH without UID")?;
    let flags = answer
        .text
        .split_once("FLAGS (")
        .and_then(|(_, rest)| rest.split_once(')'))
        .context("a FETCH without FLAGS")?
        .0
        .split_whitespace()
        .filter(|flag| *flag != r"\Recent")
        .map(str::to_owned)
        .collect();
    Ok(StoredMail {
        uid,
        flags,
        bytes: answer.literal,
    })
}

fn number_after<T: std::str::FromStr>(text: &str, label: &str) -> Option<T> {
    let (_, rest) = text.split_once(label)?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn accepted(reply: &str) -> Result<()> {
    if reply.starts_with('2') {
        return Ok(());
    }
    bail!("LMTP refused: {reply}")
}

/// Returns a mail with another Message-ID, as Exchange sends it.
pub(crate) fn with_message_id(mime: &[u8], id: &str) -> Vec<u8> {
    let mut rewritten = format!("Message-ID: <{id}>\r\n").into_bytes();
    let (mut in_header, mut is_dropped) = (true, false);
    for line in mime.split_inclusive(|byte| *byte == b'\n') {
        if in_header {
            let is_continued = line.starts_with(b" ") || line.starts_with(b"\t");
            if !is_continued {
                let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
                is_dropped = name.eq_ignore_ascii_case(b"message-id");
            }
            in_header = !line.trim_ascii().is_empty();
            if is_dropped && in_header {
                continue;
            }
        }
        rewritten.extend_from_slice(line);
    }
    rewritten
}
