//! The loopback listener that a browser is redirected to at the end of a sign-in (RFC 8252 section 7.3).

use crate::AuthError;
use crate::sign_in::{Code, CodeSignIn};

/// Listens on this machine only, for one sign-in.
pub struct RedirectListener {
    url: String,
}

impl RedirectListener {
    /// Binds the port of `redirect`, or a free one when it is `None`; `Ok(None)` when `redirect` is not on this machine, so that
    /// the address has to be pasted.
    pub async fn bind(_redirect: Option<&str>) -> std::io::Result<Option<Self>> {
        todo!()
    }

    /// The redirect address to register with the request: as configured, or `http://localhost:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits for the redirect of this sign-in. A request with a wrong state is answered with a page that says so, and the wait goes on.
    pub async fn wait(self, _sign_in: &CodeSignIn) -> Result<Code, AuthError> {
        todo!()
    }
}
