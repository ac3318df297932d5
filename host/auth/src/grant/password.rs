//! The password grant (RFC 6749 section 4.3): a user's name and password from the configuration. It does not support a
//! second factor.

use oauth2::{ResourceOwnerPassword, ResourceOwnerUsername};

use super::client::{Ask, OauthClient, Sender, ask};
use super::{Failure, Granted, TokenAnswer, TokenRequest, granted, unusable};
use crate::{AuthError, Grant};

struct Password<'a> {
    request: &'a TokenRequest<'a>,
    username: ResourceOwnerUsername,
    password: ResourceOwnerPassword,
}

/// Requests a token with the profile's user name and password.
pub(crate) async fn request(request: &TokenRequest<'_>) -> Result<Granted, AuthError> {
    let Grant::Password { username, password } = &request.profile.grant else {
        return Err(unusable(request.account, "it has no password grant"));
    };
    let grant = Password {
        request,
        username: ResourceOwnerUsername::new(username.clone()),
        password: ResourceOwnerPassword::new(password.expose().to_owned()),
    };
    let answer = ask(request, None, &grant).await?;
    granted(request.account, &answer)
}

impl Ask for Password<'_> {
    type Answer = TokenAnswer;

    async fn ask(&self, client: &OauthClient, sender: &Sender<'_>) -> Result<TokenAnswer, Failure> {
        client
            .exchange_password(&self.username, &self.password)
            .add_scopes(self.request.scopes())
            .request_async(sender)
            .await
    }
}
