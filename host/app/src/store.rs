//! Selects the store: the only place in the program that names an implementation.

use std::path::Path;
use std::sync::Arc;

use postroom_config::Config;
use postroom_core::Clock;
use postroom_store::sqlite::{SqliteControl, SqliteReader, SqliteStore, StoreOptions};
use postroom_store::{Control, Listings, Records, Store, StoreError, StoreLimits};

/// Opens the store of a service. `start_anew` allows an empty one to replace one that is gone.
pub async fn open(
    config: &Config,
    start_anew: bool,
    clock: Clock,
) -> Result<Arc<dyn Store>, StoreError> {
    let options = StoreOptions {
        limits: StoreLimits {
            generations: config.limits.generations,
            generation_bytes: config.limits.generation_bytes,
            ..StoreLimits::default()
        },
        installations: Some(config.installations.clone()),
        start_anew,
        clock,
        ..StoreOptions::default()
    };
    let data_dir = config.data_dir.clone();
    // Waiting for the lock and upgrading the database may take a while.
    let opening = tokio::task::spawn_blocking(move || SqliteStore::open_with(&data_dir, &options));
    let opened = opening
        .await
        .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    Ok(Arc::new(opened?))
}

/// Opens what commands list, alongside anything else that uses the data folder.
pub fn listings(data_dir: &Path) -> Result<Arc<dyn Listings>, StoreError> {
    Ok(Arc::new(SqliteReader::open(data_dir)?))
}

/// Opens recorded mail, alongside anything else that uses the data folder.
pub fn records(data_dir: &Path) -> Result<Arc<dyn Records>, StoreError> {
    Ok(Arc::new(SqliteReader::open(data_dir)?))
}

/// Returns the port through which commands change a data folder.
pub fn control(data_dir: &Path) -> impl Control {
    SqliteControl::new(data_dir, &StoreOptions::default())
}

/// Fails if another process uses the data folder.
pub fn is_free(data_dir: &Path) -> Result<(), StoreError> {
    let options = StoreOptions {
        start_anew: true,
        ..StoreOptions::default()
    };
    SqliteStore::open_with(data_dir, &options).map(drop)
}
