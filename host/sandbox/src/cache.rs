//! Compiled code on disk, so that a restart does not compile again. Compiled code is trusted: only this user can write to
//! the folder.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use object::{File, Object, ObjectSection};
use sha2::{Digest, Sha256};
use wasmtime::{Engine, Module, component::Component};

use crate::compile::NOTE_EXTENSION;
use crate::error::SandboxError;

/// The number of entries kept; the least recently used are removed first.
const ENTRIES: usize = 64;
/// The size of all entries together: about sixty components that contain a whole language.
const ENTRIES_BYTES: u64 = 2 << 30;
/// The number of notes kept on components whose compilation failed. Notes are small, and after one is removed its component
/// is tried again.
const NOTES: usize = 1024;
const CHECKSUM: usize = 32;
/// The section in which wasmtime keeps the data of memories in compiled code.
const DATA_SECTION: &str = ".rodata.wasm";
/// The section in which it keeps the description of a component, packed.
const INFO_SECTION: &str = ".wasmtime.info";
/// The factor between packed and unpacked description, which is up to 20: a component of 300 bytes can consist of a million
/// instances.
const INFO_WEIGHT: usize = 24;

/// A folder of compiled modules and components. Without one, everything is compiled each time.
pub(crate) struct Cache(Option<PathBuf>);

/// Code that can be compiled and stored.
pub(crate) trait Compiled: Sized {
    const EXTENSION: &'static str;

    fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self>;
    fn serialize(&self) -> wasmtime::Result<Vec<u8>>;
    /// # Safety
    /// `code` must be the result of [`Compiled::serialize`].
    #[allow(unsafe_code)]
    unsafe fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Self>;
}

impl Cache {
    /// Creates the folder if it is missing. Refuses a folder that another user could write to.
    pub(crate) fn open(path: Option<PathBuf>) -> Result<Self, SandboxError> {
        let Some(path) = path else {
            return Ok(Self(None));
        };
        match prepare(&path) {
            Ok(None) => Ok(Self(Some(path))),
            Ok(Some(problem)) => Err(SandboxError::CacheNotOurs { path, problem }),
            Err(source) => Err(SandboxError::Cache { path, source }),
        }
    }

    /// Returns the folder of entries and notes.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        self.0.clone()
    }

    /// Returns the compiled code of a component from the cache, or from `compile`, which receives the component's key; new
    /// code is stored.
    pub(crate) fn code<E>(
        &self,
        engine: &Engine,
        bytes: &[u8],
        compile: impl FnOnce(&str) -> Result<Vec<u8>, E>,
    ) -> Result<Code, E> {
        let key = key(engine, bytes);
        let path = self
            .0
            .as_ref()
            .map(|folder| folder.join(format!("{key}.{}", Component::EXTENSION)));
        if let Some(code) = path.as_deref().and_then(read) {
            return Ok(Code(code));
        }
        let code = compile(&key)?;
        if let (Some(folder), Some(path)) = (&self.0, &path)
            && let Err(error) = store(folder, path, &code)
        {
            tracing::warn!(path = %path.display(), %error, "compiled code could not be stored; the next start compiles again");
        }
        Ok(Code(code))
    }

    /// Returns a module or component from the cache, or compiles and stores it. A damaged or unwritable cache only costs
    /// time.
    pub(crate) fn compiled<C: Compiled>(
        &self,
        engine: &Engine,
        bytes: &[u8],
    ) -> wasmtime::Result<C> {
        let Some(folder) = &self.0 else {
            return C::compile(engine, bytes);
        };
        let path = folder.join(format!("{}.{}", key(engine, bytes), C::EXTENSION));
        if let Some(code) = read(&path) {
            // SAFETY: the folder belongs to this user and is closed to others (checked in `open`), its files are written by
            // `store` only, and the checksum proves that the content is what was written. wasmtime itself compares version
            // and settings.
            #[allow(unsafe_code)]
            match unsafe { C::deserialize(engine, &code) } {
                Ok(compiled) => return Ok(compiled),
                Err(error) => {
                    tracing::debug!(path = %path.display(), %error, "compiled code is from another version; compiling again")
                }
            }
        }
        let compiled = C::compile(engine, bytes)?;
        let code = compiled.serialize()?;
        if let Err(error) = store(folder, &path, &code) {
            tracing::warn!(path = %path.display(), %error, "compiled code could not be stored; the next start compiles again");
        }
        Ok(compiled)
    }
}

/// Compiled code of a component, made by our own compiler in this process or its child, or loaded from the cache.
pub(crate) struct Code(Vec<u8>);

impl Code {
    /// Returns the memory of a component made from it: the code, its data once more, from which instances map their
    /// memories, and its description in use.
    pub(crate) fn loaded_bytes(&self) -> usize {
        let code = self.0.len();
        let Ok(file) = File::parse(&*self.0) else {
            // All of it could be description.
            return code.saturating_mul(INFO_WEIGHT);
        };
        let size = |name: &str| {
            let section = file.section_by_name(name);
            section.map_or(0, |section| section.size() as usize)
        };
        let info = size(INFO_SECTION).saturating_mul(INFO_WEIGHT);
        code.saturating_add(size(DATA_SECTION)).saturating_add(info)
    }

