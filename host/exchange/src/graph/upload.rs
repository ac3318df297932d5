//! Upload sessions: a file is sent in ranges to a URL that carries the permission.

use bytes::Bytes;
use postroom_auth::provider::CLOUDS;
use postroom_net::{Step, TraceRedactor};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::{
    Failure, GraphClient, RETRY_AFTER_DEFAULT, asked_pause, bounded, over_limit, read_refusal,
    shown,
};
use crate::ExchangeError;

/// A host of Exchange Online that upload sessions name besides those of [`CLOUDS`].
const UPLOAD_HOST: &str = "outlook.office.com";
/// A part of a file that is uploaded.
#[derive(Debug, Clone)]
pub struct UploadRange {
    pub bytes: Bytes,
    /// The position of the first byte.
    pub first: u64,
    /// The size of the whole file.
    pub total: u64,
}

/// The progress of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploaded {
    Whole,
    /// The server expects the bytes from this position on.
    UpTo(u64),
}

impl GraphClient {
    /// Returns the URL of an upload session if it leads to this server or to a host of Exchange Online.
    pub fn upload_url(&self, step: Step, link: &str) -> Result<Url, ExchangeError> {
        if let Ok(url) = self.followed(step, link) {
            return Ok(url);
        }
        let broken = |reason: String| ExchangeError::Protocol { step, reason };
        let url = Url::parse(link).map_err(|_| broken("an upload to no address".into()))?;
        let host = url.host_str().unwrap_or_default();
        let is_exchange = host.eq_ignore_ascii_case(UPLOAD_HOST)
            || CLOUDS
                .iter()
                .any(|cloud| host.eq_ignore_ascii_case(cloud.mail_host));
        let is_plain = url.scheme() == "https"
            && url.port().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        match is_exchange && is_plain {
            true => Ok(url),
            false => Err(broken(format!(
                "an upload to {}, which is no host of Exchange Online",
                shown(host)
            ))),
        }
    }

    /// Uploads a part of a file. The URL itself carries the permission, so no token is sent.
    pub async fn upload(
        &self,
        step: Step,
        url: &Url,
        range: &UploadRange,
    ) -> Result<Uploaded, ExchangeError> {
        let _permit = self.permit(step).await?;
        let size = range.bytes.len();
        let next = range.first + size as u64;
        let last = next.saturating_sub(1);
        let building = self
            .http
            .put(url.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(
                CONTENT_RANGE,
                format!("bytes {}-{last}/{}", range.first, range.total),
            )
            .body(range.bytes.clone());
        let outcome = self.answered(step, url, building, size).await;
        let mut shown_url = url.clone();
        shown_url.set_query(None);
        self.record("PUT", &shown_url, &outcome);
        let mut response = outcome?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
            let asked = asked_pause(response.headers(), self.clock.now());
            let pause = asked.unwrap_or(RETRY_AFTER_DEFAULT);
            self.pause_all(pause);
            return Err(over_limit(step, &format!("HTTP {status}"), pause));
        }
        if !status.is_success() {
            let refusal = read_refusal(&mut response, self.limits, &TraceRedactor::default()).await;
            return Err(match self.judged(step, refusal) {
                Failure::Failed(error) => error,
                failure => self.failed(step, failure),
            });
        }
        let body = bounded(&mut response, self.limits).await;
        if status == StatusCode::CREATED || next >= range.total {
            return Ok(Uploaded::Whole);
        }
        let expected = serde_json::from_slice::<Expected>(&body).ok();
        let expected = expected.and_then(|it| it.first());
        Ok(Uploaded::UpTo(expected.unwrap_or(next)))
    }
}

/// The ranges that an upload session still expects, such as `["3276800"]` or `["3276800-5000000"]`.
#[derive(Deserialize)]
struct Expected {
    #[serde(rename = "nextExpectedRanges", default)]
    next: Vec<String>,
}

impl Expected {
    fn first(&self) -> Option<u64> {
        let range = self.next.first()?;
        let start = range.split('-').next()?;
        start.trim().parse().ok()
    }
}
