//! Sign-in by a person: wrong results, used codes, declined consents, and a vault that can no longer be read.

use base64::Engine;
use postroom_e2e::both;
use postroom_e2e::grants::{Case, Walk, follow, parameter};
use postroom_stand::{AuthorityFailure, Endpoint, Only, PASSWORD, Stand};

fn shared() -> &'static Stand {
    Stand::shared().expect("the test stand")
}

#[test]
fn a_wrong_answer_is_told_and_asked_for_again() {
    let case = Case::named("code-pasted-url");
    let walk = Walk::new(&case, shared());
    let mut session = walk.room.talk(&["auth", "login", "acme"]);
    let address = session.address();
    let redirect = shared()
        .sign_in_by_http(&address, &walk.room.user, PASSWORD)
        .expect("the sign-in pages");
    let state = parameter(&redirect, "state");
    session.type_line(&redirect.replace(&state, "made-up"));
    session.await_stderr("the state does not match this sign-in");
    session.type_line("what was I to paste?");
    session.await_stderr("it contains no code");
    session.type_line(&redirect);
    let output = session.end();
    assert!(output.status.success(), "{}", both(&output));
    walk.carry("signed in");
}

#[test]
fn a_wrong_state_on_the_listener_ends_nothing() {
    let case = Case::named("code-fixed-redirect");
    let walk = Walk::new(&case, shared());
    let session = walk.room.talk(&["auth", "login", "acme"]);
    let redirect = shared()
        .sign_in_by_http(&session.address(), &walk.room.user, PASSWORD)
        .expect("the sign-in pages");
    let state = parameter(&redirect, "state");
    let page = follow(&redirect.replace(&state, "made-up"));
    assert!(page.contains("another sign-in"), "{page}");
    assert!(follow(&redirect).contains("You are signed in"));
    assert!(session.end().status.success());
}

#[test]
fn a_code_that_was_used_is_told() {
    let case = Case::named("code-pasted-code");
    let walk = Walk::new(&case, shared());
    let mut session = walk.room.talk(&["auth", "login", "acme"]);
    let redirect = shared()
        .sign_in_by_http(&session.address(), &walk.room.user, PASSWORD)
        .expect("the sign-in pages");
    let code = parameter(&redirect, "code");
    session.type_line(&code);
    assert!(session.end().status.success());

    // In another sign-in it does not even match (PKCE); Microsoft may report that it was used before.
    let used = AuthorityFailure::microsoft(400, "invalid_grant", 54005);
    for (failure, words) in [(None, "501481"), (Some(used), "54005")] {
        let mut session = walk.room.talk(&["auth", "login", "acme"]);
        session.address();
        if let Some(failure) = failure {
            let directory = walk.room.directory();
            let only = Only {
                tenant: Some(&directory),
                ..Only::default()
            };
            let authority = shared().authority();
            let ordered = authority.fail_only(Endpoint::Token, 1, only, failure);
            ordered.expect("ordering a failure");
        }
        session.type_line(&code);
        let output = session.end();
        assert_eq!(output.status.code(), Some(1), "{}", both(&output));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains(words) && said.contains("postroom auth login acme"),
            "{said}"
        );
    }
    // The earlier sign-in remains valid.
    walk.carry("signed in");
}

#[test]
fn a_declined_consent_ends_the_sign_in_with_advice() {
    let case = Case::named("code-public");
    let walk = Walk::new(&case, shared());
    let session = walk.room.talk(&["auth", "login", "acme"]);
    let redirect = shared()
        .decline_by_http(&session.address(), &walk.room.user, PASSWORD)
        .expect("the sign-in pages");
    assert!(follow(&redirect).contains("refused"));
    let output = session.end();
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("65004") && said.contains("consent"), "{said}");

    let case = Case::named("device-public");
    let walk = Walk::new(&case, shared());
    let session = walk.room.talk(&["auth", "login", "acme"]);
    shared()
        .decline_device(&session.user_code(), &walk.room.user, PASSWORD)
        .expect("the device page");
    let output = session.end();
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("declined"), "{said}");
}

#[test]
fn somebody_else_in_the_browser_is_pointed_out() {
    let case = Case::named("code-public");
    let walk = Walk::new(&case, shared());
    let session = walk.room.talk(&["auth", "login", "support"]);
    let other = format!("else.{}", walk.room.user);
    let redirect = shared()
        .sign_in_by_http(&session.address(), &other, PASSWORD)
        .expect("the sign-in pages");
    follow(&redirect);
    let output = session.end();
    assert!(output.status.success(), "{}", both(&output));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("warning") && said.contains(&other) && said.contains(&walk.room.user),
        "{said}"
    );
}

#[test]
fn a_vault_under_another_key_is_told_and_signing_in_mends_it() {
    let case = Case::named("code-public");
    let walk = Walk::new(&case, shared());
    walk.sign_in();
    walk.carry("first");
    let key = walk.room.path().join("config/postroom/vault.key");
    std::fs::remove_file(&key).expect("the vault's key");
    // Usually an unmounted volume: nothing is created in its place.
    let refused = walk.room.postroom(&["auth", "status"]);
    assert!(!refused.status.success(), "{}", both(&refused));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("Restore the key"), "{said}");
    assert!(!key.exists());

    let another = base64::prelude::BASE64_STANDARD.encode([7; 32]);
    walk.room.write("config/postroom/vault.key", another);
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key, private).expect("a private key");
    let status = walk.room.postroom(&["auth", "status", "--json"]);
    assert_eq!(status.status.code(), Some(1), "{}", both(&status));
    let row: serde_json::Value = serde_json::from_slice(&status.stdout).expect("a JSON line");
    assert_eq!(row["state"], "failed", "{row:#}");
    let advice = row["advice"].as_str().unwrap();
    assert!(
        advice.contains("another key") && advice.contains("auth login acme"),
        "{advice}"
    );
    let run = walk.room.postroom(&["run", "--once"]);
    assert_eq!(run.status.code(), Some(1), "{}", both(&run));
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(
        said.contains("key") && said.contains("auth login acme"),
        "{said}"
    );

    walk.sign_in();
    walk.carry("second");
    let vault = std::fs::read_dir(walk.room.path().join("data/vault")).expect("the vault");
    let aside = vault.filter(|entry| {
        let name = entry.as_ref().expect("an entry").file_name();
        name.to_string_lossy().contains("set-aside")
    });
    assert_eq!(aside.count(), 1);
}

#[test]
fn signing_out_forgets_the_tokens() {
    let case = Case::named("code-public");
    let walk = Walk::new(&case, shared());
    walk.sign_in();
    walk.room.ok(&["auth", "logout", "acme"]);
    assert_eq!(walk.status()["state"], "signed-out");
    let run = walk.room.postroom(&["run", "--once"]);
    assert_eq!(run.status.code(), Some(1));
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(said.contains("postroom auth login acme"), "{said}");
    assert_eq!(walk.requests().len(), 1);
}
