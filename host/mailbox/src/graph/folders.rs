//! Folders: the one that mail is read from and those that it is moved to, by well-known name or by display name.

use postroom_net::Step;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::SourceError;
use postroom_exchange::graph::{Failure, GraphClient, Payload, Request};

/// A folder as Graph describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Folder {
    pub id: String,
    #[serde(default)]
    pub display_name: String,
    #[serde(default)]
    pub total_item_count: u64,
}

#[derive(Deserialize)]
struct Listed {
    value: Vec<Folder>,
}

/// The names that Graph understands in every language (learn.microsoft.com, "mailFolder resource type").
const WELL_KNOWN: [&str; 8] = [
    "archive",
    "clutter",
    "deleteditems",
    "drafts",
    "inbox",
    "junkemail",
    "outbox",
    "sentitems",
];
const FIELDS: &str = "id,displayName,totalItemCount";
/// Separates the folders of a path.
const SEPARATOR: char = '/';

/// Finds a folder, or returns `None` if it does not exist. Also returns the server's time of the response, in seconds since 1970.
pub(super) async fn find(
    client: &GraphClient,
    step: Step,
    name: &str,
) -> Result<(Option<Folder>, Option<i64>), SourceError> {
    if let Some(known) = well_known(name) {
        let mut url = client.url(["mailFolders", known]);
        url.query_pairs_mut().append_pair("$select", FIELDS);
        return match client.send(get(step, url)).await {
            Ok(answer) => {
                let date = answer.date_secs();
                Ok((Some(answer.json().await?), date))
            }
            Err(failure) if is_missing(&failure) => Ok((None, None)),
            Err(failure) => Err(client.failed(step, failure).into()),
        };
    }
    // A folder's name may contain the separator.
    let (whole, date) = child(client, step, None, name).await?;
    if whole.is_some() || !name.contains(SEPARATOR) {
        return Ok((whole, date));
    }
    let mut found: Option<Folder> = None;
    for part in name.split(SEPARATOR) {
        let next = match (&found, well_known(part)) {
            (None, Some(known)) => Some(known.to_owned()),
            _ => None,
        };
        let folder = match next {
            Some(known) => Folder {
                id: known,
                display_name: part.to_owned(),
                total_item_count: 0,
            },
            None => match child(client, step, found.as_ref(), part).await? {
                (Some(folder), _) => folder,
                (None, _) => return Ok((None, date)),
            },
        };
        found = Some(folder);
    }
    Ok((found, date))
}

/// Finds a folder, and creates it if it is missing. The folders above it in its path must exist.
pub(super) async fn find_or_make(
    client: &GraphClient,
    step: Step,
    name: &str,
) -> Result<Folder, SourceError> {
    if let (Some(folder), _) = find(client, step, name).await? {
        return Ok(folder);
    }
    let (url, own) = match name.rsplit_once(SEPARATOR) {
        None => (client.url(["mailFolders"]), name),
        Some((parent, own)) => {
            let (parent, _) = find(client, step, parent).await?;
            let parent = parent.ok_or_else(|| SourceError::Unusable {
                step,
                reason: format!("{name} cannot be made: the folder above it is missing"),
            })?;
            let url = client.url(["mailFolders", &parent.id, "childFolders"]);
            (url, own)
        }
    };
    let made = client
        .send(Request {
            step,
            method: Method::POST,
            url,
            prefer: &[],
            body: Some(Payload::Json(&json!({ "displayName": own }))),
        })
        .await;
    match made {
        Ok(answer) => Ok(answer.json().await?),
        Err(failure) => Err(client.failed(step, failure).into()),
    }
}

/// Returns whether two names refer to the same folder.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    one == other || well_known(one).is_some_and(|known| well_known(other) == Some(known))
}

async fn child(
    client: &GraphClient,
    step: Step,
    parent: Option<&Folder>,
    name: &str,
) -> Result<(Option<Folder>, Option<i64>), SourceError> {
    let mut url = match parent {
        None => client.url(["mailFolders"]),
        Some(parent) => client.url(["mailFolders", &parent.id, "childFolders"]),
    };
    // OData escapes a quote by doubling it.
    let filter = format!("displayName eq '{}'", name.replace('\'', "''"));
    url.query_pairs_mut()
        .append_pair("$filter", &filter)
        .append_pair("$select", FIELDS);
    let answer = match client.send(get(step, url)).await {
        Ok(answer) => answer,
        Err(failure) => return Err(client.failed(step, failure).into()),
    };
    let date = answer.date_secs();
    let listed: Listed = answer.json().await?;
    let named = |folder: &Folder| folder.display_name.to_lowercase() == name.to_lowercase();
    Ok((listed.value.into_iter().find(named), date))
}

pub(super) fn get(step: Step, url: reqwest::Url) -> Request<'static> {
    Request {
        step,
        method: Method::GET,
        url,
        prefer: &[],
        body: None,
    }
}

fn well_known(name: &str) -> Option<&'static str> {
    let mut names = WELL_KNOWN.iter();
    names
        .find(|known| known.eq_ignore_ascii_case(name))
        .copied()
}

/// Returns whether the folder is missing, rather than the mailbox.
fn is_missing(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(refusal) if failure.is_gone()
        && ["ErrorItemNotFound", "ErrorFolderNotFound"].contains(&refusal.code.as_str()))
}
