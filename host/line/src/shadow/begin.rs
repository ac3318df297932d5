//! Starts a shadow: which rule the file replaces, and whether it can. The candidate is loaded as it will be once it is in the
//! rule's place, so that its hash is the one that goes live on promotion.

use std::path::Path;

use postroom_core::ContentHash;
use postroom_sandbox::{Bundle, LoadError, Rule as Loaded, Sandbox};
use postroom_store::{Listings, NewShadow};

use super::error::BeginError;
use super::promote::refused;
use crate::replay::replaced;
use postroom_config::{Config, MailboxConfig, RuleConfig, RuleKind, RuleUse};
use postroom_rules::rulebook::{load_bytes, read_configured, read_rule};

/// The request to start a shadow.
#[derive(Debug)]
pub struct Asked<'a> {
    pub mailbox: &'a MailboxConfig,
    pub file: &'a Path,
    /// The rule's name in the chain; by default, the rule with this file or with its file name.
    pub in_place_of: Option<&'a str>,
    pub mails: u64,
    pub promote: bool,
}

/// Reads and loads the candidate. The error says what is wrong with it and how to fix it.
pub fn begin(
    config: &Config,
    sandbox: &Sandbox,
    listings: &dyn Listings,
    asked: &Asked<'_>,
) -> Result<NewShadow, BeginError> {
    let name = replaced(&[asked.mailbox], asked.file, asked.in_place_of)?;
    let mut rules = asked.mailbox.rules.iter();
    let rule = rules.find(|rule| rule.name == name);
    let tenant = config.tenant(&asked.mailbox.tenant);
    let (rule, tenant) = rule.zip(tenant).ok_or(BeginError::NotInChain)?;
    let path = rule
        .path()
        .ok_or_else(|| BeginError::BuiltIn(name.clone()))?;
    let file = || asked.file.to_owned();
    let extension = |path: &Path| path.extension().map(std::ffi::OsStr::to_owned);
    if extension(asked.file) != extension(path) {
        return Err(BeginError::OtherEnding {
            file: file(),
            rule: name,
        });
    }
    let bytes = read_rule(asked.file).map_err(|reason| BeginError::NoCandidate {
        file: file(),
        reason,
    })?;
    let wanted = tenant.use_of(rule);
    let loaded = load_bytes(sandbox, &wanted, &bytes)
        .map_err(|error| BeginError::NotLoaded(about_file(error, &name, asked.file)))?;
    has_its_own_modules(sandbox, &wanted, &loaded, asked.file, &bytes)?;
    let hash = loaded.hash();
    let newest = listings.newest_generation()?;
    let live = listings.generation_rules(newest)?.unwrap_or_default();
    let mut live = live.iter();
    if live.any(|it| it.tenant == tenant.name && it.name == name && it.hash == hash) {
        return Err(BeginError::AlreadyLive {
            file: file(),
            rule: name,
        });
    }
    if asked.promote
        && let Some(refused) = refused(listings, &tenant.name, &name, hash)?
    {
        return Err(refused.into());
    }
    let now = read_configured(rule).map_err(|reason| BeginError::NoRule {
        rule: name.clone(),
        reason,
    })?;
    Ok(NewShadow {
        tenant: tenant.name.clone(),
        mailbox: asked.mailbox.name.clone(),
        rule: name,
        hash,
        bytes: loaded.bundle().map_or(bytes.into(), Bundle::pack),
        replaces: ContentHash::of(&now),
        limit_us: u64::try_from(wanted.limits.time.as_micros()).unwrap_or(u64::MAX),
        limit_memory_bytes: wanted.limits.memory_bytes as u64,
        wanted: asked.mails,
        promote: asked.promote,
    })
}

/// Returns the other mailboxes whose chain contains the rule's file: a promoted candidate applies to them too.
pub fn others(config: &Config, mailbox: &str, path: &Path) -> Vec<String> {
    let real = path.canonicalize().ok();
    let is_it = |rule: &RuleConfig| {
        let other = rule.path().and_then(|path| path.canonicalize().ok());
        other.is_some() && other == real
    };
    let mailboxes = config.mailboxes.iter();
    mailboxes
        .filter(|it| it.name != mailbox && it.rules.iter().any(is_it))
        .map(|it| format!("{} ({})", it.name, it.tenant))
        .collect()
}

/// Rewrites the error for the file that was named: the candidate is loaded in the rule's place, but people look for the mistake
/// in their own file.
fn about_file(error: LoadError, name: &str, file: &Path) -> String {
    let text = error.to_string();
    match text.strip_prefix(name).filter(|rest| rest.starts_with(':')) {
        Some(rest) => format!("{}{rest}", file.display()),
        None => text,
    }
}

/// Refuses a candidate whose own modules differ from the rule's, because only one file is promoted.
fn has_its_own_modules(
    sandbox: &Sandbox,
    wanted: &RuleUse,
    loaded: &Loaded,
    file: &Path,
    bytes: &[u8],
) -> Result<(), BeginError> {
    let Ok(real) = file.canonicalize() else {
        return Ok(());
    };
    if matches!(wanted.rule.kind, RuleKind::Component(_)) {
        return Ok(());
    }
    let own = RuleUse {
        rule: RuleConfig::of_file(&real),
        ..wanted.clone()
    };
    // A candidate without modules of its own uses those of the rule.
    let Ok(own) = load_bytes(sandbox, &own, bytes) else {
        return Ok(());
    };
    let place = Path::new(&wanted.rule.name);
    let texts = modules_from(loaded, place.parent());
    for (way, text) in modules_from(&own, real.parent()) {
        let other = texts.iter().find(|(there, _)| *there == way);
        if other.is_some_and(|(_, there)| *there != text) {
            let near = |path: &Path| path.with_file_name("").join(&way).display().to_string();
            return Err(BeginError::OtherModule {
                module: near(file),
                place: near(place),
                file: file.to_owned(),
            });
        }
    }
    Ok(())
}

/// Returns a script's imports, by path relative to its folder.
fn modules_from<'r>(rule: &'r Loaded, folder: Option<&Path>) -> Vec<(std::path::PathBuf, &'r str)> {
    let modules = rule.bundle().map_or(&[][..], Bundle::modules).iter();
    let folder = folder.unwrap_or(Path::new(""));
    modules
        .skip(1)
        .filter_map(|module| {
            let way = Path::new(&module.name).strip_prefix(folder).ok()?;
            Some((way.to_owned(), module.text.as_str()))
        })
        .collect()
}
