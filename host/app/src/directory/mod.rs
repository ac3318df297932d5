//! What is known of the tenants besides their mail: contacts and assets from files, which are read again when they are saved.

mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use postroom_core::ContentHash;
use postroom_core::lookup::{Asset, Contact, Found, Question, Wanted, folded};

use crate::config::{Config, DirectoryFile, Problem, Tenant};
use table::{Faults, Row, Shape};

const CONTACTS: Shape = Shape {
    name: "contacts",
    key: "email",
    known: &["email", "name", "phone", "vip"],
};
const ASSETS: Shape = Shape {
    name: "assets",
    key: "name",
    known: &["name", "serial", "host"],
};

/// One tenant's contacts and assets, ready to be asked. It never changes: a batch asks the same one to its end.
#[derive(Debug, Default)]
pub struct Directory {
    contacts: Part<Contact>,
    assets: Part<Asset>,
}

/// What one file holds, with the words it is found by.
#[derive(Debug, Clone)]
struct Part<T> {
    /// The reason, where there never was a good file: nobody decides on contacts that could not be read.
    rows: Result<Vec<T>, String>,
    /// By what each is found exactly, folded; the first one has it.
    exact: HashMap<String, usize>,
    /// All of a row's words, folded.
    words: Vec<String>,
}

/// The directories of all tenants, as they are now.
#[derive(Debug, Default)]
pub struct Directories {
    /// The configuration's folder, which no file leaves.
    dir: PathBuf,
    tenants: Vec<Files>,
    live: ArcSwap<HashMap<String, Arc<Directory>>>,
    /// One look at a time. What each file held when it was last looked at; none for one that could not be read.
    seen: Mutex<HashMap<FileOf, Option<ContentHash>>>,
}

