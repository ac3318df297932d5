//! The tenants' contacts and assets, from files that are read again when they are saved.

pub mod fuzz;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use postroom_core::attribution::ContactMatch;
use postroom_core::lookup::{Asset, Contact, Needle, Query, QueryResult, folded};
use postroom_core::{Contacts, ContentHash};
use postroom_store::{FileId, LastGood, StoreError, Versions};

use postroom_config::{Config, DirectoryFile, Problem, Tenant};
use postroom_files::{Unread, open_file, read_whole};
use table::{Faults, Row, Shape};

const CONTACTS: Shape = Shape {
    name: "contacts",
    key: "email",
    known: &["email", "name", "phone", "vip"],
};
/// The column of contacts with their further addresses.
const ALIASES: &str = "aliases";
/// The separator between the words of a row.
const BETWEEN: &str = "\0";
const ASSETS: Shape = Shape {
    name: "assets",
    key: "name",
    known: &["name", "serial", "host"],
};

/// A file that changed this shortly before it was read may have changed again within the same tick of its file system's
/// clock.
const SETTLED: Duration = Duration::from_secs(2);

/// One tenant's contacts and assets, ready for queries. It never changes: a batch uses the same one to its end.
#[derive(Debug, Default)]
pub struct Directory {
    contacts: Arc<Part<Contact>>,
    assets: Arc<Part<Asset>>,
}

/// The content of one file, with its search words.
#[derive(Debug)]
struct Part<T> {
    /// The reason if there never was a valid file: no rule decides on contacts that could not be read.
    rows: Result<Vec<T>, String>,
    /// The keys for exact matches, folded; the first row with a key has it.
    exact: HashMap<String, usize>,
    /// All words of a row, folded, separated by NUL, which no word contains.
    words: Vec<String>,
}

/// The current directories of all tenants.
pub struct Directories {
    /// The configuration's folder, which no file may leave.
    dir: PathBuf,
    versions: Arc<dyn Versions>,
    served_before: Arc<dyn LastGood>,
    tenants: ArcSwap<Vec<Arc<Files>>>,
    live: ArcSwap<HashMap<String, Arc<Directory>>>,
}

/// A file at the last look.
#[derive(Debug)]
struct Seen {
    /// While the file has this stamp, its content is unchanged; `None` if that is not certain.
    stamp: Option<Stamp>,
    /// Its content hash, or why it could not be read.
    held: Result<ContentHash, Problem>,
}

/// The content of a file, and its stamp if the stamp is certain to change with the content.
#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    stamp: Option<Stamp>,
}

/// The file system's view of a file, which every write changes: device, inode, size, and the time of the last change in
/// seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([i128; 5]);

/// Parses a file's bytes into its content, or returns every problem.
type MadeOf<T> = fn(&[u8], &DirectoryFile) -> Result<T, Vec<Problem>>;

/// One tenant's files.
#[derive(Debug)]
struct Files {
    tenant: String,
    contacts: Option<DirectoryFile>,
    assets: Option<DirectoryFile>,
    /// Allows one look at a time. The state of each file at the last look.
    seen: Mutex<HashMap<FileId, Seen>>,
}

impl Files {
    fn is_empty(&self) -> bool {
        self.contacts.is_none() && self.assets.is_none()
    }
}

/// The changes found by a look at a tenant's files.
#[derive(Debug, Default)]
pub struct DirectoryReloaded {
    /// The files whose new content is live.
    pub live: Vec<(String, String)>,
    /// The tenants with a problem in a file, each saved fault once.
    pub refused: Vec<(String, Problem)>,
    /// Files that are broken at a start: their last valid version is live.
    pub returned: Vec<(String, String)>,
}

impl DirectoryReloaded {
    /// Returns whether there is anything to report.
    pub fn is_news(&self) -> bool {
        !(self.live.is_empty() && self.refused.is_empty() && self.returned.is_empty())
    }
}

