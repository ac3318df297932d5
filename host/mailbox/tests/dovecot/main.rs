//! The IMAP source on real servers: Dovecot, and the authorization server whose tokens it checks.

#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it, too")]

mod probes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use postroom_auth::vault::{Vault, VaultKey};
use postroom_auth::{
    Account, AccountUse, ClientCredential, Endpoints, Grant, Login, Need, Profile, Provider,
    Resource, Secret, SendSecret, Tokens,
};
use postroom_core::{Cursor, Position, RawMessage};
use postroom_mailbox::{
    Acknowledge, After, Batch, FetchLimits, ImapSettings, ImapSource, ImapTimeouts, Import, Source,
    SourceError, imap,
};
use postroom_net::{ProbeStep, Step, TlsMode, Trace, Unreachable};
use postroom_stand::{AuthorityFailure, MAIL_SCOPE, OTHER_SCOPE, Stand};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::runtime::Runtime;

/// One mailbox on the shared stand, with a runtime to use it in, because the stand's own calls block.
struct Desk {
    stand: &'static Stand,
    user: String,
    runtime: Runtime,
    /// The folder of the vaults.
    folder: tempfile::TempDir,
}

impl Desk {
    fn new(user: &str) -> Self {
        Self {
            stand: Stand::shared().unwrap(),
            user: format!("{user}@acme.example"),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn settings(&self) -> ImapSettings {
        ImapSettings {
            name: self.user.clone(),
            host: "localhost".into(),
            port: self.stand.ports().imaps,
            tls: TlsMode::Implicit,
            folders: vec!["INBOX".into()],
            every: Duration::from_secs(120),
            import: Import::All,
            targets: Vec::new(),
            unused: Vec::new(),
            proxies: postroom_net::Proxies::default(),
            timeouts: ImapTimeouts {
                connect: Duration::from_secs(10),
                stall: Duration::from_secs(10),
                ..ImapTimeouts::default()
            },
        }
    }

    fn tls(&self) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(self.stand.ca_pem()).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        trusting(roots)
    }

    fn tokens(&self) -> Tokens {
        self.tokens_for(MAIL_SCOPE)
    }

    fn tokens_for(&self, scope: &str) -> Tokens {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured((*self.tls()).clone())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        let profile = Profile {
            name: "contoso".into(),
            provider: Provider::Custom,
            directory: None,
            endpoints: Endpoints::Fixed {
                authorize: None,
                token: self.stand.token_url(&self.directory()).parse().unwrap(),
                device: None,
            },
            client_id: self.stand.client_id().into(),
            client: ClientCredential::Secret {
                secret: Secret::new(self.stand.client_secret()),
                previous: None,
                send: SendSecret::Body,
                expires: None,
            },
            grant: Grant::ClientCredentials,
            scopes: Some(vec![scope.into()]),
            tenants: None,
        };
        let used = AccountUse {
            account: account(),
            needs: vec![Need::Imap],
        };
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        let vault = Vault::open(&folder, VaultKey::random().unwrap()).unwrap();
        Tokens::new(http, vec![profile], vec![used], vault)
    }

    /// Returns the mailbox's own directory at the authorization server.
    fn directory(&self) -> String {
        self.user.replace('@', ".")
    }

    fn token_requests(&self) -> usize {
        let requests = self.stand.authority().token_requests().unwrap();
        let mine = self.directory();
        requests.iter().filter(|it| it.tenant == mine).count()
    }

    fn bearer(&self) -> Login {
        self.bearer_of(self.tokens())
    }

    fn bearer_of(&self, tokens: Tokens) -> Login {
        Login::Bearer {
            user: self.user.clone(),
            account: account(),
            resource: Resource::Mail,
            tokens: Arc::new(tokens),
        }
    }

    fn password(&self, password: &str) -> Login {
        Login::Password {
            user: self.user.clone(),
            password: Secret::new(password),
        }
    }

    fn source(&self, login: Login) -> ImapSource {
        imap(self.settings(), login, self.tls())
    }

    fn connect(&self, source: &mut ImapSource) -> Result<(), SourceError> {
        self.runtime.block_on(source.connect())
    }

    fn probe(&self, mut source: ImapSource) -> Vec<ProbeStep<SourceError>> {
        let mut steps = Vec::new();
        self.runtime
            .block_on(source.probe(&mut |step| steps.push(step)));
        steps
    }

    /// Returns the step that a probe ends with, which must have failed, and the reason.
    fn failing(&self, source: ImapSource) -> (&'static str, SourceError) {
        let mut steps = self.probe(source);
        let last = steps.pop().unwrap();
        assert!(steps.iter().all(|step| step.outcome.is_ok()), "{steps:#?}");
        (last.step.name(), last.outcome.unwrap_err())
    }

    fn fetch(
        &self,
        source: &mut ImapSource,
        cursor: Option<&Cursor>,
    ) -> Result<Batch, SourceError> {
        self.runtime
            .block_on(source.fetch(cursor, &FetchLimits::default()))
    }

    /// Returns everything after the cursor, and the last cursor.
    fn drain(
        &self,
        source: &mut ImapSource,
        cursor: Option<Cursor>,
    ) -> (Vec<RawMessage>, Option<Cursor>) {
        let (mut mails, mut cursor) = (Vec::new(), cursor);
        loop {
            let batch = self.fetch(source, cursor.as_ref()).unwrap();
            mails.extend(batch.messages);
            cursor = batch.cursor;
            if !batch.more {
                return (mails, cursor);
            }
        }
    }

    fn acknowledge(&self, source: &mut ImapSource, mails: &[RawMessage], after: After) {
        let acks: Vec<Acknowledge> = mails
            .iter()
            .map(|mail| Acknowledge {
                position: mail.position.clone(),
                after: after.clone(),
            })
            .collect();
        // Twice, since an acknowledgement may be repeated after a crash.
        for _ in 0..2 {
            self.runtime.block_on(source.acknowledge(&acks)).unwrap();
        }
    }

    fn append(&self, mails: &[Vec<u8>]) {
        self.stand.append(&self.user, "INBOX", "", mails).unwrap();
    }

    fn count(&self, folder: &str) -> usize {
        self.stand.message_count(&self.user, folder).unwrap()
    }
}

fn account() -> Account {
    Account {
        profile: "contoso".into(),
        login: None,
    }
}

fn trusting(roots: rustls::RootCertStore) -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Arc::new(
        rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}

/// Returns mails of growing sizes; every seventh has a few hundred kilobytes.
fn mails(count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|n| {
            let lines = if n % 7 == 0 { 4000 } else { n % 50 };
            let body = "A line of text, as long as lines of text usually are in mails.\r\n";
            format!("Subject: mail {n}\r\n\r\n{}", body.repeat(lines)).into_bytes()
        })
        .collect()
}

