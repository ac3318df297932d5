//! Reads every configuration of `tests/cases/config` and compares the result word for word. `UPDATE=1` rewrites the
//! expected files.

#[path = "config/updates.rs"]
mod updates;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use postroom_auth::{Endpoints, Need, Profile, Provider, Resource};
use postroom_config::{Config, Duplicates, Problems, RuleKind};
use postroom_core::{AlertPolicy, Limits};

const CLIENT_SECRET: &str = "hunter2-never-shown";
const CLIENT_CERTIFICATE: &str = include_str!("../../../tests/cases/keys/test-pkcs1.pem");
const SERVICE_KEY: &str = include_str!("../../../tests/cases/keys/test-service-account.json");
/// A secret's id, as Microsoft calls it.
const SECRET_ID: &str = "5ec2e700-0000-4000-8000-00000000c1ea";
const VAULT_KEY: &str = "aHVudGVyMi1odW50ZXIyLWh1bnRlcjItaHVudGVyMi0=";
/// Secrets that must never be printed, including the base64 of keys.
const SECRETS: &[&str] = &["hunter2", "aHVudGVyMi", "5ec2e700", "PRIVATE KEY", "MII"];
const WEBHOOK_SECRET: &str = "whsec_aHVudGVyMi1uZXZlci1zaG93bi1odW50ZXIy";

