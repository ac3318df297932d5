//! Exchange Web Services: SOAP over HTTPS, its faults and response codes.

mod http;
mod soap;
mod xml;

use std::time::Duration;

use postroom_net::{Proxies, Step};

use crate::ExchangeError;
pub use http::{Affinity, Answer, Exchange, GET_MIME, Request, protocol};
pub use soap::{Kind, Refusal, SERVER_VERSION, item_ids, messages, shown};
pub use xml::{Element, XmlError, escaped};

/// The longest response of an operation that returns no mail. A page of 512 changes has about 500 bytes per change.
pub const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// The address of a server and of the mailbox that requests are about.
#[derive(Debug, Clone)]
pub struct EwsAccess {
    /// The URL of the service, such as `https://mail.example/EWS/Exchange.asmx`.
    pub url: String,
    /// The host of that URL.
    pub host: String,
    /// The address of the mailbox, whose owner need not be the user who signs in.
    pub address: String,
    /// Whether to act as the mailbox's owner (ExchangeImpersonation).
    pub impersonation: bool,
    pub proxies: Proxies,
    pub limits: EwsLimits,
}

/// The time limits of an exchange.
#[derive(Debug, Clone, Copy)]
pub struct EwsLimits {
    /// For the connection, including its TLS handshake.
    pub connect: Duration,
    /// The longest time without a byte from the server while a response is due.
    pub stall: Duration,
    /// For one request, plus the time for its data at 16 KiB/s.
    pub command: Duration,
}

impl Default for EwsLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            command: Duration::from_secs(10 * 60),
        }
    }
}

impl Exchange {
    /// Sends a request that returns no mail.
    pub async fn call(
        &mut self,
        step: Step,
        operation: &'static str,
        body: String,
    ) -> Result<Answer, ExchangeError> {
        self.call_with(&Request::new(step, operation, body, ANSWER_BYTES))
            .await
    }

    /// Does the same for a request that is already composed.
    pub async fn call_with(&mut self, request: &Request<'_>) -> Result<Answer, ExchangeError> {
        let answer = self.send(request).await?;
        match answer.is_cut {
            true => Err(protocol(
                request.step,
                &format!("an answer of more than {} bytes", request.answer_bytes),
            )),
            false => Ok(answer),
        }
    }

    /// Returns the response message of an operation that has a single one, or its refusal.
    pub fn outcome<'r, 'x>(
        &self,
        step: Step,
        root: &'r Element<'x>,
    ) -> Result<Result<&'r Element<'x>, Refusal>, ExchangeError> {
        match messages(root) {
            Ok(messages) => {
                let first = messages.into_iter().next();
                let first = first.ok_or_else(|| nonsense(step))?;
                Ok(first.map_err(|refusal| self.cleaned(refusal)))
            }
            Err(Some(fault)) => Ok(Err(self.cleaned(fault))),
            Err(None) => Err(nonsense(step)),
        }
    }

    /// Redacts a refusal, since some servers quote what they refuse.
    pub fn cleaned(&self, refusal: Refusal) -> Refusal {
        Refusal {
            code: self.redacted(&refusal.code),
            text: self.redacted(&refusal.text),
            back_off: refusal.back_off,
        }
    }
}

/// Parses an answer.
pub fn parsed(step: Step, body: &str) -> Result<Element<'_>, ExchangeError> {
    Element::parse(body).map_err(|error| protocol(step, &error.to_string()))
}

/// Returns the error for XML that is not what Exchange answers.
pub fn nonsense(step: Step) -> ExchangeError {
    protocol(step, "XML that is no answer of Exchange")
}
