//! Mails: lists, reads, writes, moves and deletes them, and lists the changes of a folder.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use roxmltree::Node;

use super::super::EwsSent;
use super::super::store::{Change, Item, Store};
use super::extended::{self, Wanted, wanted};
use super::folders::resolve;
use super::{Caller, Refused, child, date, elements, escaped, text};
use crate::mail::with_message_id;

/// The requested properties of an item.
pub(super) struct Shape {
    base: String,
    has_mime: bool,
    fields: Vec<String>,
    extended: Vec<Wanted>,
}

impl Shape {
    pub(super) fn of(operation: Node<'_, '_>) -> Self {
        let shape = child(operation, "ItemShape");
        let fields = shape
            .descendants()
            .filter(|it| it.tag_name().name() == "FieldURI")
            .filter_map(|it| it.attribute("FieldURI"))
            .map(str::to_owned);
        Self {
            base: text(shape, "BaseShape").to_owned(),
            has_mime: text(shape, "IncludeMimeContent") == "true",
            fields: fields.collect(),
            extended: wanted(operation, "ItemShape"),
        }
    }

    fn has(&self, field: &str) -> bool {
        self.base != "IdOnly" || self.fields.iter().any(|it| it == field)
    }
}

pub(super) fn item_xml(item: &Item, shape: &Shape) -> String {
    let mut xml = String::new();
    if shape.has_mime || shape.fields.iter().any(|it| it == "item:MimeContent") {
        let mime = BASE64.encode(&item.mime);
        xml += &format!("<t:MimeContent CharacterSet=\"UTF-8\">{mime}</t:MimeContent>");
    }
    xml += &format!(
        "<t:ItemId Id=\"{}\" ChangeKey=\"{}\"/>",
        item.id,
        item.change_key()
    );
    let mailbox = |header: &str| {
        let value = item.header(header);
        let address = value.rsplit('<').next().unwrap_or_default();
        escaped(address.trim_end_matches('>').trim())
    };
    let values = [
        (
            "item:ParentFolderId",
            format!(
                "<t:ParentFolderId Id=\"{}\" ChangeKey=\"AQAAAA==\"/>",
                item.folder
            ),
        ),
        (
            "item:ItemClass",
            "<t:ItemClass>IPM.Note</t:ItemClass>".into(),
        ),
        (
            "item:Subject",
            format!(
                "<t:Subject>{}</t:Subject>",
                escaped(&item.header("Subject"))
            ),
        ),
        (
            "item:DateTimeReceived",
            format!(
                "<t:DateTimeReceived>{}</t:DateTimeReceived>",
                date(item.received)
            ),
        ),
        ("item:Size", format!("<t:Size>{}</t:Size>", item.size())),
        (
            "message:From",
            format!(
                "<t:From><t:Mailbox><t:EmailAddress>{}</t:EmailAddress></t:Mailbox></t:From>",
                mailbox("From")
            ),
        ),
        (
            "message:InternetMessageId",
            format!(
                "<t:InternetMessageId>{}</t:InternetMessageId>",
                escaped(&item.header("Message-ID"))
            ),
        ),
        (
            "message:IsRead",
            format!("<t:IsRead>{}</t:IsRead>", item.is_read),
        ),
    ];
    let extended = extended::of_item(item, &shape.extended);
    for (field, value) in values {
        // The schema puts them between the properties of every item and those of messages.
        if field == "message:From" {
            xml += &extended;
        }
        if shape.has(field) {
            xml += &value;
        }
    }
    format!("<t:Message>{xml}</t:Message>")
}

pub(super) fn id_xml(item: &Item) -> String {
    format!(
        "<m:Items><t:Message><t:ItemId Id=\"{}\" ChangeKey=\"{}\"/></t:Message></m:Items>",
        item.id,
        item.change_key()
    )
}

/// Returns the mailbox that an item is in.
pub(super) fn owner(store: &mut Store, caller: &Caller, id: &str) -> Result<String, Refused> {
    let mut mailboxes = caller.mailboxes.iter();
    let found = mailboxes.find(|address| store.mailbox(address).0.items.contains_key(id));
    match found {
        Some(address) => Ok(address.clone()),
        None if !id.starts_with("AAMk") => Err("ErrorInvalidIdMalformed"),
        None => Err("ErrorItemNotFound"),
    }
}

