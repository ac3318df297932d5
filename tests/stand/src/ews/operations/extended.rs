//! MAPI properties, which a client requests by their tags: the few that a mail program needs. Others are left out of a
//! response, as Exchange leaves out those that an item does not have.

use std::time::{Duration, SystemTime};

use roxmltree::Node;

use super::super::store::{Folder, Item, Mailbox};
use super::{child, date, escaped};

/// A requested property: its tag, and both as the client wrote them.
pub(super) struct Wanted {
    tag: u32,
    written: String,
    kind: String,
}

/// Returns the properties with a tag that a shape requests.
pub(super) fn wanted(operation: Node<'_, '_>, shape: &str) -> Vec<Wanted> {
    child(operation, shape)
        .descendants()
        .filter(|it| it.tag_name().name() == "ExtendedFieldURI")
        .filter_map(|it| {
            let written = it.attribute("PropertyTag")?;
            let tag = match written.strip_prefix("0x") {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => written.parse().ok()?,
            };
            Some(Wanted {
                tag,
                written: written.to_owned(),
                kind: it.attribute("PropertyType")?.to_owned(),
            })
        })
        .collect()
}

pub(super) fn of_item(item: &Item, wanted: &[Wanted]) -> String {
    properties(wanted, |tag| {
        Some(match tag {
            0x001a => "IPM.Note".into(),
            0x0037 => escaped(&item.header("Subject")),
            // PidTagMessageDeliveryTime, PidTagLastModificationTime.
            0x0e06 | 0x3008 => date(item.received),
            // PidTagMessageFlags: mfRead.
            0x0e07 => u8::from(item.is_read).to_string(),
            // PidTagMessageSize, PidTagInternetArticleNumber.
            0x0e08 => item.size().to_string(),
            0x0e23 => item.number().to_string(),
            // PidTagRecordKey.
            0x0ff9 => item.id.trim_start_matches("AAMk").to_owned(),
            // PidTagFlatUrlName, PidTagUrlCompName.
            0x670e => escaped(&item.id),
            0x10f3 => format!("{}.EML", item.number()),
            _ => return None,
        })
    })
}

pub(super) fn of_folder(mailbox: &Mailbox, folder: &Folder, wanted: &[Wanted]) -> String {
    let items = mailbox.in_folder(&folder.id);
    properties(wanted, |tag| {
        Some(match tag {
            0x3602 => items.len().to_string(),
            0x3603 => items.iter().filter(|it| !it.is_read).count().to_string(),
            // PidTagSubfolders.
            0x360a => mailbox
                .folders
                .values()
                .any(|it| it.parent == folder.id)
                .to_string(),
            0x3613 => "IPF.Note".into(),
            // PidTagLocalCommitTimeMax and PidTagLastModificationTime: no two states of a folder have the same.
            0x670a | 0x3008 => {
                let secs = 1_790_000_000 + mailbox.last_change(&folder.id);
                date(SystemTime::UNIX_EPOCH + Duration::from_secs(secs))
            }
            0x670e => escaped(&folder.id),
            0x10f3 => escaped(&folder.name),
            _ => return None,
        })
    })
}

fn properties(wanted: &[Wanted], value: impl Fn(u32) -> Option<String>) -> String {
    wanted
        .iter()
        .filter_map(|it| {
            Some(format!(
                "<t:ExtendedProperty><t:ExtendedFieldURI PropertyTag=\"{}\" PropertyType=\"{}\"/><t:Value>{}</t:Value>\
                 </t:ExtendedProperty>",
                escaped(&it.written),
                escaped(&it.kind),
                value(it.tag)?
            ))
        })
        .collect()
}
