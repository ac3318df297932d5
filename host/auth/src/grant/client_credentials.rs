//! The client credentials grant (RFC 6749 section 4.4): a service signs in as itself.

use super::client::{Ask, OauthClient, Sender, ask};
use super::{Failure, Granted, TokenAnswer, TokenRequest, granted};
use crate::AuthError;

struct ClientCredentials<'a>(&'a TokenRequest<'a>);

/// Requests a new access token.
pub(crate) async fn request(request: &TokenRequest<'_>) -> Result<Granted, AuthError> {
    let answer = ask(request, None, &ClientCredentials(request)).await?;
    granted(request.account, &answer)
}

impl Ask for ClientCredentials<'_> {
    type Answer = TokenAnswer;

    async fn ask(&self, client: &OauthClient, sender: &Sender<'_>) -> Result<TokenAnswer, Failure> {
        client
            .exchange_client_credentials()
            .add_scopes(self.0.scopes())
            .request_async(sender)
            .await
    }
}
