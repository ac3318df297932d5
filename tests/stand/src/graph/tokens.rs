//! Access tokens: their owners and permissions, from the authority's introspection.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::authority::{INTROSPECTION_CLIENT, INTROSPECTION_SECRET};
use crate::wire::Wire;

/// The only resource whose tokens the double accepts.
const RESOURCE: &str = "https://graph.microsoft.com/";

/// The owner of a valid token.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub client_id: String,
    /// `None` for an application acting as itself.
    pub user: Option<String>,
    /// The permissions, without the resource; an application has all of them.
    permissions: Vec<String>,
}

/// A permission that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    ReadWrite,
    Send,
}

#[derive(Deserialize)]
struct Introspected {
    active: bool,
    sub: Option<String>,
    scope: Option<String>,
    client_id: Option<String>,
}

impl Caller {
    /// Returns whether the caller may do this in a mailbox, their own or another's.
    pub fn may(&self, permission: Permission, in_own: bool) -> bool {
        let name = match permission {
            Permission::ReadWrite => "Mail.ReadWrite",
            Permission::Send => "Mail.Send",
        };
        let shared = format!("{name}.Shared");
        self.user.is_none()
            || self
                .permissions
                .iter()
                .any(|it| *it == shared || (in_own && it == name))
    }
}

/// Asks the authority for the owner of a token. Returns `None` if it is not a valid token for Graph.
pub(super) fn caller(introspection_port: u16, token: &str) -> Result<Option<Caller>> {
    let basic = STANDARD.encode(format!("{INTROSPECTION_CLIENT}:{INTROSPECTION_SECRET}"));
    // No character of a token needs escaping in a form, except these.
    let token = token
        .replace('%', "%25")
        .replace('+', "%2B")
        .replace('&', "%26");
    let answer = Wire::plain(introspection_port)?.exchange(
        "POST",
        "/token/introspection/graph",
        &[
            ("Authorization", &format!("Basic {basic}")),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ],
        format!("token={token}").as_bytes(),
    )?;
    let introspected: Introspected =
        serde_json::from_slice(&answer.body).context("the answer of an introspection")?;
    let scope = introspected.scope.unwrap_or_default();
    let mut permissions: Vec<String> = scope
        .split(' ')
        .filter_map(|word| word.strip_prefix(RESOURCE))
        .map(str::to_owned)
        .collect();
    permissions.retain(|permission| !permission.is_empty());
    let (true, false, Some(client_id)) = (
        introspected.active,
        permissions.is_empty(),
        introspected.client_id,
    ) else {
        return Ok(None);
    };
    Ok(Some(Caller {
        client_id,
        user: introspected.sub.map(|user| user.to_lowercase()),
        permissions,
    }))
}
