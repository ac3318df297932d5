//! Sign-in: the one crate that holds secrets, so that no other can leak them.

pub mod advice;
mod certificate;
mod error;
mod exchange;
pub mod expiry;
mod grant;
mod profile;
pub mod provider;
mod redirect;
mod secret;
mod service_key;
mod sign_in;
mod tokens;
pub mod vault;

pub use advice::Advice;
pub use certificate::{Certificate, CertificateError};
pub use error::{AuthError, Remedy, ServerRefusal};
pub use exchange::{ExchangeLimits, retry_after};
pub use profile::{
    Account, AccountUse, ClientCredential, Endpoints, Grant, Login, Profile, Prompt, SendSecret,
};
pub use provider::{Cloud, Need, Provider, Resource};
pub use redirect::{PageReply, RedirectListener};
pub use secret::{AccessToken, Secret};
pub use service_key::{ServiceKey, ServiceKeyError};
pub use sign_in::{AnswerError, Code, CodeSignIn, DeviceSignIn};
pub use tokens::{RefreshStep, RetryPolicy, Tokens};
