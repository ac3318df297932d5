//! One mailbox as the line sees it, whatever protocol feeds it.

use std::collections::HashMap;
use std::sync::Arc;

use postroom_config::{Config, Duplicates, MailboxConfig, SessionUse, SizeLimits};
use postroom_core::{After, AttributeBy, ItemKind, MailboxPolicy, OutgoingRoute, Outlets, Routes};
use postroom_rules::senders::persons;
use tracing::Span;

/// A mailbox, with what applies to the mail in it.
pub struct Mailbox {
    pub name: String,
    /// Its tenant; for a shared mailbox, the tenant of the mail that fits no client.
    pub tenant: String,
    /// Set if the mailbox is shared by all tenants.
    pub shared: Option<Arc<Shared>>,
    /// The addresses at which its mail arrives, as [`postroom_core::effects::person`] returns them.
    pub addresses: Vec<String>,
    /// The authserv-ids whose Authentication-Results are trusted.
    pub trusted: Vec<String>,
    pub after_done: After,
    pub after_failed: After,
    pub outlets: Arc<Outlets>,
    pub policy: MailboxPolicy,
    pub size: SizeLimits,
    pub session: SessionUse,
    pub duplicates: Duplicates,
}

/// The tenants of a shared mailbox.
pub struct Shared {
    pub by: AttributeBy,
    /// The mailbox as it is for the mail of each tenant.
    pub clients: HashMap<String, Arc<Mailbox>>,
}

impl Mailbox {
    pub fn of(config: &Config, mailbox: &MailboxConfig) -> Self {
        let shared = mailbox.shared.as_ref().map(|shared| {
            let of_each = mailbox.by_tenant();
            let of_each = of_each.iter().map(|of_one| {
                let one = Self::of_one(config, of_one);
                (one.tenant.clone(), Arc::new(one))
            });
            Arc::new(Shared {
                by: shared.by,
                clients: of_each.collect(),
            })
        });
        Self {
            shared,
            ..Self::of_one(config, mailbox)
        }
    }

    /// Returns every tenant whose mail arrives in it.
    pub fn tenants(&self) -> Vec<&str> {
        match &self.shared {
            Some(shared) => shared.clients.keys().map(String::as_str).collect(),
            None => vec![&self.tenant],
        }
    }

    fn of_one(config: &Config, mailbox: &MailboxConfig) -> Self {
        let takers = |kind| {
            let sinks = config.sinks.iter();
            sinks
                .filter(|sink| sink.takes(&mailbox.tenant, kind))
                .map(|sink| sink.name.clone())
                .collect()
        };
        let outgoing = mailbox
            .outgoing
            .as_deref()
            .and_then(|name| config.outgoing(name));
        let tenant = config.tenant(&mailbox.tenant);
        Self {
            name: mailbox.name.clone(),
            tenant: mailbox.tenant.clone(),
            shared: None,
            addresses: persons(mailbox.address.iter().chain(&mailbox.aliases)),
            trusted: mailbox.trusted.clone(),
            after_done: mailbox.after_done.clone(),
            after_failed: mailbox.after_failed.clone(),
            policy: match config.tenant(&mailbox.tenant) {
                Some(tenant) => mailbox.policy_of(tenant),
                None => mailbox.policy.clone(),
            },
            size: mailbox.size,
            session: mailbox.session,
            duplicates: tenant.map(|it| it.duplicates).unwrap_or_default(),
            outlets: Arc::new(Outlets {
                routes: Routes {
                    ticket: takers(ItemKind::Ticket),
                    note: takers(ItemKind::Note),
                    alert: takers(ItemKind::Alert),
                },
                deliver_old: mailbox.deliver_old,
                outgoing: outgoing.map(|way| OutgoingRoute {
                    name: way.name.clone(),
                    from_domain: way.from.domain().to_owned(),
                    automatic: config.limits.automatic,
                }),
                alerts: tenant.map(|it| it.alerts.clone()).unwrap_or_default(),
            }),
        }
    }

    /// Returns the span of all work for this mailbox. Its level is the highest, so every log line within it names the mailbox.
    pub fn span(&self) -> Span {
        tracing::error_span!("mailbox", mailbox = %self.name, tenant = %self.tenant)
    }
}
