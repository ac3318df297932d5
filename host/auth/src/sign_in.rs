//! Signing in by a person: the authorization code with PKCE (RFC 6749 section 4.1, RFC 7636) and the device code (RFC 8628).

use std::time::Duration;

use crate::{Account, AuthError, Secret};

/// A sign-in that waits for its redirect.
pub struct CodeSignIn {
    pub account: Account,
    /// To be opened in a browser.
    pub url: String,
    /// Where the browser is sent afterwards, exactly as registered.
    pub redirect: String,
    _state: Secret,
}

/// What a redirect, or a person who pasted it, said.
pub struct Code(pub(crate) Secret);

/// Why a redirect is not the end of this sign-in; the sign-in goes on waiting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error(
        "the state is not the one of this sign-in: the address belongs to another one, or somebody made it up"
    )]
    WrongState,
    #[error("there is no code in it")]
    NoCode,
    /// The page said no, such as a declined consent: the sign-in is over.
    #[error("{0}")]
    Refused(AuthError),
}

/// A sign-in that waits for a person who types a code on another device.
pub struct DeviceSignIn {
    pub account: Account,
    pub verification_url: String,
    pub user_code: String,
    /// The provider's own words to the person, where it gave some.
    pub message: Option<String>,
    pub expires_in: Duration,
    _device_code: Secret,
}

impl CodeSignIn {
    /// Reads what came back: the whole redirected URL, its query (as a listener sees it), or the bare code. The state is checked
    /// wherever there is a URL or query.
    pub fn answer(&self, _text: &str) -> Result<Code, AnswerError> {
        todo!()
    }
}