/// The same, with the data to store.
#[derive(Default)]
pub struct Looked {
    reread: DirectoryReloaded,
    good: Vec<(FileId, Bytes)>,
}

impl Directories {
    /// Creates directories of which no file is read yet. Stored versions of files that no tenant names any more are
    /// deleted.
    pub async fn open(
        config: &Config,
        versions: Arc<dyn Versions>,
        served_before: Arc<dyn LastGood>,
    ) -> Result<Arc<Self>, StoreError> {
        let directories = Arc::new(Self {
            dir: config.dir.clone(),
            versions,
            served_before,
            tenants: ArcSwap::from_pointee(files_of(config, &[])),
            live: ArcSwap::default(),
        });
        let tenants = directories.tenants.load();
        let files = tenants.iter().flat_map(|it| {
            let contacts = it.contacts.iter().map(|file| (file, &CONTACTS));
            let assets = it.assets.iter().map(|file| (file, &ASSETS));
            let all = contacts.chain(assets);
            all.map(|(file, shape)| file_id(&it.tenant, file, shape))
        });
        let files = files.collect();
        directories.versions.forget_files_but(files).await?;
        Ok(directories)
    }

    /// Takes over the files of a changed configuration. Files that changed are read at the next look at their tenant; until then
    /// the tenant keeps its directory.
    pub fn configure(&self, config: &Config) {
        let after = files_of(config, &self.tenants.load());
        let without: HashSet<&str> = after
            .iter()
            .filter(|it| it.is_empty())
            .map(|it| it.tenant.as_str())
            .collect();
        let is_gone = |tenant: &String| without.contains(tenant.as_str());
        if self.live.load().keys().any(is_gone) {
            self.live.rcu(|live| {
                let mut live = HashMap::clone(live);
                live.retain(|tenant, _| !is_gone(tenant));
                live
            });
        }
        self.tenants.store(Arc::new(after));
    }

    /// Returns a tenant's current directory. The returned one stays the same, whatever is saved meanwhile.
    pub fn of(&self, tenant: &str) -> Arc<Directory> {
        self.live.load().get(tenant).cloned().unwrap_or_default()
    }

    /// Returns the folders that have to be watched for changes of a directory.
    pub fn folders(&self) -> BTreeSet<PathBuf> {
        let tenants = self.tenants.load();
        let files = tenants
            .iter()
            .flat_map(|files| [&files.contacts, &files.assets]);
        let folders = files
            .flatten()
            .filter_map(|file| match file.path.parent()? {
                here if here.as_os_str().is_empty() => Some(PathBuf::from(".")),
                folder => Some(folder.to_owned()),
            });
        folders.collect()
    }

    /// Returns whether a tenant has any file.
    pub fn has_files(&self, tenant: &str) -> bool {
        self.files(tenant).is_some_and(|it| !it.is_empty())
    }

    fn files(&self, tenant: &str) -> Option<Arc<Files>> {
        let tenants = self.tenants.load();
        tenants.iter().find(|it| it.tenant == tenant).cloned()
    }

    /// Stores the valid files of a look for a start at which they are broken, and returns the changes.
    pub async fn keep(&self, looked: Looked) -> DirectoryReloaded {
        for (file, bytes) in looked.good {
            let (tenant, name) = (file.tenant.clone(), file.name.clone());
            if let Err(error) = self.versions.keep_file(file, bytes).await {
                tracing::error!(%error, tenant, name, "contacts or assets are live, and not kept for the next start");
            }
        }
        looked.reread
    }

