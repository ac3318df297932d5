//! The status of accounts in every state, and how far ahead notices are given.

use std::path::PathBuf;

use rustls_pki_types::CertificateDer;

use super::*;
use crate::advice::tests::{certificate, profile};
use crate::vault::Access;
use crate::{AccessToken, Secret, SendSecret};

/// Returns noon, so that a day is not rounded up or down by accident.
fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn days(count: i64) -> Timestamp {
    now() + Span::new().hours(24 * count)
}

fn account() -> Account {
    Account {
        profile: "contoso".into(),
        login: Some("support@acme.example".into()),
    }
}

fn record() -> Record {
    Record {
        access: vec![Access {
            scopes: Vec::new(),
            token: AccessToken::new("access"),
            expires: now() + Span::new().minutes(50),
        }],
        refresh_token: Some(Secret::new("refresh")),
        last_refresh: Some(now()),
        identity: Some("support@acme.example".into()),
        ..Record::new(account(), "device-code")
    }
}

fn with_secret_until(mut profile: Profile, day: &str) -> Profile {
    profile.client = ClientCredential::Secret {
        secret: Secret::new("secret"),
        previous: None,
        send: SendSecret::Body,
        expires: Some(day.parse().unwrap()),
    };
    profile
}

fn judged(profile: &Profile, record: Option<&Record>) -> (State, String) {
    let record = record.map(|record| Record {
        registration: Some(profile.registration()),
        ..record.clone()
    });
    let status = status(profile, &account(), Vec::new(), Ok(record.as_ref()), now());
    (status.state, status.advice)
}

#[track_caller]
fn says(judged: (State, String), state: State, part: &str) {
    assert_eq!(judged.0, state, "{}", judged.1);
    let fits = if part.is_empty() {
        judged.1.is_empty()
    } else {
        judged.1.contains(part)
    };
    assert!(fits, "{}", judged.1);
}

const SIGN_IN: &str = "postroom auth login contoso --as support@acme.example";

#[test]
fn a_person_has_to_sign_in_and_a_machine_has_not() {
    says(
        judged(&profile("global", "device-code"), None),
        State::SignedOut,
        SIGN_IN,
    );
    for grant in ["client-credentials", "password", "service-account"] {
        let command = "postroom auth login contoso";
        says(
            judged(&profile("global", grant), None),
            State::Untried,
            command,
        );
    }
    // An access token alone is a sign-in until it expires.
    let mut record = Record {
        refresh_token: None,
        ..record()
    };
    let profile = profile("global", "device-code");
    says(
        judged(&profile, Some(&record)),
        State::Expiring,
        "offline_access",
    );
    record.access[0].expires = days(-1);
    says(judged(&profile, Some(&record)), State::SignedOut, SIGN_IN);
}

#[test]
fn a_failure_is_told_with_its_code_and_its_cure() {
    let mut record = record();
    record.failure = Some(Failure {
        cause: Cause::Refused(ServerRefusal {
            error: "invalid_grant".into(),
            codes: vec![700082],
            description: Some("long words of the server".into()),
            correlation_id: Some("aaaa0000".into()),
        }),
        at: days(-1),
        answer_lost: false,
    });
    let found = judged(&profile("global", "device-code"), Some(&record));
    assert_eq!(found.0, State::Failed);
    for part in [
        "expired",
        SIGN_IN,
        "(invalid_grant AADSTS700082, correlation id aaaa0000, since 2026-11-22T12:00:00Z)",
    ] {
        assert!(found.1.contains(part), "{}", found.1);
    }
    // Without a person, nobody can sign in.
    let found = judged(&profile("global", "password"), Some(&record));
    assert!(!found.1.contains("auth login"), "{}", found.1);

    record.failure.as_mut().unwrap().answer_lost = true;
    says(
        judged(&profile("global", "device-code"), Some(&record)),
        State::Failed,
        "The response to a refresh was lost",
    );
}

