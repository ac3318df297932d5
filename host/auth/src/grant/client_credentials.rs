//! The client credentials grant (RFC 6749 section 4.4): a service signs in as itself, its secret in the request body.

use oauth2::{AuthType, ClientId, ClientSecret, Scope, TokenUrl};

use super::{Granted, OauthClient, TokenRequest, failed, granted};
use crate::{AuthError, ClientCredential};

/// Asks for a new access token.
pub(crate) async fn request(request: &TokenRequest<'_>) -> Result<Granted, AuthError> {
    let _ = (request, OauthClient::new, failed, granted);
    let _ = |c: ClientCredential| c;
    todo!()
}
