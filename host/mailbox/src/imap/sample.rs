//! Samples the folder's newest mail, to check whether mails can be fetched; it marks nothing.

use postroom_core::harmless::harmless_chars;
use postroom_core::{ParseLimits, parse};

use super::connection::{Connection, Selected, ended_ok};
use super::response::Untagged;
use crate::{BEGINNING_BYTES, SourceError};
use postroom_core::counted;
use postroom_net::Step;

/// The longest subject shown, in characters.
const SUBJECT_CHARS: usize = 80;

/// Describes the newest mail of the open folder.
pub(super) async fn newest(connection: &mut Connection) -> Result<String, SourceError> {
    const STEP: Step = Step::Fetch;
    let newest = connection.selected.as_ref().map_or(0, |open| open.exists);
    if newest == 0 {
        return Ok("the folder is empty".into());
    }
    let command = format!("FETCH {newest} (UID RFC822.SIZE BODY.PEEK[]<0.{BEGINNING_BYTES}>)");
    let (mut uid, mut size, mut body) = (None, None, None);
    let done = connection
        .command_with(STEP, &command, BEGINNING_BYTES, |untagged| {
            if let Untagged::Fetch(fetched) = untagged {
                uid = fetched.uid.or(uid);
                size = fetched.size.or(size);
                body = fetched.body.or(body.take());
            }
            Ok(())
        })
        .await?;
    ended_ok(STEP, done)?;
    let Some(body) = body else {
        return Ok("the newest mail was removed meanwhile".into());
    };
    let mail = parse(&body.bytes, &ParseLimits::default(), &[]);
    let subject: String = harmless_chars(&mail.subject).take(SUBJECT_CHARS).collect();
    let uid = uid.map_or_else(String::new, |uid| format!("UID {uid}, "));
    let size = size.unwrap_or(body.len);
    Ok(format!("newest mail: {uid}{size} bytes, \"{subject}\""))
}

impl std::fmt::Display for Selected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}", self.folder, counted(self.exists, "mail"))?;
        if self.read_only {
            f.write_str("; read-only: mails cannot be marked, moved or deleted")?;
        }
        Ok(())
    }
}
