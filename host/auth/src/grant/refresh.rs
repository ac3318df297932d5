//! The refresh token grant (RFC 6749 section 6): a new access token for a user who signed in before.

use oauth2::RefreshToken;

use super::{Granted, TokenRequest, client, granted};
use crate::{AuthError, Secret};

/// Asks for a new access token, and takes the new refresh token where the server rotates it.
pub(crate) async fn request(
    request: &TokenRequest<'_>,
    refresh_token: &Secret,
) -> Result<Granted, AuthError> {
    let refresh_token = RefreshToken::new(refresh_token.expose().to_owned());
    let answer = client::ask(request, None, async |client, sender| {
        client
            .exchange_refresh_token(&refresh_token)
            .add_scopes(request.scopes())
            .request_async(sender)
            .await
    })
    .await?;
    granted(request.account, &answer)
}
