//! Outlook's `.msg` files (MS-OXMSG), read through the `cfb` crate within limits.

use std::io::{Cursor, Read};

use bytes::Bytes;
use cfb::CompoundFile;

use super::ParseLimits;
use super::mapi::{BINARY, EMBEDDED, Item, ItemAttachment, STRING8, UNICODE};

/// The first bytes of a compound file.
const SIGNATURE: [u8; 8] = [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];
/// Attachments of one file that are read. Each costs a walk over the file's tables.
const ATTACHMENTS_MAX: usize = 100;
const RECIPIENTS_MAX: usize = 100;
/// Entries of one storage that are looked at.
const ENTRIES_MAX: usize = 1000;
/// How deep mails embedded in each other are read.
const MAILS_DEPTH: usize = 2;
const ENTRY_BYTES: usize = 16;

/// The sizes of the headers of a property stream, by the kind of its storage.
const OF_FILE: usize = 32;
const OF_EMBEDDED: usize = 24;
const OF_ATTACHMENT: usize = 8;

/// Returns whether a file is a compound file, as `.msg` files are.
pub(crate) fn is_compound(bytes: &[u8]) -> bool {
    bytes.starts_with(&SIGNATURE)
}

/// Reads a file; returns `None` if it is no mail.
pub(crate) fn read(bytes: &Bytes, limits: &ParseLimits) -> Option<Item> {
    if !is_compound(bytes) {
        return None;
    }
    let file = CompoundFile::open(Cursor::new(bytes.clone())).ok()?;
    let mut reader = Reader {
        file,
        left: bytes.len(),
        attachments: ATTACHMENTS_MAX.min(limits.parts),
    };
    reader.item("", OF_FILE, 0)
}

struct Reader {
    file: CompoundFile<Cursor<Bytes>>,
    /// How many more bytes are read, so that streams that share sectors multiply nothing.
    left: usize,
    attachments: usize,
}

/// The name of a stream or storage, and whether it is a storage.
struct Entry {
    name: String,
    is_storage: bool,
}

impl Reader {
    fn item(&mut self, path: &str, header: usize, depth: usize) -> Option<Item> {
        let fixed = self.stream(&format!("{path}/__properties_version1.0"))?;
        let mut item = Item::default();
        each_fixed(&fixed, header, |id, kind, value| item.set(id, kind, value));
        for Entry { name, is_storage } in self.entries(path) {
            let at = format!("{path}/{name}");
            if is_storage {
                if name.starts_with("__attach_version1.0_") && self.attachments > 0 {
                    self.attachments -= 1;
                    let attachment = self.attachment(&at, item.codepage, depth);
                    item.attachments.extend(attachment);
                } else if name.starts_with("__recip_version1.0_")
                    && item.recipients.len() < RECIPIENTS_MAX
                {
                    item.recipients.extend(self.recipient(&at));
                }
            } else if let Some((id, kind)) = tag(&name)
                && Item::takes(id)
                && let Some(value) = self.stream(&at)
            {
                item.set(id, kind, value);
            }
        }
        Some(item)
    }

    fn attachment(
        &mut self,
        path: &str,
        codepage: Option<u32>,
        depth: usize,
    ) -> Option<ItemAttachment> {
        let fixed = self.stream(&format!("{path}/__properties_version1.0"))?;
        let mut attachment = ItemAttachment {
            codepage,
            ..ItemAttachment::default()
        };
        each_fixed(&fixed, OF_ATTACHMENT, |id, kind, value| {
            attachment.set(id, kind, value);
        });
        for Entry { name, is_storage } in self.entries(path) {
            let at = format!("{path}/{name}");
            match tag(&name) {
                Some((0x3701, _))
                    if is_storage && attachment.method == EMBEDDED && depth < MAILS_DEPTH =>
                {
                    let mail = self.item(&at, OF_EMBEDDED, depth + 1);
                    attachment.mail = mail.map(Box::new);
                }
                Some((id, kind)) if !is_storage && ItemAttachment::takes(id) => {
                    if let Some(value) = self.stream(&at) {
                        attachment.set(id, kind, value);
                    }
                }
                _ => {}
            }
        }
        Some(attachment)
    }

