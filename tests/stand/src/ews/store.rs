//! The mailboxes of the EWS double: folders, mails with change keys, sync states, subscriptions.

use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Everything that the double holds, by mailbox in lower case.
#[derive(Default)]
pub(super) struct Store {
    mailboxes: BTreeMap<String, Mailbox>,
    /// Counts every change of any mailbox.
    clock: u64,
    pub sent: Vec<super::EwsSent>,
}

pub(super) struct Mailbox {
    /// Folders by id; the well-known ones exist from the start.
    pub folders: BTreeMap<String, Folder>,
    pub items: BTreeMap<String, Item>,
    /// Items that left a folder: folder, item, when they arrived, when they left.
    gone: Vec<Gone>,
    /// Sync states of an older generation are invalid.
    generation: u64,
    pub events: Vec<Event>,
    pub subscriptions: BTreeMap<String, Subscription>,
}

pub(super) struct Folder {
    pub id: String,
    pub name: String,
    pub parent: String,
    /// The name in `DistinguishedFolderId`.
    pub well_known: Option<&'static str>,
}

#[derive(Clone)]
pub(super) struct Item {
    pub id: String,
    pub folder: String,
    pub mime: Vec<u8>,
    pub is_read: bool,
    pub received: SystemTime,
    /// The stated size, if a test wants a wrong one.
    pub stated_size: Option<u64>,
    /// Extended properties: how the client names them, and their values.
    pub properties: Vec<(String, String)>,
    created: u64,
    pub changed: u64,
    only_read_flag: bool,
}

struct Gone {
    folder: String,
    item: String,
    created: u64,
    at: u64,
}

/// An event that may concern a subscription.
#[derive(Clone)]
pub(super) struct Event {
    pub kind: &'static str,
    pub folder: String,
    pub item: String,
}

pub(super) struct Subscription {
    pub folders: Vec<String>,
    pub kinds: Vec<String>,
    /// The index of the next event to send. Earlier events were sent, or precede the subscription.
    pub next: usize,
}