    /// Reads the tenant's files that were saved since the last look, and puts them live at once. A broken file changes
    /// nothing; at a start its last valid version is used, and if there never was one, queries for its content fail.
    /// Blocks.
    pub fn look(&self, tenant: &str) -> Looked {
        let mut looked = Looked::default();
        let Some(files) = self.files(tenant) else {
            return looked;
        };
        let mut seen = files.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // What is live before the first look comes from other files.
        let is_first = seen.is_empty();
        let serving = self.live.load().get(tenant).cloned();
        let serving = serving.filter(|_| !is_first);
        let mut look = |file: &Option<DirectoryFile>, shape: &Shape| {
            let file = file.as_ref()?;
            let id = file_id(tenant, file, shape);
            let read = read(&self.dir, file, seen.get(&id).and_then(|it| it.stamp));
            let (bytes, stamp) = match read {
                Ok(None) => return None,
                Ok(Some(read)) => (Ok(Bytes::from(read.bytes)), read.stamp),
                Err(problem) => (Err(problem), None),
            };
            let held = match &bytes {
                Ok(bytes) => Ok(ContentHash::of(bytes)),
                Err(problem) => Err(problem.clone()),
            };
            let now = Seen {
                stamp,
                held: held.clone(),
            };
            let before = seen.insert(id.clone(), now);
            let is_news = before.is_none_or(|before| before.held != held);
            is_news.then_some((id, file.clone(), bytes))
        };
        let contacts = look(&files.contacts, &CONTACTS);
        let assets = look(&files.assets, &ASSETS);
        if serving.is_some() && contacts.is_none() && assets.is_none() {
            return looked;
        }
        let serving = serving.as_deref();
        let old = serving.map(|it| &it.contacts);
        let contacts = self.refresh(contacts, old, &mut looked, contacts_of);
        let old = serving.map(|it| &it.assets);
        let assets = self.refresh(assets, old, &mut looked, assets_of);
        let fresh = Arc::new(Directory { contacts, assets });
        // The configuration may have changed since the look began.
        if !self
            .files(tenant)
            .is_some_and(|it| Arc::ptr_eq(&it, &files))
        {
            return looked;
        }
        self.live.rcu(|live| {
            let mut live = HashMap::clone(live);
            live.insert(tenant.to_owned(), fresh.clone());
            live
        });
        looked
    }

    /// Returns a part after a look at its file: the new version, the live one, or the last valid one.
    fn refresh<T>(
        &self,
        news: Option<(FileId, DirectoryFile, Result<Bytes, Problem>)>,
        serving: Option<&Arc<Part<T>>>,
        looked: &mut Looked,
        made_of: MadeOf<Part<T>>,
    ) -> Arc<Part<T>> {
        let Some((id, file, bytes)) = news else {
            return serving.cloned().unwrap_or_default();
        };
        let made = bytes
            .map_err(|problem| vec![problem])
            .and_then(|bytes| Ok((guarded(made_of, &bytes, &file)?, bytes)));
        let problems = match made {
            Ok((part, bytes)) => {
                let live = (id.tenant.clone(), file.shown());
                looked.reread.live.push(live);
                let kept = self.served_before.kept_file_hash(&id).ok().flatten();
                if kept != Some(ContentHash::of(&bytes)) {
                    looked.good.push((id, bytes));
                }
                return Arc::new(part);
            }
            Err(problems) => problems,
        };
        let reason = problems.first().map(ToString::to_string);
        let refused = problems.into_iter();
        let refused = refused.map(|problem| (id.tenant.clone(), problem));
        looked.reread.refused.extend(refused);
        if let Some(good) = serving.filter(|it| it.rows.is_ok()) {
            return good.clone();
        }
        let kept = self.served_before.kept_file(&id).unwrap_or_else(|error| {
            tracing::error!(%error, tenant = id.tenant, file = file.shown(), "the last valid version cannot be read");
            None
        });
        if let Some(part) = kept.and_then(|bytes| guarded(made_of, &bytes, &file).ok()) {
            looked.reread.returned.push((id.tenant, file.shown()));
            return Arc::new(part);
        }
        Arc::new(Part {
            rows: Err(reason.unwrap_or_default()),
            ..Part::default()
        })
    }
}

