//! Mail servers that misbehave in ways that real ones cannot be configured to: scripted, on their own ports, counting the
//! requests.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// The fault of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// IMAP: ends each IDLE with BYE.
    EndsSessions,
    /// IMAP: refuses every sign-in.
    RefusesLogins,
    /// IMAP: quotes every sign-in, alternately in its refusal and in a line that is not a response.
    QuotesLogins,
    /// SMTP: refuses every sign-in, until [`Misbehaving::mend`].
    RefusesSenders,
    /// SMTP: quotes every sign-in in its refusal.
    QuotesSenders,
}

/// The server; it ends when dropped.
pub struct Misbehaving {
    port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    fault: Fault,
    is_mended: AtomicBool,
    is_over: AtomicBool,
    connections: AtomicUsize,
    sign_ins: AtomicUsize,
    mails: AtomicUsize,
}

impl Misbehaving {
    pub fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared {
            fault,
            is_mended: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            sign_ins: AtomicUsize::new(0),
            mails: AtomicUsize::new(0),
        });
        let serving = shared.clone();
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                serving.connections.fetch_add(1, Ordering::SeqCst);
                let serving = serving.clone();
                // A client's disconnect is not the server's concern.
                std::thread::spawn(move || match serving.fault {
                    Fault::EndsSessions | Fault::RefusesLogins | Fault::QuotesLogins => {
                        serving.imap(stream).ok()
                    }
                    Fault::RefusesSenders | Fault::QuotesSenders => serving.smtp(stream).ok(),
                });
            }
        });
        Self {
            port,
            shared,
            accepting: Some(accepting),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Accepts every sign-in from now on.
    pub fn mend(&self) {
        self.shared.is_mended.store(true, Ordering::SeqCst);
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub fn sign_ins(&self) -> usize {
        self.shared.sign_ins.load(Ordering::SeqCst)
    }

    pub fn mails(&self) -> usize {
        self.shared.mails.load(Ordering::SeqCst)
    }
}

impl Drop for Misbehaving {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    /// Serves one IMAP session with an empty mailbox (RFC 9051).
    fn imap(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut say = stream.try_clone()?;
        let capabilities = "CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=XOAUTH2 IDLE UIDPLUS MOVE";
        write!(say, "* OK [{capabilities}] ready\r\n")?;
        for line in BufReader::new(stream).lines() {
            let line = line?;
            let mut words = line.split(' ');
            let (tag, command) = (words.next(), words.next().unwrap_or_default());
            let tag = tag.unwrap_or_default();
            match command {
                "AUTHENTICATE" => {
                    let before = self.sign_ins.fetch_add(1, Ordering::SeqCst);
                    match self.fault {
                        Fault::QuotesLogins if before.is_multiple_of(2) => {
                            let said: Vec<&str> = words.collect();
                            write!(say, "{}\r\n", said.join(" "))?;
                        }
                        Fault::QuotesLogins => write!(say, "{tag} NO what is {line}?\r\n")?,
                        Fault::RefusesLogins => {
                            write!(say, "{tag} NO [AUTHENTICATIONFAILED] no\r\n")?;
                        }
                        _ => write!(say, "{tag} OK [{capabilities}] in\r\n")?,
                    }
                }
                "SELECT" => write!(
                    say,
                    "* 0 EXISTS\r\n* OK [UIDVALIDITY 1] x\r\n* OK [UIDNEXT 1] x\r\n{tag} OK\r\n"
                )?,
                "IDLE" => return write!(say, "* BYE ended\r\n"),
                "LOGOUT" => return write!(say, "* BYE\r\n{tag} OK\r\n"),
                _ => write!(say, "{tag} OK\r\n")?,
            }
        }
        Ok(())
    }

    /// Serves one SMTP session (RFC 5321, RFC 4954).
    fn smtp(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut say = stream.try_clone()?;
        write!(say, "220 localhost ESMTP\r\n")?;
        let mut in_text = false;
        for line in BufReader::new(stream).lines() {
            let line = line?;
            if in_text {
                in_text = line != ".";
                if !in_text {
                    self.mails.fetch_add(1, Ordering::SeqCst);
                    write!(say, "250 2.0.0 taken\r\n")?;
                }
                continue;
            }
            match line.split(' ').next().unwrap_or_default() {
                "EHLO" => write!(
                    say,
                    "250-localhost\r\n250-8BITMIME\r\n250 AUTH PLAIN XOAUTH2\r\n"
                )?,
                "AUTH" => {
                    self.sign_ins.fetch_add(1, Ordering::SeqCst);
                    match self.is_mended.load(Ordering::SeqCst) {
                        true => write!(say, "235 2.7.0 in\r\n")?,
                        false if self.fault == Fault::QuotesSenders => {
                            write!(say, "501 5.5.4 Syntax error: \"{line}\"\r\n")?;
                        }
                        false => write!(say, "535 5.7.8 no\r\n")?,
                    }
                }
                "DATA" => {
                    in_text = true;
                    write!(say, "354 go on\r\n")?;
                }
                "QUIT" => return write!(say, "221 bye\r\n"),
                _ => write!(say, "250 2.0.0 ok\r\n")?,
            }
        }
        Ok(())
    }
}
