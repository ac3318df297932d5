//! The parts shared by all protocols: dialling, proxies, the HTTP client, TLS, the steps of a probe, and the redacted protocol trace.

mod dial;
mod dial_limits;
mod http;
mod probe;
mod proxy;
mod redact;
mod step;
mod tls;
pub mod trace;

pub use dial::{ConnectError, Stream, Unreachable, dial, is_loopback, within};
pub use dial_limits::{DialLimits, DialPermit, HostDials};
pub use http::HttpClient;
pub use probe::{FailedStep, ProbeReporter, ProbeStep};
pub use proxy::{HostPattern, InvalidProxy, Proxies, Proxy, ProxyFault, ProxyRules, ProxyScheme};
pub use redact::{REDACTED, TraceRedactor};
pub use step::Step;
pub use tls::{TlsMode, handshake, handshake_after_starttls, server_name};
pub use trace::Trace;
