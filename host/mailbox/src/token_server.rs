//! An authorization server for tests, which issues a new token on each request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use postroom_auth::vault::{Vault, VaultKey};
use postroom_auth::{
    Account, AccountUse, ClientCredential, Endpoints, Grant, Login, Need, Profile, Provider,
    Resource, Secret, SendSecret, Tokens,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Issues the tokens tok1, tok2, …
pub struct TokenServer {
    tokens: Arc<Tokens>,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
    /// The folder of the vault.
    _folder: tempfile::TempDir,
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TokenServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = requests.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
                let _ = stream.read(&mut [0; 8192]).await;
                let body = format!(
                    r#"{{"access_token":"tok{number}","token_type":"Bearer","expires_in":3600}}"#
                );
                let head = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
        });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let profile = Profile {
            name: "contoso".into(),
            provider: Provider::Custom,
            directory: None,
            endpoints: Endpoints::Fixed {
                authorize: None,
                token: url.parse().unwrap(),
                device: None,
            },
            client_id: "app".into(),
            client: ClientCredential::Secret {
                secret: Secret::new("s"),
                previous: None,
                send: SendSecret::Body,
                expires: None,
            },
            grant: Grant::ClientCredentials,
            scopes: Some(vec!["mail".into()]),
            tenants: None,
        };
        let used = AccountUse {
            account: account(),
            needs: vec![Need::Imap, Need::Graph],
        };
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(folder.path(), VaultKey::random().unwrap()).unwrap();
        Self {
            tokens: Arc::new(Tokens::new(http, vec![profile], vec![used], vault)),
            requests,
            task,
            _folder: folder,
        }
    }

    pub fn login(&self) -> Login {
        self.login_for("u", Resource::Mail)
    }

    pub fn login_for(&self, user: &str, resource: Resource) -> Login {
        Login::Bearer {
            user: user.into(),
            account: account(),
            resource,
            tokens: self.tokens.clone(),
        }
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn account() -> Account {
    Account {
        profile: "contoso".into(),
        login: None,
    }
}
