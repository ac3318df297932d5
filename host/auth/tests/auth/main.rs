//! The auth crate against real servers and real files: grants, tokens, the vault.

#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it, too")]

mod crash;
mod grants;
mod hostile;
mod keeping;
mod kit;
mod pauses;
mod refusals;
mod rig;
mod scopes;
mod sign_in;
mod tokens;
mod vault;
