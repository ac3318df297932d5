//! The EWS double itself, proved by clients that other people wrote.

use std::process::Command;

use postroom_e2e::{both, root};
use postroom_stand::{MAIL_SCOPE, PASSWORD, Stand, node};

#[test]
fn exchangelib_finds_what_it_expects_of_exchange() {
    let stand = Stand::shared().expect("the test stand");
    let python = root().join("target/clients/ews/bin/python");
    assert!(
        python.exists(),
        "{} is not there: run `make setup` first",
        python.display()
    );
    let (user, shared) = ("lib@clients.example", "shared@clients.example");
    // The right to act for another does not come with every address: the script looks at both.
    stand.ews().let_impersonate_one(user, shared);
    let output = Command::new(python)
        .arg(root().join("tests/stand/clients/ews/exchangelib_client.py"))
        .env("EWS_URL", stand.ews().url())
        .env("EWS_USER", user)
        .env("EWS_PASSWORD", PASSWORD)
        .env("EWS_OTHER", "other@clients.example")
        .env("EWS_SHARED", shared)
        .env("EWS_TOKEN", stand.access_token(MAIL_SCOPE).unwrap())
        .env("REQUESTS_CA_BUNDLE", stand.ca_pem())
        .env_remove("PYTHONPATH")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", both(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("all held"));
}

#[test]
fn ews_javascript_api_finds_what_it_expects_of_exchange() {
    let stand = Stand::shared().expect("the test stand");
    let (user, shared) = ("js@clients.example", "shared.js@clients.example");
    stand.ews().let_impersonate_one(user, shared);
    let output = Command::new(node().unwrap())
        .arg(root().join("tests/stand/clients/npm/ews_client.mjs"))
        .env("EWS_URL", stand.ews().url())
        .env("EWS_USER", user)
        .env("EWS_PASSWORD", PASSWORD)
        .env("EWS_OTHER", "other@clients.example")
        .env("EWS_SHARED", shared)
        .env("NODE_EXTRA_CA_CERTS", stand.ca_pem())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", both(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("the double serves"));
}
