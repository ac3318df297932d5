//! Promotion: the candidate is written over its rule's file, which is how every rule goes live. The file stays the source of
//! truth, and tests, generations and rollback work as for any other save.

use postroom_core::ContentHash;
use postroom_sandbox::{Bundle, Module, Rule as Loaded, Sandbox};
use postroom_store::{LastGood, Listings, Shadow, StoreError};

use super::error::{PromoteError, ShadowGone, VersionRefused};

use postroom_config::{Config, MailboxConfig, RuleKind, RuleUse, Tenant};
use postroom_files::{ConfinedPath, EscapesRoot};
use postroom_rules::cases::ReleaseGate;
use postroom_rules::rulebook::{load_bytes, read_configured};

/// The result of a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    Written,
    /// The file already was the candidate's.
    WasThere,
}

/// Writes the candidate over the rule's file. Refuses if it would not become exactly the version that was shadowed, or if it
/// would undo somebody's newer save; `anyway` allows the latter. Blocks.
pub fn put(
    config: &Config,
    sandbox: &Sandbox,
    listings: &dyn Listings,
    shadow: &Shadow,
    anyway: bool,
) -> Result<Put, PromoteError> {
    let (_, _, wanted) = stands_at(config, shadow)?;
    let name = &shadow.rule;
    if let Some(refused) = refused(listings, &shadow.tenant, name, shadow.hash)? {
        return Err(refused.into());
    }
    let kept = listings.shadow_bytes(shadow.id)?;
    let kept = kept.ok_or(PromoteError::NotStored)?;
    let modules = match wanted.rule.kind {
        RuleKind::Component(_) => Vec::new(),
        _ => {
            let bundle = Bundle::unpack(name, &kept).map_err(PromoteError::Unreadable)?;
            bundle.modules().to_vec()
        }
    };
    let main = modules.first();
    let main = main.map_or(&kept[..], |main| main.text.as_bytes());
    let loaded = load_bytes(sandbox, &wanted, main).map_err(|error| PromoteError::NotLoaded {
        rule: name.clone(),
        error,
    })?;
    if loaded.hash() != shadow.hash {
        let changed = changed_module(&modules, &loaded).unwrap_or("a module that it imports");
        return Err(PromoteError::OtherModules(changed.to_owned()));
    }
    if is_in_place(shadow, &wanted, main, anyway)? {
        return Ok(Put::WasThere);
    }
    let tested = ReleaseGate::of(config).test(sandbox, &wanted, &loaded);
    if let Some(reason) = tested.and_then(|tested| tested.refusal()) {
        return Err(PromoteError::TestsFail(reason.to_string()));
    }
    // Tests may take long, and somebody may have saved the rule in the meantime.
    if is_in_place(shadow, &wanted, main, anyway)? {
        return Ok(Put::WasThere);
    }
    let path = wanted.rule.path().ok_or(PromoteError::BuiltIn)?;
    let not_written = |error| PromoteError::NotWritten {
        rule: name.clone(),
        error,
    };
    let found = ConfinedPath::find(&wanted.rule.base(), path).map_err(|escapes| match escapes {
        EscapesRoot::Out => PromoteError::Outside(name.clone()),
        EscapesRoot::Nowhere(error) => not_written(error),
    })?;
    found.replace(main).map_err(not_written)?;
    Ok(Put::Written)
}

/// Returns whether the rule's file already is the candidate's. Fails if the file is somebody's newer save, unless `anyway`.
fn is_in_place(
    shadow: &Shadow,
    wanted: &RuleUse,
    main: &[u8],
    anyway: bool,
) -> Result<bool, PromoteError> {
    let rule = || shadow.rule.clone();
    let now = read_configured(&wanted.rule).map_err(|reason| PromoteError::NoRule {
        rule: rule(),
        reason,
    })?;
    if now == main {
        return Ok(true);
    }
    if ContentHash::of(&now) != shadow.replaces && !anyway {
        return Err(PromoteError::NewerSave {
            rule: rule(),
            mailbox: shadow.mailbox.clone(),
        });
    }
    Ok(false)
}

/// Locates a shadow in the current configuration.
pub fn stands_at<'c>(
    config: &'c Config,
    shadow: &Shadow,
) -> Result<(&'c MailboxConfig, &'c Tenant, RuleUse), ShadowGone> {
    let mailbox = config.mailbox(&shadow.mailbox).ok_or(ShadowGone::Mailbox)?;
    let tenant = config.tenant(&mailbox.tenant);
    let tenant = tenant
        .filter(|it| it.name == shadow.tenant)
        .ok_or(ShadowGone::Tenant)?;
    let mut rules = mailbox.rules.iter();
    let rule = rules
        .find(|rule| rule.name == shadow.rule)
        .ok_or_else(|| ShadowGone::Rule(shadow.rule.clone()))?;
    Ok((mailbox, tenant, tenant.use_of(rule)))
}

/// Returns why a version may not go live, or `None` unless it was rolled back.
pub fn refused(
    served_before: &dyn LastGood,
    tenant: &str,
    name: &str,
    hash: ContentHash,
) -> Result<Option<VersionRefused>, StoreError> {
    let refused = served_before.refused_rules()?;
    let mut refused = refused.iter();
    let same = refused.find(|it| it.tenant == tenant && it.name == name && it.hash == hash);
    Ok(same.map(|same| VersionRefused {
        rule: name.to_owned(),
        reason: same.reason.to_string(),
    }))
}

/// Returns the module that differs from the stored one.
fn changed_module<'m>(kept: &'m [Module], loaded: &Loaded) -> Option<&'m str> {
    let now = loaded.bundle()?.modules();
    let changed = kept.iter().find(|module| !now.contains(module))?;
    Some(&changed.name)
}
