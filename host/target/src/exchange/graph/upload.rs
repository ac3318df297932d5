//! Attachments of a draft: small ones in one request, large ones in an upload session.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use postroom_exchange::ExchangeError;
use postroom_exchange::graph::{Payload, UploadRange, Uploaded};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{GraphTarget, NotSent, STEP};
use crate::MailAttachment;

/// A file of this size is uploaded in a session (learn.microsoft.com, "Attach large files to Outlook messages"). The page says
/// 3 MB without saying which; for a file that is too small for a session, the other way is tried.
const SESSION_BYTES_MIN: usize = 3_000_000;
/// The largest file that Graph accepts.
const FILE_BYTES_MAX: usize = 150 * 1024 * 1024;
/// The size of one range: a multiple of 320 KiB below the 4 MB of one request.
const RANGE_BYTES: usize = 10 * 320 * 1024;
/// The most requests for one file, so that a server that never advances ends.
const RANGES_MAX: usize = 2 * FILE_BYTES_MAX / RANGE_BYTES;
const KIND: &str = "application/octet-stream";
const TOO_SMALL: &str = "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    upload_url: String,
}

impl GraphTarget {
    /// Attaches a file to a draft.
    pub(super) async fn attach(&self, draft: &str, file: &MailAttachment) -> Result<(), NotSent> {
        if file.content.len() > FILE_BYTES_MAX {
            return Err(NotSent::Final(format!(
                "{} has {} bytes, and Graph accepts {FILE_BYTES_MAX}",
                file.name,
                file.content.len()
            )));
        }
        if file.content.len() < SESSION_BYTES_MIN {
            return self.attach_whole(draft, file).await;
        }
        match self.attach_in_ranges(draft, file).await {
            Err(NotSent::Refused(refusal)) if refusal.code == TOO_SMALL => {
                self.attach_whole(draft, file).await
            }
            outcome => outcome,
        }
    }

    async fn attach_whole(&self, draft: &str, file: &MailAttachment) -> Result<(), NotSent> {
        let attachment = json!({
            "@odata.type": "#microsoft.graph.fileAttachment",
            "name": file.name,
            "contentType": KIND,
            "contentBytes": BASE64.encode(&file.content),
        });
        self.add(draft, "attachments", None, &attachment).await?;
        Ok(())
    }

    async fn attach_in_ranges(&self, draft: &str, file: &MailAttachment) -> Result<(), NotSent> {
        let total = file.content.len();
        let wanted = json!({
            "AttachmentItem": {
                "attachmentType": "file",
                "contentType": KIND,
                "name": file.name,
                "size": total,
            }
        });
        let answer = self.add(draft, "attachments", Some("createUploadSession"), &wanted);
        let session: Session = answer.await?.json().await?;
        let url = self.client.upload_url(STEP, &session.upload_url)?;
        let mut first = 0;
        for _ in 0..RANGES_MAX {
            let end = total.min(first + RANGE_BYTES);
            let range = UploadRange {
                bytes: file.content.slice(first..end),
                first: first as u64,
                total: total as u64,
            };
            match self.client.upload(STEP, &url, &range).await? {
                Uploaded::Whole => return Ok(()),
                Uploaded::UpTo(next) => {
                    let next = usize::try_from(next).ok().filter(|next| *next < total);
                    first = next.ok_or_else(|| stuck("a range outside of the file"))?;
                }
            }
        }
        Err(stuck("the same ranges again and again").into())
    }

    async fn add(
        &self,
        draft: &str,
        list: &str,
        action: Option<&str>,
        body: &Value,
    ) -> Result<postroom_exchange::graph::Answer<'_>, NotSent> {
        let path = ["messages", draft, list].into_iter().chain(action);
        let url = self.client.url(path);
        self.request(Method::POST, url, Some(Payload::Json(body)))
            .await
    }
}

fn stuck(what: &str) -> ExchangeError {
    ExchangeError::Protocol {
        step: STEP,
        reason: format!("an upload session that expects {what}"),
    }
}