impl Directory {
    /// Reads a tenant's files once.
    pub fn read(config: &Config, tenant: &Tenant) -> Result<Self, Vec<Problem>> {
        fn part<T: Default>(
            config: &Config,
            file: &Option<DirectoryFile>,
            made_of: MadeOf<T>,
        ) -> Result<Arc<T>, Vec<Problem>> {
            let Some(file) = file else {
                return Ok(Arc::default());
            };
            match read(&config.dir, file, None) {
                Ok(read) => made_of(&read.unwrap_or_default().bytes, file).map(Arc::new),
                Err(problem) => Err(vec![problem]),
            }
        }
        let contacts = part(config, &tenant.contacts, contacts_of);
        let assets = part(config, &tenant.assets, assets_of);
        match (contacts, assets) {
            (Ok(contacts), Ok(assets)) => Ok(Self { contacts, assets }),
            (contacts, assets) => Err([contacts.err(), assets.err()]
                .into_iter()
                .flatten()
                .flatten()
                .collect()),
        }
    }

    /// Returns the first `most` contacts or assets that match a query; `None` for a query about something else. Fails with
    /// the reason if the file never was valid.
    pub fn answer(&self, question: &Query, most: usize) -> Result<Option<QueryResult>, String> {
        Ok(Some(match question {
            Query::Contact(email) => QueryResult::Contacts(self.contacts.exactly(email, most)?),
            Query::Contacts(text) => QueryResult::Contacts(self.contacts.containing(text, most)?),
            Query::Asset(name) => QueryResult::Assets(self.assets.exactly(name, most)?),
            Query::Assets(text) => QueryResult::Assets(self.assets.containing(text, most)?),
            Query::Ticket(_) | Query::Tickets(_) | Query::Alert(_) | Query::Alerts(_) => {
                return Ok(None);
            }
        }))
    }
}

impl Contacts for Directories {
    fn find(&self, client: &str, email: &str) -> Option<ContactMatch> {
        let live = self.live.load();
        live.get(client)?.contact_match(email)
    }
}

impl Directory {
    /// Returns how a contact has this address, if one has.
    pub fn contact_match(&self, email: &str) -> Option<ContactMatch> {
        let contacts = self.contacts.exactly(email, 1).ok()?;
        let contact = contacts.first()?;
        Some(match folded(&contact.email) == folded(email) {
            true => ContactMatch::Exact,
            false => ContactMatch::Alias,
        })
    }
}

impl<T: Clone> Part<T> {
    /// Builds the index. `names` are the words of a row, `exact` those that match it exactly.
    fn new(
        rows: Vec<T>,
        names: impl Fn(&T) -> Vec<String>,
        exact: impl Fn(&T, &str) -> bool,
    ) -> Self {
        let mut part = Self::default();
        for (n, row) in rows.iter().enumerate() {
            let folded: Vec<String> = names(row).iter().map(|name| folded(name)).collect();
            for name in folded.iter().filter(|name| exact(row, name)) {
                part.exact.entry(name.clone()).or_insert(n);
            }
            part.words.push(folded.join(BETWEEN));
        }
        part.rows = Ok(rows);
        part
    }

    fn exactly(&self, name: &str, most: usize) -> Result<Vec<T>, String> {
        let rows = self.rows.as_ref().map_err(Clone::clone)?;
        let found = self.exact.get(&folded(name));
        Ok(found
            .and_then(|n| rows.get(*n))
            .into_iter()
            .take(most)
            .cloned()
            .collect())
    }

    fn containing(&self, text: &str, most: usize) -> Result<Vec<T>, String> {
        let rows = self.rows.as_ref().map_err(Clone::clone)?;
        if text.contains(BETWEEN) {
            return Ok(Vec::new());
        }
        let text = Needle::new(text);
        let found = rows
            .iter()
            .zip(&self.words)
            .filter(|(_, words)| text.is_in_folded(words));
        Ok(found.take(most).map(|(row, _)| row.clone()).collect())
    }
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self {
            rows: Ok(Vec::new()),
            exact: HashMap::new(),
            words: Vec::new(),
        }
    }
}

