//! The probe of a webhook: checks whether its receiver can be reached, and delivers a test event on request.

use std::sync::Arc;
use std::time::Duration;

use postroom_core::Clock;
use postroom_net::{ProbeReporter, Step, dial, handshake, server_name, within};
use rustls::ClientConfig;
use serde_json::json;

use crate::webhook::{Webhook, WebhookError};
use crate::{TargetError, TestDelivery};

/// The time limit for name resolution and TCP, and for TLS. It is short because a person waits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Reports `connect`, `tls` (for https) and `send` (with a test event). A receiver cannot be tested further without sending it an
/// event.
pub(super) async fn probe(
    webhook: &Webhook,
    tls: &Arc<ClientConfig>,
    clock: &Clock,
    test: Option<&TestDelivery>,
    reporter: &mut ProbeReporter<'_, TargetError>,
) -> Result<(), TargetError> {
    if let Some(TestDelivery::Mail(_)) = test {
        return Err(TargetError::NoSuchTest("a sink takes no mail"));
    }
    connect(webhook, tls, reporter).await?;
    if test.is_some() {
        let now = clock.now();
        let name = webhook.name();
        let body = json!({
            "type": "postroom.test",
            "timestamp": now.to_string(),
            "data": { "sink": name },
        });
        let id = format!("pr_test_{}", now.as_nanosecond());
        let status = webhook.post(&id, now, &body.to_string()).await?;
        reporter.passed(Step::Send, || format!("a test event: {status}"));
    }
    Ok(())
}

/// Connects as a request would, then closes the connection.
async fn connect(
    webhook: &Webhook,
    tls: &Arc<ClientConfig>,
    reporter: &mut ProbeReporter<'_, TargetError>,
) -> Result<(), WebhookError> {
    let url = &webhook.settings().url;
    let (host, port) = (
        url.host_str().unwrap_or_default(),
        url.port_or_known_default(),
    );
    // An IPv6 address is in brackets within a URL, and nowhere else.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.unwrap_or_default();
    let proxy = webhook.proxy();
    let tcp = dial(host, port, proxy, CONNECT_TIMEOUT, None).await?;
    reporter.connected(host, port, proxy, &tcp);
    if url.scheme() == "https" {
        let secured = handshake(server_name(host)?, tls, tcp);
        let (_, version) = within(Step::Tls, CONNECT_TIMEOUT, secured).await?;
        reporter.passed(Step::Tls, || version);
    }
    Ok(())
}