#[test]
fn trouble_that_lasts_is_a_failure() {
    let hour = 60;
    for (grant, minutes, state) in [
        ("device-code", 5, State::Ok),
        ("client-credentials", hour - 1, State::Ok),
        ("client-credentials", hour + 1, State::Failed),
    ] {
        let mut record = Record {
            grant: grant.into(),
            ..record()
        };
        record.failure = Some(Failure {
            cause: Cause::Transient("HTTP 503 Service Unavailable".into()),
            at: now() - Span::new().minutes(minutes),
            answer_lost: false,
        });
        says(
            judged(&profile("global", grant), Some(&record)),
            state,
            "(HTTP 503 Service Unavailable, since 2026-11-23T1",
        );
    }
    // Nothing failed, but nobody renewed the token.
    let mut record = Record {
        refresh_token: None,
        ..record()
    };
    record.access[0].expires = days(-2);
    says(
        judged(&profile("global", "client-credentials"), Some(&record)),
        State::Ok,
        "No token since 2026-11-21T12:00:00Z",
    );
}

#[test]
fn a_record_that_cannot_be_read_is_a_failure() {
    let error = VaultError::Damaged {
        path: PathBuf::from("data/vault/7f.sealed"),
        reason: "it ends too early".into(),
    };
    for (grant, part) in [
        ("device-code", SIGN_IN),
        ("client-credentials", "requested automatically"),
    ] {
        let profile = profile("global", grant);
        let status = status(&profile, &account(), Vec::new(), Err(&error), now());
        assert_eq!(status.state, State::Failed);
        assert!(status.advice.contains(part), "{}", status.advice);
        assert!(
            status.advice.contains("7f.sealed is damaged"),
            "{}",
            status.advice
        );
    }
}

#[test]
fn a_secret_is_told_of_within_sixty_days_and_fails_after_its_day() {
    let mut old = record();
    old.last_refresh = Some(days(-60));
    old.refresh_token = None;
    for (day, state, part) in [
        (
            "2027-01-23",
            State::Ok,
            "Next: the client secret ends on 2027-01-23.",
        ),
        (
            "2027-01-22",
            State::Expiring,
            "The client secret ends on 2027-01-22 (in 60 days)",
        ),
        ("2026-11-24", State::Expiring, "(tomorrow)"),
        ("2026-11-23", State::Expiring, "(today)"),
        (
            "2026-11-22",
            State::Failed,
            "The client secret ended on 2026-11-22",
        ),
    ] {
        let profile = with_secret_until(profile("global", "client-credentials"), day);
        says(judged(&profile, Some(&old)), state, part);
        let untried = match state {
            State::Ok => State::Untried,
            state => state,
        };
        says(judged(&profile, None), untried, part);
    }
    // A token received after that day shows that somebody changed the secret but not the date.
    let profile = with_secret_until(profile("global", "client-credentials"), "2026-11-01");
    says(
        judged(&profile, Some(&record())),
        State::Expiring,
        "write the date of the new one",
    );
}

#[test]
fn a_certificate_has_its_end_from_itself() {
    let mut profile = profile("global", "client-credentials");
    profile.client = certificate();
    let status = status(&profile, &account(), Vec::new(), Ok(None), now());
    assert_eq!(status.state, State::Untried);
    assert!(status.secret_expires.unwrap() > days(10_000));
    assert!(
        status.advice.contains("Next: the certificate ends on"),
        "{}",
        status.advice
    );
}

#[test]
fn a_sign_in_that_nobody_uses_comes_to_its_end() {
    let profile = profile("global", "device-code");
    let mut record = record();
    for (unused_days, state, part) in [
        (0, State::Ok, ""),
        (29, State::Ok, ""),
        (31, State::Expiring, "(in 59 days): let the service run"),
        (89, State::Expiring, "(tomorrow)"),
        (90, State::Failed, SIGN_IN),
    ] {
        record.last_refresh = Some(days(-unused_days));
        says(judged(&profile, Some(&record)), state, part);
    }
}

#[test]
fn a_short_life_that_each_use_renews_is_no_news() {
    let mut custom = profile("custom", "device-code");
    custom.client = ClientCredential::None;
    let mut record = record();
    record.refresh_expires = Some(now() + Span::new().hours(12));
    says(judged(&custom, Some(&record)), State::Ok, "");
    record.last_refresh = Some(now() - Span::new().hours(12));
    says(judged(&custom, Some(&record)), State::Expiring, "tomorrow");

    // Google states a lifetime only if no use renews the token: an application in Testing.
    let google = profile("google", "authorization-code");
    record.last_refresh = Some(now());
    record.refresh_expires = Some(days(7));
    says(judged(&google, Some(&record)), State::Expiring, "in 7 days");
}