/// Returns every tenant's files; those that stay the same are those of `before`.
fn files_of(config: &Config, before: &[Arc<Files>]) -> Vec<Arc<Files>> {
    let known: HashMap<&str, &Arc<Files>> =
        before.iter().map(|it| (it.tenant.as_str(), it)).collect();
    let files = |tenant: &Tenant| {
        let same = known
            .get(tenant.name.as_str())
            .filter(|it| (&it.contacts, &it.assets) == (&tenant.contacts, &tenant.assets));
        let fresh = || {
            Arc::new(Files {
                tenant: tenant.name.clone(),
                contacts: tenant.contacts.clone(),
                assets: tenant.assets.clone(),
                seen: Mutex::default(),
            })
        };
        same.map_or_else(fresh, |it| Arc::clone(it))
    };
    config.tenants.iter().map(files).collect()
}

fn file_id(tenant: &str, file: &DirectoryFile, shape: &Shape) -> FileId {
    FileId {
        tenant: tenant.to_owned(),
        kind: shape.name,
        name: file.name.clone(),
    }
}

/// Reads a file that must still be inside the configuration's folder, with the stamp by which the next look recognises it.
/// Returns `None` if it has the stamp of the last look.
fn read(
    dir: &Path,
    file: &DirectoryFile,
    before: Option<Stamp>,
) -> Result<Option<Content>, Problem> {
    let read = || -> Result<_, Unread> {
        let open: File = open_file(Some(dir), &file.path)?;
        let (about, now) = (open.metadata()?, SystemTime::now());
        let stamp = Stamp::of(&about);
        if before == Some(stamp) {
            return Ok(None);
        }
        let bytes = read_whole(&open, table::FILE_BYTES as u64)?;
        Ok(Some(Content {
            bytes,
            stamp: stamp.is_settled(now).then_some(stamp),
        }))
    };
    read().map_err(|unread| {
        let (message, cure) = match unread {
            Unread::Missing => (
                "does not exist".into(),
                "restore it, or remove its key from the configuration",
            ),
            Unread::LeadsOut => (
                "leads out of the configuration's folder by a symbolic link".into(),
                "put the file itself there",
            ),
            Unread::NoFile => ("is not a file".into(), "put the file itself there"),
            Unread::TooLarge(_) => (
                format!("is over {} bytes", table::FILE_BYTES),
                "remove the columns that no rule uses",
            ),
            Unread::Other(reason) => (
                format!("cannot be read ({reason})"),
                "make the file readable for postroom",
            ),
        };
        Problem {
            file: file.shown(),
            line: 0,
            column: 0,
            key: String::new(),
            message,
            cure: cure.into(),
            source: None,
        }
    })
}

/// Parses a file. A panic here becomes the file's problem, and affects no other.
fn guarded<T>(made_of: MadeOf<T>, bytes: &[u8], file: &DirectoryFile) -> Result<T, Vec<Problem>> {
    catch_unwind(AssertUnwindSafe(|| made_of(bytes, file))).unwrap_or_else(|_| {
        Err(vec![Problem {
            file: file.shown(),
            line: 0,
            column: 0,
            key: String::new(),
            message: "could not be read, because reading it panicked".into(),
            cure: "this is a bug in Postroom, please report it with the log".into(),
            source: None,
        }])
    })
}

impl Stamp {
    fn of(about: &Metadata) -> Self {
        Self([
            about.dev().into(),
            about.ino().into(),
            about.size().into(),
            about.ctime().into(),
            about.ctime_nsec().into(),
        ])
    }

    fn is_settled(self, now: SystemTime) -> bool {
        let [.., secs, nanos] = self.0;
        let changed = secs * 1_000_000_000 + nanos;
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        now.is_ok_and(|now| changed + (SETTLED.as_nanos() as i128) < now.as_nanos() as i128)
    }
}

