//! Folders: resolves, lists and creates them, and says whose an id is.

use roxmltree::Node;

use super::super::store::{Folder, Mailbox, Store};
use super::extended::{self, Wanted, wanted};
use super::{Caller, Refused, child, elements, escaped, text};

/// Returns the mailbox and the id of the folder that an element names.
pub(super) fn resolve(
    store: &mut Store,
    caller: &Caller,
    node: Node<'_, '_>,
) -> Result<(String, String), Refused> {
    let id = node.attribute("Id").unwrap_or_default();
    if node.tag_name().name() == "FolderId" {
        for address in &caller.mailboxes {
            if store.mailbox(address).0.folders.contains_key(id) {
                return Ok((address.clone(), id.to_owned()));
            }
        }
        return Err("ErrorItemNotFound");
    }
    let named = elements(node).find(|it| it.tag_name().name() == "Mailbox");
    let address = named.map_or_else(
        || caller.mailboxes[0].clone(),
        |mailbox| text(mailbox, "EmailAddress").to_lowercase(),
    );
    if !caller.mailboxes.contains(&address) {
        return Err("ErrorAccessDenied");
    }
    let id = match id {
        "root" => "msgfolderroot",
        id => id,
    };
    let (mailbox, _) = store.mailbox(&address);
    let folder = mailbox.well_known(id).ok_or("ErrorFolderNotFound")?;
    let id = folder.id.clone();
    Ok((address, id))
}

/// Converts an id to its own format, the only one here: a client learns from it the address of the mailbox.
pub(super) fn convert_id(
    store: &mut Store,
    caller: &Caller,
    operation: Node<'_, '_>,
    source: Node<'_, '_>,
) -> Result<String, Refused> {
    let id = source.attribute("Id").unwrap_or_default();
    let formats = [
        operation.attribute("DestinationFormat"),
        source.attribute("Format"),
    ];
    if formats != [Some("EwsId"); 2] {
        return Err("ErrorInvalidIdMalformed");
    }
    let mut mailboxes = caller.mailboxes.iter();
    let owner = mailboxes
        .find(|address| {
            let (mailbox, _) = store.mailbox(address);
            mailbox.folders.contains_key(id) || mailbox.items.contains_key(id)
        })
        .ok_or("ErrorInvalidIdMalformed")?;
    Ok(format!(
        "<m:AlternateId xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"t:AlternateIdType\" Format=\"EwsId\" \
         Id=\"{id}\" Mailbox=\"{}\"/>",
        escaped(owner)
    ))
}

pub(super) fn get_folder(
    store: &mut Store,
    caller: &Caller,
    operation: Node<'_, '_>,
    node: Node<'_, '_>,
) -> Result<String, Refused> {
    let (address, id) = resolve(store, caller, node)?;
    let (mailbox, _) = store.mailbox(&address);
    let folder = mailbox.folders.get(&id).ok_or("ErrorFolderNotFound")?;
    Ok(format!(
        "<m:Folders>{}</m:Folders>",
        folder_xml(mailbox, folder, &wanted(operation, "FolderShape"))
    ))
}

pub(super) fn find_folder(
    store: &mut Store,
    caller: &Caller,
    operation: Node<'_, '_>,
    parent: Node<'_, '_>,
) -> Result<String, Refused> {
    let (address, id) = resolve(store, caller, parent)?;
    let (mailbox, _) = store.mailbox(&address);
    let is_deep = operation.attribute("Traversal") == Some("Deep");
    let extended = wanted(operation, "FolderShape");
    let named = operation
        .descendants()
        .find(|it| it.tag_name().name() == "Constant")
        .and_then(|it| it.attribute("Value"));
    let is_below = |folder: &Folder| match is_deep {
        true => !folder.parent.is_empty() && folder.id != id,
        false => folder.parent == id,
    };
    let found: Vec<String> = mailbox
        .folders
        .values()
        .filter(|folder| is_below(folder))
        .filter(|folder| named.is_none_or(|name| folder.name.eq_ignore_ascii_case(name)))
        .map(|folder| folder_xml(mailbox, folder, &extended))
        .collect();
    Ok(format!(
        "<m:RootFolder IndexedPagingOffset=\"{0}\" TotalItemsInView=\"{0}\" IncludesLastItemInRange=\"true\"><t:Folders>{1}</t:Folders></m:RootFolder>",
        found.len(),
        found.concat()
    ))
}

pub(super) fn create_folder(
    store: &mut Store,
    caller: &Caller,
    operation: Node<'_, '_>,
) -> Result<String, Refused> {
    let parent = elements(child(operation, "ParentFolderId")).next();
    let (address, parent) = resolve(store, caller, parent.ok_or("ErrorFolderNotFound")?)?;
    let folder = elements(child(operation, "Folders")).next();
    let name = text(folder.ok_or("ErrorFolderSave")?, "DisplayName").to_owned();
    let (mailbox, clock) = store.mailbox(&address);
    let mut siblings = mailbox.folders.values().filter(|it| it.parent == parent);
    if siblings.any(|it| it.name.eq_ignore_ascii_case(&name)) {
        return Err("ErrorFolderExists");
    }
    let id = mailbox.make_folder(clock, &parent, &name);
    Ok(format!(
        "<m:Folders><t:Folder><t:FolderId Id=\"{id}\" ChangeKey=\"AQAAAA==\"/></t:Folder></m:Folders>"
    ))
}

fn folder_xml(mailbox: &Mailbox, folder: &Folder, wanted: &[Wanted]) -> String {
    let items = mailbox.in_folder(&folder.id);
    let unread = items.iter().filter(|item| !item.is_read).count();
    let children = mailbox
        .folders
        .values()
        .filter(|it| it.parent == folder.id)
        .count();
    let parent = match folder.parent.as_str() {
        "" => String::new(),
        parent => format!("<t:ParentFolderId Id=\"{parent}\" ChangeKey=\"AQAAAA==\"/>"),
    };
    format!(
        "<t:Folder><t:FolderId Id=\"{}\" ChangeKey=\"AQAAAA==\"/>{parent}<t:FolderClass>IPF.Note</t:FolderClass>\
         <t:DisplayName>{}</t:DisplayName><t:TotalCount>{}</t:TotalCount><t:ChildFolderCount>{children}</t:ChildFolderCount>\
         {}<t:UnreadCount>{unread}</t:UnreadCount></t:Folder>",
        folder.id,
        escaped(&folder.name),
        items.len(),
        extended::of_folder(mailbox, folder, wanted)
    )
}
