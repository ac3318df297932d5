//! Profiles registered with a provider, the accounts that use them, and the login of a session.

use std::fmt;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::certificate::Certificate;
use crate::provider::{Need, Provider, Resource};
use crate::service_key::ServiceKey;
use crate::{Secret, Tokens};

/// A named OAuth registration, shared by any number of mailboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub name: String,
    pub provider: Provider,
    /// Microsoft's directory id or domain, for advice and links; `None` elsewhere.
    pub directory: Option<String>,
    pub endpoints: Endpoints,
    /// Empty for a service account, which has none.
    pub client_id: String,
    pub client: ClientCredential,
    pub grant: Grant,
    /// As configured, used for every token; `None` derives them from the provider and the account's needs.
    pub scopes: Option<Vec<String>>,
    /// The tenants that may use it; `None` means every tenant.
    pub tenants: Option<Vec<String>>,
}

/// The endpoints. Configured URLs are used exactly as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoints {
    Fixed {
        authorize: Option<String>,
        token: Url,
        device: Option<Url>,
    },
    /// The issuer of OpenID Connect Discovery 1.0; requested once, when first needed.
    Discovered { issuer: Url },
}

/// How the application proves its identity (RFC 6749 section 2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCredential {
    /// A public client, which sends neither secret nor assertion (AADSTS700025).
    None,
    Secret {
        secret: Secret,
        /// The secret before a rotation, tried if the server considers the current one wrong or expired.
        previous: Option<Secret>,
        send: SendSecret,
        expires: Option<Date>,
    },
    /// A signed assertion (RFC 7523, PS256).
    Certificate(Arc<Certificate>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendSecret {
    /// In a field of the form.
    Body,
    /// With HTTP Basic (RFC 6749 section 2.3.1).
    Basic,
}

/// How tokens are obtained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// RFC 6749 section 4.1 with PKCE (RFC 7636).
    AuthorizationCode {
        /// `None`: `http://localhost` on a free port.
        redirect: Option<String>,
        prompt: Option<Prompt>,
    },
    /// RFC 8628.
    DeviceCode,
    /// RFC 6749 section 4.4.
    ClientCredentials,
    /// RFC 6749 section 4.3.
    Password { username: String, password: Secret },
    /// Google's own grant, by RFC 7523 with `sub`.
    ServiceAccount(Arc<ServiceKey>),
}

/// The page that the provider should show (OpenID Connect Core section 3.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    Login,
    Consent,
    SelectAccount,
    None,
}

/// The owner of tokens: a profile itself, or one user who signed in through it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Account {
    pub profile: String,
    /// `None` for an app-only profile.
    pub login: Option<String>,
}

/// An account and all purposes that the configuration needs its tokens for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountUse {
    pub account: Account,
    /// Each once, in order.
    pub needs: Vec<Need>,
}

/// How a session with a mailbox or a submission server is authenticated.
#[derive(Debug, Clone)]
pub enum Login {
    /// An access token (XOAUTH2). `user` is the mailbox that is opened.
    Bearer {
        user: String,
        account: Account,
        resource: Resource,
        tokens: Arc<Tokens>,
    },
    Password {
        user: String,
        password: Secret,
    },
}

impl Login {
    /// Returns the user name that signs in.
    pub fn user(&self) -> &str {
        match self {
            Login::Bearer { user, .. } | Login::Password { user, .. } => user,
        }
    }
}

impl Profile {
    /// Returns the day on which the client secret or certificate expires, if known.
    pub fn credential_expires(&self) -> Option<Date> {
        match &self.client {
            ClientCredential::Secret { expires, .. } => *expires,
            ClientCredential::Certificate(certificate) => {
                Some(certificate.not_after().to_zoned(TimeZone::UTC).date())
            }
            ClientCredential::None => None,
        }
    }

    /// Returns the scopes of one token request for this resource.
    pub fn scopes_for(&self, resource: Resource, needs: &[Need]) -> Vec<String> {
        match &self.scopes {
            Some(scopes) => scopes.clone(),
            None => self
                .provider
                .scopes(resource, needs, self.grant.is_app_only()),
        }
    }

    /// Returns the scopes of a sign-in: those of every needed resource, each once.
    pub fn sign_in_scopes(&self, needs: &[Need]) -> Vec<String> {
        let mut scopes = Vec::new();
        for resource in needs.iter().map(|need| need.resource()) {
            for scope in self.scopes_for(resource, needs) {
                if !scopes.contains(&scope) {
                    scopes.push(scope);
                }
            }
        }
        scopes
    }
}

impl Grant {
    /// Returns the name in the configuration and in listings.
    pub fn name(&self) -> &'static str {
        match self {
            Grant::AuthorizationCode { .. } => "authorization-code",
            Grant::DeviceCode => "device-code",
            Grant::ClientCredentials => "client-credentials",
            Grant::Password { .. } => "password",
            Grant::ServiceAccount(_) => "service-account",
        }
    }

    /// Returns whether the tokens belong to the application itself rather than to a user.
    pub fn is_app_only(&self) -> bool {
        matches!(self, Grant::ClientCredentials)
    }

    /// Returns whether a person has to sign in before the first token.
    pub fn is_interactive(&self) -> bool {
        matches!(self, Grant::AuthorizationCode { .. } | Grant::DeviceCode)
    }
}

impl Prompt {
    pub fn as_str(self) -> &'static str {
        match self {
            Prompt::Login => "login",
            Prompt::Consent => "consent",
            Prompt::SelectAccount => "select_account",
            Prompt::None => "none",
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.login {
            Some(login) => write!(f, "{} as {login}", self.profile),
            None => f.write_str(&self.profile),
        }
    }
}
