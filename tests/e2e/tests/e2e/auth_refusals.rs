//! Refusals and invalid responses at a token request: each leads to a clear error with help, loses nothing, and is over
//! once it is fixed.

use postroom_e2e::grants::{Case, UNKNOWN_SECRET, Walk};
use postroom_e2e::{Room, both, mail};
use postroom_stand::{
    AuthorityFailure, Behaviour, CLIENT_ID, CLIENT_SECRET, Endpoint, Only, PUBLIC_CLIENT_ID, Stand,
};

fn shared() -> &'static Stand {
    Stand::shared().expect("the test stand")
}

/// Runs `run --once`, which must fail and report each of these.
fn refused(room: &Room, words: &[&str]) {
    let output = room.postroom(&["run", "--once"]);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    let said = String::from_utf8_lossy(&output.stderr);
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    assert!(said.len() < 20_000, "{} bytes of log", said.len());
}

#[test]
fn what_is_no_answer_is_told_and_passes() {
    let case = Case::named("app-secret");
    let walk = Walk::new(&case, shared());
    let directory = walk.room.directory();
    let only = Only {
        tenant: Some(&directory),
        ..Only::default()
    };
    let large = AuthorityFailure::Large { bytes: 5 << 20 };
    for (failure, words) in [
        (AuthorityFailure::html(), "an HTML page instead of JSON"),
        (AuthorityFailure::empty(), "nothing in it"),
        (large, "more than"),
        (AuthorityFailure::status(200, "{\"access_token\":"), "JSON"),
    ] {
        let authority = walk.room.stand.authority();
        let ordered = authority.fail_only(Endpoint::Token, 1, only, failure);
        ordered.expect("ordering a failure");
        refused(&walk.room, &[words, "token endpoint"]);
    }
    walk.carry("cured");
}

#[test]
fn each_trouble_of_a_password_names_its_way_out() {
    let case = Case::named("password");
    let walk = Walk::new(&case, shared());
    let authority = walk.room.stand.authority();
    let (user, ways) = (&walk.room.user, ["client-credentials", "device-code"]);
    for (behaviour, code, words) in [
        (Behaviour::Mfa, "50076", &ways[..]),
        (Behaviour::Locked, "50053", &["locked"]),
        (Behaviour::Expired, "50055", &["expired"]),
        (Behaviour::Disabled, "50057", &["disabled"]),
        (Behaviour::Unknown, "50034", &["no user"]),
        (Behaviour::NoConsent, "65001", &["consent"]),
    ] {
        authority.set_behaviour(user, behaviour).unwrap();
        refused(&walk.room, &[&[code], words].concat());
    }
    authority.set_behaviour(user, Behaviour::Ok).unwrap();
    authority.set_password(user, "another-password").unwrap();
    refused(&walk.room, &["50126", "password"]);
    authority
        .set_password(user, walk.room.stand.password())
        .unwrap();
    walk.carry("cured");
}

#[test]
fn a_secret_that_is_expired_or_only_its_id_is_told_apart() {
    let stand = shared();
    let mut room = Room::bare(stand);
    let profile = |secret: &str| {
        format!(
            "provider = \"microsoft\"\ntenant = \"{0}\"\ntoken_url = \"{1}\"\nclient_id = \"{CLIENT_ID}\"\nclient_secret = {{ env = \"{secret}\" }}\ngrant = \"client-credentials\"",
            room.directory(),
            stand.token_url(&room.directory()),
        )
    };
    let configs = ["SECRET_ID", "EXPIRED_SECRET", "GOOD_SECRET"]
        .map(|secret| room.config_with(&profile(secret), &["standard"], ""));
    let [with_id, with_expired, with_good] = configs;
    room.set_env("SECRET_ID", "4f1f8d7e-52a4-4c1b-9a55-0c4f1f6b2a10");
    room.set_env("EXPIRED_SECRET", UNKNOWN_SECRET);
    room.set_env("GOOD_SECRET", CLIENT_SECRET);
    stand
        .authority()
        .expire_secrets(CLIENT_ID, &[UNKNOWN_SECRET])
        .unwrap();

    room.write("postroom.toml", with_id);
    refused(&room, &["7000215", "secret's ID"]);
    room.write("postroom.toml", with_expired);
    refused(&room, &["7000222", "expired"]);
    room.write("postroom.toml", with_good);
    room.once();
}

