//! A Google service account's key file (JSON, as the Google Cloud console gives it).

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use postroom_core::ContentHash;
use serde::Serialize;
use serde_json::Value;
use url::Url;

use crate::Secret;
use crate::certificate::private_key;

/// The lifetime of an assertion: the longest that Google accepts (developers.google.com, "Using OAuth 2.0 for server to
/// server").
const ASSERTION_LIFETIME: SignedDuration = SignedDuration::from_hours(1);

/// The parts of a key file that a token request needs.
pub struct ServiceKey {
    pub client_email: String,
    pub token_uri: Url,
    key_id: Option<String>,
    key: EncodingKey,
    /// The hash of the private key's text, which tells keys apart.
    key_hash: ContentHash,
}

/// Why a key file is unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceKeyError {
    #[error("is not a JSON key file of a service account: {0}")]
    Shape(String),
    #[error("contains a private key that cannot be read")]
    Key,
}

/// The claims of an assertion (RFC 7523 section 3, and Google's `scope`).
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    /// The user whose mailbox is opened.
    sub: &'a str,
    scope: String,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

impl ServiceKey {
    pub fn from_json(json: &Secret) -> Result<Self, ServiceKeyError> {
        // Only the position: serde's own message may quote a value.
        let file: Value = serde_json::from_str(json.expose()).map_err(|error| {
            shape(&format!(
                "no JSON at line {} column {}",
                error.line(),
                error.column()
            ))
        })?;
        let text = |name: &str| {
            file.get(name)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        let needed = |name: &str| text(name).ok_or_else(|| shape(&format!("it has no `{name}`")));
        if needed("type")? != "service_account" {
            return Err(shape("its `type` is not `service_account`"));
        }
        let token_uri = needed("token_uri")?;
        let key_text = Secret::new(needed("private_key")?);
        let key = private_key(&key_text).map_err(|_| ServiceKeyError::Key)?;
        Ok(Self {
            client_email: needed("client_email")?.to_owned(),
            token_uri: token_uri
                .parse()
                .map_err(|_| shape("its `token_uri` is no address"))?,
            key_id: text("private_key_id").map(String::from),
            key: key.signing,
            key_hash: ContentHash::of(key_text.expose().as_bytes()),
        })
    }

    /// Returns a signed request to act for `user`.
    pub(crate) fn assertion(
        &self,
        user: &str,
        scopes: &[String],
        audience: &Url,
        now: Timestamp,
    ) -> Result<Secret, String> {
        let claims = Claims {
            iss: &self.client_email,
            sub: user,
            scope: scopes.join(" "),
            aud: audience.as_str(),
            iat: now.as_second(),
            exp: (now + ASSERTION_LIFETIME).as_second(),
        };
        let mut header = Header::new(Algorithm::RS256);
        header.kid = self.key_id.clone();
        jsonwebtoken::encode(&header, &claims, &self.key)
            .map(Secret::new)
            .map_err(|error| format!("its service account's key cannot sign: {error}"))
    }
}

impl PartialEq for ServiceKey {
    fn eq(&self, other: &Self) -> bool {
        let parts = |it: &Self| (it.client_email.clone(), it.token_uri.clone(), it.key_hash);
        parts(self) == parts(other) && self.key_id == other.key_id
    }
}

impl Eq for ServiceKey {}

impl std::fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServiceKey({})", self.client_email)
    }
}

fn shape(reason: &str) -> ServiceKeyError {
    ServiceKeyError::Shape(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};
    use serde_json::json;

    use super::*;
    use crate::certificate::tests::{openssl, rsa_key};

    fn file(key: &str) -> Value {
        json!({
            "type": "service_account",
            "project_id": "postroom",
            "private_key_id": "k-1",
            "private_key": key,
            "client_email": "mail@postroom.iam.gserviceaccount.example",
            "token_uri": "https://oauth2.googleapis.com/token",
        })
    }

    fn read(file: &str) -> Result<ServiceKey, ServiceKeyError> {
        ServiceKey::from_json(&Secret::new(file))
    }

    #[test]
    fn an_assertion_names_the_user_and_the_scopes() {
        let pem = rsa_key(2048);
        let key = read(&file(&pem).to_string()).unwrap();
        assert_eq!(
            format!("{key:?}"),
            "ServiceKey(mail@postroom.iam.gserviceaccount.example)"
        );
        let scopes = ["https://mail.google.com/".to_owned(), "other".to_owned()];
        let assertion = key
            .assertion(
                "ana@acme.example",
                &scopes,
                &key.token_uri,
                Timestamp::now(),
            )
            .unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&["https://oauth2.googleapis.com/token"]);
        let public = openssl("rsa -pubout", &pem);
        let read = jsonwebtoken::decode::<Value>(
            assertion.expose(),
            &DecodingKey::from_rsa_pem(public.as_bytes()).unwrap(),
            &validation,
        )
        .unwrap();
        assert_eq!(read.header.kid.as_deref(), Some("k-1"));
        assert_eq!(
            read.claims["iss"],
            "mail@postroom.iam.gserviceaccount.example"
        );
        assert_eq!(read.claims["sub"], "ana@acme.example");
        assert_eq!(read.claims["scope"], "https://mail.google.com/ other");
        let claim = |name: &str| read.claims[name].as_i64().unwrap();
        assert_eq!(claim("exp") - claim("iat"), 3600);
    }

    #[test]
    fn a_file_that_does_not_serve_says_why_and_quotes_nothing() {
        let good = file(&rsa_key(2048));
        let with = |name: &str, value: Value| {
            let mut file = good.clone();
            file[name] = value;
            file.to_string()
        };
        let wrong = "is not a JSON key file of a service account: ";
        for (file, expected) in [
            (String::new(), format!("{wrong}no JSON at line 1 column 0")),
            (
                "-----BEGIN PRIVATE KEY-----".into(),
                format!("{wrong}no JSON at line 1 column 2"),
            ),
            ("[]".into(), format!("{wrong}it has no `type`")),
            (
                with("type", json!("authorized_user")),
                format!("{wrong}its `type` is not `service_account`"),
            ),
            (
                with("client_email", json!("")),
                format!("{wrong}it has no `client_email`"),
            ),
            (
                with("private_key", json!(7)),
                format!("{wrong}it has no `private_key`"),
            ),
            (
                with("token_uri", json!("token")),
                format!("{wrong}its `token_uri` is no address"),
            ),
            (
                with("private_key", json!("hunter2")),
                "contains a private key that cannot be read".into(),
            ),
        ] {
            assert_eq!(read(&file).unwrap_err().to_string(), expected);
        }
    }
}
