//! Advice: what an admin should do about a failure, in sentences, beside the raw code.

use crate::error::Refusal;
use crate::{AuthError, Profile, Remedy};

/// What to tell an admin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// One or two sentences: what is wrong and what to do.
    pub text: String,
    /// Commands or links to use, each on a line of its own, filled in with the profile's ids.
    pub steps: Vec<String>,
}

/// What to do about a failed token request or sign-in. `profile` is the one it happened with, where it is known.
pub fn advise(_error: &AuthError, _profile: Option<&Profile>) -> Advice {
    todo!()
}

/// What may end this refusal; decided by the structured codes alone.
pub fn remedy(_refusal: &Refusal) -> Remedy {
    todo!()
}

/// The Exchange Online commands by which an app-only profile is let into a mailbox.
pub fn exchange_commands(_profile: &Profile, _mailbox: &str) -> Vec<String> {
    todo!()
}

/// The page on which an admin of the directory consents to the application.
pub fn admin_consent_url(_profile: &Profile) -> Option<String> {
    todo!()
}
