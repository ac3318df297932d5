//! The last valid versions of the tenants' contacts and assets files, so that a start does not depend on files broken since.

use super::{SqliteReader, SqliteStore};
use crate::{FileId, StoreError};
use bytes::Bytes;
use postroom_core::ContentHash;
use rusqlite::OptionalExtension;

impl SqliteStore {
    /// Stores the content of a file, replacing the stored content of this file or of another of the same kind.
    pub(crate) async fn write_file(&self, file: FileId, bytes: Bytes) -> Result<(), StoreError> {
        self.writer
            .submit(bytes.len(), move |conn| {
                conn.prepare_cached(
                    "INSERT OR REPLACE INTO directory_file (tenant, kind, name, hash, bytes)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute((
                    &file.tenant,
                    file.kind,
                    &file.name,
                    ContentHash::of(&bytes).0,
                    &bytes[..],
                ))?;
                Ok(())
            })
            .await
    }

    /// Deletes all files except these, which are the configured ones.
    pub(crate) async fn delete_files_but(&self, files: Vec<FileId>) -> Result<(), StoreError> {
        self.writer
            .submit(0, move |conn| {
                let mut kept = conn.prepare("SELECT tenant, kind, name FROM directory_file")?;
                let rows = kept.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
                let kept: Vec<(String, String, String)> = rows.collect::<Result<_, _>>()?;
                for (tenant, kind, name) in kept {
                    let is_it =
                        |it: &FileId| it.tenant == tenant && it.kind == kind && it.name == name;
                    if !files.iter().any(is_it) {
                        conn.prepare_cached(
                            "DELETE FROM directory_file WHERE tenant = ?1 AND kind = ?2",
                        )?
                        .execute((tenant, kind))?;
                    }
                }
                Ok(())
            })
            .await
    }
}

impl SqliteReader {
    /// Returns the stored content of a file, or `None` if it never was valid or another file has been configured since.
    pub(crate) fn kept_file(&self, file: &FileId) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|conn| {
            let bytes = conn
                .prepare_cached(
                    "SELECT bytes FROM directory_file WHERE tenant = ?1 AND kind = ?2 AND name = ?3",
                )?
                .query_row((&file.tenant, file.kind, &file.name), |row| row.get(0));
            Ok(bytes.optional()?)
        })
    }

    /// Returns the hash of the stored content of a file.
    pub(crate) fn kept_file_hash(&self, file: &FileId) -> Result<Option<ContentHash>, StoreError> {
        self.with(|conn| {
            let hash = conn
                .prepare_cached(
                    "SELECT hash FROM directory_file WHERE tenant = ?1 AND kind = ?2 AND name = ?3",
                )?
                .query_row((&file.tenant, file.kind, &file.name), |row| row.get(0));
            Ok(hash.optional()?.map(ContentHash))
        })
    }
}
