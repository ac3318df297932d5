//! The mails themselves: their MIME content, requested in portions small enough to hold, and notes in place of mails that the
//! server does not deliver.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use postroom_core::harmless::harmless_chars;
use postroom_core::{ParseLimits, parse};
use postroom_exchange::ews::{
    Answer, Element, GET_MIME, Kind, Refusal, Request, item_ids, protocol,
};
use postroom_net::Step;

use super::folders::folder_id;
use super::{Session, parsed};
use crate::{BEGINNING_BYTES, SourceError};

const STEP: Step = Step::Fetch;
/// The operation whose responses contain mail.
/// The total stated size up to which mails are requested together.
const TOGETHER_BYTES: u64 = 2 * 1024 * 1024;
const TOGETHER_MAILS: usize = 50;
/// The overhead of a response per mail.
const AROUND_BYTES: u64 = 16 * 1024;
/// The factor by which MIME may exceed the stored size: Exchange stores attachments decoded.
const GROWTH: u64 = 3;
const GROWTH_BYTES: u64 = 64 * 1024;
/// The longest subject shown, in characters.
const SUBJECT_CHARS: usize = 80;

/// A mail of the folder that has not been returned yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub id: String,
    /// The size that the server states, in bytes.
    pub size: u64,
    /// When it arrived, in seconds since 1970.
    pub received: Option<i64>,
    pub old: bool,
    /// Whether its MIME was longer than the stated size allowed, so that it may have any size.
    pub is_longer: bool,
}

/// The result of loading one mail.
#[derive(Debug)]
pub(super) enum Loaded {
    Mail {
        bytes: Bytes,
        is_whole: bool,
    },
    /// It has left the folder since.
    Gone,
    /// It is longer than its stated size allows.
    Longer,
    /// The server lists it and does not deliver it.
    Refused(Refusal),
}

/// A mail at the head of the queue that the server refuses.
#[derive(Debug)]
pub(super) struct Refused {
    pub id: String,
    pub fetches: u32,
}

impl Listed {
    /// Returns the longest MIME that is expected.
    fn mime_bytes(&self, raw_bytes: u64) -> u64 {
        match self.is_longer {
            true => raw_bytes,
            false => self
                .size
                .saturating_mul(GROWTH)
                .saturating_add(GROWTH_BYTES)
                .min(raw_bytes),
        }
    }

    /// Returns how much of its MIME is read: for a mail over the limit, its beginning.
    fn wanted_bytes(&self, raw_bytes: u64) -> u64 {
        match self.size > raw_bytes {
            true => BEGINNING_BYTES.min(raw_bytes),
            false => self.mime_bytes(raw_bytes),
        }
    }

    /// Returns the memory that it takes until it is decided, including its share of a base64 response.
    pub fn cost(&self, raw_bytes: u64) -> u64 {
        let wanted = self.wanted_bytes(raw_bytes);
        wanted
            .saturating_add(encoded(wanted))
            .saturating_add(AROUND_BYTES)
    }
}

fn encoded(bytes: u64) -> u64 {
    bytes.div_ceil(3).saturating_mul(4)
}

impl Session {
    /// Loads mails, in order, up to the first that is [`Loaded::Longer`] or [`Loaded::Refused`].
    pub async fn load(
        &mut self,
        listed: &[Listed],
        raw_bytes: u64,
    ) -> Result<Vec<Loaded>, SourceError> {
        let mut loaded = Vec::with_capacity(listed.len());
        let mut rest = listed;
        while !rest.is_empty() {
            let (group, behind) = rest.split_at(together(rest, raw_bytes));
            rest = behind;
            let outcomes = match self.load_group(group, raw_bytes).await? {
                Some(outcomes) => outcomes,
                // One of them is longer than stated. Requested singly, each has more room.
                None => {
                    let mut outcomes = Vec::with_capacity(group.len());
                    for single in group.chunks(1) {
                        let outcome = self.load_group(single, raw_bytes).await?;
                        outcomes.extend(outcome.into_iter().flatten());
                    }
                    outcomes
                }
            };
            for outcome in outcomes {
                let ends = matches!(outcome, Loaded::Longer | Loaded::Refused(_));
                loaded.push(outcome);
                if ends {
                    return Ok(loaded);
                }
            }
        }
        Ok(loaded)
    }

    /// Loads mails in one request. Returns `None` if the response is longer than expected for all of them together.
    async fn load_group(
        &mut self,
        group: &[Listed],
        raw_bytes: u64,
    ) -> Result<Option<Vec<Loaded>>, SourceError> {
        let ids: Vec<&str> = group.iter().map(|listed| listed.id.as_str()).collect();
        let most: u64 = group
            .iter()
            .map(|listed| encoded(listed.wanted_bytes(raw_bytes)) + AROUND_BYTES)
            .sum();
        let answer = self.get_mime(&ids, most).await?;
        if answer.is_cut {
            let [single] = group else {
                return Ok(None);
            };
            if single.size <= raw_bytes && !single.is_longer {
                return Ok(Some(vec![Loaded::Longer]));
            }
            return Ok(Some(vec![match beginning(&answer.body) {
                Some(bytes) => Loaded::Mail {
                    bytes,
                    is_whole: false,
                },
                None => Loaded::Refused(unreadable("no MIME at the beginning of the answer")),
            }]));
        }
        let root = parsed(STEP, &answer.body)?;
        let messages = self.each(STEP, &root, group.len())?;
        let loaded = messages.into_iter().map(|message| match message {
            Ok(message) => content(message),
            Err(refusal) if refusal.kind() == Kind::ItemGone => Loaded::Gone,
            Err(refusal) => Loaded::Refused(refusal),
        });
        Ok(Some(loaded.collect()))
    }

