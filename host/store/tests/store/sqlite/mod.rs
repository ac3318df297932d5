//! Promises of the SQLite store alone: these tests inspect its files.

mod files;
mod identity;
mod upgrade;
mod versions;

use std::path::Path;
use std::sync::Arc;

use postroom_store::sqlite::{SqliteStore, StoreOptions};
use postroom_store::{Listings, Store, StoreError};
use rusqlite::Connection;

fn open_with(dir: &Path, options: &StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(SqliteStore::open_with(dir, options)?))
}

fn database(dir: &Path) -> Connection {
    Connection::open(dir.join("postroom.sqlite")).unwrap()
}

/// Returns the number of undecided mails in all mailboxes.
fn waiting(listings: &dyn Listings) -> u64 {
    let mailboxes = listings.mailboxes().unwrap();
    mailboxes.iter().map(|row| row.pending).sum()
}