#[test]
fn a_mailbox_is_read_and_put_away_with_tokens() {
    let desk = Desk::new("whole.life");
    let sent = mails(300);
    desk.append(&sent);
    let mut source = desk.source(desk.bearer());
    let (got, cursor) = desk.drain(&mut source, None);
    let got_bytes: Vec<&[u8]> = got.iter().map(|mail| &mail.bytes[..]).collect();
    assert!(got_bytes == sent, "{} of {} mails", got.len(), sent.len());
    assert!(got.iter().all(RawMessage::is_whole));
    // Reading marks nothing as read.
    let stored = desk.stand.folder(&desk.user, "INBOX").unwrap();
    assert!(stored.iter().all(|mail| mail.flags.is_empty()));

    let folder = || After::Move("Erledigt & gepr\u{fc}ft".into());
    desk.acknowledge(&mut source, &got[..100], After::Seen);
    desk.acknowledge(&mut source, &got[100..200], folder());
    desk.acknowledge(&mut source, &got[200..], After::Delete);
    let stored = desk.stand.folder(&desk.user, "INBOX").unwrap();
    assert_eq!(stored.len(), 100);
    assert!(stored.iter().all(|mail| mail.flags == ["\\Seen"]));
    assert_eq!(desk.count("Erledigt &- gepr&APw-ft"), 100);
    assert_eq!(desk.token_requests(), 1);

    // A new mail ends the wait at once, and no old mail is returned again.
    let waited = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            desk.stand
                .deliver(&desk.user, b"Subject: new\r\n\r\n")
                .unwrap();
        });
        let started = Instant::now();
        desk.runtime
            .block_on(source.wait(Duration::from_secs(30)))
            .unwrap();
        started.elapsed()
    });
    // The stand's Dovecot checks every 5 s if the machine's inotify instances are used up.
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    let (new, cursor) = desk.drain(&mut source, cursor);
    assert_eq!(new.len(), 1);
    // Acknowledged in the middle of an abandoned wait.
    desk.runtime.block_on(async {
        let wait = source.wait(Duration::from_secs(30));
        assert!(
            tokio::time::timeout(Duration::from_millis(200), wait)
                .await
                .is_err()
        );
    });
    desk.acknowledge(&mut source, &new, folder());
    assert_eq!(desk.count("INBOX"), 100);
    desk.runtime.block_on(source.close());

    // Another process continues from the cursor.
    let mut source = desk.source(desk.bearer());
    assert!(desk.drain(&mut source, cursor).0.is_empty());
}

