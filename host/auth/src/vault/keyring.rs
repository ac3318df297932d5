//! The vault's key in the operating system's keyring, by the Secret Service interface that GNOME Keyring and KWallet speak.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use secret_service::blocking::{Item, SecretService};
use secret_service::{EncryptionType, Error};

use super::{VaultError, VaultKey};

/// What the entry is called in the keyring's own program.
const LABEL: &str = "Postroom vault key";
/// How long a person may take to unlock the keyring.
const UNLOCK_WAIT: Duration = Duration::from_secs(120);

/// The text of the entry, made from `new` when it is not there yet.
pub(super) fn load(entry: &str, new: &VaultKey) -> Result<Zeroizing<String>, VaultError> {
    let failed = |problem: &str| VaultError::Key {
        reason: format!("the keyring's entry {entry}: {problem}"),
    };
    let (answer, answered) = mpsc::sync_channel(1);
    let (name, text) = (entry.to_owned(), new.encode());
    // A thread of its own: the library starts a runtime, which one that is already inside a runtime may not.
    std::thread::spawn(move || answer.send(ask(&name, &text)));
    match answered.recv_timeout(UNLOCK_WAIT) {
        Ok(Ok(bytes)) => String::from_utf8(bytes)
            .map(Zeroizing::new)
            .map_err(|_| failed("it is no text")),
        Ok(Err(error)) => Err(failed(&error.to_string())),
        Err(_) => Err(failed("the keyring was not unlocked in time")),
    }
}

fn ask(entry: &str, new: &str) -> Result<Vec<u8>, Error> {
    let service = SecretService::connect(EncryptionType::Dh)?;
    let attributes = HashMap::from([("application", "postroom"), ("entry", entry)]);
    if let Some(kept) = kept(&service, &attributes)? {
        return Ok(kept);
    }
    let collection = service.get_default_collection()?;
    collection.ensure_unlocked()?;
    // Not replaced but added: a process that was quicker may use its key already, and `kept` takes the older one.
    collection.create_item(
        LABEL,
        attributes.clone(),
        new.as_bytes(),
        false,
        "text/plain",
    )?;
    kept(&service, &attributes)?.ok_or(Error::NoResult)
}

/// The oldest entry's text.
fn kept(
    service: &SecretService,
    attributes: &HashMap<&str, &str>,
) -> Result<Option<Vec<u8>>, Error> {
    let found = service.search_items(attributes.clone())?;
    let mut items: Vec<(u64, Item)> = Vec::new();
    for item in found.unlocked.into_iter().chain(found.locked) {
        items.push((item.get_created()?, item));
    }
    items.sort_by(|(a_made, a), (b_made, b)| {
        let path = |item: &Item| (item.item_path.as_str().len(), item.item_path.to_string());
        a_made.cmp(b_made).then_with(|| path(a).cmp(&path(b)))
    });
    match items.first() {
        None => Ok(None),
        Some((_, item)) => {
            item.ensure_unlocked()?;
            item.get_secret().map(Some)
        }
    }
}
