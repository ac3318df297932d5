//! Logs a failure once, and its recovery once.

use crate::advice;
use crate::{Account, AuthError, Profile};

/// Returns whether the admin has not been informed of this failure yet, and records that they now are.
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

/// Logs a failure. `others` is the number of other accounts of the profile that it concerns.
pub(super) fn failed(account: &Account, profile: &Profile, error: &AuthError, others: usize) {
    if error.is_transient() {
        tracing::warn!(%account, %error, "no access token; retrying");
        return;
    }
    let advice = advice::advise(error, Some(profile));
    let steps = advice.steps.join("; ");
    let correlation_id = error
        .refusal()
        .and_then(|refusal| refusal.correlation_id.as_deref());
    let other_accounts = (others > 0).then_some(others);
    tracing::error!(
        %account, other_accounts, %error, correlation_id, advice = advice.text, steps,
        "no access token; the mailboxes of this account wait"
    );
}

pub(super) fn recovered(account: &Account, told: &AuthError) {
    tracing::info!(%account, was = %told, "access token acquired; resuming the mailboxes of this account");
}

pub(super) fn client_recovered(profile: &Profile, told: &AuthError) {
    tracing::info!(profile = profile.name, was = %told, "the authorization server accepts the application again; resuming its mailboxes");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ServerRefusal;

    #[test]
    fn an_admin_is_told_once_and_again_of_another_failure() {
        let account = Account {
            profile: "contoso".into(),
            login: None,
        };
        let transient = AuthError::Transient {
            account: account.clone(),
            reason: "busy".into(),
            retry_after: Some(Duration::ZERO),
        };
        let refused = |code: u32, correlation_id: &str| AuthError::Refused {
            account: account.clone(),
            refusal: Box::new(ServerRefusal {
                error: "invalid_client".into(),
                codes: vec![code],
                description: None,
                correlation_id: Some(correlation_id.into()),
            }),
        };
        let nonsense = AuthError::Nonsense {
            account: account.clone(),
            reason: "HTML".into(),
        };
        let mut told = None;
        let sequence = [
            (&transient, true),
            (&transient, false),
            (&refused(7_000_215, "a"), true),
            (&refused(7_000_215, "b"), false),
            (&transient, false),
            (&refused(7_000_222, "b"), true),
            (&nonsense, true),
            (&nonsense, false),
            (&refused(7_000_222, "c"), true),
        ];
        for (at, (error, expected)) in sequence.into_iter().enumerate() {
            assert_eq!(is_news(&mut told, error), expected, "{at}: {error}");
        }
    }
}
