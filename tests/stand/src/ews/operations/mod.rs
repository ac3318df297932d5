//! The operations of the EWS double. Each works on a request that matches the schema.

mod extended;
mod folders;
mod items;
mod notifications;

use std::time::{Duration, SystemTime};

use roxmltree::Node;

use super::schema::TYPES;
use super::store::Store;
use folders::{convert_id, create_folder, find_folder, get_folder};
use items::{Shape, create_item, delete_item, find_item, get_item, move_item, sync, update_item};
pub(super) use notifications::notification;
use notifications::{streaming, subscribe, unsubscribe};

/// A caller, with the mailboxes that they may open: first the one they act for.
pub(super) struct Caller {
    pub mailboxes: Vec<String>,
    /// Whether the caller uses the schema of Exchange 2013 or later.
    pub is_modern: bool,
}

/// The result of an operation.
pub(super) enum Done {
    /// The response messages.
    Messages(Vec<String>),
    /// A stream of notifications: the mailbox, its subscriptions, and how long it lasts.
    Stream {
        mailbox: String,
        subscriptions: Vec<String>,
        lasts: Duration,
    },
}

/// A refusal with its ResponseCode.
pub(super) type Refused = &'static str;

/// The most changes on a page (learn.microsoft.com, "MaxChangesReturned").
const CHANGES_MAX: usize = 512;

/// Runs an operation. The error is a schema violation.
pub(super) fn run(
    store: &mut Store,
    caller: &Caller,
    operation: Node<'_, '_>,
) -> Result<Done, String> {
    let name = operation.tag_name().name();
    if operation.attribute("SuppressReadReceipts").is_some() && !caller.is_modern {
        return Err("the attribute 'SuppressReadReceipts' is not declared in this version".into());
    }
    let one = |outcome: Result<String, Refused>| Done::Messages(vec![message(name, outcome)]);
    let each = |outcomes: Vec<Result<String, Refused>>| {
        let messages = outcomes.into_iter().map(|outcome| message(name, outcome));
        Done::Messages(messages.collect())
    };
    Ok(match name {
        "GetFolder" => {
            let ids = child(operation, "FolderIds");
            each(
                elements(ids)
                    .map(|id| get_folder(store, caller, operation, id))
                    .collect(),
            )
        }
        "FindFolder" => {
            let parents = child(operation, "ParentFolderIds");
            each(
                elements(parents)
                    .map(|id| find_folder(store, caller, operation, id))
                    .collect(),
            )
        }
        "ConvertId" => {
            let sources = child(operation, "SourceIds");
            each(
                elements(sources)
                    .map(|id| convert_id(store, caller, operation, id))
                    .collect(),
            )
        }
        "CreateFolder" => one(create_folder(store, caller, operation)),
        "SyncFolderItems" => {
            let most: usize = text(operation, "MaxChangesReturned").parse().unwrap_or(0);
            if !(1..=CHANGES_MAX).contains(&most) {
                return Err("the value of 'MaxChangesReturned' is out of range".into());
            }
            one(sync(store, caller, operation, most))
        }
        "FindItem" => {
            let parents = child(operation, "ParentFolderIds");
            each(
                elements(parents)
                    .map(|id| find_item(store, caller, operation, id))
                    .collect(),
            )
        }
        "GetItem" => {
            let shape = Shape::of(operation);
            each(
                ids(operation)
                    .map(|id| get_item(store, caller, &shape, id))
                    .collect(),
            )
        }
        "CreateItem" => {
            let disposition = operation.attribute("MessageDisposition");
            let items: Vec<_> = elements(child(operation, "Items")).collect();
            each(
                items
                    .into_iter()
                    .map(|item| create_item(store, caller, operation, disposition, item))
                    .collect(),
            )
        }
        "UpdateItem" => {
            let resolution = operation
                .attribute("ConflictResolution")
                .unwrap_or_default();
            if !["NeverOverwrite", "AutoResolve", "AlwaysOverwrite"].contains(&resolution) {
                return Err("the value of 'ConflictResolution' is invalid".into());
            }
            let changes = elements(child(operation, "ItemChanges"));
            each(
                changes
                    .map(|change| update_item(store, caller, operation, change))
                    .collect(),
            )
        }
        "MoveItem" => {
            let target = elements(child(operation, "ToFolderId")).next();
            let target = target.ok_or("ToFolderId is empty")?;
            let tells = text(operation, "ReturnNewItemIds") != "false";
            each(
                ids(operation)
                    .map(|id| move_item(store, caller, target, id, tells))
                    .collect(),
            )
        }
        "DeleteItem" => {
            let kind = operation.attribute("DeleteType").unwrap_or_default();
            if !["HardDelete", "SoftDelete", "MoveToDeletedItems"].contains(&kind) {
                return Err("the value of 'DeleteType' is invalid".into());
            }
            each(
                ids(operation)
                    .map(|id| delete_item(store, caller, kind, id))
                    .collect(),
            )
        }
        "Subscribe" => one(subscribe(store, caller, operation)),
        "Unsubscribe" => one(unsubscribe(
            store,
            caller,
            text(operation, "SubscriptionId"),
        )),
        "GetStreamingEvents" => return streaming(store, caller, operation),
        _ => return Err(format!("the operation '{name}' is not known")),
    })
}

