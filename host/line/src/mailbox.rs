//! One mailbox as the line sees it, whatever protocol feeds it.

use std::sync::Arc;

use postroom_config::{Config, Duplicates, MailboxConfig, SessionUse, SizeLimits};
use postroom_core::{After, ItemKind, MailboxPolicy, OutgoingRoute, Outlets, Routes};
use tracing::Span;

/// A mailbox, with what applies to the mail in it.
pub struct Mailbox {
    pub name: String,
    pub tenant: String,
    /// The tenant's domains: a sender in one of them belongs to this client.
    pub domains: Vec<String>,
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

impl Mailbox {
    pub fn of(config: &Config, mailbox: &MailboxConfig) -> Self {
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
            domains: tenant
                .map(|tenant| tenant.domains.clone())
                .unwrap_or_default(),
            trusted: mailbox.trusted.clone(),
            after_done: mailbox.after_done.clone(),
            after_failed: mailbox.after_failed.clone(),
            policy: mailbox.policy.clone(),
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