    async fn get_mime(&mut self, ids: &[&str], most: u64) -> Result<Answer, SourceError> {
        let body = format!(
            "<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:IncludeMimeContent>true</t:IncludeMimeContent>\
             </m:ItemShape><m:ItemIds>{}</m:ItemIds></m:GetItem>",
            item_ids(ids)
        );
        let most = usize::try_from(most).unwrap_or(usize::MAX / 2);
        let request = Request::new(STEP, GET_MIME, body, most);
        Ok(self.exchange.send(&request).await?)
    }

    /// Describes the newest mail of the folder, to check whether mails can be fetched.
    pub async fn newest(&mut self) -> Result<String, SourceError> {
        let id = self.ready().await?.id.clone();
        let body = format!(
            "<m:FindItem Traversal=\"Shallow\"><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>\
             <t:FieldURI FieldURI=\"item:Size\"/></t:AdditionalProperties></m:ItemShape>\
             <m:IndexedPageItemView MaxEntriesReturned=\"1\" Offset=\"0\" BasePoint=\"Beginning\"/>\
             <m:SortOrder><t:FieldOrder Order=\"Descending\"><t:FieldURI FieldURI=\"item:DateTimeReceived\"/></t:FieldOrder></m:SortOrder>\
             <m:ParentFolderIds>{}</m:ParentFolderIds></m:FindItem>",
            folder_id(&id)
        );
        let answer = self.call(STEP, "FindItem", body).await?;
        let root = parsed(STEP, &answer.body)?;
        let message = self.only(STEP, &root, &self.settings.folder)?;
        let item = message
            .at(&["RootFolder", "Items"])
            .and_then(|items| items.children.first());
        let Some(item) = item else {
            return Ok("the folder is empty".into());
        };
        let id = item.child("ItemId").and_then(|id| id.attribute("Id"));
        let id = id.ok_or_else(|| protocol(STEP, "a mail without an id"))?;
        let size = item.text_of("Size").to_owned();
        let answer = self.get_mime(&[id], encoded(BEGINNING_BYTES)).await?;
        let bytes = match answer.is_cut {
            true => beginning(&answer.body),
            false => {
                let root = parsed(STEP, &answer.body)?;
                match content(self.only(STEP, &root, "")?) {
                    Loaded::Mail { bytes, .. } => Some(bytes),
                    _ => None,
                }
            }
        };
        let bytes = bytes.ok_or_else(|| protocol(STEP, "a mail without MIME"))?;
        let mail = parse(&bytes, &ParseLimits::default(), &[]);
        let subject: String = harmless_chars(&mail.subject).take(SUBJECT_CHARS).collect();
        Ok(format!("newest mail: {size} bytes, \"{subject}\""))
    }
}

/// Returns how many of the mails are requested together.
fn together(listed: &[Listed], raw_bytes: u64) -> usize {
    let mut bytes = 0u64;
    let fits = listed.iter().take(TOGETHER_MAILS).take_while(|listed| {
        bytes = bytes.saturating_add(listed.size);
        bytes <= TOGETHER_BYTES && listed.size <= raw_bytes && !listed.is_longer
    });
    fits.count().max(1)
}

/// Decodes the mail in a message.
fn content(message: &Element<'_>) -> Loaded {
    let item = message
        .child("Items")
        .and_then(|items| items.children.first());
    let Some(mime) = item.and_then(|item| item.child("MimeContent")) else {
        return Loaded::Refused(unreadable("an item without MIME"));
    };
    match decoded(&mime.text) {
        Some(bytes) if bytes.is_empty() => Loaded::Refused(unreadable("an empty mail")),
        Some(bytes) => Loaded::Mail {
            bytes,
            is_whole: true,
        },
        None => Loaded::Refused(unreadable("MIME that is not in base64")),
    }
}

/// Decodes as much of the mail as a truncated response contains.
fn beginning(body: &str) -> Option<Bytes> {
    let root = Element::parse_beginning(body).ok()?;
    let mime = &root.find("MimeContent")?.text;
    let most = usize::try_from(encoded(BEGINNING_BYTES)).ok()?;
    let mut text: String = mime.split_whitespace().collect();
    text.truncate(text.len().min(most) / 4 * 4);
    let mut bytes = BASE64.decode(text).ok()?;
    bytes.truncate(usize::try_from(BEGINNING_BYTES).ok()?);
    Some(bytes.into()).filter(|bytes: &Bytes| !bytes.is_empty())
}

fn decoded(text: &str) -> Option<Bytes> {
    let text = text.trim_ascii();
    let decoded = match text.contains(|c: char| c.is_ascii_whitespace()) {
        true => BASE64.decode(text.split_ascii_whitespace().collect::<String>()),
        false => BASE64.decode(text),
    };
    decoded.ok().map(Bytes::from)
}

fn unreadable(text: &str) -> Refusal {
    Refusal {
        code: String::new(),
        text: text.to_owned(),
        back_off: None,
    }
}

/// Returns a note in place of a mail that was given up, so that a person sees it. The note states a size larger than its own,
/// like a mail of which only the beginning arrived.
pub(super) fn stand_in(listed: &Listed, folder: &str, refusal: &Refusal) -> (Bytes, u64) {
    let note = format!(
        "Subject: A mail could not be fetched\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         \r\n\
         Postroom wrote this note. The server lists the mail and did not give it, time after time.\r\n\
         The mail is still on the server.\r\n\
         \r\n\
         Folder: {folder}\r\n\
         Item: {}\r\n\
         Size: {} bytes\r\n\
         Last answer: {} {}\r\n",
        listed.id, listed.size, refusal.code, refusal.text
    );
    let size = listed.size.max(note.len() as u64 + 1);
    (note.into(), size)
}
