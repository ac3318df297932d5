//! Promotion: the candidate is written over its rule's file, which is how every rule goes live. The file stays the truth, and tests,
//! generations and rollback work as for any other save.

use anyhow::{Context, bail};
use postroom_core::ContentHash;
use postroom_sandbox::{Bundle, Module, Rule as Loaded, Sandbox};
use postroom_store::{LastGood, Listings, Shadow};

use postroom_config::{Config, MailboxConfig, RuleKind, RuleUse, Tenant};
use postroom_files::{ConfinedPath, EscapesRoot};
use postroom_rules::cases::ReleaseGate;
use postroom_rules::rulebook::{load_bytes, read_configured};

/// The result of a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    Written,
    /// The file was the candidate's already.
    WasThere,
}

/// Writes the candidate over the rule's file, unless it would not become the very version that was shadowed, or would undo
/// somebody's newer save; `anyway` allows the latter. Blocking.
pub fn put(
    config: &Config,
    sandbox: &Sandbox,
    listings: &dyn Listings,
    shadow: &Shadow,
    anyway: bool,
) -> anyhow::Result<Put> {
    let (_, _, wanted) = stands_at(config, shadow)?;
    let name = &shadow.rule;
    is_not_refused(listings, &shadow.tenant, name, shadow.hash)?;
    let kept = listings.shadow_bytes(shadow.id)?;
    let kept = kept.context("the candidate is not kept any more")?;
    let modules = match wanted.rule.kind {
        RuleKind::Component(_) => Vec::new(),
        _ => Bundle::unpack(name, &kept)?.modules().to_vec(),
    };
    let main = modules.first();
    let main = main.map_or(&kept[..], |main| main.text.as_bytes());
    let loaded = load_bytes(sandbox, &wanted, main).with_context(|| {
        format!("as its modules are now it does not load in the place of {name}")
    })?;
    if loaded.hash() != shadow.hash {
        bail!(
            "{} changed since the shadow began, so it would not be what was compared; help: put that file back, or begin a new shadow",
            changed_module(&modules, &loaded).unwrap_or("a module that it imports")
        );
    }
    if is_in_place(shadow, &wanted, main, anyway)? {
        return Ok(Put::WasThere);
    }
    let tested = ReleaseGate::of(config).test(sandbox, &wanted, &loaded);
    if let Some(reason) = tested.and_then(|tested| tested.refusal()) {
        bail!(
            "it would not go live, for its tenant asks for rules that pass their tests: {reason}"
        );
    }
    // Tests may take long, and somebody may have saved the rule meanwhile.
    if is_in_place(shadow, &wanted, main, anyway)? {
        return Ok(Put::WasThere);
    }
    let path = wanted.rule.path().context("it is built in")?;
    let found = ConfinedPath::find(&wanted.rule.base(), path).map_err(|astray| match astray {
        EscapesRoot::Out => anyhow::anyhow!("{name} leads out of the configuration's folder"),
        EscapesRoot::Nowhere(error) => anyhow::anyhow!("{name}: {error}"),
    })?;
    found.replace(main).with_context(|| {
        format!("{name} could not be written; help: let this user write into its folder, or promote it as one who may")
    })?;
    Ok(Put::Written)
}

/// Whether the rule's file is the candidate's already. Refused when it is somebody's newer save, unless `anyway`.
fn is_in_place(
    shadow: &Shadow,
    wanted: &RuleUse,
    main: &[u8],
    anyway: bool,
) -> anyhow::Result<bool> {
    let name = &shadow.rule;
    let now =
        read_configured(&wanted.rule).map_err(|reason| anyhow::anyhow!("{name}: {reason}"))?;
    if now == main {
        return Ok(true);
    }
    if ContentHash::of(&now) != shadow.replaces && !anyway {
        bail!(
            "{name} changed since the shadow began, and that change would be lost; help: begin a new shadow, or give up the change with `postroom shadow promote {} --anyway`",
            shadow.mailbox
        );
    }
    Ok(false)
}

/// Locates a shadow in the current configuration.
pub fn stands_at<'c>(
    config: &'c Config,
    shadow: &Shadow,
) -> anyhow::Result<(&'c MailboxConfig, &'c Tenant, RuleUse)> {
    let Some(mailbox) = config.mailbox(&shadow.mailbox) else {
        bail!("its mailbox is no longer configured");
    };
    let tenant = config.tenant(&mailbox.tenant);
    let Some(tenant) = tenant.filter(|it| it.name == shadow.tenant) else {
        bail!("its mailbox now belongs to another tenant");
    };
    let mut rules = mailbox.rules.iter();
    let Some(rule) = rules.find(|rule| rule.name == shadow.rule) else {
        bail!("its mailbox has no rule {} any more", shadow.rule);
    };
    Ok((mailbox, tenant, tenant.use_of(rule)))
}

/// A version that was rolled back stays refused, whatever its file contains.
pub fn is_not_refused(
    served_before: &dyn LastGood,
    tenant: &str,
    name: &str,
    hash: ContentHash,
) -> anyhow::Result<()> {
    let refused = served_before.refused_rules()?;
    let mut refused = refused.iter();
    let same = refused.find(|it| it.tenant == tenant && it.name == name && it.hash == hash);
    if let Some(refused) = same {
        bail!(
            "this very version of {name} was {}, and would stay out; help: change it, or return to it with `postroom rules rollback`",
            refused.reason
        );
    }
    Ok(())
}

/// The module that is not as it was kept.
fn changed_module<'m>(kept: &'m [Module], loaded: &Loaded) -> Option<&'m str> {
    let now = loaded.bundle()?.modules();
    let changed = kept.iter().find(|module| !now.contains(module))?;
    Some(&changed.name)
}
