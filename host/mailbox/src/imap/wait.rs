//! Waits for new mail in the watched folder: IDLE, renewed by our own clock (RFC 2177), or polling if the server lacks it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::ImapSource;
use super::connection::{Connection, Idle, failed};
use super::response::{Response, Status};
use crate::SourceError;
use postroom_net::Step;

const STEP: Step = Step::Wait;
/// The shortest IDLE; a server that ends it sooner does not really support it.
const IDLE_MIN: Duration = Duration::from_secs(1);

impl ImapSource {
    /// Waits for news. An IDLE keeps running when this returns or is dropped; the next command ends it.
    pub(super) async fn wait_for_news(&mut self, timeout: Duration) -> Result<(), SourceError> {
        let end = Instant::now() + timeout.min(self.rounds.until_others(self.settings.every));
        let timeouts = self.settings.timeouts;
        let watched = self.rounds.watched_name();
        let are_several = self.rounds.are_several();
        let connection = self.ready().await?;
        match connection.open_folder(&watched).await {
            Ok(_) => {}
            // The next fetch finds out, and another folder is watched.
            Err(SourceError::Folder { .. }) if are_several => return Ok(()),
            Err(error) => return Err(error),
        }
        loop {
            while let Some(response) = connection.buffered(STEP)? {
                idle_ended(connection, &response);
            }
            if connection.news || Instant::now() >= end {
                return Ok(());
            }
            if !connection.can("IDLE") || connection.idle_refused {
                sleep_until(end.min(Instant::now() + timeouts.poll)).await;
                connection.accepted(STEP, "NOOP").await?;
                continue;
            }
            let renewal = match &connection.idle {
                Some(idle) => idle.since + timeouts.idle,
                None => {
                    let since = Instant::now();
                    let tag = connection.send("IDLE");
                    connection.idle = Some(Idle { tag, since });
                    since + timeouts.idle
                }
            };
            if Instant::now() >= renewal {
                connection.end_idle().await?;
                continue;
            }
            let deadline = connection.deadline(0);
            connection.flush(STEP, deadline).await?;
            if let Ok(filled) = timeout_at(end.min(renewal), connection.wire.fill()).await {
                filled.map_err(|error| failed(STEP, &error))?;
            }
        }
    }
}

fn idle_ended(connection: &mut Connection, response: &Response) {
    if let Response::Tagged { tag, done } = response
        && let Some(idle) = &connection.idle
        && idle.tag == *tag
    {
        connection.idle_refused = done.status != Status::Ok || idle.since.elapsed() < IDLE_MIN;
        connection.idle = None;
    }
}
