//! Tests the mailbox step by step. Changes nothing on the server.

use postroom_core::harmless::harmless_chars;
use postroom_core::{ParseLimits, counted, parse};
use postroom_net::{ConnectError, ProbeReporter, Step, dial, handshake, is_loopback, server_name};
use reqwest::Method;
use serde::Deserialize;

use super::{GraphSource, folders};
use crate::{BEGINNING_BYTES, SourceError};
use postroom_exchange::graph::{Body, GraphClient, Request};

/// The longest subject shown, in characters.
const SUBJECT_CHARS: usize = 80;

#[derive(Deserialize)]
struct Newest {
    value: Vec<Id>,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

impl GraphSource {
    pub(super) async fn probe_steps(
        &mut self,
        probe: &mut ProbeReporter<'_, SourceError>,
    ) -> Result<(), SourceError> {
        self.folder = None;
        self.dial(probe).await?;
        let client = self.client()?;
        let account = client.ask_for_token().await?;
        probe.passed(Step::Token, || account);
        // With permissions for mail only, no request shows who is signed in: finding the folder tests both.
        let (_, folder) = self.open_folder(Step::Select).await?;
        let user = self.login.user().to_owned();
        probe.passed(Step::Authenticate, || format!("token accepted for {user}"));
        probe.passed(Step::Select, || {
            let mails = usize::try_from(folder.total_item_count).unwrap_or(usize::MAX);
            format!("{}, {}", folder.display_name, counted(mails, "mail"))
        });
        let found = newest(&client, &folder.id).await?;
        probe.passed(Step::Fetch, || found);
        for target in self.settings.targets.clone() {
            let (found, _) = folders::find(&client, Step::Target, &target).await?;
            if found.as_ref().is_some_and(|it| it.id == folder.id) {
                return Err(SourceError::Unusable {
                    step: Step::Target,
                    reason: format!("{target} is the folder that mail is read from"),
                });
            }
            probe.passed(Step::Target, || match found {
                Some(_) => format!("{target} is there"),
                None => format!("{target} is missing, and would be created"),
            });
        }
        Ok(())
    }

    /// Connects once without HTTP, to distinguish a wrong name, a firewall and a bad certificate.
    async fn dial(&self, probe: &mut ProbeReporter<'_, SourceError>) -> Result<(), SourceError> {
        let base = &self.settings.base;
        let host = base.host_str().unwrap_or_default().to_owned();
        let port = base.port_or_known_default().unwrap_or(443);
        let limit = self.settings.timeouts.connect;
        let proxy = self.settings.proxies.for_url(base);
        let tcp = dial(bare(&host), port, proxy, limit, None).await?;
        probe.connected(&host, port, proxy, &tcp);
        if base.scheme() != "https" {
            return match is_loopback(&host) {
                true => Ok(()),
                false => Err(SourceError::Unusable {
                    step: Step::Tls,
                    reason: "without TLS a token is sent to this machine only".into(),
                }),
            };
        }
        let secured = async {
            let name = server_name(bare(&host))?;
            handshake(name, &self.tls, tcp).await
        };
        let (_, version) = postroom_net::within(Step::Tls, limit, secured)
            .await
            .map_err(|error: ConnectError| SourceError::from(error))?;
        probe.passed(Step::Tls, || version);
        Ok(())
    }
}

/// Describes the newest mail of a folder.
async fn newest(client: &GraphClient, folder: &str) -> Result<String, SourceError> {
    const STEP: Step = Step::Fetch;
    let mut url = client.url(["mailFolders", folder, "messages"]);
    url.query_pairs_mut()
        .append_pair("$select", "id")
        .append_pair("$orderby", "receivedDateTime desc")
        .append_pair("$top", "1");
    let answer = match client.send(folders::get(STEP, url)).await {
        Ok(answer) => answer,
        Err(failure) => return Err(client.failed(STEP, failure).into()),
    };
    let newest: Newest = answer.json().await?;
    let Some(Id { id }) = newest.value.into_iter().next() else {
        return Ok("the folder is empty".into());
    };
    let answer = client
        .send(Request {
            step: STEP,
            method: Method::GET,
            url: client.url(["messages", &id, "$value"]),
            prefer: &[],
            body: None,
        })
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) if failure.is_gone() => {
            return Ok("the newest mail went away meanwhile".into());
        }
        Err(failure) => return Err(client.failed(STEP, failure).into()),
    };
    let (bytes, is_whole) = match answer.mail(BEGINNING_BYTES, |_| true).await? {
        Body::Whole(bytes) => (bytes, true),
        Body::Cut(bytes, _) => (bytes, false),
        Body::NoRoom(_) => (Vec::new(), false),
    };
    let mail = parse(&bytes.clone().into(), &ParseLimits::default(), &[]);
    let subject: String = harmless_chars(&mail.subject).take(SUBJECT_CHARS).collect();
    let size = match is_whole {
        true => format!("{} bytes", bytes.len()),
        false => format!("more than {BEGINNING_BYTES} bytes"),
    };
    Ok(format!("newest mail: {size}, \"{subject}\""))
}

/// Returns an IPv6 address without its brackets.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}