#[test]
fn an_interrupted_refresh_is_told_once_it_cannot_be_running() {
    let profile = profile("global", "device-code");
    let mut record = record();
    record.refreshing_since = Some(now() - Span::new().seconds(30));
    says(judged(&profile, Some(&record)), State::Ok, "");
    record.refreshing_since = Some(now() - Span::new().minutes(30));
    says(
        judged(&profile, Some(&record)),
        State::Ok,
        "was interrupted",
    );
}

#[test]
fn notices_come_in_steps_and_are_equal_in_between() {
    let profile = with_secret_until(profile("global", "client-credentials"), "2027-01-22");
    let profiles = [profile];
    let watched = Watched {
        profiles: &profiles,
        accounts: &[],
        submissions: &[],
        roots: &[],
    };
    let at = |day: &str| {
        let now = format!("{day}T12:00:00Z").parse().unwrap();
        notices(&watched, now)
    };
    assert_eq!(at("2026-11-22"), []);
    for (day, step) in [
        ("2026-11-23", 60),
        ("2026-12-22", 60),
        ("2026-12-23", 30),
        ("2027-01-14", 30),
        ("2027-01-15", 7),
        ("2027-01-22", 7),
        ("2027-01-23", 0),
    ] {
        let found = at(day);
        assert_eq!(found.len(), 1, "{day}");
        assert_eq!(found[0].step_days, step, "{day}");
    }
    assert_eq!(at("2026-11-23"), at("2026-12-22"));
    assert_eq!(at("2026-12-01")[0].key, "profiles.contoso.secret_expires");
    assert_eq!(
        at("2026-12-01")[0].message,
        "the client secret ends on 2027-01-22"
    );
}

#[test]
fn vendors_dates_concern_whom_they_concern() {
    let ews = |provider: &str, scope: &str| {
        let mut profile = profile(provider, "device-code");
        profile.scopes = Some(vec![scope.to_owned()]);
        let profiles = [profile];
        let watched = Watched {
            profiles: &profiles,
            accounts: &[],
            submissions: &[],
            roots: &[],
        };
        notices(&watched, now()).len()
    };
    for (provider, scope, concerned) in [
        (
            "global",
            "https://outlook.office365.com/EWS.AccessAsUser.All",
            2,
        ),
        (
            "custom",
            "https://outlook.office.com/EWS.AccessAsUser.All",
            2,
        ),
        ("china", "https://partner.outlook.cn/full_access_as_app", 2),
        (
            "global",
            "https://outlook.office365.com/IMAP.AccessAsUser.All",
            0,
        ),
        ("global", "EWS.AccessAsUser.All", 0),
        (
            "custom",
            "https://mail.acme.example/EWS.AccessAsUser.All",
            0,
        ),
        (
            "custom",
            "https://office365.com.acme.example/EWS.AccessAsUser.All",
            0,
        ),
    ] {
        assert_eq!(ews(provider, scope), concerned, "{provider} {scope}");
    }

    // Without scopes the needs decide.
    let profiles = [profile("global", "client-credentials")];
    let accounts = [AccountUse {
        account: account(),
        needs: vec![Need::Imap, Need::Ews],
    }];
    let watched = Watched {
        profiles: &profiles,
        accounts: &accounts,
        submissions: &[],
        roots: &[],
    };
    assert_eq!(notices(&watched, now()).len(), 2);

    for (host, concerned) in [
        ("smtp.office365.com", 1),
        ("SMTP2.Office365.com", 1),
        ("smtp.office365.us", 1),
        ("smtp.partner.outlook.cn", 1),
        ("smtp.gmail.com", 0),
        ("office365.com.acme.example", 0),
        ("mail.acme.example", 0),
    ] {
        let submissions = [PasswordSubmission { name: "out", host }];
        let watched = Watched {
            profiles: &[],
            accounts: &[],
            submissions: &submissions,
            roots: &[],
        };
        let found = notices(&watched, now());
        assert_eq!(found.len(), concerned, "{host}");
        if let Some(notice) = found.first() {
            assert_eq!(notice.key, "outgoing.out.password");
            assert_eq!(notice.step_days, 60);
        }
    }
}

