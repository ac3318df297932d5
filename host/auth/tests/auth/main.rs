//! The auth crate against real servers and real files: grants, tokens, the vault.

mod vault;
