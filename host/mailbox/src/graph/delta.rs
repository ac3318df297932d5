//! Listing: one page of a folder's mails or changes at a time, and which of those mails are wanted.

use jiff::Timestamp;
use postroom_core::Position;
use postroom_net::Step;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::position;
use super::progress::{Age, Next, Progress};
use crate::{Import, KnownPositions, SourceError};
use postroom_exchange::graph::{Failure, GraphClient, Request};

/// A mail that was listed and not fetched yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub id: String,
    pub old: bool,
    /// The room that fetching it takes, as far as known.
    pub bytes: u64,
}

/// A page of the listing, with its mails oldest first.
pub(super) struct Page {
    pub wanted: Vec<Listed>,
    pub next: Next,
}

/// Why there is no page.
pub(super) enum NoPage {
    /// The server has lost the place in the listing (HTTP 410).
    Lost,
    /// The folder is gone.
    Gone,
    Failed(SourceError),
}

/// The number of mails requested per page.
pub(super) const PAGE_MAILS: u32 = 200;
/// The initial guess at a mail's size.
pub(super) const MAIL_BYTES_GUESS: u64 = 64 * 1024;
/// The longest link that is kept, in bytes.
const LINK_BYTES_MAX: usize = 16 * 1024;
/// The longest id of a mail, in bytes. Immutable ids have about 150.
const ID_BYTES_MAX: usize = 1024;
/// The only fields of a mail that are listed; its content is fetched as MIME.
const FIELDS: &str = "receivedDateTime,isDraft";
/// The error codes that mean a lost place, in addition to HTTP 410.
const LOST_CODES: [&str; 4] = [
    "syncStateNotFound",
    "syncStateInvalid",
    "resyncRequired",
    "ErrorInvalidSyncStateData",
];
const STEP: Step = Step::List;

#[derive(Deserialize)]
struct Answered {
    value: Vec<Item>,
    #[serde(rename = "@odata.nextLink")]
    next: Option<String>,
    #[serde(rename = "@odata.deltaLink")]
    delta: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    id: String,
    received_date_time: Option<String>,
    #[serde(default)]
    is_draft: bool,
    #[serde(rename = "@removed")]
    removed: Option<IgnoredAny>,
}

/// Fetches the next page of the listing, without the mails that are in the journal (`known`) or were already returned by this
/// source.
pub(super) async fn page(
    client: &GraphClient,
    progress: &Progress,
    import: Import,
    known: Option<&dyn KnownPositions>,
    was_given: impl Fn(&str) -> bool,
) -> Result<Page, NoPage> {
    let url = match progress.link() {
        Some(link) => client
            .followed(STEP, link)
            .map_err(|error| NoPage::Failed(error.into()))?,
        None => {
            let mut url = client.url(["mailFolders", &progress.folder_id, "messages", "delta"]);
            url.query_pairs_mut()
                .append_pair("$select", FIELDS)
                // Marked or deleted mail in the folder is not news.
                .append_pair("changeType", "created");
            url
        }
    };
    let answer = client
        .send(Request {
            step: STEP,
            method: Method::GET,
            url,
            prefer: &[&format!("odata.maxpagesize={PAGE_MAILS}")],
            body: None,
        })
        .await
        .map_err(|failure| refused(client, failure))?;
    let answered: Answered = answer
        .json()
        .await
        .map_err(|error| NoPage::Failed(error.into()))?;
    let next = next(client, answered.next, answered.delta).map_err(NoPage::Failed)?;
    let mut wanted = Vec::new();
    for item in answered.value {
        if item.id.is_empty() || item.id.len() > ID_BYTES_MAX {
            return Err(NoPage::Failed(broken("a mail with an empty or endless id")));
        }
        if item.removed.is_some() || item.is_draft || was_given(&item.id) {
            continue;
        }
        let received = item.received_date_time.as_deref().and_then(seconds);
        match progress.age(received, import) {
            Age::LeftOut => {}
            age => wanted.push((received, item.id, age == Age::Old)),
        }
    }
    // The server may list mails in any order.
    wanted.sort_by_key(|(received, ..)| received.unwrap_or(i64::MIN));
    let positions: Vec<Position> = wanted.iter().map(|(_, id, _)| position(id)).collect();
    let journalled = match known {
        Some(known) if !positions.is_empty() => {
            known.known(positions).await.map_err(NoPage::Failed)?
        }
        _ => Default::default(),
    };
    let wanted = wanted
        .into_iter()
        .filter(|(_, id, _)| !journalled.contains(&position(id)));
    let listed = |(_, id, old)| Listed {
        id,
        old,
        bytes: MAIL_BYTES_GUESS,
    };
    Ok(Page {
        wanted: wanted.map(listed).collect(),
        next,
    })
}

fn next(
    client: &GraphClient,
    next: Option<String>,
    delta: Option<String>,
) -> Result<Next, SourceError> {
    let (link, is_last) = match (next, delta) {
        (Some(link), None) => (link, false),
        (None, Some(link)) => (link, true),
        (None, None) => return Err(broken("a page with neither nextLink nor deltaLink")),
        (Some(_), Some(_)) => return Err(broken("a page with both nextLink and deltaLink")),
    };
    if link.len() > LINK_BYTES_MAX {
        return Err(broken("a link that is too long to keep"));
    }
    client.followed(STEP, &link)?;
    Ok(match is_last {
        true => Next::Changes(link),
        false => Next::Page(link),
    })
}

fn refused(client: &GraphClient, failure: Failure) -> NoPage {
    if let Failure::Refused(refusal) = &failure {
        let is_lost_code = LOST_CODES
            .iter()
            .any(|code| code.eq_ignore_ascii_case(&refusal.code));
        if refusal.status == StatusCode::GONE || is_lost_code {
            return NoPage::Lost;
        }
        if refusal.status == StatusCode::NOT_FOUND {
            return NoPage::Gone;
        }
    }
    NoPage::Failed(client.failed(STEP, failure).into())
}

fn seconds(text: &str) -> Option<i64> {
    Some(text.parse::<Timestamp>().ok()?.as_second())
}

fn broken(reason: &str) -> SourceError {
    SourceError::Protocol {
        step: STEP,
        reason: reason.into(),
    }
}
