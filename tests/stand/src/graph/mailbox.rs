//! One mailbox of the double: its folders, its mails, and what changed when.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::message;

/// A mail of a mailbox.
#[derive(Clone, Debug)]
pub struct GraphMail {
    /// Stays the same for the mail's life.
    pub id: String,
    pub mime: Vec<u8>,
    pub received: Timestamp,
    pub is_read: bool,
    pub categories: Vec<String>,
    pub is_draft: bool,
    /// Files that were attached to a draft besides those in the MIME.
    pub attachments: Vec<GraphAttachment>,
    /// The folder's id.
    pub(super) folder: String,
    /// The number of moves: the id given to clients that do not ask for immutable ids changes with it.
    pub(super) moves: u32,
    /// When it arrived in its folder and when it was last changed, by the mailbox's counter.
    pub(super) arrived: u64,
    pub(super) changed: u64,
}

/// A file attached to a draft.
#[derive(Clone, Debug)]
pub struct GraphAttachment {
    pub name: String,
    pub content: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub id: String,
    pub name: String,
    pub parent: Option<String>,
}

/// A mail that left a folder.
pub(super) struct Removed {
    pub id: String,
    pub folder: String,
    pub at: u64,
}

pub(super) struct Mailbox {
    pub address: String,
    pub folders: Vec<Folder>,
    /// Mails by immutable id.
    pub mails: BTreeMap<String, GraphMail>,
    pub removed: Vec<Removed>,
    /// Increases with each change.
    pub counter: u64,
    made: u64,
}

/// The folders of every mailbox: well-known name and display name.
const WELL_KNOWN: [(&str, &str); 7] = [
    ("inbox", "Inbox"),
    ("archive", "Archive"),
    ("deleteditems", "Deleted Items"),
    ("drafts", "Drafts"),
    ("junkemail", "Junk Email"),
    ("outbox", "Outbox"),
    ("sentitems", "Sent Items"),
];

impl Mailbox {
    pub fn new(address: &str) -> Self {
        let mut mailbox = Self {
            address: address.to_owned(),
            folders: Vec::new(),
            mails: BTreeMap::new(),
            removed: Vec::new(),
            counter: 0,
            made: 0,
        };
        for (_, name) in WELL_KNOWN {
            mailbox.make_folder(name, None);
        }
        mailbox
    }

    pub fn make_folder(&mut self, name: &str, parent: Option<&str>) -> Folder {
        let id = self.new_id("AAMkAFold");
        let folder = Folder {
            id,
            name: name.to_owned(),
            parent: parent.map(str::to_owned),
        };
        self.folders.push(folder.clone());
        folder
    }

    /// Finds a folder by its id or its well-known name.
    pub fn folder(&self, key: &str) -> Option<&Folder> {
        let known = WELL_KNOWN
            .iter()
            .position(|(known, _)| known.eq_ignore_ascii_case(key));
        let by_id = || self.folders.iter().find(|folder| folder.id == key);
        match known {
            // They are created first, in this order.
            Some(at) => self.folders.get(at),
            None => by_id(),
        }
    }

    pub fn children(&self, parent: Option<&str>) -> Vec<&Folder> {
        let mut folders: Vec<_> = self.folders.iter().collect();
        folders.retain(|folder| folder.parent.as_deref() == parent);
        folders
    }

    fn by_any_name(&self, name: &str) -> Option<Folder> {
        let named = || self.folders.iter().find(|folder| folder.name == name);
        self.folder(name).or_else(named).cloned()
    }

    pub fn folder_or_make(&mut self, name: &str) -> String {
        match self.by_any_name(name) {
            Some(folder) => folder.id,
            None => self.make_folder(name, None).id,
        }
    }

    pub fn delete_folder(&mut self, name: &str) {
        if let Some(folder) = self.by_any_name(name) {
            self.folders.retain(|it| it.id != folder.id);
            self.mails.retain(|_, mail| mail.folder != folder.id);
        }
    }

    /// Adds a mail. Returns its immutable id.
    pub fn add(
        &mut self,
        folder: &str,
        received: Timestamp,
        mime: Vec<u8>,
        is_draft: bool,
    ) -> String {
        let id = self.new_id("AAkALgAAImm");
        self.counter += 1;
        let mail = GraphMail {
            id: id.clone(),
            mime,
            received,
            is_read: is_draft,
            categories: Vec::new(),
            is_draft,
            attachments: Vec::new(),
            folder: folder.to_owned(),
            moves: 0,
            arrived: self.counter,
            changed: self.counter,
        };
        self.mails.insert(id.clone(), mail);
        id
    }

    /// Finds a mail by its immutable id, or by the id of its current place.
    pub fn find(&self, id: &str) -> Option<&GraphMail> {
        let by_place = || self.mails.values().find(|mail| mail.place_id() == id);
        self.mails.get(id).or_else(by_place)
    }

    pub fn find_mut(&mut self, id: &str) -> Option<&mut GraphMail> {
        let id = self.find(id)?.id.clone();
        self.mails.get_mut(&id)
    }

    pub fn change(&mut self, id: &str, change: impl FnOnce(&mut GraphMail)) {
        self.counter += 1;
        let now = self.counter;
        if let Some(mail) = self.find_mut(id) {
            change(mail);
            mail.changed = now;
        }
    }

    pub fn categorize(&mut self, id: &str, category: &str) {
        self.change(id, |mail| mail.categories.push(category.to_owned()));
    }

    /// Moves a mail to a folder, by its id.
    pub fn move_to(&mut self, id: &str, target: &str) {
        self.counter += 1;
        let now = self.counter;
        let Some(mail) = self.find_mut(id) else {
            return;
        };
        if mail.folder == target {
            return;
        }
        let removed = Removed {
            id: mail.id.clone(),
            folder: std::mem::replace(&mut mail.folder, target.to_owned()),
            at: now,
        };
        mail.moves += 1;
        mail.arrived = now;
        mail.changed = now;
        self.removed.push(removed);
    }

    /// Moves a mail to the deleted items; one that is already there is deleted permanently.
    pub fn delete(&mut self, id: &str) {
        let Some(bin) = self.folder("deleteditems").map(|folder| folder.id.clone()) else {
            return;
        };
        let Some(mail) = self.find(id).cloned() else {
            return;
        };
        if mail.folder == bin {
            self.mails.remove(&mail.id);
        } else {
            self.move_to(&mail.id, &bin);
        }
    }

    /// Returns the mails of a folder, oldest first.
    pub fn listed(&self, folder: &str) -> Vec<&GraphMail> {
        let mut mails: Vec<_> = self.mails.values().collect();
        mails.retain(|mail| mail.folder == folder);
        mails.sort_by_key(|mail| (mail.received, mail.arrived));
        mails
    }

    pub fn mails(&self, name: &str) -> Vec<GraphMail> {
        match self.by_any_name(name) {
            Some(folder) => self.listed(&folder.id).into_iter().cloned().collect(),
            None => Vec::new(),
        }
    }

    /// Returns an id in the alphabet of real ones.
    fn new_id(&mut self, kind: &str) -> String {
        self.made += 1;
        let name: String = self
            .address
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        format!("{kind}_{name}_{:08}=", self.made)
    }
}

impl GraphMail {
    /// Returns the id for clients that do not ask for immutable ids.
    pub(super) fn place_id(&self) -> String {
        format!("AAMkPlace{}{}", self.moves, self.id)
    }

    /// Returns the subject from the header.
    pub fn subject(&self) -> String {
        message::header(&self.mime, "subject").unwrap_or_default()
    }
}
