//! Shared parts of the tests: a data folder with its key, profiles of the stand's applications, and the requests its
//! server received.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use postroom_auth::vault::{Record, Vault, VaultKey};
use postroom_auth::{
    Account, AccountUse, AuthError, ClientCredential, Endpoints, Grant, Need, Profile, Provider,
    Resource, RetryPolicy, Secret, SendSecret, Tokens, provider,
};
use postroom_core::backoff::Backoff;
use postroom_stand::{
    AuthorityFailure, CLIENT_ID, CLIENT_SECRET, Endpoint, Only, PASSWORD, PUBLIC_CLIENT_ID, Stand,
    TokenRequest,
};
use tempfile::TempDir;

/// The name of every profile here.
pub const PROFILE: &str = "contoso";
/// Where a code's redirect would go; the stand's visitor reads it instead.
pub const REDIRECT: &str = "http://localhost:1";

/// A service with a data folder and its own directory at the stand.
pub struct Room {
    pub stand: &'static Stand,
    pub tenant: String,
    pub key: VaultKey,
    dir: TempDir,
}

impl Room {
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self {
            stand: stand(),
            tenant: format!("room-{}-{number}.example", std::process::id()),
            key: VaultKey::random().unwrap(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub fn vault(&self) -> Vault {
        Vault::open(self.dir.path(), self.key.clone()).unwrap()
    }

    pub fn record(&self, account: &Account) -> Option<Record> {
        self.vault().read(account).unwrap()
    }

    /// Returns a user that no other test has.
    pub fn user(&self) -> String {
        format!("ana@{}", self.tenant)
    }

    /// Returns the account of that user.
    pub fn account(&self) -> Account {
        Account {
            profile: PROFILE.into(),
            login: Some(self.user()),
        }
    }

    pub fn app_only(&self) -> Profile {
        app_only(&self.tenant, endpoints(self.stand, &self.tenant))
    }

    pub fn delegated(&self) -> Profile {
        delegated(&self.tenant, endpoints(self.stand, &self.tenant))
    }

    /// Returns the tokens of a new process.
    pub fn tokens(&self, profile: Profile) -> Tokens {
        self.tokens_for(profile, &[Need::Imap, Need::Smtp])
    }

    pub fn tokens_for(&self, profile: Profile, needs: &[Need]) -> Tokens {
        let account = if profile.grant.is_app_only() {
            app_account()
        } else {
            self.account()
        };
        let used = AccountUse {
            account,
            needs: needs.to_vec(),
        };
        Tokens::new(
            http(self.stand.ca_pem()),
            vec![profile],
            vec![used],
            self.vault(),
        )
        .with_retries(RetryPolicy {
            rejections: Duration::ZERO,
            ..RetryPolicy::default()
        })
    }

    /// Tokens of the room's user, who signs in on the stand's pages.
    pub async fn signed_in(&self, profile: Profile) -> Tokens {
        let tokens = self.tokens(profile);
        self.sign_in(&tokens).await.unwrap();
        tokens
    }

    pub async fn sign_in(
        &self,
        tokens: &Tokens,
    ) -> Result<postroom_auth::expiry::Status, AuthError> {
        let sign_in = tokens.begin_code(&self.account(), REDIRECT).await?;
        let (stand, url, user) = (self.stand, sign_in.url.clone(), self.user());
        let redirected =
            tokio::task::spawn_blocking(move || stand.sign_in_by_http(&url, &user, PASSWORD))
                .await
                .unwrap()
                .unwrap();
        let code = sign_in.answer(&redirected).unwrap();
        tokens.finish_code(sign_in, code).await
    }

    /// Returns the token requests of this room, oldest first.
    pub fn requests(&self) -> Vec<TokenRequest> {
        let mut requests = self.stand.authority().token_requests().unwrap();
        requests.retain(|request| request.tenant == self.tenant);
        requests
    }

    /// Returns the refresh tokens sent by this room.
    pub fn refreshes(&self) -> Vec<String> {
        self.requests()
            .iter()
            .filter_map(|request| request.form.get("refresh_token").cloned())
            .collect()
    }

    /// Returns the newest refresh token issued to this room.
    pub fn newest_refresh_token(&self) -> String {
        let issued = self.requests().into_iter().rev();
        issued.filter_map(|it| it.refresh_token).next().unwrap()
    }

    /// Lets this room's next token requests fail.
    pub fn fail(&self, count: usize, failure: AuthorityFailure) {
        let only = Only {
            tenant: Some(&self.tenant),
            ..Only::default()
        };
        self.stand
            .authority()
            .fail_only(Endpoint::Token, count, only, failure)
            .unwrap();
    }
}

/// Returns the stand that all tests share. Its servers have their own runtime, inside which no other may be started.
pub fn stand() -> &'static Stand {
    let shared = std::thread::spawn(|| Stand::shared().unwrap());
    shared.join().unwrap()
}

pub fn app_account() -> Account {
    Account {
        profile: PROFILE.into(),
        login: None,
    }
}

pub fn endpoints(stand: &Stand, tenant: &str) -> Endpoints {
    let authority = stand.authority();
    Endpoints::Fixed {
        authorize: Some(authority.authorize_url(tenant)),
        token: authority.token_url(tenant).parse().unwrap(),
        device: Some(authority.device_url(tenant).parse().unwrap()),
    }
}

/// Returns an application that signs in as itself.
pub fn app_only(tenant: &str, endpoints: Endpoints) -> Profile {
    Profile {
        name: PROFILE.into(),
        provider: Provider::Microsoft(&provider::CLOUDS[0]),
        directory: Some(tenant.into()),
        endpoints,
        client_id: CLIENT_ID.into(),
        client: ClientCredential::Secret {
            secret: Secret::new(CLIENT_SECRET),
            previous: None,
            send: SendSecret::Body,
            expires: None,
        },
        grant: Grant::ClientCredentials,
        scopes: None,
        tenants: None,
    }
}

/// Returns an application that a person signs in to by the authorization code.
pub fn delegated(tenant: &str, endpoints: Endpoints) -> Profile {
    Profile {
        client_id: PUBLIC_CLIENT_ID.into(),
        client: ClientCredential::None,
        grant: Grant::AuthorizationCode {
            redirect: None,
            prompt: None,
        },
        ..app_only(tenant, endpoints)
    }
}

/// Returns a client that trusts the certificates of this file.
pub fn http(ca_pem: &Path) -> reqwest::Client {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_pem).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap()
}

