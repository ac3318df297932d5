//! What is needed to sign in: a profile registered with a provider, and the login that uses it.

use std::sync::Arc;

use url::Url;

use crate::{Secret, Tokens};

/// A named OAuth registration, shared by any number of mailboxes. Signs in by client credentials (RFC 6749 section 4.4).
#[derive(Debug, Clone)]
pub struct Profile {
    pub name: String,
    /// Used as configured, never rewritten.
    pub token_url: Url,
    pub client_id: String,
    pub credential: Secret,
    /// One resource's scopes, such as `https://outlook.office365.com/.default`.
    pub scopes: Vec<String>,
    /// The tenants that may use it; `None` is every tenant.
    pub tenants: Option<Vec<String>>,
}

/// How one mailbox or submission server is signed in to.
#[derive(Debug, Clone)]
pub enum Login {
    /// An access token of a profile (XOAUTH2). `user` is the mailbox that is opened.
    Bearer {
        user: String,
        profile: String,
        tokens: Arc<Tokens>,
    },
    Password {
        user: String,
        password: Secret,
    },
}

impl Login {
    /// The user name that is signed in as.
    pub fn user(&self) -> &str {
        match self {
            Login::Bearer { user, .. } | Login::Password { user, .. } => user,
        }
    }
}