#[test]
fn a_backlog_is_fetched_quickly() {
    let desk = Desk::new("backlog");
    let sent: Vec<Vec<u8>> = (0..3000)
        .map(|n| {
            format!("Subject: mail {n}\r\n\r\n{}", "x".repeat(70) + "\r\n")
                .repeat(1 + n % 200)
                .into_bytes()
        })
        .collect();
    desk.append(&sent);
    let mut source = desk.source(desk.bearer());
    desk.connect(&mut source).unwrap();
    let started = Instant::now();
    let (got, _) = desk.drain(&mut source, None);
    let took = started.elapsed();
    let bytes: usize = sent.iter().map(Vec::len).sum();
    println!("{} mails, {} MB in {took:?}", got.len(), bytes / 1_000_000);
    assert!(
        got.iter()
            .map(|mail| &mail.bytes[..])
            .eq(sent.iter().map(Vec::as_slice))
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn starttls_with_a_password_and_only_new_mail() {
    let desk = Desk::new("starttls");
    desk.append(&mails(3));
    let settings = ImapSettings {
        port: desk.stand.ports().imap,
        tls: TlsMode::StartTls,
        import: Import::New,
        ..desk.settings()
    };
    let mut source = imap(settings, desk.password(desk.stand.password()), desk.tls());
    let (none, cursor) = desk.drain(&mut source, None);
    assert!(none.is_empty() && cursor.is_some());
    desk.append(&mails(2));
    assert_eq!(desk.drain(&mut source, cursor).0.len(), 2);
}

#[test]
fn refusals_are_told_apart() {
    let desk = Desk::new("refused");
    let wrong = desk.connect(&mut desk.source(desk.password("wrong")));
    assert!(matches!(
        wrong,
        Err(SourceError::RefusedLogin {
            challenge: None,
            ..
        })
    ));

    let nobody = trusting(rustls::RootCertStore::empty());
    let untrusted = desk.connect(&mut imap(desk.settings(), desk.bearer(), nobody));
    assert!(
        matches!(untrusted, Err(SourceError::Tls { .. })),
        "{untrusted:?}"
    );

    let settings = ImapSettings {
        folders: vec!["No such folder".into()],
        ..desk.settings()
    };
    let missing = desk.connect(&mut imap(settings, desk.bearer(), desk.tls()));
    assert!(
        matches!(missing, Err(SourceError::Folder { missing: true, .. })),
        "{missing:?}"
    );

    let settings = ImapSettings {
        port: 1,
        ..desk.settings()
    };
    let nobody_there = desk.connect(&mut imap(settings, desk.bearer(), desk.tls()));
    assert!(nobody_there.unwrap_err().is_transient());

    // A position in a folder that is gone counts as acknowledged; a text that is not a position is an error.
    let mut source = desk.source(desk.bearer());
    let gone = Acknowledge {
        position: Position::OnServer(r#"{"folder":"Gone","uid_validity":1,"uid":1}"#.into()),
        after: After::Seen,
    };
    desk.runtime.block_on(source.acknowledge(&[gone])).unwrap();
}

/// On a separate stand, because it stops its servers.
#[test]
fn tokens_and_servers_come_and_go() {
    let stand: &'static Stand = Box::leak(Box::new(Stand::start().unwrap()));
    let mut desk = Desk::new("outage");
    desk.stand = stand;
    desk.append(&mails(5));
    // The provider fails.
    let authority = stand.authority();
    authority
        .fail_next(
            1,
            AuthorityFailure::microsoft(401, "invalid_client", 7000215),
        )
        .unwrap();
    let refused = desk.connect(&mut desk.source(desk.bearer())).unwrap_err();
    assert!(
        !refused.is_transient() && refused.step() == Step::Token,
        "{refused}"
    );
    assert!(refused.to_string().contains("AADSTS7000215"));
    authority
        .fail_next(
            1,
            AuthorityFailure::microsoft(401, "invalid_client", 7000215),
        )
        .unwrap();
    let (step, _) = desk.failing(desk.source(desk.bearer()));
    assert_eq!(step, "token");
    let login = desk.bearer();
    let mut source = desk.source(login.clone());
    let (first, cursor) = desk.drain(&mut source, None);
    assert_eq!(first.len(), 5);
    let requests = desk.token_requests();

    // Dovecot cannot check the token: the token is not at fault, and stays.
    authority
        .fail_introspection(1, AuthorityFailure::microsoft(500, "server_error", 0))
        .unwrap();
    let unavailable = desk.connect(&mut desk.source(login.clone())).unwrap_err();
    assert!(unavailable.is_transient(), "{unavailable}");
    assert_eq!(desk.token_requests(), requests);
    authority
        .fail_introspection(1, AuthorityFailure::microsoft(500, "server_error", 0))
        .unwrap();
    let (step, unavailable) = desk.failing(desk.source(login.clone()));
    assert!(
        step == "authenticate" && unavailable.is_transient(),
        "{unavailable}"
    );
    assert_eq!(desk.token_requests(), requests);

    // Revoked tokens: a new one is fetched and the mailbox opens.
    authority.revoke_tokens().unwrap();
    desk.connect(&mut desk.source(login.clone())).unwrap();
    assert_eq!(desk.token_requests(), requests + 1);

    // The server stops in the middle of a wait and starts again.
    let waited = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            stand.stop_dovecot().unwrap();
        });
        desk.runtime.block_on(source.wait(Duration::from_secs(30)))
    });
    assert!(waited.unwrap_err().is_transient());
    assert!(
        desk.fetch(&mut source, cursor.as_ref())
            .unwrap_err()
            .is_transient()
    );
    stand.start_dovecot().unwrap();
    desk.append(&mails(2));
    assert_eq!(desk.drain(&mut source, cursor).0.len(), 2);
}