pub(super) fn sync(
    store: &mut Store,
    caller: &Caller,
    operation: Node<'_, '_>,
    most: usize,
) -> Result<String, Refused> {
    let folder = elements(child(operation, "SyncFolderId")).next();
    let folder = resolve(store, caller, folder.ok_or("ErrorSyncFolderNotFound")?);
    let (address, folder) = folder.map_err(|code| match code {
        "ErrorItemNotFound" => "ErrorSyncFolderNotFound",
        code => code,
    })?;
    let shape = Shape::of(operation);
    if shape.has_mime {
        return Err("ErrorInvalidPropertyRequest");
    }
    let (mailbox, clock) = store.mailbox(&address);
    let after = match text(operation, "SyncState") {
        "" => 0,
        state => mailbox
            .read_state(&folder, state)
            .ok_or("ErrorInvalidSyncStateData")?,
    };
    let mut changes = mailbox.changes(&folder, after);
    let is_last = changes.len() <= most;
    changes.truncate(most);
    let reached = match (is_last, changes.last()) {
        (false, Some((at, _))) => *at,
        _ => *clock,
    };
    let written: String = changes
        .iter()
        .map(|(_, change)| match change {
            Change::Create(item) => format!("<t:Create>{}</t:Create>", item_xml(item, &shape)),
            Change::Update(item) => format!("<t:Update>{}</t:Update>", item_xml(item, &shape)),
            Change::ReadFlag(item) => format!(
                "<t:ReadFlagChange><t:ItemId Id=\"{}\" ChangeKey=\"{}\"/><t:IsRead>{}</t:IsRead></t:ReadFlagChange>",
                item.id,
                item.change_key(),
                item.is_read
            ),
            Change::Delete(id) => format!("<t:Delete><t:ItemId Id=\"{id}\" ChangeKey=\"CQAAAA==\"/></t:Delete>"),
        })
        .collect();
    let state = mailbox.sync_state(clock, &folder, reached);
    Ok(format!(
        "<m:SyncState>{state}</m:SyncState><m:IncludesLastItemInRange>{is_last}</m:IncludesLastItemInRange><m:Changes>{written}</m:Changes>"
    ))
}

pub(super) fn find_item(
    store: &mut Store,
    caller: &Caller,
    operation: Node<'_, '_>,
    parent: Node<'_, '_>,
) -> Result<String, Refused> {
    let (address, folder) = resolve(store, caller, parent)?;
    let (mailbox, _) = store.mailbox(&address);
    let shape = Shape::of(operation);
    if shape.has_mime {
        return Err("ErrorInvalidPropertyRequest");
    }
    let mut items = mailbox.in_folder(&folder);
    if let Some(restriction) = elements(operation).find(|it| it.tag_name().name() == "Restriction")
    {
        let equal = child(restriction, "IsEqualTo");
        let uri = elements(equal).find(|it| it.tag_name().name() == "ExtendedFieldURI");
        let constant = equal
            .descendants()
            .find(|it| it.tag_name().name() == "Constant");
        if let (Some(uri), Some(constant)) = (uri, constant) {
            let wanted = (
                property(uri),
                constant.attribute("Value").unwrap_or_default().to_owned(),
            );
            items.retain(|item| item.properties.contains(&wanted));
        }
    }
    let order = operation
        .descendants()
        .find(|it| it.tag_name().name() == "FieldOrder");
    items.sort_by_key(|item| item.received);
    if order.is_none_or(|order| order.attribute("Order") == Some("Descending")) {
        items.reverse();
    }
    let view = operation
        .children()
        .find(|it| it.tag_name().name() == "IndexedPageItemView");
    let number = |name| view.and_then(|it| it.attribute(name)?.parse::<usize>().ok());
    let offset = number("Offset").unwrap_or(0).min(items.len());
    let end = (offset + number("MaxEntriesReturned").unwrap_or(1000).min(1000)).min(items.len());
    let found: String = items[offset..end]
        .iter()
        .map(|item| item_xml(item, &shape))
        .collect();
    Ok(format!(
        "<m:RootFolder IndexedPagingOffset=\"{end}\" TotalItemsInView=\"{}\" IncludesLastItemInRange=\"{}\"><t:Items>{found}</t:Items></m:RootFolder>",
        items.len(),
        end == items.len()
    ))
}

