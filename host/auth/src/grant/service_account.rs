//! Google's service account grant (RFC 7523 section 2.1): a signed assertion names the user whose mailbox is opened.

use super::client::{Ask, Extension, OauthClient, Sender, ask};
use super::{Failure, Granted, TokenAnswer, TokenRequest, granted, unusable};
use crate::{AuthError, Grant};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The assertion, not the form, contains the scopes.
struct ServiceAccount;

/// Requests a token for the account's login.
pub(crate) async fn request(request: &TokenRequest<'_>) -> Result<Granted, AuthError> {
    let Grant::ServiceAccount(key) = &request.profile.grant else {
        return Err(unusable(request.account, "it has no service account"));
    };
    let Some(user) = &request.account.login else {
        return Err(unusable(request.account, "no user is named to act for"));
    };
    let assertion = key
        .assertion(
            user,
            request.scopes,
            request.token_url,
            request.exchange.clock.now(),
        )
        .map_err(|reason| unusable(request.account, reason))?;
    let extension = Extension {
        grant_type: GRANT_TYPE,
        fields: vec![("assertion", &assertion)],
    };
    let answer = ask(request, Some(extension), &ServiceAccount).await?;
    granted(request.account, &answer)
}

impl Ask for ServiceAccount {
    type Answer = TokenAnswer;

    async fn ask(&self, client: &OauthClient, sender: &Sender<'_>) -> Result<TokenAnswer, Failure> {
        client
            .exchange_client_credentials()
            .request_async(sender)
            .await
    }
}
