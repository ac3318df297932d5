//! The authorization code grant with PKCE (RFC 6749 section 4.1, RFC 7636): a person signs in with a browser.

use std::borrow::Cow;

use oauth2::basic::BasicClient;
use oauth2::{
    AuthUrl, AuthorizationCode, ClientId, CsrfToken, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, Scope,
};

use super::client::{Ask, OauthClient, Sender, ask};
use super::{Failure, Granted, TokenAnswer, TokenRequest, granted, unusable, with_identity};
use crate::sign_in::{Code, CodeSignIn, Expected};
use crate::{Account, AuthError, Endpoints, Grant, Profile, Provider, Secret};

struct Exchange<'a> {
    redirect: RedirectUrl,
    sign_in: &'a CodeSignIn,
    code: &'a Code,
    scope: Option<String>,
}

/// Returns the URL of the sign-in page, with a fresh state and PKCE verifier. `scopes` are those of all resources that are
/// needed.
pub(crate) fn begin(
    profile: &Profile,
    account: &Account,
    authorize_url: &str,
    scopes: &[String],
    redirect: &str,
) -> Result<CodeSignIn, AuthError> {
    let page = AuthUrl::new(authorize_url.to_owned())
        .map_err(|error| unusable(account, format!("authorize_url: {error}")))?;
    let mut extras = extras(profile, account);
    // Parameters of the configured URL are not repeated (RFC 6749 section 3.1).
    extras.retain(|(name, _)| page.url().query_pairs().all(|(said, _)| said != *name));
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let client = BasicClient::new(ClientId::new(profile.client_id.clone()))
        .set_auth_uri(page)
        .set_redirect_uri(redirect_url(account, redirect)?);
    let mut request = client
        .authorize_url(CsrfToken::new_random)
        .set_pkce_challenge(challenge)
        .add_scopes(with_identity(profile, scopes).into_iter().map(Scope::new));
    for (name, value) in extras {
        request = request.add_extra_param(name, value);
    }
    let (url, state) = request.url();
    Ok(CodeSignIn {
        account: account.clone(),
        url: url.into(),
        redirect: redirect.to_owned(),
        expected: Expected {
            account: account.clone(),
            state: Secret::new(state.into_secret()),
            issuer: match &profile.endpoints {
                Endpoints::Discovered { issuer } => Some(issuer.clone()),
                Endpoints::Fixed { .. } => None,
            },
        },
        verifier: Secret::new(verifier.into_secret()),
    })
}

/// Exchanges the code for tokens.
pub(crate) async fn exchange(
    request: &TokenRequest<'_>,
    sign_in: &CodeSignIn,
    code: &Code,
) -> Result<Granted, AuthError> {
    // Only Microsoft accepts a scope here, which selects the first resource; the standard has none in this request.
    let scope = matches!(request.profile.provider, Provider::Microsoft(_))
        .then(|| with_identity(request.profile, request.scopes).join(" "));
    let grant = Exchange {
        redirect: redirect_url(request.account, &sign_in.redirect)?,
        sign_in,
        code,
        scope,
    };
    let answer = ask(request, None, &grant).await?;
    granted(request.account, &answer)
}

impl Ask for Exchange<'_> {
    type Answer = TokenAnswer;

    async fn ask(&self, client: &OauthClient, sender: &Sender<'_>) -> Result<TokenAnswer, Failure> {
        let mut request = client
            .exchange_code(AuthorizationCode::new(self.code.0.expose().to_owned()))
            .set_redirect_uri(Cow::Borrowed(&self.redirect))
            .set_pkce_verifier(PkceCodeVerifier::new(
                self.sign_in.verifier.expose().to_owned(),
            ));
        if let Some(scope) = &self.scope {
            request = request.add_extra_param("scope", scope);
        }
        request.request_async(sender).await
    }
}

/// Returns the parameters of the request beyond the standard's.
fn extras(profile: &Profile, account: &Account) -> Vec<(&'static str, String)> {
    let prompt = match profile.grant {
        Grant::AuthorizationCode { prompt, .. } => prompt,
        _ => None,
    };
    let mut extras: Vec<_> = profile
        .provider
        .authorize_extras()
        .iter()
        .filter(|(name, _)| prompt.is_none() || *name != "prompt")
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    extras.extend(prompt.map(|prompt| ("prompt", prompt.as_str().to_owned())));
    extras.extend(account.login.clone().map(|login| ("login_hint", login)));
    extras
}

fn redirect_url(account: &Account, redirect: &str) -> Result<RedirectUrl, AuthError> {
    RedirectUrl::new(redirect.to_owned())
        .map_err(|error| unusable(account, format!("redirect_url: {error}")))
}