/// Returns a policy whose pauses end at once, for tests of what follows them.
pub fn no_pauses() -> RetryPolicy {
    let none = Backoff {
        first: Duration::ZERO,
        longest: Duration::ZERO,
        spread_percent: 0,
    };
    RetryPolicy {
        transient: none,
        nonsense: none,
        admin: none,
        stay_away: none,
        rejections: Duration::ZERO,
    }
}

/// Returns a policy whose pauses outlast any test.
pub fn long_pauses() -> RetryPolicy {
    let long = Backoff {
        first: Duration::from_secs(3600),
        longest: Duration::from_secs(3600),
        spread_percent: 0,
    };
    RetryPolicy {
        transient: long,
        nonsense: long,
        admin: long,
        stay_away: long,
        rejections: Duration::ZERO,
    }
}

/// Counts the crate's log messages about failures. Set it as the thread's subscriber, in a single-threaded test.
#[derive(Clone, Default)]
pub struct Said {
    pub errors: Arc<AtomicUsize>,
    pub warnings: Arc<AtomicUsize>,
}

impl tracing::Subscriber for Said {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("postroom_auth")
    }

    fn event(&self, event: &tracing::Event<'_>) {
        match *event.metadata().level() {
            tracing::Level::ERROR => self.errors.fetch_add(1, Ordering::Relaxed),
            tracing::Level::WARN => self.warnings.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

pub async fn mail_token(tokens: &Tokens) -> Result<postroom_auth::AccessToken, AuthError> {
    let account = tokens.accounts()[0].account.clone();
    tokens.access_token(&account, Resource::Mail).await
}
