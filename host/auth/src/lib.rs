//! Signing in: the one crate that holds secrets, so that no other can leak them.

mod error;
mod exchange;
mod grant;
mod profile;
mod secret;
mod tokens;

pub use error::AuthError;
pub use exchange::ExchangeLimits;
pub use profile::{Login, Profile};
pub use secret::{AccessToken, Secret};
pub use tokens::Tokens;
