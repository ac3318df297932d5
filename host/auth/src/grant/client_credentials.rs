//! The client credentials grant (RFC 6749 section 4.4): a service signs in as itself.

use super::{Granted, TokenRequest, client, granted};
use crate::AuthError;

/// Asks for a new access token.
pub(crate) async fn request(request: &TokenRequest<'_>) -> Result<Granted, AuthError> {
    let answer = client::ask(request, None, async |client, sender| {
        client
            .exchange_client_credentials()
            .add_scopes(request.scopes())
            .request_async(sender)
            .await
    })
    .await?;
    granted(request.account, &answer)
}
