//! How the application proves its identity in a token request: not at all, by its secret, or by a signed assertion.

use oauth2::basic::{BasicRevocationErrorResponse, BasicTokenIntrospectionResponse};
use oauth2::{
    AsyncHttpClient, AuthType, Client, ClientId, ClientSecret, DeviceAuthorizationUrl,
    EndpointNotSet, EndpointSet, HttpRequest, RequestTokenError, StandardRevocableToken, TokenUrl,
};
use url::form_urlencoded;

use super::{Denial, Failure, TokenAnswer, TokenRequest, failed, unusable};
use crate::exchange::{Exchange, ExchangeError};
use crate::{AuthError, ClientCredential, Secret, SendSecret};

/// The type of a signed assertion of the application (RFC 7523 section 2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The library's client with our own response types, which keep fields that the standard ones drop. Its token URL and its
/// device URL are both the URL of the request.
pub(super) type OauthClient = Client<
    Denial,
    TokenAnswer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// A grant that the library does not support (RFC 6749 section 4.5), sent in place of the client credentials grant.
pub(super) struct Extension<'a> {
    pub grant_type: &'static str,
    pub fields: Vec<(&'static str, &'a Secret)>,
}

/// The HTTP client of one token request. It completes the library's form before sending.
pub(super) struct Sender<'a> {
    exchange: &'a Exchange<'a>,
    extension: Option<Extension<'a>>,
    assertion: Option<Secret>,
}

impl<'c> AsyncHttpClient<'c> for Sender<'_> {
    type Error = ExchangeError;
    type Future = <Exchange<'c> as AsyncHttpClient<'c>>::Future;

    fn call(&'c self, mut request: HttpRequest) -> Self::Future {
        *request.body_mut() = self.completed(request.body());
        self.exchange.call(request)
    }
}

impl Sender<'_> {
    fn completed(&self, form: &[u8]) -> Vec<u8> {
        let mut fields = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form_urlencoded::parse(form) {
            match (name.as_ref(), &self.extension) {
                ("grant_type", Some(extension)) => {
                    fields.append_pair(&name, extension.grant_type);
                }
                // A service account has no client id, but the library always writes one.
                ("client_id", _) if value.is_empty() => {}
                _ => {
                    fields.append_pair(&name, &value);
                }
            }
        }
        for (name, value) in self.extension.iter().flat_map(|e| &e.fields) {
            fields.append_pair(name, value.expose());
        }
        if let Some(assertion) = &self.assertion {
            fields
                .append_pair("client_assertion_type", ASSERTION_TYPE)
                .append_pair("client_assertion", assertion.expose());
        }
        fields.finish().into_bytes()
    }
}

/// A grant's request, built by the library from the client.
pub(super) trait Ask: Sync {
    type Answer: Send;

    fn ask(
        &self,
        client: &OauthClient,
        sender: &Sender<'_>,
    ) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;
}

/// Sends `grant`. If the server considers the secret wrong or expired, the previous secret is tried once.
pub(super) async fn ask<A: Ask>(
    request: &TokenRequest<'_>,
    extension: Option<Extension<'_>>,
    grant: &A,
) -> Result<A::Answer, AuthError> {
    let credential = &request.profile.client;
    let assertion = match credential {
        ClientCredential::Certificate(certificate) => Some(
            certificate
                .assertion(
                    &request.profile.client_id,
                    request.token_url,
                    request.exchange.clock.now(),
                )
                .map_err(|reason| unusable(request.account, reason))?,
        ),
        ClientCredential::None | ClientCredential::Secret { .. } => None,
    };
    let sender = Sender {
        exchange: request.exchange,
        extension,
        assertion,
    };
    let (secret, previous) = match credential {
        ClientCredential::Secret {
            secret, previous, ..
        } => (Some(secret), previous.as_ref()),
        ClientCredential::None | ClientCredential::Certificate(_) => (None, None),
    };
    let refused = match grant.ask(&client(request, secret), &sender).await {
        Ok(answer) => return Ok(answer),
        Err(failure) => failure,
    };
    if let Some(previous) = previous.filter(|_| doubts_secret(&refused)) {
        match grant.ask(&client(request, Some(previous)), &sender).await {
            Ok(answer) => {
                tracing::warn!(
                    profile = request.profile.name,
                    "the authorization server refuses the client secret; the previous one still works"
                );
                return Ok(answer);
            }
            Err(failure) if doubts_secret(&failure) => {}
            Err(failure) => return Err(failed(request.account, failure)),
        }
    }
    Err(failed(request.account, refused))
}

fn client(request: &TokenRequest<'_>, secret: Option<&Secret>) -> OauthClient {
    let url = request.token_url;
    let mut client = Client::new(ClientId::new(request.profile.client_id.clone()))
        .set_token_uri(TokenUrl::from_url(url.clone()))
        .set_device_authorization_url(DeviceAuthorizationUrl::from_url(url.clone()))
        .set_auth_type(match request.profile.client {
            ClientCredential::Secret {
                send: SendSecret::Basic,
                ..
            } => AuthType::BasicAuth,
            _ => AuthType::RequestBody,
        });
    if let Some(secret) = secret {
        client = client.set_client_secret(ClientSecret::new(secret.expose().to_owned()));
    }
    client
}

fn doubts_secret(failure: &Failure) -> bool {
    matches!(failure, RequestTokenError::ServerResponse(denial) if denial.doubts_secret())
}
