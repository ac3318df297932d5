//! The password grant (RFC 6749 section 4.3): a user's name and password from the configuration. It knows no second factor.

use oauth2::{ResourceOwnerPassword, ResourceOwnerUsername};

use super::{Granted, TokenRequest, client, granted, unusable};
use crate::{AuthError, Grant};

/// Asks for a token with the profile's user name and password.
pub(crate) async fn request(request: &TokenRequest<'_>) -> Result<Granted, AuthError> {
    let Grant::Password { username, password } = &request.profile.grant else {
        return Err(unusable(request.account, "it has no password grant"));
    };
    let username = ResourceOwnerUsername::new(username.clone());
    let password = ResourceOwnerPassword::new(password.expose().to_owned());
    let answer = client::ask(request, None, async |client, sender| {
        client
            .exchange_password(&username, &password)
            .add_scopes(request.scopes())
            .request_async(sender)
            .await
    })
    .await?;
    granted(request.account, &answer)
}