/// Returns the response message of an operation.
pub(super) fn message(operation: &str, outcome: Result<String, Refused>) -> String {
    match outcome {
        Ok(body) => format!(
            "<m:{operation}ResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>{body}</m:{operation}ResponseMessage>"
        ),
        Err(code) => format!(
            "<m:{operation}ResponseMessage ResponseClass=\"Error\"><m:MessageText>Refused by the double: {code}.</m:MessageText>\
             <m:ResponseCode>{code}</m:ResponseCode><m:DescriptiveLinkKey>0</m:DescriptiveLinkKey>{}</m:{operation}ResponseMessage>",
            // Operations on items and folders put the list's name in the message.
            match operation {
                "GetItem" | "CreateItem" | "UpdateItem" | "MoveItem" => "<m:Items/>",
                "GetFolder" | "CreateFolder" => "<m:Folders/>",
                "SyncFolderItems" => {
                    "<m:SyncState/><m:IncludesLastItemInRange>true</m:IncludesLastItemInRange>"
                }
                _ => "",
            }
        ),
    }
}

// --- XML ---

fn elements<'a, 'i>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(Node::is_element)
}

/// Returns the child with this name, or the node itself if it has no such child.
fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Node<'a, 'i> {
    elements(node)
        .find(|it| it.tag_name().name() == name)
        .unwrap_or(node)
}

fn text<'a>(node: Node<'a, '_>, name: &str) -> &'a str {
    let found = elements(node).find(|it| it.tag_name().name() == name);
    found.and_then(|it| it.text()).map_or("", str::trim)
}

fn ids<'a, 'i>(operation: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    elements(child(operation, "ItemIds")).filter(|it| it.has_tag_name((TYPES, "ItemId")))
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Formats a time as XML Schema does, in UTC, to the second.
fn date(at: SystemTime) -> String {
    let secs = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |it| it.as_secs());
    let [year, month, day, hour, minute, second] = civil(secs);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Formats a time as HTTP does (RFC 9110 section 5.6.7).
pub(super) fn http_date(secs: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let [year, month, day, hour, minute, second] = civil(secs);
    let name = DAYS[(secs / 86_400 % 7) as usize];
    let month = MONTHS[month as usize - 1];
    format!("{name}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Splits seconds since 1970 into year, month, day, hour, minute and second (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", civil_from_days).
fn civil(secs: u64) -> [u64; 6] {
    let (days, rest) = (secs / 86_400, secs % 86_400);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    [year, month, day, rest / 3600, rest / 60 % 60, rest % 60]
}