#[test]
fn every_configuration_reads_as_expected() {
    let folders = folders(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/config"));
    let (mut good, mut bad, mut in_part, mut wrong) = (0, 0, 0, Vec::new());
    for folder in &folders {
        let expected_part = folder.join("expected.part");
        if expected_part.exists() {
            in_part += 1;
            let read = shown(
                folder,
                Config::load_in_part_with(&file_of(folder), &environment),
            );
            wrong.extend(compare(
                &expected_part,
                &read.unwrap_or_else(|problems| problems),
            ));
        }
        match (folder.join("expected.ok").exists(), read(folder)) {
            (true, Ok(read)) => {
                good += 1;
                wrong.extend(compare(&folder.join("expected.ok"), &read));
            }
            (false, Err(read)) => {
                bad += 1;
                wrong.extend(compare(&folder.join("expected.err"), &read));
            }
            (true, Err(read)) => wrong.push(format!("{}: refused:\n{read}", folder.display())),
            (false, Ok(read)) => wrong.push(format!("{}: accepted:\n{read}", folder.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(good >= 5, "only {good} good configurations found");
    assert!(bad >= 30, "only {bad} bad configurations found");
    assert!(in_part >= 3, "only {in_part} read in part");
}

#[test]
fn a_configuration_that_is_not_there_says_how_to_make_one() {
    let error = Config::load(Path::new("nowhere/postroom.toml")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "error: does not exist\n--> nowhere/postroom.toml\n = help: name the configuration with --config FILE, or make one with `postroom init`"
    );
}

/// The manual's example is valid as printed there.
#[test]
fn the_manuals_sample_is_sound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let manual = fs::read_to_string(root.join("docs/configuration.md")).unwrap();
    let (_, sample) = manual.split_once("## A complete example").unwrap();
    let (_, sample) = sample.split_once("```toml\n").unwrap();
    let (sample, _) = sample.split_once("```").unwrap();
    let dir = tempfile::tempdir().unwrap();
    for name in ["rules", "plugins", "secrets"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    for name in ["rules/acme.js", "plugins/backup-report.wasm"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    fs::write(dir.path().join("secrets/own"), CLIENT_SECRET).unwrap();
    for (name, key) in [
        ("secrets/fabrikam.pem", "test-app.pem"),
        ("secrets/workspace.json", "test-service-account.json"),
    ] {
        let key = root.join("tests/cases/keys").join(key);
        fs::copy(key, dir.path().join(name)).unwrap();
    }
    let file = dir.path().join("postroom.toml");
    fs::write(&file, sample).unwrap();
    let environment = |name: &str| match name {
        "CONTOSO_SECRET" | "APP_PASSWORD" => Some(OsString::from(CLIENT_SECRET)),
        _ => environment(name),
    };
    let config = Config::load_with(&file, &environment).unwrap_or_else(|e| panic!("{e}"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert!(config.unavailable.is_empty(), "{:?}", config.unavailable);
    let mut grants: Vec<_> = config.profiles.iter().map(|p| p.grant.name()).collect();
    grants.sort_unstable();
    grants.dedup();
    assert_eq!(
        grants,
        [
            "authorization-code",
            "client-credentials",
            "service-account"
        ]
    );
}

/// Not a case in a folder, because a built component is never committed.
#[test]
fn a_component_is_a_rule_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("postroom.toml");
    let text = "[tenants.a]\n[mailboxes.m]\ntenant = \"a\"\nprotocol = \"spool\"\npath = \"s\"\nrules = [\"r.wasm\"]\n";
    fs::write(&file, text).unwrap();
    fs::write(dir.path().join("r.wasm"), "").unwrap();
    let config = Config::load(&file).unwrap();
    let expected = RuleKind::Component(dir.path().join("r.wasm"));
    assert_eq!(config.mailboxes[0].rules[0].kind, expected);
}

/// The configuration comes before the environment, which never speaks of mail.
#[test]
fn proxies_of_the_environment_are_for_http_only() {
    let with = |proxy: &str, variables: &'static [(&str, &str)]| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("postroom.toml");
        let text =
            "[tenants.a]\n[mailboxes.m]\ntenant = \"a\"\nprotocol = \"spool\"\npath = \"s\"\n";
        fs::write(&file, format!("{text}{proxy}")).unwrap();
        let environment = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let config = Config::load_with(&file, &environment);
        config.map(|it| it.proxies).map_err(|it| it.to_string())
    };
    let url = |text: &str| url::Url::parse(text).unwrap();
    const VARIABLES: &[(&str, &str)] = &[
        ("HTTPS_PROXY", "http://us:hunter2@one.example:3128"),
        ("https_proxy", "two.example:3128"),
        ("HTTP_PROXY", "socks5h://three.example"),
        ("ALL_PROXY", "http://never.example"),
        ("NO_PROXY", ".corp.example, 10.0.0.0/8,what:ever"),
    ];
    let found = with("", VARIABLES).unwrap();
    let taken = |target: &str| found.for_url(&url(target)).map(ToString::to_string);
    assert_eq!(
        taken("https://graph.example").as_deref(),
        Some("http://two.example:3128")
    );
    assert_eq!(
        taken("http://graph.example").as_deref(),
        Some("socks5://three.example:1080")
    );
    for direct in [
        "https://a.corp.example",
        "https://10.1.2.3",
        "https://localhost",
    ] {
        assert_eq!(taken(direct), None, "{direct}");
    }
    assert_eq!(found.for_mail("mail.example"), None);
    let own = with("[proxy]\nhttp = \"none\"\n", VARIABLES).unwrap();
    assert_eq!(own.for_url(&url("https://graph.example")), None);
    let broken = with("", &[("HTTPS_PROXY", "https://us:hunter2@one.example")]).unwrap_err();
    assert!(
        broken.contains("the environment variable HTTPS_PROXY has the scheme https")
            && !broken.contains("hunter2"),
        "{broken}"
    );
    assert!(
        with(
            "[proxy]\nhttp = \"none\"\n",
            &[("HTTPS_PROXY", "nonsense:")]
        )
        .is_ok()
    );
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

fn environment(name: &str) -> Option<OsString> {
    let value = match name {
        "POSTROOM_TEST_SECRET" | "ACME_SECRET" => CLIENT_SECRET,
        "POSTROOM_TEST_HOOK" | "PSA_HOOK_SECRET" => WEBHOOK_SECRET,
        "POSTROOM_TEST_EMPTY" => "",
        "POSTROOM_TEST_PEM" => CLIENT_CERTIFICATE,
        "POSTROOM_TEST_KEY" => SERVICE_KEY,
        "POSTROOM_TEST_GUID" => SECRET_ID,
        "POSTROOM_TEST_VAULT" => VAULT_KEY,
        // Not a real home: the default folder of the vault's key.
        "HOME" => "/home/postroom",
        _ => return None,
    };
    Some(OsString::from(value))
}

fn file_of(folder: &Path) -> PathBuf {
    folder.join("postroom.toml")
}

fn read(folder: &Path) -> Result<String, String> {
    shown(folder, Config::load_with(&file_of(folder), &environment))
}

/// A summary of the configuration, or its problems; paths are those within the case's folder.
fn shown(folder: &Path, config: Result<Config, Problems>) -> Result<String, String> {
    let prefix = format!("{}/", folder.display());
    let shown = match &config {
        Ok(config) => summary(config),
        Err(problems) => format!("{problems}\n"),
    };
    let shown = shown.replace(&prefix, "");
    let whole = format!("{shown}{config:?}");
    for secret in SECRETS {
        assert!(
            !whole.contains(secret),
            "{}: a secret is shown ({secret}):\n{whole}",
            folder.display()
        );
    }
    config.map(|_| shown.clone()).map_err(|_| shown)
}

fn summary(config: &Config) -> String {
    let mut lines = vec![
        format!("data_dir {}", config.data_dir.display()),
        format!("keep_raw {:?}", config.keep_raw),
        format!("{:?}", config.limits),
        format!("extra roots {}", config.extra_roots.len()),
        format!("proxies {:?}", config.proxies),
    ];
    lines.push(match &config.vault_key {
        Ok(key) => format!("vault key {key:?}"),
        Err(why) => format!("vault key unavailable {why:?}"),
    });
    lines.extend(config.profiles.iter().map(profile_summary));
    lines.extend(
        config
            .accounts
            .iter()
            .map(|used| format!("account {:?} {:?}", used.account, used.needs)),
    );
    let identity = &config.identity;
    if identity.staff != Default::default() || !identity.public_domains.is_empty() {
        let public = &identity.public_domains;
        lines.push(format!("{:?} public domains {public:?}", identity.staff));
    }
    if identity.foreign_numbers != Default::default() || !identity.reopen.queues.is_empty() {
        let (reopen, numbers) = (&identity.reopen, &identity.foreign_numbers);
        lines.push(format!("{reopen:?} {numbers:?}"));
    }
    for tenant in &config.tenants {
        let limits = &tenant.limits;
        let usual = if *limits == Limits::default() {
            "usual limits".to_owned()
        } else {
            format!(
                "limits memory {} time {:?} init {:?} output {} actions {} log {} patterns {} matches {} kv {} keys {} bytes lookups {} of {} rows {} bytes",
                limits.memory_bytes,
                limits.time,
                limits.init_time,
                limits.output_bytes,
                limits.actions,
                limits.log_bytes,
                limits.patterns,
                limits.matches,
                limits.kv_total_keys,
                limits.kv_total_bytes,
                limits.lookups,
                limits.lookup_rows,
                limits.lookup_bytes
            )
        };
        lines.push(format!(
            "tenant {} {:?} {:?} {:?} {usual}{}",
            tenant.name,
            tenant.domains,
            tenant.settings,
            tenant.grants,
            tenant
                .mails_per_minute
                .map_or(String::new(), |rate| format!(" mails_per_minute {rate}"))
        ));
        let usual = (AlertPolicy::default(), Duplicates::One);
        if (&tenant.alerts, tenant.duplicates) != (&usual.0, usual.1) {
            let duplicates = tenant.duplicates;
            lines.push(format!("  duplicates {duplicates:?} {:?}", tenant.alerts));
        }
        let names = [
            ("addresses", &tenant.addresses),
            ("recipients", &tenant.recipients),
        ];
        for (what, list) in names.iter().filter(|(_, list)| !list.is_empty()) {
            lines.push(format!("  {what} {list:?}"));
        }
        if !tenant.rules.is_empty() {
            let rules = tenant.rules.iter().map(|it| it.name.as_str());
            lines.push(format!("  own rules {:?}", rules.collect::<Vec<_>>()));
        }
        if tenant.threads != Default::default() {
            lines.push(format!("  {:?}", tenant.threads));
        }
        for (what, file) in [("contacts", &tenant.contacts), ("assets", &tenant.assets)] {
            if let Some(file) = file {
                lines.push(format!(
                    "  {what} {} csv {}",
                    file.path.display(),
                    file.is_csv()
                ));
            }
        }
    }
    lines.extend(config.mailboxes.iter().map(|m| usual(format!("{m:?}"))));
    lines.extend(config.outgoing.iter().map(|o| usual(format!("{o:?}"))));
    lines.extend(config.sinks.iter().map(|s| format!("{s:?}")));
    lines.extend(config.rule_uses().iter().map(|u| {
        format!(
            "loads {} for {} with {}",
            u.rule.name, u.tenant, u.settings_json
        )
    }));
    lines.push(format!("own addresses {:?}", config.own_addresses()));
    lines.extend(
        config
            .unavailable_profiles
            .iter()
            .map(|(name, why)| format!("profile {name} unavailable {why:?}")),
    );
    lines.extend(
        config
            .unavailable
            .iter()
            .map(|it| format!("unavailable {it}")),
    );
    for it in &config.misconfigured {
        lines.push(format!(
            "misconfigured {:?} of {:?} at {:?}",
            it.mailbox, it.tenant, it.addresses
        ));
        lines.extend(it.problems.iter().map(|it| format!("  {it}")));
    }
    lines.extend(config.warnings.iter().map(|it| format!("warning {it}")));
    lines.join("\n") + "\n"
}

/// Returns a part's text without what few configurations set.
fn usual(text: String) -> String {
    let policy = ", threads: ThreadPolicy { outsiders: NewTicket, unverified: Accepted }";
    let unset = [", shared: None", ", tag_replies: false", policy];
    unset
        .iter()
        .fold(text, |text, unset| text.replace(unset, ""))
}

/// Returns a summary of a profile: its URLs as they are sent, and the scopes it requests.
fn profile_summary(profile: &Profile) -> String {
    let endpoints = match &profile.endpoints {
        Endpoints::Fixed {
            authorize,
            token,
            device,
        } => {
            let device = device.as_ref().map(|url| url.as_str());
            format!("authorize {authorize:?} token {token} device {device:?}")
        }
        Endpoints::Discovered { issuer } => format!("discovery {issuer}"),
    };
    let provider = match profile.provider {
        Provider::Microsoft(cloud) => format!("microsoft ({})", cloud.name),
        Provider::Google => "google".into(),
        Provider::Custom => "custom".into(),
    };
    let needs = [Need::Imap, Need::Smtp];
    format!(
        "profile {} {provider} directory {:?} client id {:?} {:?}\n  {endpoints}\n  {:?} tenants {:?}\n  asks for {:?}",
        profile.name,
        profile.directory,
        profile.client_id,
        profile.client,
        profile.grant,
        profile.tenants,
        profile.scopes_for(Resource::Mail, &needs),
    )
}

fn compare(expected: &Path, found: &str) -> Option<String> {
    if std::env::var_os("UPDATE").is_some() {
        let written = fs::write(expected, found);
        return written.err().map(|error| error.to_string());
    }
    let wanted = fs::read_to_string(expected).unwrap_or_default();
    (wanted != found).then(|| {
        format!(
            "{}:\n--- expected\n{wanted}--- found\n{found}",
            expected.display()
        )
    })
}
