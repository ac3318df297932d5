//! TNEF streams (MS-OXTNEF), which Outlook attaches as `winmail.dat`: a text, a page or RTF, and attachments. Everything
//! but an embedded mail is a slice of the stream.

use bytes::Bytes;

use super::ParseLimits;
use super::decode::TransferEncoding;
pub(crate) use super::mapi::Item;
use super::mapi::{BINARY, EMBEDDED, ItemAttachment, OBJECT, Property, SEVERAL, STRING8, UNICODE};
use super::mime::Head;

/// How deep mails embedded in each other are read.
const MAILS_DEPTH: usize = 4;

const SIGNATURE: [u8; 4] = [0x78, 0x9f, 0x3e, 0x22];
/// The signature and what follows it, in base64.
const SIGNATURE_BASE64: &[u8] = b"eJ8+I";
/// The size of the interface id before an embedded stream.
const IID_BYTES: usize = 16;

const AT_FROM: u16 = 0x8000;
const AT_SUBJECT: u16 = 0x8004;
const AT_BODY: u16 = 0x800c;
const AT_ATTACH_DATA: u16 = 0x800f;
const AT_ATTACH_TITLE: u16 = 0x8010;
const AT_ATTACH_BEGIN: u16 = 0x9002;
const AT_MESSAGE_PROPERTIES: u16 = 0x9003;
const AT_ATTACH_PROPERTIES: u16 = 0x9005;
const AT_CODEPAGE: u16 = 0x9007;

/// Returns whether a part is a TNEF stream, by its type, its name or its first bytes.
pub(crate) fn is_stream(head: &Head, body: &[u8]) -> bool {
    let content_type = head.content_type();
    if matches!(
        content_type,
        "application/ms-tnef" | "application/vnd.ms-tnef"
    ) || head
        .file_name()
        .is_some_and(|name| name.eq_ignore_ascii_case("winmail.dat"))
    {
        return true;
    }
    if !content_type.starts_with("application/") {
        return false;
    }
    match head.encoding() {
        TransferEncoding::Base64 => body.trim_ascii_start().starts_with(SIGNATURE_BASE64),
        _ => body.starts_with(&SIGNATURE),
    }
}

/// Reads a stream. Returns `None` if it has no signature or no attribute.
pub(crate) fn read(raw: &Bytes, limits: &ParseLimits) -> Option<Item> {
    read_at(raw, limits, 0)
}

fn read_at(raw: &Bytes, limits: &ParseLimits, depth: usize) -> Option<Item> {
    if !raw.starts_with(&SIGNATURE) {
        return None;
    }
    let mut item = Item::default();
    let mut found = false;
    let mut from = Reader { raw, at: 6 };
    while from.at < raw.len() {
        let Some((id, value)) = from.attribute() else {
            item.cut = true;
            break;
        };
        found = true;
        match id {
            AT_CODEPAGE => item.set(0x3ffd, 3, value),
            AT_BODY => {
                let kind = STRING8;
                item.plain.get_or_insert(Property { kind, value });
            }
            AT_SUBJECT => item.set_subject(value),
            AT_FROM => {
                if let Some((name, email)) = triple(&value) {
                    item.set_sender(name, email);
                }
            }
            AT_MESSAGE_PROPERTIES => {
                let whole = properties(&value, |id, kind, value| item.set(id, kind, value));
                item.cut |= whole.is_none();
            }
            // One more than a mail may have, so that the splitter notes it.
            AT_ATTACH_BEGIN if item.attachments.len() <= limits.parts => {
                item.attachments.push(ItemAttachment {
                    codepage: item.codepage,
                    ..ItemAttachment::default()
                });
            }
            AT_ATTACH_BEGIN => {
                item.cut = true;
                break;
            }
            AT_ATTACH_TITLE | AT_ATTACH_DATA | AT_ATTACH_PROPERTIES => {
                if let Some(attachment) = item.attachments.last_mut() {
                    attach(attachment, id, value, limits, depth);
                }
            }
            _ => {}
        }
    }
    found.then_some(item)
}

