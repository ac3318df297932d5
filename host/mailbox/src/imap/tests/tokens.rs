//! Tokens that a server refuses: replaced once, and not blamed for the server's own failures.

use postroom_auth::vault::{Vault, VaultKey};
use postroom_auth::{
    Account, AccountUse, ClientCredential, Endpoints, Grant, Need, Profile, Provider, Resource,
    Secret, SendSecret, Tokens,
};

use super::*;

/// Issues the tokens tok1, tok2, …
pub struct TokenServer {
    tokens: Arc<Tokens>,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
    /// The vault's folder.
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
            needs: vec![Need::Imap],
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
        Login::Bearer {
            user: "u".into(),
            account: account(),
            resource: Resource::Mail,
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

pub const TOK1: &str = "dXNlcj11AWF1dGg9QmVhcmVyIHRvazEBAQ==";
pub const TOK2: &str = "dXNlcj11AWF1dGg9QmVhcmVyIHRvazIBAQ==";

#[tokio::test]
async fn a_refused_token_is_replaced_once_and_the_challenge_is_kept() {
    let authority = TokenServer::start().await;
    let server = Server::start(|_, command| match command {
        "AUTHENTICATE XOAUTH2" => Act::Say("+ \r\n".into()),
        TOK1 | TOK2 => Act::Say("+ eyJzdGF0dXMiOiI0MDEifQ==\r\n".into()),
        "" => Act::Say("{tag} NO [AUTHENTICATIONFAILED] bad\r\n".into()),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source_as(authority.login());
    let error = source.connect().await.unwrap_err();
    let SourceError::RefusedLogin { challenge, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(challenge.as_deref(), Some(r#"{"status":"401"}"#));
    let once = [
        "AUTHENTICATE XOAUTH2",
        TOK1,
        "",
        "AUTHENTICATE XOAUTH2",
        TOK2,
        "",
    ];
    assert_eq!(*server.commands.lock().await, once);
    // The token is not at fault: the other mailboxes of the profile keep it.
    source.connect().await.unwrap_err();
    assert_eq!(
        server.commands.lock().await[6..],
        ["AUTHENTICATE XOAUTH2", TOK2, ""]
    );
    assert_eq!(authority.requests(), 2);
}

#[tokio::test]
async fn a_new_token_helps_and_a_server_in_trouble_blames_none() {
    let authority = TokenServer::start().await;
    let server = Server::greeting(
        "* OK [CAPABILITY IMAP4REV1 SASL-IR AUTH=XOAUTH2] x\r\n",
        |connection, command| match command.strip_prefix("AUTHENTICATE XOAUTH2 ") {
            Some(_) if connection == 1 => Act::Say("{tag} NO [UNAVAILABLE] try later\r\n".into()),
            Some(TOK1) => Act::Say("+ e30=\r\n".into()),
            Some(_) => Act::Say("{tag} OK\r\n".into()),
            None if command.is_empty() => Act::Say("{tag} NO bad\r\n".into()),
            None => Act::Usual,
        },
    )
    .await;
    let mut source = server.source_as(authority.login());
    assert!(source.connect().await.unwrap_err().is_transient());
    assert_eq!(authority.requests(), 1);
    source.connect().await.unwrap();
    assert_eq!(authority.requests(), 2);
}

#[tokio::test]
async fn without_a_token_no_server_is_dialled() {
    let authority = TokenServer::start().await;
    let server = Server::start(|_, _| Act::Usual).await;
    let Login::Bearer { user, tokens, .. } = authority.login() else {
        panic!("a login by token")
    };
    let mut source = server.source_as(Login::Bearer {
        user,
        account: Account {
            profile: "nobody".into(),
            login: None,
        },
        resource: Resource::Mail,
        tokens,
    });
    for _ in 0..3 {
        let error = source.connect().await.unwrap_err();
        assert!(matches!(error, SourceError::Auth(_)), "{error}");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
    // A probe still reports each step up to the one that fails.
    let mut steps = Vec::new();
    source.probe(&mut |step| steps.push(step.step.name())).await;
    assert_eq!(steps, ["connect", "greeting", "token"]);
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}
