//! Subscriptions and the events of their streams.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use roxmltree::Node;

use super::super::store::{Store, Subscription};
use super::folders::resolve;
use super::{Caller, Done, Refused, child, date, elements, message, text};

/// Returns the pending notification of a subscription, if any, and marks its events as sent.
pub(in super::super) fn notification(
    store: &mut Store,
    mailbox: &str,
    subscription: &str,
) -> Option<String> {
    let (mailbox, _) = store.mailbox(mailbox);
    let wanted = mailbox.subscriptions.get_mut(subscription)?;
    let fresh: Vec<_> = mailbox.events[wanted.next.min(mailbox.events.len())..]
        .iter()
        .filter(|event| {
            wanted.folders.contains(&event.folder)
                && wanted.kinds.iter().any(|kind| kind == event.kind)
        })
        .collect();
    wanted.next = mailbox.events.len();
    if fresh.is_empty() {
        return None;
    }
    let events: String = fresh
        .into_iter()
        .map(|event| {
            let kind = event.kind;
            format!(
                "<t:{kind}><t:TimeStamp>{}</t:TimeStamp><t:ItemId Id=\"{}\" ChangeKey=\"CQAAAA==\"/><t:ParentFolderId Id=\"{}\" ChangeKey=\"AQAAAA==\"/></t:{kind}>",
                date(SystemTime::now()),
                event.item,
                event.folder
            )
        })
        .collect();
    Some(format!(
        "<m:Notifications><m:Notification><t:SubscriptionId>{subscription}</t:SubscriptionId>{events}</m:Notification></m:Notifications>"
    ))
}

pub(super) fn subscribe(
    store: &mut Store,
    caller: &Caller,
    operation: Node<'_, '_>,
) -> Result<String, Refused> {
    let request = child(operation, "StreamingSubscriptionRequest");
    let kinds = elements(child(request, "EventTypes")).filter_map(|it| it.text());
    let kinds: Vec<String> = kinds.map(str::to_owned).collect();
    const KNOWN: [&str; 7] = [
        "NewMailEvent",
        "CreatedEvent",
        "MovedEvent",
        "CopiedEvent",
        "DeletedEvent",
        "ModifiedEvent",
        "FreeBusyChangedEvent",
    ];
    if kinds.iter().any(|kind| !KNOWN.contains(&kind.as_str())) {
        return Err("ErrorInvalidSubscriptionRequest");
    }
    let (mut address, mut folders) = (caller.mailboxes[0].clone(), Vec::new());
    for folder in elements(child(request, "FolderIds")) {
        let (of, id) = resolve(store, caller, folder)?;
        folders.push(id);
        address = of;
    }
    let (mailbox, clock) = store.mailbox(&address);
    *clock += 1;
    let id = BASE64.encode(format!("{address}|{clock}"));
    let subscription = Subscription {
        folders,
        kinds,
        next: mailbox.events.len(),
    };
    mailbox.subscriptions.insert(id.clone(), subscription);
    Ok(format!("<m:SubscriptionId>{id}</m:SubscriptionId>"))
}

pub(super) fn unsubscribe(store: &mut Store, caller: &Caller, id: &str) -> Result<String, Refused> {
    for address in &caller.mailboxes {
        if store.mailbox(address).0.subscriptions.remove(id).is_some() {
            return Ok(String::new());
        }
    }
    Err("ErrorSubscriptionNotFound")
}

pub(super) fn streaming(
    store: &mut Store,
    caller: &Caller,
    operation: Node<'_, '_>,
) -> Result<Done, String> {
    let minutes: u64 = text(operation, "ConnectionTimeout").parse().unwrap_or(0);
    if !(1..=30).contains(&minutes) {
        return Err("the value of 'ConnectionTimeout' is out of range".into());
    }
    let ids = elements(child(operation, "SubscriptionIds")).filter_map(|it| it.text());
    let ids: Vec<String> = ids.map(str::to_owned).collect();
    let mut mailboxes = caller.mailboxes.iter();
    let found = mailboxes.find(|address| {
        let (mailbox, _) = store.mailbox(address);
        ids.iter().all(|id| mailbox.subscriptions.contains_key(id))
    });
    Ok(match found {
        Some(mailbox) => Done::Stream {
            mailbox: mailbox.clone(),
            subscriptions: ids,
            lasts: Duration::from_secs(minutes * 60),
        },
        None => Done::Messages(vec![message(
            "GetStreamingEvents",
            Err("ErrorSubscriptionNotFound"),
        )]),
    })
}
