//! Time limits.

use std::time::Duration;

/// The time limits of requests.
#[derive(Debug, Clone, Copy)]
pub struct GraphLimits {
    /// For the connection, including its TLS handshake.
    pub connect: Duration,
    /// From the request to the head of the response, plus the time for the request's data at 16 KiB/s.
    pub answer: Duration,
    /// The longest time without a byte of the response's body.
    pub stall: Duration,
    /// For one body, plus the time for its data at 16 KiB/s.
    pub body: Duration,
}

impl Default for GraphLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            answer: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            body: Duration::from_secs(2 * 60),
        }
    }
}
