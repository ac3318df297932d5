//! `postroom quarantine`: mails kept aside for a person, with the reasons and the raw bytes, and the ways out.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use postroom_core::counted;
use postroom_core::harmless::on_one_line;
use postroom_store::{Filter, MailRequest, Quarantined};

use crate::cli::QuarantineCommand;
use crate::commands::listings::list;
use crate::commands::{again, open_listings};
use crate::output;

/// The part of a raw mail that is shown without `--raw`.
const SHOWN_BYTES: usize = 4096;

pub fn quarantine(
    config: &Path,
    command: Option<QuarantineCommand>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let reader = open_listings(config)?;
    match command.unwrap_or(QuarantineCommand::List) {
        QuarantineCommand::List => list(
            json,
            reader.quarantine(&Filter::default())?,
            &["id", "received", "mailbox", "from", "subject", "reason"],
            |row| {
                vec![
                    row.id.to_string(),
                    row.received.clone(),
                    row.mailbox.clone(),
                    row.from.clone().unwrap_or_default(),
                    row.subject.clone(),
                    row.reason.clone(),
                ]
            },
        ),
        QuarantineCommand::Show { id, raw } => {
            let number = again::id_of(&id)?;
            let Some(found) = reader.quarantined(number)? else {
                bail!("{id} is not in quarantine; `postroom quarantine list` shows what is");
            };
            show(&found, raw, json)?;
            Ok(ExitCode::SUCCESS)
        }
        QuarantineCommand::Release { ids, reason } => {
            let ids = ids
                .iter()
                .map(|id| again::id_of(id))
                .collect::<Result<Vec<_>, _>>()?;
            again::change(config, &ids, MailRequest::Release, reason.as_deref(), json)
        }
        QuarantineCommand::Drop { ids, reason } => {
            let ids = ids
                .iter()
                .map(|id| again::id_of(id))
                .collect::<Result<Vec<_>, _>>()?;
            again::change(config, &ids, MailRequest::Drop, reason.as_deref(), json)
        }
    }
}

fn show(found: &Quarantined, raw: bool, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if raw {
        return match out.write_all(&found.raw).and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        };
    }
    drop(out);
    if json {
        let mut row = serde_json::to_value(&found.row)?;
        row["whole"] = found.whole.into();
        row["raw"] = String::from_utf8_lossy(&found.raw).into();
        println!("{}", output::json(&row)?);
        return Ok(());
    }
    let row = &found.row;
    println!("mailbox   {} of {}", row.mailbox, row.tenant);
    println!("received  {}", row.received);
    println!(
        "from      {}",
        on_one_line(row.from.as_deref().unwrap_or("-"))
    );
    println!("subject   {}", on_one_line(&row.subject));
    println!("reason    {}", on_one_line(&row.reason));
    for trouble in &row.troubles {
        println!(
            "trouble   {}: {}: {}",
            trouble.rule,
            trouble.kind,
            on_one_line(&trouble.message)
        );
    }
    let kept = if found.whole {
        "all of it"
    } else {
        "its beginning"
    };
    println!(
        "size      {}, {kept} is kept here",
        counted(row.size, "byte")
    );
    let shown = &found.raw[..found.raw.len().min(SHOWN_BYTES)];
    println!("\n{}", String::from_utf8_lossy(shown));
    if shown.len() < found.raw.len() {
        let more = counted(found.raw.len() - shown.len(), "byte");
        println!("… {more} more: --raw");
    }
    Ok(())
}
