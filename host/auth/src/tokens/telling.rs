//! What an admin is told of a failure, once, and of its end.

use crate::advice;
use crate::{Account, AuthError, Profile};

/// Whether the admin does not know of this failure yet; remembers that they will.
pub(super) fn is_news(told: &mut Option<AuthError>, error: &AuthError) -> bool {
    let is_news = match (told.as_ref(), error) {
        (None, _) => true,
        (Some(_), AuthError::Transient { .. }) => false,
        (Some(AuthError::Refused { refusal: a, .. }), AuthError::Refused { refusal: b, .. }) => {
            (&a.error, &a.codes) != (&b.error, &b.codes)
        }
        (Some(told), error) => std::mem::discriminant(told) != std::mem::discriminant(error),
    };
    if is_news {
        *told = Some(error.clone());
    }
    is_news
}

pub(super) fn failed(account: &Account, profile: &Profile, error: &AuthError) {
    if error.is_transient() {
        tracing::warn!(%account, %error, "no access token for now: it is asked for again and again");
        return;
    }
    let advice = advice::advise(error, Some(profile));
    let steps = advice.steps.join("; ");
    let correlation_id = error
        .refusal()
        .and_then(|refusal| refusal.correlation_id.as_deref());
    tracing::error!(
        %account, %error, correlation_id, advice = advice.text, steps,
        "no access token: the mailboxes of this account wait"
    );
}

pub(super) fn recovered(account: &Account, told: &AuthError) {
    tracing::info!(%account, was = %told, "access tokens again: the mailboxes of this account go on");
}
