//! Entry points for the fuzz targets (`tests/fuzz`) to private functions.

use super::{DirectoryFile, assets_of, contacts_of};

/// Reads a file as contacts and as assets; returns how many rows each has, or how many problems.
pub fn rows(bytes: &[u8], is_csv: bool) -> [Result<usize, usize>; 2] {
    let name = if is_csv { "table.csv" } else { "table.toml" };
    let file = DirectoryFile {
        name: name.into(),
        path: name.into(),
    };
    let contacts = contacts_of(bytes, &file).map(|part| part.words.len());
    let assets = assets_of(bytes, &file).map(|part| part.words.len());
    [
        contacts.map_err(|problems| problems.len()),
        assets.map_err(|problems| problems.len()),
    ]
}