/// One change in a folder.
pub(super) enum Change<'m> {
    Create(&'m Item),
    Update(&'m Item),
    ReadFlag(&'m Item),
    Delete(&'m str),
}

const WELL_KNOWN: [(&str, &str); 10] = [
    ("msgfolderroot", "Top of Information Store"),
    ("inbox", "Inbox"),
    ("sentitems", "Sent Items"),
    ("deleteditems", "Deleted Items"),
    ("drafts", "Drafts"),
    ("outbox", "Outbox"),
    ("junkemail", "Junk Email"),
    ("calendar", "Calendar"),
    ("contacts", "Contacts"),
    ("recoverableitemsdeletions", "Deletions"),
];
/// The key that signs sync states, so that they cannot be forged.
const STATE_KEY: &[u8] = b"sync states of the double";

impl Store {
    /// Returns a mailbox. Every address has one.
    pub fn mailbox(&mut self, address: &str) -> (&mut Mailbox, &mut u64) {
        let address = address.to_lowercase();
        let mailbox = self.mailboxes.entry(address.clone()).or_insert_with(|| {
            let folders = WELL_KNOWN.iter().map(|(well_known, name)| {
                let id = id("folder", &address, well_known);
                let folder = Folder {
                    id: id.clone(),
                    name: (*name).to_owned(),
                    parent: match *well_known {
                        "msgfolderroot" => String::new(),
                        _ => self::id("folder", &address, "msgfolderroot"),
                    },
                    well_known: Some(well_known),
                };
                (id, folder)
            });
            Mailbox {
                folders: folders.collect(),
                items: BTreeMap::new(),
                gone: Vec::new(),
                generation: 0,
                events: Vec::new(),
                subscriptions: BTreeMap::new(),
            }
        });
        (mailbox, &mut self.clock)
    }
}

impl Mailbox {
    pub fn well_known(&self, name: &str) -> Option<&Folder> {
        let mut folders = self.folders.values();
        folders.find(|folder| folder.well_known == Some(name))
    }

    /// Returns a folder by its path below the root or by its well-known name.
    pub fn named(&self, path: &str) -> Option<&Folder> {
        if let Some(folder) = self.well_known(&path.to_lowercase()) {
            return Some(folder);
        }
        let mut folder = self.well_known("msgfolderroot")?;
        for name in path.split('/') {
            let mut below = self.folders.values();
            folder =
                below.find(|it| it.parent == folder.id && it.name.eq_ignore_ascii_case(name))?;
        }
        Some(folder)
    }

    pub fn make_folder(&mut self, clock: &mut u64, parent: &str, name: &str) -> String {
        *clock += 1;
        let id = id("folder", parent, &clock.to_string());
        let folder = Folder {
            id: id.clone(),
            name: name.to_owned(),
            parent: parent.to_owned(),
            well_known: None,
        };
        self.folders.insert(id.clone(), folder);
        id
    }

    pub fn add(
        &mut self,
        clock: &mut u64,
        folder: &str,
        mime: Vec<u8>,
        received: SystemTime,
        is_new: bool,
    ) -> String {
        *clock += 1;
        let id = id("item", folder, &clock.to_string());
        let item = Item {
            id: id.clone(),
            folder: folder.to_owned(),
            mime,
            is_read: false,
            received,
            stated_size: None,
            properties: Vec::new(),
            created: *clock,
            changed: *clock,
            only_read_flag: false,
        };
        self.items.insert(id.clone(), item);
        self.raise("CreatedEvent", folder, &id);
        if is_new {
            self.raise("NewMailEvent", folder, &id);
        }
        id
    }

    /// Changes an item, which gets a new change key.
    pub fn touch(&mut self, clock: &mut u64, id: &str, is_read: Option<bool>) {
        let Some(item) = self.items.get_mut(id) else {
            return;
        };
        *clock += 1;
        item.changed = *clock;
        item.only_read_flag = is_read.is_some();
        item.is_read = is_read.unwrap_or(item.is_read);
        let folder = item.folder.clone();
        self.raise("ModifiedEvent", &folder, id);
    }

    pub fn remove(&mut self, clock: &mut u64, id: &str) -> Option<Item> {
        let item = self.items.remove(id)?;
        *clock += 1;
        self.gone.push(Gone {
            folder: item.folder.clone(),
            item: id.to_owned(),
            created: item.created,
            at: *clock,
        });
        self.raise("DeletedEvent", &item.folder, id);
        Some(item)
    }

    /// Moves an item, which gets a new id.
    pub fn shift(&mut self, clock: &mut u64, id: &str, target: &str) -> Option<String> {
        let item = self.remove(clock, id)?;
        *clock += 1;
        let new = self::id("item", target, &clock.to_string());
        self.raise("MovedEvent", target, &new);
        let moved = Item {
            id: new.clone(),
            folder: target.to_owned(),
            created: *clock,
            changed: *clock,
            ..item
        };
        self.items.insert(new.clone(), moved);
        Some(new)
    }

    pub fn in_folder(&self, folder: &str) -> Vec<&Item> {
        let mut items: Vec<_> = self
            .items
            .values()
            .filter(|it| it.folder == folder)
            .collect();
        items.sort_by_key(|item| item.created);
        items
    }

    /// Returns the changes in a folder after a point, oldest first.
    pub fn changes(&self, folder: &str, after: u64) -> Vec<(u64, Change<'_>)> {
        let items = self
            .items
            .values()
            .filter(|it| it.folder == folder && it.changed > after);
        let items = items.map(|item| {
            let change = match (item.created > after, item.only_read_flag) {
                (true, _) => Change::Create(item),
                (false, true) => Change::ReadFlag(item),
                (false, false) => Change::Update(item),
            };
            (item.changed, change)
        });
        let gone = self.gone.iter();
        let gone = gone.filter(|it| it.folder == folder && it.at > after && it.created <= after);
        let gone = gone.map(|it| (it.at, Change::Delete(&it.item)));
        let mut changes: Vec<_> = items.chain(gone).collect();
        changes.sort_by_key(|(at, _)| *at);
        changes
    }

    /// Returns a sync state. As on Exchange, no two are alike.
    pub fn sync_state(&self, clock: &mut u64, folder: &str, after: u64) -> String {
        *clock += 1;
        let text = format!("{}|{folder}|{after}|{clock}", self.generation);
        BASE64.encode(format!("{text}|{}", seal(&text)))
    }

    /// Parses a sync state of this folder. Returns `None` if it is forged or invalid.
    pub fn read_state(&self, folder: &str, state: &str) -> Option<u64> {
        let text = String::from_utf8(BASE64.decode(state).ok()?).ok()?;
        let (text, code) = text.rsplit_once('|')?;
        let fields: Vec<&str> = text.split('|').collect();
        let [generation, of, after, _] = fields[..] else {
            return None;
        };
        let fits = code == seal(text) && of == folder && generation == self.generation.to_string();
        after.parse().ok().filter(|_| fits)
    }

    /// Returns a number that grows with each change of a folder.
    pub fn last_change(&self, folder: &str) -> u64 {
        let items = self.items.values().filter(|it| it.folder == folder);
        let gone = self.gone.iter().filter(|it| it.folder == folder);
        let all = items.map(|it| it.changed).chain(gone.map(|it| it.at));
        all.max().unwrap_or_default()
    }

    /// Invalidates every sync state issued so far.
    pub fn forget_states(&mut self) {
        self.generation += 1;
    }

    fn raise(&mut self, kind: &'static str, folder: &str, item: &str) {
        self.events.push(Event {
            kind,
            folder: folder.to_owned(),
            item: item.to_owned(),
        });
    }
}

impl Item {
    /// Returns the number that no other mail in its folder has, now or later (PidTagInternetArticleNumber).
    pub fn number(&self) -> u64 {
        self.created
    }

    pub fn change_key(&self) -> String {
        BASE64.encode(format!("CK{:013}", self.changed))
    }

    pub fn size(&self) -> u64 {
        self.stated_size.unwrap_or(self.mime.len() as u64)
    }

    /// Returns a header of the mail, unfolded.
    pub fn header(&self, name: &str) -> String {
        Self::header_of(&Self::headers(&self.mime), name)
    }

    /// Returns the text of a mail, of which only the header is read.
    pub fn headers(mime: &[u8]) -> String {
        String::from_utf8_lossy(mime).into_owned()
    }

    /// Returns a header of a mail's text, unfolded.
    pub fn header_of(text: &str, name: &str) -> String {
        let mut value = String::new();
        let mut is_found = false;
        for line in text.lines() {
            if line.is_empty() {
                break;
            }
            if line.starts_with([' ', '\t']) {
                if is_found {
                    value.push_str(line);
                }
                continue;
            }
            if is_found {
                break;
            }
            if let Some((key, rest)) = line.split_once(':')
                && key.eq_ignore_ascii_case(name)
            {
                is_found = true;
                value = rest.trim().to_owned();
            }
        }
        value
    }
}

/// Returns an id like Exchange's: long, in base64, with no readable content.
fn id(kind: &str, of: &str, what: &str) -> String {
    let mut mac = mac();
    for part in [kind, of, what] {
        mac.update(part.as_bytes());
        mac.update(b"\0");
    }
    format!("AAMk{}", BASE64.encode(mac.finalize().into_bytes()))
}

fn seal(text: &str) -> String {
    let mut mac = mac();
    mac.update(text.as_bytes());
    BASE64.encode(&mac.finalize().into_bytes()[..12])
}

fn mac() -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(STATE_KEY).unwrap_or_else(|_| unreachable!("any key will do"))
}
