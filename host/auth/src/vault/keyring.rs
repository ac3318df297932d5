//! The vault's key in the operating system's keyring, through the Secret Service interface of GNOME Keyring and
//! KWallet.

use std::collections::HashMap;
use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use secret_service::{EncryptionType, Error, Item, SecretService};

use super::{VaultError, VaultKey};

/// The entry's label in the keyring's own program.
const LABEL: &str = "Postroom vault key";
/// The time in which a person has to unlock the keyring.
const UNLOCK_WAIT: Duration = Duration::from_secs(120);

/// Returns the text of the entry, created from `new` if it does not exist; `None` if it may not be created either.
pub(super) fn load(
    entry: &str,
    new: Option<&VaultKey>,
) -> Result<Option<Zeroizing<String>>, VaultError> {
    let failed = |problem: &str| VaultError::Key {
        reason: format!("the keyring's entry {entry}: {problem}"),
    };
    let new = new.map(VaultKey::encode);
    // A separate thread, since the caller may be inside a runtime, where no other may be started. It ends with this
    // function.
    let asked = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|error| failed(&error.to_string()))?;
                let asking = ask(entry, new.as_ref().map(|text| text.as_str()));
                runtime
                    .block_on(async { tokio::time::timeout(UNLOCK_WAIT, asking).await })
                    .map_err(|_| failed("the keyring was not unlocked in time"))?
                    .map_err(|error| failed(&error.to_string()))
            })
            .join()
            .unwrap_or_else(|_| Err(failed("asking for it broke off")))
    });
    asked?
        .map(|bytes| String::from_utf8(bytes).map(Zeroizing::new))
        .transpose()
        .map_err(|_| failed("it is no text"))
}

async fn ask(entry: &str, new: Option<&str>) -> Result<Option<Vec<u8>>, Error> {
    let service = SecretService::connect(EncryptionType::Dh).await?;
    let attributes = HashMap::from([("application", "postroom"), ("entry", entry)]);
    let kept_already = kept(&service, &attributes).await?;
    let Some(new) = new.filter(|_| kept_already.is_none()) else {
        return Ok(kept_already);
    };
    let collection = service.get_default_collection().await?;
    collection.ensure_unlocked().await?;
    // Added, not replaced: a process that was faster may already use its key, and `kept` takes the older one.
    collection
        .create_item(
            LABEL,
            attributes.clone(),
            new.as_bytes(),
            false,
            "text/plain",
        )
        .await?;
    let made = kept(&service, &attributes).await?;
    made.ok_or(Error::NoResult).map(Some)
}

/// Returns the oldest entry's text.
async fn kept(
    service: &SecretService<'_>,
    attributes: &HashMap<&str, &str>,
) -> Result<Option<Vec<u8>>, Error> {
    let found = service.search_items(attributes.clone()).await?;
    let mut items: Vec<(u64, Item)> = Vec::new();
    for item in found.unlocked.into_iter().chain(found.locked) {
        items.push((item.get_created().await?, item));
    }
    items.sort_by(|(a_made, a), (b_made, b)| {
        let path = |item: &Item| (item.item_path.as_str().len(), item.item_path.to_string());
        a_made.cmp(b_made).then_with(|| path(a).cmp(&path(b)))
    });
    match items.first() {
        None => Ok(None),
        Some((_, item)) => {
            item.ensure_unlocked().await?;
            item.get_secret().await.map(Some)
        }
    }
}