    /// Makes a component. Fails if the engine is configured differently from the one it was compiled for, or lacks the room
    /// it needs.
    pub(crate) fn component(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: the code is from our own compiler, or from the cache, whose folder is closed to others and whose
        // checksums match. wasmtime itself compares version and settings.
        #[allow(unsafe_code)]
        unsafe {
            Component::deserialize(engine, &self.0)
        }
    }
}

impl Compiled for Module {
    const EXTENSION: &'static str = "module";

    fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self> {
        Module::from_binary(engine, bytes)
    }

    fn serialize(&self) -> wasmtime::Result<Vec<u8>> {
        Module::serialize(self)
    }

    #[allow(unsafe_code)]
    unsafe fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Self> {
        // SAFETY: guaranteed by the caller.
        unsafe { Module::deserialize(engine, code) }
    }
}

impl Compiled for Component {
    const EXTENSION: &'static str = "component";

    fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self> {
        Component::from_binary(engine, bytes)
    }

    fn serialize(&self) -> wasmtime::Result<Vec<u8>> {
        Component::serialize(self)
    }

    #[allow(unsafe_code)]
    unsafe fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Self> {
        // SAFETY: guaranteed by the caller.
        unsafe { Component::deserialize(engine, code) }
    }
}

/// Returns what is wrong with the folder, if anything.
fn prepare(path: &Path) -> io::Result<Option<&'static str>> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    let folder = fs::symlink_metadata(path)?;
    if !folder.is_dir() {
        return Ok(Some("is not a folder"));
    }
    // A file that we create belongs to us: this is the cheapest way to learn our user id.
    let ours = tempfile::tempfile_in(path)?.metadata()?.uid();
    if folder.uid() != ours {
        return Ok(Some("belongs to another user"));
    }
    if folder.mode() & 0o077 != 0 {
        return Ok(Some("is open to other users (its mode must be 0700)"));
    }
    if let Err(error) = prune(path, ENTRIES_BYTES) {
        tracing::debug!(path = %path.display(), %error, "the cache was not pruned");
    }
    Ok(None)
}

/// Removes the least recently used entries and notes over their limits. Another process may prune at the same time.
fn prune(folder: &Path, entries_bytes: u64) -> io::Result<()> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let (mut entries, mut notes) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Err(error) if gone(&error) => continue,
            metadata => metadata?,
        };
        let used = metadata.modified()?;
        let is_note = entry
            .path()
            .extension()
            .is_some_and(|it| it == NOTE_EXTENSION);
        let kind = if is_note { &mut notes } else { &mut entries };
        kind.push((used, entry.path(), metadata.len()));
    }
    for (mut kind, most) in [(entries, ENTRIES), (notes, NOTES)] {
        kind.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
        let mut sum = 0u64;
        for (number, (_, path, size)) in kind.into_iter().enumerate() {
            sum = sum.saturating_add(size);
            if number < most && sum <= entries_bytes {
                continue;
            }
            match fs::remove_file(path) {
                Err(error) if gone(&error) => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}

/// Returns the key of a cache entry: a hash over the wasm, wasmtime's version and every setting that affects its code.
fn key(engine: &Engine, bytes: &[u8]) -> String {
    struct Feed(Sha256);
    impl Hasher for Feed {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut feed = Feed(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut feed);
    feed.0.update(Sha256::digest(bytes));
    postroom_core::ContentHash(feed.0.finalize().into()).hex()
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut stored = fs::read(path).ok()?;
    if stored.len() < CHECKSUM {
        return None;
    }
    let code = stored.split_off(CHECKSUM);
    if Sha256::digest(&code)[..] != stored[..] {
        tracing::warn!(path = %path.display(), "compiled code is damaged; compiling again");
        return None;
    }
    // Marks it as used. If that fails, the file is pruned a little early.
    if let Ok(file) = fs::File::open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
    Some(code)
}

fn store(folder: &Path, path: &Path, code: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&Sha256::digest(code))?;
    file.write_all(code)?;
    file.persist(path)?;
    prune(folder, ENTRIES_BYTES)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn entries_are_kept_up_to_their_number_and_their_size_together() {
        let dir = tempfile::tempdir().unwrap();
        let names = || {
            let entries = fs::read_dir(dir.path()).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let put = |name: &str, size: usize, age: u64| {
            let path = dir.path().join(name);
            fs::write(&path, vec![0; size]).unwrap();
            let used = SystemTime::now() - Duration::from_secs(age);
            fs::File::options()
                .append(true)
                .open(path)
                .and_then(|file| file.set_modified(used))
                .unwrap();
        };
        put("newest.component", 400, 1);
        put("older.component", 400, 2);
        put("oldest.component", 400, 3);
        put("bad.note", 10, 4);
        prune(dir.path(), 1200).unwrap();
        assert_eq!(names().len(), 4);
        prune(dir.path(), 1000).unwrap();
        assert_eq!(names(), ["bad.note", "newest.component", "older.component"]);
        for age in 0..2 * ENTRIES as u64 {
            put(&format!("{age:03}.component"), 1, age);
        }
        prune(dir.path(), u64::MAX).unwrap();
        assert_eq!(names().len(), ENTRIES + 1);
    }
}