/// A tenant, and which of its files: one file may be two tenants'.
type FileOf = (String, &'static str);
/// How a file's bytes are read: into all that is in it, or every problem.
type MadeOf<T> = fn(&[u8], &DirectoryFile) -> Result<T, Vec<Problem>>;

#[derive(Debug)]
struct Files {
    tenant: String,
    contacts: Option<DirectoryFile>,
    assets: Option<DirectoryFile>,
}

/// What a look at the files changed.
#[derive(Debug, Default)]
pub struct Reread {
    /// Files of which the new content is live.
    pub live: Vec<(String, String)>,
    /// Tenant and what is wrong with a file of it, each saved fault once.
    pub refused: Vec<(String, Problem)>,
}

impl Directories {
    /// Reads every file that the tenants name. One that is broken is told, and asking for what it holds fails.
    pub fn open(config: &Config) -> (Arc<Self>, Reread) {
        let tenants = config.tenants.iter().map(|tenant| Files {
            tenant: tenant.name.clone(),
            contacts: tenant.contacts.clone(),
            assets: tenant.assets.clone(),
        });
        let directories = Arc::new(Self {
            dir: config.dir.clone(),
            tenants: tenants.collect(),
            ..Self::default()
        });
        let reread = directories.reread();
        (directories, reread)
    }

    /// A tenant's directory as it is now. What is answered stays the same whatever is saved meanwhile.
    pub fn of(&self, tenant: &str) -> Arc<Directory> {
        self.live.load().get(tenant).cloned().unwrap_or_default()
    }

    /// The folders in which something has to happen before a directory changes.
    pub fn folders(&self) -> BTreeSet<PathBuf> {
        let files = self
            .tenants
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

    /// Reads what was saved since the last look, and puts it live at once. What is broken changes nothing. Blocking.
    pub fn reread(&self) -> Reread {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.live.load_full();
        let mut now = HashMap::with_capacity(before.len());
        let mut reread = Reread::default();
        for files in &self.tenants {
            let serving = before.get(&files.tenant).cloned();
            let mut look = |file: &Option<DirectoryFile>, shape: &Shape| {
                let file = file.as_ref()?;
                let bytes = read_inside(&self.dir, file);
                let hash = bytes.as_ref().ok().map(|bytes| ContentHash::of(bytes));
                let key = (files.tenant.clone(), shape.name);
                let is_news = seen.insert(key, hash) != Some(hash);
                is_news.then_some((file.clone(), bytes))
            };
            let contacts = look(&files.contacts, &CONTACTS);
            let assets = look(&files.assets, &ASSETS);
            if let Some(serving) = &serving
                && contacts.is_none()
                && assets.is_none()
            {
                now.insert(files.tenant.clone(), serving.clone());
                continue;
            }
            let serving = serving.as_deref();
            let old = serving.map(|it| &it.contacts);
            let contacts = refresh(contacts, old, files, &mut reread, contacts_of);
            let old = serving.map(|it| &it.assets);
            let assets = refresh(assets, old, files, &mut reread, assets_of);
            let fresh = Directory { contacts, assets };
            now.insert(files.tenant.clone(), Arc::new(fresh));
        }
        self.live.store(Arc::new(now));
        reread
    }
}

impl Directory {
    /// Reads a tenant's files once.
    pub fn read(config: &Config, tenant: &Tenant) -> Result<Self, Vec<Problem>> {
        fn part<T: Default>(
            config: &Config,
            file: &Option<DirectoryFile>,
            made_of: MadeOf<T>,
        ) -> Result<T, Vec<Problem>> {
            let Some(file) = file else {
                return Ok(T::default());
            };
            let bytes = read_inside(&config.dir, file).map_err(|problem| vec![problem])?;
            made_of(&bytes, file)
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

    /// The first `most` contacts or assets that a question is about; nothing for a question about something else. The reason when
    /// the file never was good.
    pub fn answer(&self, question: &Question, most: usize) -> Result<Option<Found>, String> {
        Ok(Some(match question {
            Question::Contact(email) => Found::Contacts(self.contacts.exactly(email, most)?),
            Question::Contacts(text) => Found::Contacts(self.contacts.containing(text, most)?),
            Question::Asset(name) => Found::Assets(self.assets.exactly(name, most)?),
            Question::Assets(text) => Found::Assets(self.assets.containing(text, most)?),
            Question::Ticket(_)
            | Question::Tickets(_)
            | Question::Alert(_)
            | Question::Alerts(_) => return Ok(None),
        }))
    }
}

impl<T: Clone> Part<T> {
    /// `names` are what a row is found by, `exact` those of them that find it alone.
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
            part.words.push(folded.join("\n"));
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
        let text = Wanted::new(text);
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

/// A part as it is after a look at its file: the new one, or the one that serves.
fn refresh<T: Clone>(
    looked: Option<(DirectoryFile, Result<Vec<u8>, Problem>)>,
    serving: Option<&Part<T>>,
    files: &Files,
    reread: &mut Reread,
    made_of: MadeOf<Part<T>>,
) -> Part<T> {
    let Some((file, bytes)) = looked else {
        return serving.cloned().unwrap_or_default();
    };
    let made = bytes
        .map_err(|problem| vec![problem])
        .and_then(|bytes| made_of(&bytes, &file));
    match made {
        Ok(part) => {
            reread.live.push((files.tenant.clone(), file.shown()));
            part
        }
        Err(problems) => {
            let reason = problems.first().map(ToString::to_string);
            let refused = problems.into_iter();
            let refused = refused.map(|problem| (files.tenant.clone(), problem));
            reread.refused.extend(refused);
            match serving {
                Some(good) if good.rows.is_ok() => good.clone(),
                _ => Part {
                    rows: Err(reason.unwrap_or_default()),
                    ..Part::default()
                },
            }
        }
    }
}

/// The bytes of a file, if it still lies in the configuration's folder: it may have become a link since.
fn read_inside(dir: &Path, file: &DirectoryFile) -> Result<Vec<u8>, Problem> {
    let problem = |message: String, cure: &str| Problem {
        file: file.shown(),
        line: 0,
        column: 0,
        key: String::new(),
        message,
        cure: cure.into(),
    };
    let unreadable = |error: std::io::Error| {
        problem(
            format!("cannot be read ({error})"),
            "make the file readable for postroom",
        )
    };
    let real = file.path.canonicalize().map_err(unreadable)?;
    let dir = match dir.as_os_str().is_empty() {
        true => Path::new("."),
        false => dir,
    };
    if !real.starts_with(dir.canonicalize().map_err(unreadable)?) {
        return Err(problem(
            "leads out of the configuration's folder by a symbolic link".into(),
            "put the file itself there",
        ));
    }
    let size = real.metadata().map_err(unreadable)?.len();
    if size > table::FILE_BYTES as u64 {
        return Err(problem(
            format!("is over {} bytes", table::FILE_BYTES),
            "leave out the columns that no rule asks for",
        ));
    }
    std::fs::read(&real).map_err(unreadable)
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
                    format!("\"{odd}\" is no address"),
                    "write it as name@domain",
                ),
            };
            faults.add(line, message, cure);
        } else if !known.insert(folded(&contact.email)) {
            faults.add(
                line,
                format!("{} is there twice", contact.email),
                "keep one of the two",
            );
        }
        contacts.push(contact);
    }
    match faults.problems.is_empty() {
        true => Ok(Part::new(
            contacts,
            |it| vec![it.email.clone(), it.name.clone()],
            |it, name| folded(&it.email) == name,
        )),
        false => Err(faults.problems),
    }
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
