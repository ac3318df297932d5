//! The refresh token grant (RFC 6749 section 6): a new access token for a user who signed in before.

use oauth2::RefreshToken;

use super::client::{Ask, OauthClient, Sender, ask};
use super::{Failure, Granted, TokenAnswer, TokenRequest, refreshed};
use crate::{AuthError, Secret};

struct Refresh<'a> {
    request: &'a TokenRequest<'a>,
    refresh_token: RefreshToken,
}

/// Requests a new access token, and accepts the new refresh token if the server rotates it.
pub(crate) async fn request(
    request: &TokenRequest<'_>,
    refresh_token: &Secret,
) -> Result<Granted, AuthError> {
    let grant = Refresh {
        request,
        refresh_token: RefreshToken::new(refresh_token.expose().to_owned()),
    };
    let answer = ask(request, None, &grant).await?;
    refreshed(request.account, &answer)
}

impl Ask for Refresh<'_> {
    type Answer = TokenAnswer;

    async fn ask(&self, client: &OauthClient, sender: &Sender<'_>) -> Result<TokenAnswer, Failure> {
        client
            .exchange_refresh_token(&self.refresh_token)
            .add_scopes(self.request.scopes())
            .request_async(sender)
            .await
    }
}