pub(super) fn get_item(
    store: &mut Store,
    caller: &Caller,
    shape: &Shape,
    id: Node<'_, '_>,
) -> Result<String, Refused> {
    let id = id.attribute("Id").unwrap_or_default();
    let address = owner(store, caller, id)?;
    let (mailbox, _) = store.mailbox(&address);
    let item = mailbox.items.get(id).ok_or("ErrorItemNotFound")?;
    Ok(format!("<m:Items>{}</m:Items>", item_xml(item, shape)))
}

pub(super) fn create_item(
    store: &mut Store,
    caller: &Caller,
    operation: Node<'_, '_>,
    disposition: Option<&str>,
    item: Node<'_, '_>,
) -> Result<String, Refused> {
    if disposition.is_none() {
        return Err("ErrorMessageDispositionRequired");
    }
    let mime = match text(item, "MimeContent") {
        "" => {
            let to: Vec<_> = item
                .descendants()
                .filter(|it| it.tag_name().name() == "EmailAddress")
                .filter_map(|it| it.text())
                .collect();
            let (subject, body) = (text(item, "Subject"), text(item, "Body"));
            format!(
                "To: {}\r\nSubject: {subject}\r\n\r\n{body}\r\n",
                to.join(", ")
            )
            .into_bytes()
        }
        encoded => BASE64
            .decode(encoded.split_whitespace().collect::<String>())
            .map_err(|_| "ErrorMimeContentInvalidBase64String")?,
    };
    let saved = elements(operation).find(|it| it.tag_name().name() == "SavedItemFolderId");
    let folder = saved.and_then(|it| elements(it).next());
    let (address, folder) = match folder {
        Some(folder) => resolve(store, caller, folder)?,
        None => {
            let address = caller.mailboxes[0].clone();
            let name = if disposition == Some("SaveOnly") {
                "drafts"
            } else {
                "sentitems"
            };
            let folder = store
                .mailbox(&address)
                .0
                .well_known(name)
                .map(|it| it.id.clone());
            (address, folder.ok_or("ErrorFolderNotFound")?)
        }
    };
    let is_sent = matches!(disposition, Some("SendOnly" | "SendAndSaveCopy"));
    let mime = match is_sent {
        true => send(store, caller, &address, &mime)?,
        false => mime,
    };
    if disposition == Some("SendOnly") {
        return Ok("<m:Items/>".into());
    }
    let (mailbox, clock) = store.mailbox(&address);
    let id = mailbox.add(clock, &folder, mime, SystemTime::now(), false);
    let created = mailbox.items.get_mut(&id).ok_or("ErrorItemSave")?;
    created.is_read = is_sent;
    let properties = elements(item).filter(|it| it.tag_name().name() == "ExtendedProperty");
    created.properties = properties
        .map(|it| {
            (
                property(child(it, "ExtendedFieldURI")),
                text(it, "Value").to_owned(),
            )
        })
        .collect();
    // Exchange returns no id of a mail that it sends.
    Ok(match is_sent {
        true => "<m:Items/>".into(),
        false => id_xml(created),
    })
}

/// Sends a mail under a new Message-ID, as Exchange does, and returns it.
fn send(
    store: &mut Store,
    caller: &Caller,
    address: &str,
    mime: &[u8],
) -> Result<Vec<u8>, Refused> {
    let headers = Item::headers(mime);
    let header = |name: &str| Item::header_of(&headers, name).to_lowercase();
    if !["to", "cc", "bcc"]
        .iter()
        .any(|name| header(name).contains('@'))
    {
        return Err("ErrorInvalidRecipients");
    }
    let from = header("from");
    if !from.is_empty() && !caller.mailboxes.iter().any(|it| from.contains(it.as_str())) {
        return Err("ErrorSendAsDenied");
    }
    let message_id = format!("{:08X}@exchange.stand.example", store.sent.len() + 1);
    let mime = with_message_id(mime, &message_id);
    store.sent.push(EwsSent {
        mailbox: address.to_owned(),
        mime: mime.clone(),
        message_id,
    });
    Ok(mime)
}