#[test]
fn a_wrong_directory_a_wrong_application_and_a_foreign_certificate_are_told_apart() {
    let stand = shared();
    let room = Room::bare(stand);
    let foreign = stand
        .authority()
        .new_certificate(30)
        .expect("a certificate");
    room.write("certificate.pem", foreign);
    let secret = "client_secret = { env = \"POSTROOM_TEST_CLIENT_SECRET\" }";
    let certificate = "certificate = { file = \"certificate.pem\" }";
    for (directory, client, credential, code) in [
        (postroom_stand::UNKNOWN_TENANT, CLIENT_ID, secret, "90002"),
        (
            "contoso",
            "00000000-0000-4000-8000-00000000dead",
            secret,
            "700016",
        ),
        ("contoso", PUBLIC_CLIENT_ID, secret, "700025"),
        (
            "contoso",
            postroom_stand::CERTIFICATE_CLIENT_ID,
            certificate,
            "700027",
        ),
    ] {
        let token_url = stand.token_url(directory);
        let profile = format!(
            "provider = \"microsoft\"\ntenant = \"contoso.example\"\ntoken_url = \"{token_url}\"\nclient_id = \"{client}\"\n{credential}\ngrant = \"client-credentials\""
        );
        room.write(
            "postroom.toml",
            room.config_with(&profile, &["standard"], ""),
        );
        refused(&room, &[code, "profile acme", "advice="]);
    }
}

#[test]
fn a_profile_limited_to_tenants_serves_no_other() {
    let room = Room::bare(shared());
    let config = room.config(&["standard"], "\n[tenants.other]\n");
    let limited = "grant = \"client-credentials\"\ntenants = [\"other\"]";
    room.write(
        "postroom.toml",
        config.replace("grant = \"client-credentials\"", limited),
    );
    refused(&room, &["postroom.toml", "acme", "tenants"]);
}

/// One application of the MSP, which two clients consented to: each mailbox gets its token from its own client's directory.
#[test]
fn one_profile_signs_in_to_the_directory_of_each_client() {
    let stand = shared();
    let room = Room::bare(stand);
    let profile = format!(
        "provider = \"microsoft\"\ntenant = \"by-client\"\ntoken_url = \"{}\"\nclient_id = \"{CLIENT_ID}\"\nclient_secret = {{ env = \"POSTROOM_TEST_CLIENT_SECRET\" }}\ngrant = \"client-credentials\"",
        stand.token_url("{tenant}"),
    );
    let (first, second) = (room.directory(), format!("second-{}", room.directory()));
    let other = format!("other-{}", room.user);
    let more = format!(
        "[tenants.bolt]\ndirectory = \"{second}\"\n[mailboxes.bolt]\ntenant = \"bolt\"\nprotocol = \"imap\"\nhost = \"localhost\"\nport = {}\ntls = \"implicit\"\naddress = \"{other}\"\nprofile = \"acme\"\nimport = \"all\"\n",
        stand.ports().imaps
    );
    let config = room.config_with(&profile, &["standard"], &more).replace(
        "domains = [\"acme.example\"]",
        &format!("domains = [\"acme.example\"]\ndirectory = \"{first}\""),
    );
    room.write("postroom.toml", config);
    room.deliver(mail("for acme", "first"));
    let second_mail = mail("for bolt", "second");
    stand.deliver(&other, second_mail.as_bytes()).unwrap();
    room.once();
    assert_eq!(room.decision("for acme")["tenant"], "acme");
    assert_eq!(room.decision("for bolt")["tenant"], "bolt");

    let requests = stand.authority().token_requests().unwrap();
    for directory in [&first, &second] {
        let asked = requests.iter().filter(|it| it.tenant == *directory);
        assert_eq!(asked.count(), 1, "{directory}");
    }
    assert!(requests.iter().all(|it| !it.tenant.contains("tenant")));
    let rows = room.rows(&["auth", "status"]);
    let mut profiles: Vec<&str> = rows
        .iter()
        .filter_map(|it| it["profile"].as_str())
        .collect();
    profiles.sort_unstable();
    let mut expected = [format!("acme/{first}"), format!("acme/{second}")];
    expected.sort();
    assert_eq!(profiles, expected);
    assert!(rows.iter().all(|it| it["state"] == "ok"), "{rows:#?}");
}
