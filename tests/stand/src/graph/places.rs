//! Places in listings, to which a skiptoken or a deltatoken refers.

use std::collections::HashMap;

/// One entry of a listing.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Mail(String),
    Removed(String),
}

/// A place in the delta query of one folder.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub mailbox: String,
    pub folder: String,
    pub select: Option<Vec<String>>,
    pub created_only: bool,
    /// The rest of the listing in progress; `None` for a deltatoken.
    pub left: Option<Vec<Entry>>,
    /// The mailbox's counter when that listing began, or the value after which changes are listed.
    pub counter: u64,
}

/// Every place that a link refers to.
#[derive(Default)]
pub(super) struct Places {
    known: HashMap<String, Place>,
    made: u64,
}

impl Places {
    /// Stores a place. Returns its token, which may be used many times.
    pub fn keep(&mut self, place: Place) -> String {
        self.made += 1;
        let token = format!("LztZwWjo5IivWBhyxw5rACKxf7mPm0oW{:08}", self.made);
        self.known.insert(token.clone(), place);
        token
    }

    pub fn find(&self, token: &str) -> Option<Place> {
        self.known.get(token).cloned()
    }

    pub fn forget(&mut self) {
        self.known.clear();
    }
}