/// Returns how a request names an extended property.
fn property(uri: Node<'_, '_>) -> String {
    let attributes = uri.attributes();
    let named = attributes.map(|it| format!("{}={}", it.name(), it.value().to_lowercase()));
    named.collect::<Vec<_>>().join(" ")
}

pub(super) fn update_item(
    store: &mut Store,
    caller: &Caller,
    operation: Node<'_, '_>,
    change: Node<'_, '_>,
) -> Result<String, Refused> {
    // Required for messages, although the schema does not say so.
    if operation.attribute("MessageDisposition").is_none() {
        return Err("ErrorMessageDispositionRequired");
    }
    let wanted = child(change, "ItemId");
    let id = wanted.attribute("Id").unwrap_or_default();
    let address = owner(store, caller, id)?;
    let (mailbox, clock) = store.mailbox(&address);
    let item = mailbox.items.get(id).ok_or("ErrorItemNotFound")?;
    match (
        operation.attribute("ConflictResolution"),
        wanted.attribute("ChangeKey"),
    ) {
        (Some("AlwaysOverwrite"), _) => {}
        (_, None) => return Err("ErrorChangeKeyRequired"),
        (_, Some(key)) if BASE64.decode(key).is_err() => return Err("ErrorInvalidChangeKey"),
        (_, Some(key)) if key != item.change_key() => return Err("ErrorIrresolvableConflict"),
        _ => {}
    }
    let mut is_read = None;
    for update in elements(child(change, "Updates")) {
        // Such a property is not kept.
        if elements(update).any(|it| it.tag_name().name() == "ExtendedFieldURI") {
            continue;
        }
        let field = child(update, "FieldURI").attribute("FieldURI");
        match (update.tag_name().name(), field) {
            ("SetItemField", Some("message:IsRead")) => {
                let value = text(child(update, "Message"), "IsRead");
                is_read = Some(match value {
                    "true" | "1" => true,
                    "false" | "0" => false,
                    _ => return Err("ErrorIncorrectUpdatePropertyCount"),
                });
            }
            ("SetItemField", Some(_)) => {}
            _ => return Err("ErrorInvalidPropertyDelete"),
        }
    }
    mailbox.touch(clock, id, is_read);
    let item = mailbox.items.get(id).ok_or("ErrorItemNotFound")?;
    Ok(format!(
        "{}<m:ConflictResults><t:Count>0</t:Count></m:ConflictResults>",
        id_xml(item)
    ))
}

pub(super) fn move_item(
    store: &mut Store,
    caller: &Caller,
    target: Node<'_, '_>,
    id: Node<'_, '_>,
    tells: bool,
) -> Result<String, Refused> {
    let folder = resolve(store, caller, target);
    let (to, folder) = folder.map_err(|code| match code {
        "ErrorItemNotFound" | "ErrorFolderNotFound" => "ErrorToFolderNotFound",
        code => code,
    })?;
    let id = id.attribute("Id").unwrap_or_default();
    let address = owner(store, caller, id)?;
    if to != address {
        return Err("ErrorCrossMailboxMoveCopy");
    }
    let (mailbox, clock) = store.mailbox(&address);
    let new = mailbox
        .shift(clock, id, &folder)
        .ok_or("ErrorItemNotFound")?;
    Ok(match mailbox.items.get(&new).filter(|_| tells) {
        Some(item) => id_xml(item),
        None => "<m:Items/>".into(),
    })
}

pub(super) fn delete_item(
    store: &mut Store,
    caller: &Caller,
    kind: &str,
    id: Node<'_, '_>,
) -> Result<String, Refused> {
    let id = id.attribute("Id").unwrap_or_default();
    let address = owner(store, caller, id)?;
    let (mailbox, clock) = store.mailbox(&address);
    let target = match kind {
        "MoveToDeletedItems" => mailbox.well_known("deleteditems"),
        "SoftDelete" => mailbox.well_known("recoverableitemsdeletions"),
        _ => None,
    };
    match target.map(|folder| folder.id.clone()) {
        Some(folder) => drop(mailbox.shift(clock, id, &folder)),
        None => drop(mailbox.remove(clock, id)),
    }
    Ok(String::new())
}