    /// Returns the address of a recipient.
    fn recipient(&mut self, path: &str) -> Option<String> {
        // The SMTP address, or the address if it is one.
        ["39FE", "3003"].into_iter().find_map(|id| {
            let wide = self.stream(&format!("{path}/__substg1.0_{id}001F"));
            let text = match wide {
                Some(bytes) => utf_16(&bytes),
                None => {
                    let bytes = self.stream(&format!("{path}/__substg1.0_{id}001E"))?;
                    String::from_utf8_lossy(&bytes).into_owned()
                }
            };
            let clean = !text.contains(|c: char| c.is_whitespace() || c.is_control());
            (clean && text.contains('@')).then_some(text)
        })
    }

    fn entries(&self, path: &str) -> Vec<Entry> {
        let path = if path.is_empty() { "/" } else { path };
        let Ok(entries) = self.file.read_storage(path) else {
            return Vec::new();
        };
        entries
            .take(ENTRIES_MAX)
            .map(|entry| Entry {
                name: entry.name().to_owned(),
                is_storage: entry.is_storage(),
            })
            .collect()
    }

    fn stream(&mut self, path: &str) -> Option<Bytes> {
        let mut stream = self.file.open_stream(path).ok()?;
        let length = usize::try_from(stream.len()).ok()?;
        self.left = self.left.checked_sub(length)?;
        let mut out = Vec::with_capacity(length);
        stream.read_to_end(&mut out).ok()?;
        Some(out.into())
    }
}

/// Returns the property of a stream `__substg1.0_0037001F`, if it is one that a mail needs.
fn tag(name: &str) -> Option<(u16, u16)> {
    let digits = name.strip_prefix("__substg1.0_")?;
    let number = |range| u16::from_str_radix(digits.get(range)?, 16).ok();
    let (id, kind) = (number(0..4)?, number(4..8)?);
    (digits.len() == 8).then_some((id, kind))
}

/// Reads the properties with a fixed size.
fn each_fixed(stream: &Bytes, header: usize, mut take: impl FnMut(u16, u16, Bytes)) {
    let mut at = header;
    while at + ENTRY_BYTES <= stream.len() {
        let number = |at: usize| u16::from_le_bytes([stream[at], stream[at + 1]]);
        let (kind, id) = (number(at), number(at + 2));
        if !matches!(kind, STRING8 | UNICODE | BINARY) {
            take(id, kind, stream.slice(at + 8..at + ENTRY_BYTES));
        }
        at += ENTRY_BYTES;
    }
}

