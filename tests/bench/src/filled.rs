//! Mailboxes full of generated mail: filled, copied for each contender, and checked afterwards.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};
use postroom_stand::Stand;
use serde_json::Value;

use crate::mails;

/// Mails stored by one command.
const APPENDED: usize = 500;

/// The right place of every mail, by Message-ID.
#[derive(Default)]
pub struct Expected(HashMap<String, String>);

impl Expected {
    /// Returns the right places of the mails with these numbers.
    pub fn of(numbers: impl IntoIterator<Item = u32>) -> Self {
        let samples = numbers.into_iter().map(mails::sample);
        Self(samples.map(|it| (it.message_id, it.place)).collect())
    }

    pub fn count(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// Fails unless each mail was put into its right place, once.
    pub fn check(&self, places: impl IntoIterator<Item = (String, String)>) -> Result<()> {
        let mut open = self.0.clone();
        for (id, place) in places {
            match open.remove(&id) {
                None => bail!("{id} was sorted twice, or never sent"),
                Some(right) if right != place => bail!("{id} belongs to {right:?}, not {place:?}"),
                Some(_) => {}
            }
        }
        ensure!(open.is_empty(), "{} mails were not sorted", open.len());
        Ok(())
    }

    /// Does the same for the rows of `postroom decisions`.
    pub fn check_decisions(&self, rows: &[Value]) -> Result<()> {
        self.check(
            rows.iter()
                .map(|row| (text(&row["message_id"]), place(row))),
        )
    }
}

/// Stores the mails with these numbers, which is much faster than their delivery.
pub fn append(stand: &Stand, user: &str, numbers: &[u32]) -> Result<()> {
    for some in numbers.chunks(APPENDED) {
        let mails = some.iter().map(|&number| mails::sample(number).bytes);
        stand.append(user, "INBOX", "", mails)?;
    }
    Ok(())
}

/// Copies a mailbox that nobody has open, which is much faster than delivering everything again. Mails never change, so
/// their files are shared; the indexes are copied.
pub fn copy_mailbox(stand: &Stand, from: &str, to: &str) -> Result<()> {
    const COPY: &str = r#"cp -al "$1" "$2" && cd "$1" &&
        find . -type f ! -name 'u.*' -exec cp -p --remove-destination --parents {} "$2" \;"#;
    let home = |user: &str| stand.dir().join("mail").join(user);
    let status = Command::new("sh")
        .args(["-ec", COPY, "sh"])
        .args([home(from), home(to)])
        .status()?;
    ensure!(status.success(), "copying the mailbox failed");
    Ok(())
}

/// Fails unless the mailbox is empty and Processed contains all of its mails.
pub fn check_moved(stand: &Stand, user: &str, count: u32) -> Result<()> {
    let left = stand.message_count(user, "INBOX")?;
    let moved = stand.message_count(user, "Processed")?;
    ensure!(
        left == 0 && moved == count as usize,
        "{left} mails stayed in INBOX and {moved} of {count} are in Processed"
    );
    Ok(())
}

/// Returns a new folder that stays until `within` is removed.
pub fn fresh_folder(within: &Path) -> Result<PathBuf> {
    let folder = tempfile::Builder::new()
        .disable_cleanup(true)
        .tempdir_in(within)?;
    Ok(folder.path().to_owned())
}

/// Returns where a decision put its mail, in the words of [`mails::Sample::place`].
fn place(row: &Value) -> String {
    let action = &row["actions"][0];
    match row["outcome"].as_str() {
        Some("ticket") => format!("ticket {}", text(&action["queue"])),
        Some("alert") => format!(
            "alert {} {}",
            text(&row["alert_key"]),
            text(&row["alert_state"])
        ),
        Some("ignored") => format!("ignored {}", text(&action["reason"])),
        other => other.unwrap_or_default().to_owned(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
