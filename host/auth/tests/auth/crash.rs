//! A process that dies at any point of a refresh: the vault is readable and contains the newest token that was
//! received.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use postroom_auth::vault::{KeySource, Vault, VaultKey};
use postroom_auth::{Account, AccountUse, Endpoints, Need, RefreshStep, Tokens};

use crate::kit::*;

const DIR: &str = "AUTH_CRASH_DIR";
const KEY: &str = "AUTH_CRASH_KEY";
const CA: &str = "AUTH_CRASH_CA";
const TOKEN_URL: &str = "AUTH_CRASH_TOKEN_URL";
const TENANT: &str = "AUTH_CRASH_TENANT";
const LOGIN: &str = "AUTH_CRASH_LOGIN";
const DIE_AT: &str = "AUTH_CRASH_DIE_AT";
const ROUNDS: u32 = 6;

/// The victim, which refreshes for ever and prints the tokens it received.
#[test]
#[ignore = "run by the tests below, which kill it"]
fn victim() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let given = |name| std::env::var(name).unwrap();
    let key = KeySource::File(PathBuf::from(given(KEY)));
    let account = Account {
        profile: PROFILE.into(),
        login: Some(given(LOGIN)),
    };
    let endpoints = Endpoints::Fixed {
        authorize: None,
        token: given(TOKEN_URL).parse().unwrap(),
        device: None,
    };
    let tokens = Tokens::new(
        http(Path::new(&given(CA))),
        vec![delegated(&given(TENANT), endpoints)],
        vec![AccountUse {
            account: account.clone(),
            needs: vec![Need::Imap, Need::Smtp],
        }],
        Vault::open(Path::new(&dir), VaultKey::load(&key).unwrap()).unwrap(),
    )
    .with_retries(no_pauses())
    .on_step(|step| {
        if std::env::var(DIE_AT).is_ok_and(|at| at == format!("{step:?}")) {
            std::process::abort();
        }
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        loop {
            let token = mail_token(&tokens).await.unwrap();
            println!("\ngot {}", token.expose());
            tokens.reject(&account, &token).await;
        }
    });
}

/// Returns a room whose key another process can read, and whose user is signed in.
async fn room() -> (Room, tempfile::TempDir) {
    let keys = tempfile::tempdir().unwrap();
    let mut room = Room::new();
    room.key = VaultKey::load(&KeySource::File(keys.path().join("key"))).unwrap();
    room.signed_in(room.delegated()).await;
    (room, keys)
}

fn start(room: &Room, keys: &tempfile::TempDir, die_at: Option<RefreshStep>) -> Child {
    let token_url = room.stand.authority().token_url(&room.tenant);
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::victim", "--ignored", "--nocapture"])
        .env(DIR, room.data_dir())
        .env(KEY, keys.path().join("key"))
        .env(CA, room.stand.ca_pem())
        .env(TOKEN_URL, token_url)
        .env(TENANT, &room.tenant)
        .env(LOGIN, room.user())
        .envs(die_at.map(|step| (DIE_AT, format!("{step:?}"))))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_of_a_refresh_can_be_the_last() {
    for step in [
        RefreshStep::Begun,
        RefreshStep::Received,
        RefreshStep::Stored,
    ] {
        let (room, keys) = room().await;
        let account = room.account();
        let before = room.newest_refresh_token();
        let victim = start(&room, &keys, Some(step)).wait_with_output().unwrap();
        assert!(!victim.status.success());

        let record = room.record(&account).unwrap();
        let kept = record.refresh_token.unwrap();
        let sent = usize::from(step != RefreshStep::Begun);
        assert_eq!(room.refreshes().len(), sent, "{step:?}");
        let is_stored = step == RefreshStep::Stored;
        let expected = if is_stored {
            room.newest_refresh_token()
        } else {
            before
        };
        assert_eq!(kept.expose(), expected, "{step:?}");
        assert_eq!(record.refreshing_since.is_none(), is_stored, "{step:?}");

        // The next process, which cannot use the access token that is still stored.
        let tokens = room.tokens(room.delegated()).with_retries(no_pauses());
        let token = mail_token(&tokens).await.unwrap();
        tokens.reject(&account, &token).await;
        for _ in 0..3 {
            let next = mail_token(&tokens).await;
            if step == RefreshStep::Received {
                let error = next.unwrap_err();
                assert_eq!(error.refusal().unwrap().error, "invalid_grant");
                let failure = room.record(&account).unwrap().failure.unwrap();
                assert!(failure.answer_lost);
            } else {
                next.unwrap();
            }
        }
        assert_eq!(room.refreshes().len(), sent + 1, "{step:?}");
        room.sign_in(&tokens).await.unwrap();
        mail_token(&tokens).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_handed_out_survives_a_kill_at_any_time() {
    let (room, keys) = room().await;
    let account = room.account();
    let mut lost = 0;
    for round in 0..ROUNDS {
        let mut victim = start(&room, &keys, None);
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let mut got = Vec::new();
        for line in lines.map_while(Result::ok) {
            if let Some(token) = line.strip_prefix("got ") {
                got.push(token.to_owned());
                if got.len() == 4 {
                    // Somewhere in the next refresh.
                    std::thread::sleep(Duration::from_millis(3) * round);
                    victim.kill().unwrap();
                }
            }
        }
        assert!(!victim.wait().unwrap().success());
        assert!(got.len() >= 4, "the victim died by itself");

        let record = room.record(&account).unwrap();
        let issued: Vec<String> = room
            .requests()
            .into_iter()
            .filter_map(|request| request.access_token)
            .collect();
        let place = |token: &str| issued.iter().position(|it| it == token).unwrap();
        let handed_out = place(got.last().unwrap());
        assert!(place(record.access[0].token.expose()) >= handed_out);
        if record.refreshing_since.is_none() {
            let kept = record.refresh_token.as_ref().unwrap();
            assert_eq!(kept.expose(), room.newest_refresh_token());
        }

        // The next process continues, or reports at once that somebody has to sign in.
        let tokens = room.tokens(room.delegated());
        let token = mail_token(&tokens).await.unwrap();
        tokens.reject(&account, &token).await;
        if mail_token(&tokens).await.is_err() {
            assert!(record.refreshing_since.is_some());
            let failure = room.record(&account).unwrap().failure.unwrap();
            assert!(failure.answer_lost);
            room.sign_in(&tokens).await.unwrap();
            lost += 1;
        }
    }
    println!("{lost} of {ROUNDS} kills lost an answer");
}