fn utf_16(bytes: &[u8]) -> String {
    let units = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let text: String = char::decode_utf16(units).flatten().collect();
    text.trim_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use crate::message::Attachment;
    use crate::parse::{ParseLimits, attached_mail};

    use super::*;

    /// Writes a `.msg` file piece by piece.
    struct Writer(CompoundFile<Cursor<Vec<u8>>>);

    impl Writer {
        fn stream(&mut self, path: &str, bytes: &[u8]) {
            let mut stream = self.0.create_stream(path).expect("a stream");
            stream.write_all(bytes).expect("its content");
        }

        fn text(&mut self, storage: &str, id: &str, text: &str) {
            let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            self.stream(&format!("{storage}/__substg1.0_{id}001F"), &wide);
        }

        fn properties(&mut self, storage: &str, header: usize, fixed: &[(u32, u64)]) {
            let mut bytes = vec![0; header];
            for (tag, value) in fixed {
                bytes.extend_from_slice(&tag.to_le_bytes());
                bytes.extend_from_slice(&[6, 0, 0, 0]);
                bytes.extend_from_slice(&value.to_le_bytes());
            }
            self.stream(&format!("{storage}/__properties_version1.0"), &bytes);
        }

        fn storage(&mut self, path: &str) {
            self.0.create_storage(path).expect("a storage");
        }
    }

    /// Returns a mail with a recipient, a file, and a mail.
    fn with_attachments() -> Vec<u8> {
        let file = CompoundFile::create(Cursor::new(Vec::new())).expect("a file");
        let mut to = Writer(file);
        // 4 March 2024, 09:15 UTC.
        to.properties("", OF_FILE, &[(0x0039_0040, 133_540_173_000_000_000)]);
        to.text("", "0037", "K\u{fc}hlung");
        to.text("", "0C1A", "Tom Hill");
        to.text("", "0C1F", "tom@contoso.example");
        to.text("", "1000", "Die K\u{fc}hlung steht.\r\n");
        to.stream(
            "/__substg1.0_10130102",
            b"<p>Die K&uuml;hlung <b>steht</b>.</p>",
        );
        to.storage("/__recip_version1.0_#00000000");
        to.properties("/__recip_version1.0_#00000000", OF_ATTACHMENT, &[]);
        to.text("/__recip_version1.0_#00000000", "39FE", "help@acme.example");
        let first = "/__attach_version1.0_#00000000";
        to.storage(first);
        to.properties(first, OF_ATTACHMENT, &[(0x3705_0003, 1)]);
        to.text(first, "3707", "Messwerte M\u{e4}rz.csv");
        to.text(first, "370E", "text/csv");
        to.stream(
            &format!("{first}/__substg1.0_37010102"),
            &b"a;b\r\n".repeat(2000),
        );
        let second = "/__attach_version1.0_#00000001";
        to.storage(second);
        to.properties(second, OF_ATTACHMENT, &[(0x3705_0003, 5)]);
        let inner = format!("{second}/__substg1.0_3701000D");
        to.storage(&inner);
        to.properties(&inner, OF_EMBEDDED, &[]);
        to.text(&inner, "0037", "Alte Anfrage");
        to.text(&inner, "5D01", "nora@quill.example");
        to.text(&inner, "1000", "Inner words.");
        to.0.flush().expect("a file");
        to.0.into_inner().into_inner()
    }

    fn attached(bytes: Vec<u8>) -> Attachment {
        Attachment {
            name: "mail.msg".to_owned(),
            content_type: "application/octet-stream".to_owned(),
            charset: None,
            inline: false,
            content_id: None,
            bytes: bytes.into(),
        }
    }

    /// The file of the cases is the one that this writes. UPDATE=1 writes it.
    #[test]
    fn a_file_is_opened_as_a_mail() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/cases/msg/with-attachments.msg");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, with_attachments()).expect("the file can be written");
        }
        let limits = ParseLimits::default();
        let file = std::fs::read(&path).expect("tests/cases/msg/with-attachments.msg");
        let mail = attached_mail(&attached(file), &limits).expect("a mail");
        assert_eq!(mail.subject, "K\u{fc}hlung");
        let from = mail.from.map(|from| from.to_string());
        assert_eq!(from.as_deref(), Some("Tom Hill <tom@contoso.example>"));
        assert_eq!(mail.to[0].email, "help@acme.example");
        assert_eq!(mail.date.as_deref(), Some("2024-03-04T09:15:00Z"));
        assert_eq!(mail.text, "Die K\u{fc}hlung steht.\n");
        assert!(mail.html.is_some());
        let files: Vec<(&str, usize)> = mail
            .attachments
            .iter()
            .map(|file| (file.name.as_str(), file.bytes.len()))
            .collect();
        assert_eq!(files[0], ("Messwerte M\u{e4}rz.csv", 10_000));
        assert_eq!(files[1].0, "Alte Anfrage.eml");
        let inner = attached_mail(&mail.attachments[1], &limits).expect("a mail");
        assert_eq!(inner.text, "Inner words.");
        assert_eq!(inner.subject, "Alte Anfrage");
        assert_eq!(
            inner.from.map(|from| from.email).as_deref(),
            Some("nora@quill.example")
        );
    }

    #[test]
    fn streams_together_are_no_longer_than_the_file() {
        let bytes = Bytes::from(with_attachments());
        let file = CompoundFile::open(Cursor::new(bytes)).expect("a file");
        let mut reader = Reader {
            file,
            left: 9_999,
            attachments: 1,
        };
        let item = reader.item("", OF_FILE, 0).expect("a mail");
        assert_eq!(item.attachments.len(), 1);
        assert!(item.attachments[0].data.is_empty());
    }

    #[test]
    fn what_is_no_mail_is_not_opened() {
        let limits = ParseLimits::default();
        let empty = CompoundFile::create(Cursor::new(Vec::new())).expect("a file");
        for bytes in [
            SIGNATURE.to_vec(),
            empty.into_inner().into_inner(),
            b"just text: with a colon".to_vec(),
        ] {
            assert!(attached_mail(&attached(bytes), &limits).is_none());
        }
    }
}
