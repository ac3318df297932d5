//! `postroom send`: sends a notification from an operator or a script through an outgoing, once, with exit codes for scripts.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use postroom_core::Clock;
use postroom_core::{Address, MailKind, OutgoingMail};
use postroom_files::{Unread, read_argument};
use postroom_target::{Attempt, Content, Delivery, MailAttachment, Severity};
use serde_json::{Value, json};

use crate::commands::{load_in_part, print, runtime, with_tokens};
use crate::{connections, output, tls};
use postroom_config::suggest::no_such;
use postroom_config::{Config, Outgoing};

/// The largest body, and the largest total size of all attachments. Most mail servers accept less, usually 25 to 50 MB.
const MAX_BYTES: u64 = 100 << 20;

/// The server refused the mail permanently.
const REFUSED: u8 = 3;
/// Nothing was sent, and a later attempt may succeed.
const TRY_AGAIN: u8 = 4;
/// The mail was sent completely, and the server's reply was lost.
const MAY_HAVE_ARRIVED: u8 = 5;
/// Some recipients were accepted, others were not.
const PARTLY: u8 = 6;

/// The notification and how to send it.
pub struct Options {
    pub to: Vec<String>,
    pub subject: String,
    /// The path of a file, or `-` for standard input.
    pub body: Option<PathBuf>,
    pub html: Option<PathBuf>,
    pub attach: Vec<PathBuf>,
    /// Required if there is more than one.
    pub outgoing: Option<String>,
    pub json: bool,
}

pub fn send(config: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let config = load_in_part(config)?;
    let outgoing = choose(&config, options.outgoing.as_deref())?;
    let mail = notification(outgoing, options)?;
    let attachments = attachments(&options.attach)?;
    let tls = tls::client_config(&config.extra_roots)?;
    runtime()?.block_on(async {
        let tokens = connections::tokens_if_ready(&config, &tls)?;
        let tokens = tokens.map(|tokens| Arc::new(tokens.quiet()));
        let target = match connections::outgoing(outgoing, &tokens, &tls)? {
            Ok(target) => target,
            Err(why) => bail!("{}; help: {}", why.reason, why.help),
        };
        let sending = async {
            let content = Content::Mail {
                mail: &mail,
                attachments,
            };
            let delivery = Delivery {
                idempotency_key: &mail.message_id,
                content,
                is_repeat: false,
                reference: None,
            };
            let attempt = target.deliver(delivery).await;
            target.close().await;
            report(outgoing, &mail, attempt, options.json)
        };
        match &tokens {
            Ok(tokens) => with_tokens(tokens, sending).await,
            Err(_) => sending.await,
        }
    })
}

/// Returns the outgoing with this name, or the only one.
fn choose<'c>(config: &'c Config, name: Option<&str>) -> anyhow::Result<&'c Outgoing> {
    let known: Vec<&str> = config.outgoing.iter().map(|it| it.name.as_str()).collect();
    match (name, config.outgoing.as_slice()) {
        (Some(name), _) => {
            let found = config.outgoing(name);
            found.ok_or_else(|| anyhow::anyhow!(no_such("outgoing", name, &known)))
        }
        (None, [only]) => Ok(only),
        (None, []) => bail!("there is no outgoing; help: add [outgoing.NAME] to the configuration"),
        (None, _) => bail!(
            "there are several outgoings; help: name one with --outgoing: {}",
            known.join(", ")
        ),
    }
}

fn notification(outgoing: &Outgoing, options: &Options) -> anyhow::Result<OutgoingMail> {
    let text = options.body.as_deref().map(read_text).transpose()?;
    let html = options.html.as_deref().map(read_text).transpose()?;
    let to = options.to.iter().map(|email| Address {
        name: None,
        email: email.clone(),
    });
    Ok(OutgoingMail {
        kind: MailKind::Notification,
        to: to.collect(),
        subject: options.subject.clone(),
        text: text.unwrap_or_default(),
        html,
        message_id: unique_id(outgoing),
        in_reply_to: None,
        references: Vec::new(),
        reply_token: None,
    })
}

