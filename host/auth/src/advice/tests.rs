//! Advice as admins read it: one text file per case in `tests/cases/advice`. `UPDATE=1` rewrites the expected files.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::*;
use crate::provider::CLOUDS;
use crate::{Certificate, ClientCredential, Secret, SendSecret, ServiceKey};

/// One file: a profile and a failure.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// `None` if the profile is unknown.
    profile: Option<Registration>,
    login: Option<String>,
    /// Whether to print everything that the tables contain for this profile.
    #[serde(default)]
    tables: bool,
    /// The mailbox that Exchange Online commands are printed for.
    mailbox: Option<String>,
    #[serde(default)]
    errors: Vec<Failing>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    /// `google`, `custom`, or one of Microsoft's clouds.
    provider: String,
    directory: Option<String>,
    client_id: String,
    grant: String,
    redirect: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Failing {
    Refused(ServerRefusal),
    Transient(String),
    Nonsense(String),
    Unusable(String),
    SignedOut,
    UnknownProfile,
    Vault(Broken),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Broken {
    OtherKey,
    Damaged,
    File,
    Busy,
    Key,
}

#[test]
fn advice_reads_as_expected() {
    let folder = cases().join("advice");
    let mut found = 0;
    let mut wrong = Vec::new();
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    for file in files {
        found += 1;
        let case: Case = serde_json::from_str(&fs::read_to_string(&file).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let shown = shown(&case);
        let expected = file.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&expected, &shown).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != shown {
            wrong.push(format!("{}: now\n{shown}", expected.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found >= 5, "only {found} cases in {}", folder.display());
}

#[test]
fn every_number_and_word_has_advice_for_every_grant_and_without_a_profile() {
    let codes = CODES.iter().flat_map(|row| match row.on {
        On::Codes(codes) => codes,
        On::Words(_) => &[],
    });
    let words = WORDS.iter().flat_map(|row| match row.on {
        On::Words(words) => words,
        On::Codes(_) => &[],
    });
    let refusals: Vec<ServerRefusal> = codes
        .map(|code| refusal("nobody_knows_this", &[*code]))
        .chain(words.map(|word| refusal(word, &[])))
        .collect();
    assert!(refusals.len() > 100, "{}", refusals.len());
    let grants = [
        "authorization-code",
        "device-code",
        "client-credentials",
        "password",
        "service-account",
    ];
    for refusal in refusals {
        let account = account(Some("support@acme.example"));
        let error = AuthError::Refused {
            account,
            refusal: refusal.clone().into(),
        };
        let profiles = grants.iter().map(|grant| Some(profile("global", grant)));
        for profile in profiles.chain([None]) {
            let advice = advise(&error, profile.as_ref());
            let what = format!(
                "{refusal} {:?}: {advice:?}",
                profile.map(|p| p.grant.name())
            );
            assert_ne!(
                advice.text,
                UNKNOWN.text.replace("{profile}", "contoso"),
                "{what}"
            );
            for text in advice.steps.iter().chain([&advice.text]) {
                assert!(!text.contains(['{', '}']), "{what}");
                assert!(!text.contains("  "), "{what}");
            }
            assert!(advice.text.ends_with('.'), "{what}");
        }
    }
}

#[test]
fn only_a_person_can_end_a_refusal_by_signing_in() {
    let interactive = profile("global", "device-code").grant;
    let password = profile("global", "password").grant;
    let app = profile("global", "client-credentials").grant;
    for (word, codes, of_person, of_password, of_app) in [
        (
            "invalid_grant",
            &[][..],
            Remedy::SignIn,
            Remedy::Admin,
            Remedy::Admin,
        ),
        (
            "invalid_grant",
            &[700082],
            Remedy::SignIn,
            Remedy::Admin,
            Remedy::Admin,
        ),
        (
            "invalid_grant",
            &[50126],
            Remedy::SignIn,
            Remedy::Admin,
            Remedy::Admin,
        ),
        (
            "interaction_required",
            &[50076],
            Remedy::SignIn,
            Remedy::Admin,
            Remedy::Admin,
        ),
        // After an admin's consent the tokens work again without a new sign-in.
        (
            "invalid_grant",
            &[65001],
            Remedy::Admin,
            Remedy::Admin,
            Remedy::Admin,
        ),
        (
            "invalid_client",
            &[7000222],
            Remedy::Admin,
            Remedy::Admin,
            Remedy::Admin,
        ),
        (
            "invalid_grant",
            &[50196],
            Remedy::StayAway,
            Remedy::StayAway,
            Remedy::StayAway,
        ),
        (
            "invalid_grant",
            &[50053],
            Remedy::StayAway,
            Remedy::StayAway,
            Remedy::StayAway,
        ),
        // With an unknown number the word decides; a known number takes precedence.
        (
            "invalid_grant",
            &[1],
            Remedy::SignIn,
            Remedy::Admin,
            Remedy::Admin,
        ),
        (
            "nobody_knows_this",
            &[1],
            Remedy::Admin,
            Remedy::Admin,
            Remedy::Admin,
        ),
    ] {
        let refusal = refusal(word, codes);
        let found = [&interactive, &password, &app].map(|grant| remedy(&refusal, grant));
        assert_eq!(found, [of_person, of_password, of_app], "{word} {codes:?}");
    }
}

#[test]
fn what_is_pasted_into_a_shell_stays_one_word() {
    let account = account(Some("o'brien@acme.example; rm -rf ~"));
    assert_eq!(
        sign_in_command(&account),
        r"postroom auth login contoso --as 'o'\''brien@acme.example; rm -rf ~'"
    );
    let commands = exchange_commands(&profile("global", "client-credentials"), "o'$(calc)@b");
    assert!(
        commands[9].contains("-Identity 'o''$(calc)@b' -User"),
        "{commands:?}"
    );
    assert!(exchange_commands(&profile("global", "device-code"), "a@b").is_empty());
    assert!(exchange_commands(&profile("google", "client-credentials"), "a@b").is_empty());
}

fn shown(case: &Case) -> String {
    let profile = case.profile.as_ref().map(registered);
    let account = account(case.login.as_deref());
    let mut shown = String::new();
    if case.tables {
        for row in CODES.iter().chain(WORDS) {
            let refusals: Vec<ServerRefusal> = match row.on {
                On::Codes(codes) => codes.iter().map(|code| refusal("", &[*code])).collect(),
                On::Words(words) => words.iter().map(|word| refusal(word, &[])).collect(),
            };
            let profile = profile.as_ref().unwrap();
            let of_row: Vec<&ServerRefusal> = refusals
                .iter()
                .filter(|it| {
                    std::ptr::eq(
                        super::row(it, Some(profile.provider), Some(&profile.grant)),
                        row,
                    )
                })
                .collect();
            if let Some(first) = of_row.first() {
                let names: Vec<String> = of_row.iter().map(|it| it.to_string()).collect();
                writeln!(shown, "{}", names.join(",").trim()).unwrap();
                let error = AuthError::Refused {
                    account: account.clone(),
                    refusal: (*first).clone().into(),
                };
                tell(&mut shown, &error, Some(profile));
            }
        }
    }
    for failing in &case.errors {
        let error = error(failing, &account);
        writeln!(shown, "{error}").unwrap();
        tell(&mut shown, &error, profile.as_ref());
    }
    if let (Some(mailbox), Some(profile)) = (&case.mailbox, &profile) {
        for command in exchange_commands(profile, mailbox) {
            writeln!(shown, "{command}").unwrap();
        }
    }
    shown
}

fn tell(shown: &mut String, error: &AuthError, profile: Option<&Profile>) {
    let advice = advise(error, profile);
    if let (Some(refusal), Some(profile)) = (error.refusal(), profile) {
        writeln!(shown, "  {:?}", remedy(refusal, &profile.grant)).unwrap();
    }
    writeln!(shown, "  {}", advice.text).unwrap();
    for step in advice.steps {
        writeln!(shown, "  - {step}").unwrap();
    }
    writeln!(shown).unwrap();
}

fn error(failing: &Failing, account: &Account) -> AuthError {
    let account = account.clone();
    let path = PathBuf::from("data/vault/7f3a.sealed");
    match failing {
        Failing::Refused(refusal) => AuthError::Refused {
            account,
            refusal: refusal.clone().into(),
        },
        Failing::Transient(reason) => AuthError::Transient {
            account,
            reason: reason.clone(),
            retry_after: Some(Duration::from_secs(30)),
        },
        Failing::Nonsense(reason) => AuthError::Nonsense {
            account,
            reason: reason.clone(),
        },
        Failing::Unusable(reason) => AuthError::Unusable {
            account,
            reason: reason.clone(),
        },
        Failing::SignedOut => AuthError::SignedOut { account },
        Failing::UnknownProfile => AuthError::UnknownProfile {
            profile: account.profile,
        },
        Failing::Vault(broken) => AuthError::Vault {
            account,
            source: match broken {
                Broken::OtherKey => VaultError::OtherKey {
                    path,
                    written_under: "1c0ffee1".into(),
                    in_use: "0ddba11e".into(),
                },
                Broken::Damaged => VaultError::Damaged {
                    path,
                    reason: "it ends too early".into(),
                },
                Broken::File => VaultError::File {
                    path,
                    reason: "permission denied".into(),
                },
                Broken::Busy => VaultError::Busy { path },
                Broken::Key => VaultError::Key {
                    reason: "/etc/postroom/vault.key may be read by others: chmod 600 it".into(),
                },
            },
        },
    }
}

fn refusal(error: &str, codes: &[u32]) -> ServerRefusal {
    ServerRefusal {
        error: error.into(),
        codes: codes.to_vec(),
        description: None,
        correlation_id: None,
    }
}

fn account(login: Option<&str>) -> Account {
    Account {
        profile: "contoso".into(),
        login: login.map(str::to_owned),
    }
}

/// Returns a profile of a provider, `google`, `custom` or one of Microsoft's clouds, and a grant.
pub(crate) fn profile(provider: &str, grant: &str) -> Profile {
    registered(&Registration {
        provider: provider.into(),
        directory: Some("contoso.example".into()),
        client_id: "11111111-2222".into(),
        grant: grant.into(),
        redirect: None,
    })
}

/// Returns a certificate that is valid for 100 years.
pub(crate) fn certificate() -> ClientCredential {
    let pem = fs::read_to_string(cases().join("keys/test-app.pem")).unwrap();
    ClientCredential::Certificate(Arc::new(Certificate::from_pem(&Secret::new(pem)).unwrap()))
}

fn registered(registration: &Registration) -> Profile {
    let provider = match registration.provider.as_str() {
        "google" => Provider::Google,
        "custom" => Provider::Custom,
        name => Provider::Microsoft(CLOUDS.iter().find(|cloud| cloud.name == name).unwrap()),
    };
    let directory = registration.directory.clone();
    let grant = match registration.grant.as_str() {
        "authorization-code" => Grant::AuthorizationCode {
            redirect: registration.redirect.clone(),
            prompt: None,
        },
        "device-code" => Grant::DeviceCode,
        "client-credentials" => Grant::ClientCredentials,
        "password" => Grant::Password {
            username: "support@acme.example".into(),
            password: Secret::new("hunter2"),
        },
        "service-account" => {
            let json = fs::read_to_string(cases().join("keys/test-service-account.json")).unwrap();
            Grant::ServiceAccount(Arc::new(ServiceKey::from_json(&Secret::new(json)).unwrap()))
        }
        other => panic!("no grant {other}"),
    };
    let token = match provider.urls(directory.as_deref().unwrap_or("common")) {
        Some([_, token, _]) => token,
        None => "https://login.acme.example/token".into(),
    };
    Profile {
        name: "contoso".into(),
        provider,
        directory,
        endpoints: Endpoints::Fixed {
            authorize: None,
            token: Url::parse(&token).unwrap(),
            device: None,
        },
        client_id: registration.client_id.clone(),
        client: ClientCredential::Secret {
            secret: Secret::new("hunter2"),
            previous: None,
            send: SendSecret::Body,
            expires: None,
        },
        grant,
        scopes: None,
        tenants: None,
    }
}

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases")
}
