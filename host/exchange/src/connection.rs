//! A connection without HTTP, which a probe makes first: it distinguishes a wrong name, a firewall and a bad certificate.

use std::sync::Arc;
use std::time::Duration;

use postroom_net::{
    ProbeReporter, Proxies, Step, dial, handshake, is_loopback, server_name, within,
};
use rustls::ClientConfig;
use url::Url;

use crate::ExchangeError;

/// Connects to the server of a URL as a request would, and closes the connection. Reports `proxy` if there is one, `connect`, and
/// `tls` unless the URL is one of this machine without TLS.
pub async fn probe_connection<E>(
    url: &Url,
    tls: &Arc<ClientConfig>,
    proxies: &Proxies,
    limit: Duration,
    probe: &mut ProbeReporter<'_, E>,
) -> Result<(), ExchangeError> {
    let host = url.host_str().unwrap_or_default();
    // An IPv6 address is in brackets within a URL, and nowhere else.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().unwrap_or(443);
    let proxy = proxies.for_url(url);
    let tcp = dial(host, port, proxy, limit, None).await?;
    probe.connected(host, port, proxy, &tcp);
    if url.scheme() != "https" {
        return match is_loopback(host) {
            true => Ok(()),
            false => Err(ExchangeError::Unusable {
                step: Step::Tls,
                reason: "without TLS a token or password is sent to this machine only".into(),
            }),
        };
    }
    let secured = handshake(server_name(host)?, tls, tcp);
    let (_, version) = within(Step::Tls, limit, secured).await?;
    probe.passed(Step::Tls, || version);
    Ok(())
}
