//! Acknowledgements: mails are marked, moved or deleted after their decision, four at a time. Nothing else about a mail changes.

use std::collections::HashMap;

use futures::{StreamExt, stream};
use postroom_net::Step;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{GraphSource, folders, id_at};
use crate::{Acknowledge, After, SourceError};
use postroom_exchange::graph::{CONCURRENT_REQUESTS, Failure, GraphClient, Payload, Request};

const STEP: Step = Step::Acknowledge;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whereabouts {
    parent_folder_id: String,
}

impl GraphSource {
    pub(super) async fn acknowledge_all(
        &mut self,
        acks: &[Acknowledge],
    ) -> Result<(), SourceError> {
        let due = acks.iter().filter(|ack| ack.after != After::Keep);
        let mut mails = Vec::new();
        let mut foreign = 0u32;
        for ack in due {
            match id_at(&ack.position) {
                Some(id) => mails.push((id, ack.after.clone())),
                // Trying again will not turn mail read by another protocol into ours.
                None => foreign += 1,
            }
        }
        if foreign > 0 {
            tracing::warn!(
                mailbox = self.settings.name,
                mails = foreign,
                "mails that were not read by Graph cannot be acknowledged there"
            );
        }
        if mails.is_empty() {
            return Ok(());
        }
        let (client, folder) = self.open_folder(Step::Select).await?;
        let mut failure = None;
        for (_, after) in &mails {
            if let After::Move(target) = after
                && !self.targets.contains_key(target)
            {
                match folders::find_or_make(&client, STEP, target).await {
                    Ok(found) => {
                        self.targets.insert(target.clone(), found.id);
                    }
                    Err(error) if error.is_transient() => return Err(error),
                    Err(error) => failure = Some(error),
                }
            }
        }
        let targets = &self.targets;
        let applying = stream::iter(mails.into_iter().map(|(id, after)| {
            let (client, folder) = (&client, &folder.id);
            async move { apply(client, targets, folder, &id, &after).await }
        }));
        let mut outcomes = applying.buffer_unordered(CONCURRENT_REQUESTS);
        let mut is_target_gone = false;
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Ok(()) => {}
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => {
                    is_target_gone = true;
                    failure = Some(error);
                }
            }
        }
        drop(outcomes);
        if is_target_gone {
            // The folder may have been deleted, so it is looked up again at the next attempt.
            self.targets.clear();
        }
        failure.map_or(Ok(()), Err)
    }
}

/// Carries out one mail's acknowledgement. A mail that is gone, or that a person has moved elsewhere, counts as acknowledged.
async fn apply(
    client: &GraphClient,
    targets: &HashMap<String, String>,
    folder: &str,
    id: &str,
    after: &After,
) -> Result<(), SourceError> {
    let mail = || client.url(["messages", id]);
    let (method, url, body) = match after {
        After::Keep => return Ok(()),
        After::Seen => (Method::PATCH, mail(), Some(json!({ "isRead": true }))),
        After::Delete => (Method::DELETE, mail(), None),
        After::Move(target) => {
            // Without a target folder, the reason has already been reported.
            let Some(target) = targets.get(target) else {
                return Ok(());
            };
            let url = client.url(["messages", id, "move"]);
            (Method::POST, url, Some(json!({ "destinationId": target })))
        }
    };
    if !matches!(after, After::Seen) && !lies_in(client, mail(), folder).await? {
        return Ok(());
    }
    match client.send(request(method, url, body.as_ref())).await {
        Ok(_) => Ok(()),
        // For a move, the missing object may be the mail or its new folder.
        Err(failure) if failure.is_gone() && !matches!(after, After::Move(_)) => Ok(()),
        Err(failure) => Err(client.failed(STEP, failure).into()),
    }
}

/// Returns whether a mail is still in the folder that it was read from. Its immutable id finds it wherever it is.
async fn lies_in(client: &GraphClient, mut mail: Url, folder: &str) -> Result<bool, SourceError> {
    mail.query_pairs_mut()
        .append_pair("$select", "parentFolderId");
    match client.send(request(Method::GET, mail, None)).await {
        Ok(answer) => {
            let found: Whereabouts = answer.json().await?;
            Ok(found.parent_folder_id == folder)
        }
        Err(failure) if failure.is_gone() => Ok(false),
        Err(failure @ Failure::Refused(_)) => Err(client.failed(STEP, failure).into()),
        Err(Failure::Failed(error)) => Err(error.into()),
    }
}

fn request(method: Method, url: Url, body: Option<&Value>) -> Request<'_> {
    Request {
        step: STEP,
        method,
        url,
        prefer: &[],
        body: body.map(Payload::Json),
    }
}
