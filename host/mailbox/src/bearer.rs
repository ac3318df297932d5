//! Sign-in with a token: a refused token is replaced once, and not blamed for the server's own failure.

use postroom_auth::{AccessToken, Account, Login, Resource, Tokens};
use postroom_net::{ProbeReporter, Step};

use crate::SourceError;

/// Obtains the token if one is needed: [`Tries::begin`] then finds it in memory. Without a token, no server is contacted.
pub(crate) async fn ask_for_token(login: &Login) -> Result<(), SourceError> {
    if let Login::Bearer {
        account,
        resource,
        tokens,
        ..
    } = login
    {
        tokens.access_token(account, *resource).await?;
    }
    Ok(())
}

/// The attempts to sign in with a login's token.
pub(crate) struct Tries<'l> {
    tokens: &'l Tokens,
    account: &'l Account,
    resource: Resource,
    token: AccessToken,
    is_second: bool,
}

impl<'l> Tries<'l> {
    /// Obtains the token. Returns `None` for a password.
    pub async fn begin(
        login: &'l Login,
        probe: &mut ProbeReporter<'_, SourceError>,
    ) -> Result<Option<Self>, SourceError> {
        let Login::Bearer {
            account,
            resource,
            tokens,
            ..
        } = login
        else {
            return Ok(None);
        };
        let token = tokens.access_token(account, *resource).await?;
        probe.passed(Step::Token, || account.to_string());
        Ok(Some(Self {
            tokens,
            account,
            resource: *resource,
            token,
            is_second: false,
        }))
    }

    /// Returns the token for the sign-in.
    pub fn token(&self) -> &AccessToken {
        &self.token
    }

    /// Returns whether the sign-in is over; otherwise it is attempted once more. A refused token is discarded and replaced once,
    /// unless `distrusted` is set: the last new token then failed as well, so the cause lies elsewhere and the other mailboxes
    /// keep their token.
    pub async fn is_over(
        &mut self,
        outcome: Result<(), SourceError>,
        distrusted: &mut bool,
    ) -> Result<bool, SourceError> {
        if self.is_second {
            // This also applies if the server hangs up after the first refusal: the next session tries this token before it
            // requests another.
            *distrusted = outcome.is_err();
            return outcome.map(|()| true);
        }
        match outcome {
            Err(SourceError::RefusedLogin { .. }) if !*distrusted => {
                self.tokens.reject(self.account, &self.token).await;
                self.token = self
                    .tokens
                    .access_token(self.account, self.resource)
                    .await?;
                self.is_second = true;
                Ok(false)
            }
            outcome => {
                outcome?;
                *distrusted = false;
                Ok(true)
            }
        }
    }
}