fn attach(
    attachment: &mut ItemAttachment,
    id: u16,
    value: Bytes,
    limits: &ParseLimits,
    depth: usize,
) {
    match id {
        AT_ATTACH_TITLE => {
            let kind = STRING8;
            attachment.name.get_or_insert(Property { kind, value });
        }
        AT_ATTACH_DATA => attachment.data = value,
        _ => {
            let mut object = None;
            properties(&value, |id, kind, value| match (id, kind) {
                (0x3701, OBJECT) => object = Some(value),
                // The data stands in an attribute of its own unless it is empty there.
                (0x3701, _) if !attachment.data.is_empty() => {}
                _ => attachment.set(id, kind, value),
            });
            let Some(object) = object.filter(|object| object.len() > IID_BYTES) else {
                return;
            };
            let stream = object.slice(IID_BYTES..);
            if attachment.method == EMBEDDED && depth < MAILS_DEPTH {
                attachment.mail = read_at(&stream, limits, depth + 1).map(Box::new);
            }
            if attachment.data.is_empty() {
                attachment.data = stream;
            }
        }
    }
}

/// Reads the name and the address of attFrom: four lengths and two strings.
fn triple(value: &Bytes) -> Option<(Bytes, Bytes)> {
    let length = |at: usize| {
        Some(usize::from(u16::from_le_bytes([
            *value.get(at)?,
            *value.get(at + 1)?,
        ])))
    };
    let (name, email) = (length(4)?, length(6)?);
    if value.len() < 8 + name + email {
        return None;
    }
    Some((
        value.slice(8..8 + name),
        value.slice(8 + name..8 + name + email),
    ))
}

/// Reads a property list; returns `None` if it ends early or is broken.
fn properties(raw: &Bytes, mut take: impl FnMut(u16, u16, Bytes)) -> Option<()> {
    const GUID_BYTES: usize = 16;
    let mut from = Reader { raw, at: 0 };
    let count = from.u32()?;
    for _ in 0..count {
        let kind = from.u16()?;
        let id = from.u16()?;
        if id >= 0x8000 {
            from.bytes(GUID_BYTES)?;
            if from.u32()? == 0 {
                from.u32()?;
            } else {
                let length = from.length()?;
                from.padded(length)?;
            }
        }
        let single = kind & !SEVERAL;
        let variable = matches!(single, STRING8 | UNICODE | BINARY | OBJECT);
        let values = if variable || kind & SEVERAL != 0 {
            from.u32()?
        } else {
            1
        };
        for _ in 0..values {
            let value = match single {
                _ if variable => {
                    let length = from.length()?;
                    from.padded(length)?
                }
                // Integers of 16 bits, truth values, integers of 32 bits, floats and errors fill four bytes.
                0x02 | 0x03 | 0x04 | 0x0a | 0x0b => from.bytes(4)?,
                0x05 | 0x06 | 0x07 | 0x14 | 0x40 => from.bytes(8)?,
                0x48 => from.bytes(GUID_BYTES)?,
                _ => return None,
            };
            if kind & SEVERAL == 0 {
                take(id, kind, value);
            }
        }
    }
    Some(())
}

struct Reader<'a> {
    raw: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn bytes(&mut self, length: usize) -> Option<Bytes> {
        let end = self.at.checked_add(length)?;
        if end > self.raw.len() {
            return None;
        }
        let taken = self.raw.slice(self.at..end);
        self.at = end;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.raw.get(self.at..self.at + 2)?;
        self.at += 2;
        Some(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Option<u32> {
        let low = self.u16()?;
        let high = self.u16()?;
        Some(u32::from(high) << 16 | u32::from(low))
    }

    fn length(&mut self) -> Option<usize> {
        self.u32().and_then(|length| usize::try_from(length).ok())
    }

    /// Reads a value that zeros fill up to a multiple of four bytes.
    fn padded(&mut self, length: usize) -> Option<Bytes> {
        let value = self.bytes(length)?;
        let end = self.at.checked_add(length.wrapping_neg() & 3)?;
        self.at = end.min(self.raw.len());
        Some(value)
    }

    /// Reads an attribute: its level, id and type, its value, and a checksum that is not checked.
    fn attribute(&mut self) -> Option<(u16, Bytes)> {
        self.bytes(1)?;
        let id = self.u16()?;
        self.u16()?;
        let length = self.length()?;
        let value = self.bytes(length)?;
        self.at = self.raw.len().min(self.at + 2);
        Some((id, value))
    }
}