const LONG_AGO: &str = "01-Nov-2020 10:00:00 +0000";

impl Desk {
    /// Returns a source of another folder than INBOX, which a case may delete.
    fn source_of(&self, folder: &str, import: Import) -> ImapSource {
        let settings = ImapSettings {
            folders: vec![folder.into()],
            import,
            ..self.settings()
        };
        imap(settings, self.password(self.stand.password()), self.tls())
    }
}

#[test]
fn a_folder_made_anew_neither_floods_nor_loses_mail() {
    let desk = Desk::new("renumbered");
    let old = mails(60);
    let append_old = || {
        desk.stand
            .append_dated(&desk.user, "Tickets", LONG_AGO, &old)
            .unwrap();
    };
    append_old();
    let mut source = desk.source_of("Tickets", Import::New);
    let (none, cursor) = desk.drain(&mut source, None);
    assert!(none.is_empty());
    let first = b"Subject: first\r\n\r\n".to_vec();
    desk.stand
        .append(&desk.user, "Tickets", "", [&first])
        .unwrap();
    let (got, cursor) = desk.drain(&mut source, cursor);
    assert_eq!(got.len(), 1);

    // The session stays open throughout.
    desk.stand.delete_folder(&desk.user, "Tickets").unwrap();
    append_old();
    desk.stand
        .append(&desk.user, "Tickets", "", [b"Subject: second\r\n\r\n"])
        .unwrap();
    let acks: Vec<Acknowledge> = got
        .iter()
        .map(|mail| Acknowledge {
            position: mail.position.clone(),
            after: After::Delete,
        })
        .collect();
    // Dovecot ends the session that had the folder open; the next one finds other numbers.
    let acknowledged = desk.runtime.block_on(source.acknowledge(&acks));
    if acknowledged.is_err() {
        desk.runtime.block_on(source.acknowledge(&acks)).unwrap();
    }
    assert_eq!(desk.count("Tickets"), 61);
    let (got, cursor) = desk.drain(&mut source, cursor);
    assert_eq!(got.len(), 1, "{got:?}");
    assert!(got[0].bytes.starts_with(b"Subject: second") && !got[0].old);
    assert!(desk.drain(&mut source, cursor).0.is_empty());
}

#[test]
fn without_move_mail_is_copied_once_and_old_mail_is_told() {
    let desk = Desk::new("copied");
    let stored: Vec<Vec<u8>> = (0..120)
        .map(|n| format!("Message-ID: <{n}@x>\r\nSubject: mail {n}\r\n\r\n").into_bytes())
        .collect();
    desk.stand
        .append_dated(&desk.user, "INBOX", LONG_AGO, &stored)
        .unwrap();
    let settings = ImapSettings {
        unused: vec!["MOVE".into()],
        ..desk.settings()
    };
    let login = desk.password(desk.stand.password());
    let mut source = imap(settings, login, desk.tls());
    let (got, _) = desk.drain(&mut source, None);
    assert!(got.len() == 120 && got.iter().all(|mail| mail.old));
    // Copies left behind by a killed process.
    desk.stand
        .append(&desk.user, "Done", "", &stored[..30])
        .unwrap();
    desk.acknowledge(&mut source, &got, After::Move("Done".into()));
    assert_eq!((desk.count("INBOX"), desk.count("Done")), (0, 120));
}