fn contacts_of(bytes: &[u8], file: &DirectoryFile) -> Result<Part<Contact>, Vec<Problem>> {
    let shown = file.shown();
    let mut faults = Faults::new(&shown);
    let rows = table::read(bytes, file.is_csv(), &CONTACTS, &mut faults);
    let mut known = HashSet::new();
    let mut contacts = Vec::with_capacity(rows.len());
    for row in rows {
        let line = row.line;
        let contact = contact(row, &mut faults);
        if !is_address(&contact.email) {
            let (message, cure) = match contact.email.as_str() {
                "" => ("has no email".into(), "add it, or remove the contact"),
                odd => (
                    format!("\"{odd}\" is not an address"),
                    "write it as name@domain",
                ),
            };
            faults.add(line, message, cure);
        } else if !known.insert(folded(&contact.email)) {
            faults.add(
                line,
                format!("{} occurs twice", contact.email),
                "keep one of the two",
            );
        }
        contacts.push(contact);
    }
    match faults.problems.is_empty() {
        true => Ok(Part::new(
            contacts,
            |it| {
                let names = [it.email.clone(), it.name.clone()];
                names.into_iter().chain(aliases(it)).collect()
            },
            |it, name| folded(&it.email) == name || aliases(it).any(|alias| folded(&alias) == name),
        )),
        false => Err(faults.problems),
    }
}

/// Returns the further addresses of a contact: those of its column `aliases`.
fn aliases(contact: &Contact) -> impl Iterator<Item = String> + '_ {
    let columns = contact.fields.iter();
    let texts = columns.filter(|(name, _)| name.eq_ignore_ascii_case(ALIASES));
    let between = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '|');
    let words = texts.flat_map(move |(_, text)| text.split(between));
    words.filter(|word| is_address(word)).map(str::to_owned)
}

fn contact(row: Row, faults: &mut Faults) -> Contact {
    let mut contact = Contact::default();
    for cell in row.cells {
        match cell.name.as_str() {
            "email" => contact.email = cell.value,
            "name" => contact.name = cell.value,
            "phone" => contact.phone = Some(cell.value),
            "vip" => match cell.value.to_lowercase().as_str() {
                "true" | "yes" | "y" | "x" | "1" => contact.vip = true,
                "false" | "no" | "n" | "0" => contact.vip = false,
                odd => faults.add(
                    cell.line,
                    format!("vip is \"{odd}\""),
                    "write yes or no, or leave it empty",
                ),
            },
            _ => {
                contact.fields.insert(cell.name, cell.value);
            }
        }
    }
    contact
}

fn assets_of(bytes: &[u8], file: &DirectoryFile) -> Result<Part<Asset>, Vec<Problem>> {
    let shown = file.shown();
    let mut faults = Faults::new(&shown);
    let rows = table::read(bytes, file.is_csv(), &ASSETS, &mut faults);
    let mut assets = Vec::with_capacity(rows.len());
    for row in rows {
        let line = row.line;
        let mut asset = Asset::default();
        for cell in row.cells {
            match cell.name.as_str() {
                "name" => asset.name = cell.value,
                "serial" => asset.serial = Some(cell.value),
                "host" => asset.host = Some(cell.value),
                _ => {
                    asset.fields.insert(cell.name, cell.value);
                }
            }
        }
        if asset.name.is_empty() {
            faults.add(line, "has no name", "add it, or remove the asset");
        }
        assets.push(asset);
    }
    match faults.problems.is_empty() {
        true => Ok(Part::new(
            assets,
            |it| it.names().map(str::to_owned).collect(),
            |_, _| true,
        )),
        false => Err(faults.problems),
    }
}

fn is_address(text: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | ';');
    text.rsplit_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
        && !text.contains(odd)
}