/// Returns a unique Message-ID.
fn unique_id(outgoing: &Outgoing) -> String {
    let now = Clock::system().now().as_nanosecond();
    let process = std::process::id();
    format!("postroom-send.{now}.{process}@{}", outgoing.from.domain())
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    let bytes = match path.to_str() {
        Some("-") => read_input()?,
        _ => read(path, MAX_BYTES)?,
    };
    String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("{} is not UTF-8 text", path.display()))
}

fn read_input() -> anyhow::Result<Vec<u8>> {
    let input = std::io::stdin();
    if input.is_terminal() {
        eprintln!("reading the body from the terminal; end it with Ctrl-D");
    }
    let mut bytes = Vec::new();
    let mut input = input.lock().take(MAX_BYTES + 1);
    input
        .read_to_end(&mut bytes)
        .context("reading the body from standard input")?;
    if bytes.len() as u64 > MAX_BYTES {
        bail!("the body has more than {MAX_BYTES} bytes");
    }
    Ok(bytes)
}

fn read(path: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    match read_argument(path, most) {
        Ok(bytes) => Ok(bytes),
        Err(Unread::TooLarge(_)) => {
            bail!("{}: over {MAX_BYTES} bytes with the others", path.display())
        }
        Err(error) => bail!("{}: {error}", path.display()),
    }
}

fn attachments(paths: &[PathBuf]) -> anyhow::Result<Vec<MailAttachment>> {
    let mut left = MAX_BYTES;
    let mut attachments = Vec::new();
    for path in paths {
        let content = read(path, left)?;
        left -= content.len() as u64;
        let name = path.file_name().unwrap_or(path.as_os_str());
        attachments.push(MailAttachment {
            name: name.to_string_lossy().into_owned(),
            content: content.into(),
        });
    }
    Ok(attachments)
}

/// Prints the result and returns the exit code.
fn report(
    outgoing: &Outgoing,
    mail: &OutgoingMail,
    attempt: Attempt,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let emails = |addresses: &[Address]| -> Vec<String> {
        addresses.iter().map(|to| to.email.clone()).collect()
    };
    let (code, result, said, missed) = match attempt {
        Attempt::Delivered(receipt) if receipt.refused.is_empty() => {
            (0, "sent", receipt.status, Vec::new())
        }
        Attempt::Delivered(receipt) => (PARTLY, "partly-sent", receipt.status, receipt.refused),
        Attempt::Partly {
            rest,
            receipt,
            problem,
        } => {
            let said = format!("{receipt}; {problem}");
            (PARTLY, "partly-sent", said, emails(&rest.to))
        }
        Attempt::Failed(fault) if fault.may_have_arrived => {
            // It is not known whom it did not reach.
            (MAY_HAVE_ARRIVED, "unknown", fault.problem, Vec::new())
        }
        Attempt::Failed(fault) if fault.severity == Severity::Error => {
            (1, "failed", fault.problem, emails(&mail.to))
        }
        Attempt::Failed(fault) => (TRY_AGAIN, "try-again", fault.problem, emails(&mail.to)),
        Attempt::Final(problem) => (REFUSED, "refused", problem, emails(&mail.to)),
    };
    if json {
        let object: Value = json!({
            "result": result,
            "outgoing": outgoing.name,
            "message_id": mail.message_id,
            "to": emails(&mail.to),
            "not_sent_to": missed,
            "detail": said,
        });
        print(output::json(&object)?)?;
    } else if code == 0 {
        print(format_args!("sent by outgoing {}: {said}", outgoing.name))?;
    } else {
        let missed = missed.join(", ");
        output::error_line(format_args!(
            "postroom: outgoing {}: {}: {said}",
            outgoing.name,
            sentence(code, &missed)
        ));
    }
    Ok(ExitCode::from(code))
}

fn sentence(code: u8, missed: &str) -> String {
    match code {
        REFUSED => "the server refused the mail for good".into(),
        TRY_AGAIN => "nothing was sent; try again later".into(),
        MAY_HAVE_ARRIVED => {
            "the answer was lost: the mail may have been sent, and sending it again may send it twice"
                .into()
        }
        PARTLY => format!("not sent to {missed}"),
        _ => "nothing was sent".into(),
    }
}