#[test]
fn an_account_with_ews_hears_of_the_next_date() {
    let scopes = vec!["https://outlook.office365.com/EWS.AccessAsUser.All".to_owned()];
    let record = record();
    let of = |now: Timestamp| {
        let mut record = record.clone();
        record.last_refresh = Some(now);
        let profile = profile("global", "device-code");
        record.registration = Some(profile.registration());
        let status = status(&profile, &account(), scopes.clone(), Ok(Some(&record)), now);
        (status.state, status.advice)
    };
    says(
        of(now()),
        State::Ok,
        "Next: Exchange Online removes EWS for good on 2027-04-01.",
    );
    let march = "2027-03-01T12:00:00Z".parse().unwrap();
    says(of(march), State::Expiring, "(in 31 days)");
}

#[test]
fn the_json_has_the_keys_of_the_contract() {
    let profile = with_secret_until(profile("global", "device-code"), "2027-05-01");
    let mut record = record();
    record.registration = Some(profile.registration());
    record.identity = Some("eva@acme.example".into());
    let scopes = vec!["https://outlook.office.com/IMAP.AccessAsUser.All".to_owned()];
    let status = status(&profile, &account(), scopes, Ok(Some(&record)), now());
    let expected = serde_json::json!({
        "profile": "contoso",
        "login": "support@acme.example",
        "grant": "device-code",
        "identity": "eva@acme.example",
        "scopes": ["https://outlook.office.com/IMAP.AccessAsUser.All"],
        "access_expires": "2026-11-23T12:50:00Z",
        "refresh_expires": "2027-02-21T12:00:00Z",
        "secret_expires": "2027-05-01T00:00:00Z",
        "last_refresh": "2026-11-23T12:00:00Z",
        "state": "ok",
        "advice": "Next: the client secret ends on 2027-05-01.",
    });
    assert_eq!(serde_json::to_value(&status).unwrap(), expected);
}

#[test]
fn a_trusted_certificate_is_told_of_before_it_begins_and_when_it_ends() {
    let root = |from: &str, to: &str| Root {
        name: "CN=Our own CA".into(),
        not_before: format!("{from}T00:00:00Z").parse().unwrap(),
        not_after: format!("{to}T00:00:00Z").parse().unwrap(),
    };
    let now = "2026-06-01T12:00:00Z".parse().unwrap();
    let told = |root: Root| {
        let roots = [root];
        let watched = Watched {
            profiles: &[],
            accounts: &[],
            submissions: &[],
            roots: &roots,
        };
        let notice = notices(&watched, now).into_iter().next();
        notice.map(|it| (it.message, it.step_days))
    };
    let ca = |what: &str| format!("the CA certificate \"CN=Our own CA\" {what}");
    for (from, to, expected) in [
        ("2020-01-01", "2030-01-01", None),
        (
            "2020-01-01",
            "2026-06-20",
            Some((ca("ends on 2026-06-20"), 30)),
        ),
        (
            "2020-01-01",
            "2026-05-31",
            Some((ca("ended on 2026-05-31"), 0)),
        ),
        (
            "2026-07-01",
            "2030-01-01",
            Some((ca("is not valid before 2026-07-01"), 0)),
        ),
    ] {
        assert_eq!(told(root(from, to)), expected, "{from} {to}");
    }
}

#[test]
fn a_trusted_certificate_is_read() {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Our\u{1b}[2J CA");
    params.not_after = rcgen::date_time_ymd(2024, 2, 3);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let root = Root::of(certificate.der()).unwrap();
    assert_eq!(root.not_after.to_string(), "2024-02-03T00:00:00Z");
    assert!(
        root.name.contains("CA") && !root.name.contains('\u{1b}'),
        "{}",
        root.name
    );
    assert_eq!(Root::of(&CertificateDer::from(vec![1, 2, 3])), None);
}
