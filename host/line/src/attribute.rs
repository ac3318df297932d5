//! Step 2 of the line for a shared mailbox: each parsed mail becomes the mail of the client that it belongs to, before any rule runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use postroom_core::{AttributeBy, Client, ClientEvidence, Message, ThreadMethod, ThreadQuery};
use postroom_store::StoreError;

use super::decide::{Parsed, panic_text};
use super::mailbox::Shared;
use super::{Line, Mailbox};

/// Evidence that only those have who received a mail of the ticket. It precedes the sender's own client: a client's person may take
/// part in another client's ticket.
const PROOFS: &[ThreadMethod] = &[
    ThreadMethod::ReplyToken,
    ThreadMethod::OwnMessageId,
    ThreadMethod::Bounce,
];

/// The mails of one tenant in a batch, in order.
pub type OfTenant = (Arc<Mailbox>, Vec<Parsed>);

/// Attributes the mails of a batch and records it in the journal. A mail that fits no client, or several, stays the mailbox's own.
pub async fn attribute(
    line: &Arc<Line>,
    mailbox: &Arc<Mailbox>,
    mails: Vec<Parsed>,
) -> Result<Vec<OfTenant>, StoreError> {
    let Some(shared) = mailbox.shared.clone() else {
        return Ok(vec![(mailbox.clone(), mails)]);
    };
    let (own, of) = (line.clone(), mailbox.clone());
    // Tickets are asked for in the store, which blocks.
    let attributing = tokio::task::spawn_blocking(move || {
        let mails = mails.into_iter();
        let each = mails.map(|mail| {
            let (tenant, client) = attribute_one(&own, &of, &shared, &mail)?;
            let tenant = shared.clients.get(&tenant).unwrap_or(&of);
            Ok((tenant.clone(), mail.attributed_to(client)))
        });
        each.collect::<Result<Vec<_>, StoreError>>()
    });
    let attributed = attributing
        .await
        .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    let names = attributed.iter();
    let names = names.map(|(tenant, mail)| (mail.mail.id, tenant.tenant.clone()));
    line.journal.attribute(names.collect()).await?;
    let mut parts: Vec<OfTenant> = Vec::new();
    for (tenant, mail) in attributed {
        match parts.iter_mut().find(|(of, _)| of.tenant == tenant.tenant) {
            Some((_, mails)) => mails.push(mail),
            None => parts.push((tenant, vec![mail])),
        }
    }
    Ok(parts)
}

/// Returns the tenant of a mail, and the client for its rules. A panic here attributes the mail to nobody; it will not be decided
/// differently for that.
fn attribute_one(
    line: &Line,
    mailbox: &Mailbox,
    shared: &Shared,
    mail: &Parsed,
) -> Result<(String, Option<Client>), StoreError> {
    let nobody = || Ok((mailbox.tenant.clone(), None));
    let Some(message) = mail.headers() else {
        return nobody();
    };
    let attributed = catch_unwind(AssertUnwindSafe(|| {
        attribute_message(line, mailbox, shared, message)
    }));
    match attributed {
        Ok(Ok(Some((tenant, client)))) => Ok((tenant, Some(client))),
        Ok(Ok(None)) => nobody(),
        Ok(Err(error)) => Err(error),
        Err(panic) => {
            let reason = panic_text(&*panic);
            tracing::error!(mail = mail.mail.id.0, %reason, "attributing a mail panicked; it stays the mailbox's own");
            nobody()
        }
    }
}

fn attribute_message(
    line: &Line,
    mailbox: &Mailbox,
    shared: &Shared,
    message: &Message,
) -> Result<Option<(String, Client)>, StoreError> {
    let settings = line.settings();
    let senders = &settings.senders;
    let sender = senders.without_client(message);
    let is_disowned = message.authentication.disowns_sender();
    let query = ThreadQuery {
        is_staff: sender.is_staff,
        ..ThreadQuery::of(message, &senders.foreign_numbers)
    };
    let of_ticket = |methods| -> Result<_, StoreError> {
        let tenant = match is_disowned {
            // Anybody may have written the name of a participant.
            true => None,
            false => line.facts.ticket_tenant(&query, methods)?,
        };
        let tenant = tenant.filter(|it| shared.clients.contains_key(it));
        Ok(tenant.map(|name| {
            let client = Client {
                candidates: vec![name.clone()],
                name: name.clone(),
                sure: true,
                evidence: ClientEvidence::Ticket,
            };
            (name, client)
        }))
    };
    if let Some(found) = of_ticket(PROOFS)? {
        return Ok(Some(found));
    }
    let found = senders.attribute(
        shared.by,
        message,
        &sender,
        &mailbox.addresses,
        &*line.directories,
    );
    let by_sender = shared.by == AttributeBy::Sender;
    let client = found.as_ref();
    let client = client.and_then(|found| found.client(by_sender && is_disowned));
    if let Some(client) = client.as_ref().filter(|client| client.sure) {
        return Ok(Some((client.name.clone(), client.clone())));
    }
    if let Some(found) = of_ticket(ThreadMethod::ALL)? {
        return Ok(Some(found));
    }
    Ok(client.map(|client| (mailbox.tenant.clone(), client)))
}
