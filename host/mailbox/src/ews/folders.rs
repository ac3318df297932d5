//! Folders: opens the mailbox's own folder, and finds or creates those that mail is moved to.

use jiff::Timestamp;
use postroom_auth::Login;
use postroom_exchange::ews::{Element, Kind, escaped, protocol};
use postroom_net::{ProbeReporter, Step};

use super::refusal::OfFolder;
use super::{Session, parsed};
use crate::SourceError;

const INBOX: &str = "INBOX";
/// Separates a folder from the one inside it.
const SEPARATOR: char = '/';

/// The mailbox's folder.
#[derive(Debug)]
pub(super) struct Opened {
    pub id: String,
    pub mails: u64,
    /// The server's time when it was opened.
    pub date: Timestamp,
}

/// Returns whether two names refer to the same folder.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    one == other || (is_inbox(one) && is_inbox(other))
}

fn is_inbox(name: &str) -> bool {
    name.eq_ignore_ascii_case(INBOX)
}

impl Session {
    /// Opens the mailbox's folder, and reports the sign-in.
    pub async fn open(
        &mut self,
        probe: &mut ProbeReporter<'_, SourceError>,
    ) -> Result<Opened, SourceError> {
        const STEP: Step = Step::Select;
        let name = self.settings.folder.clone();
        // The first request is for a folder that always exists, so that it proves the sign-in and the right to open the mailbox.
        let (first, path) = self.start_of(&name);
        let path: Vec<String> = path.map(str::to_owned).collect();
        let body = get_folder(&first);
        let answer = self.call(STEP, "GetFolder", body).await?;
        probe.passed(Step::Authenticate, || {
            let login = self.exchange.login();
            let way = match login {
                Login::Password { .. } => "Basic",
                Login::Bearer { .. } => "Bearer",
            };
            match self.settings.impersonation {
                true => format!("{way} as {}, for {}", login.user(), self.settings.address),
                false => format!("{way} as {}", login.user()),
            }
        });
        let date = answer.date.unwrap_or_else(Timestamp::now);
        let root = parsed(STEP, &answer.body)?;
        let (mut id, mut mails) = folder(STEP, self.only(STEP, &root, &name)?)?;
        for segment in &path {
            let found = self.child(STEP, &id, segment).await?;
            id = found.ok_or_else(|| SourceError::Folder {
                folder: name.clone(),
                missing: true,
                text: format!("there is no folder \"{segment}\""),
            })?;
        }
        if !path.is_empty() {
            let body = get_folder(&folder_id(&id));
            let answer = self.call(STEP, "GetFolder", body).await?;
            let root = parsed(STEP, &answer.body)?;
            (_, mails) = folder(STEP, self.only(STEP, &root, &name)?)?;
        }
        Ok(Opened { id, mails, date })
    }

    /// Returns the id of a folder that mail is moved to, creating the folder if it is missing.
    pub async fn target(&mut self, step: Step, name: &str) -> Result<String, SourceError> {
        if let Some(id) = self.folders.get(name) {
            return Ok(id.clone());
        }
        let (first, path) = self.start_of(name);
        let path: Vec<String> = path.map(str::to_owned).collect();
        let mut id = self.root(step, &first, name).await?;
        for segment in &path {
            id = match self.child(step, &id, segment).await? {
                Some(found) => found,
                None => self.make(step, &id, segment).await?,
            };
        }
        self.folders.insert(name.to_owned(), id.clone());
        Ok(id)
    }

    /// Describes the effect of moving mail to a folder. Changes nothing.
    pub async fn target_in_words(&mut self, name: &str) -> Result<String, SourceError> {
        const STEP: Step = Step::Target;
        let (first, path) = self.start_of(name);
        let path: Vec<String> = path.map(str::to_owned).collect();
        let mut id = self.root(STEP, &first, name).await?;
        for segment in &path {
            match self.child(STEP, &id, segment).await? {
                Some(found) => id = found,
                None => return Ok(format!("{name} is missing, and would be created")),
            }
        }
        if self.opened.as_ref().is_some_and(|open| open.id == id) {
            return Err(SourceError::Unusable {
                step: STEP,
                reason: format!("{name} is the folder that mail is read from"),
            });
        }
        Ok(format!("{name} is there"))
    }

    /// Returns the folder that a name starts at, as an element, and the names of the folders below it.
    fn start_of<'n>(&self, name: &'n str) -> (String, impl Iterator<Item = &'n str> + use<'n>) {
        let mut path = name.split(SEPARATOR).peekable();
        let first = match path.next_if(|segment| is_inbox(segment)) {
            Some(_) => "inbox",
            None => "msgfolderroot",
        };
        let owner = match self.settings.impersonation {
            true => String::new(),
            false => format!(
                "<t:Mailbox><t:EmailAddress>{}</t:EmailAddress></t:Mailbox>",
                escaped(&self.settings.address)
            ),
        };
        let first =
            format!("<t:DistinguishedFolderId Id=\"{first}\">{owner}</t:DistinguishedFolderId>");
        (first, path)
    }

    async fn root(&mut self, step: Step, first: &str, name: &str) -> Result<String, SourceError> {
        let answer = self.call(step, "GetFolder", get_folder(first)).await?;
        let root = parsed(step, &answer.body)?;
        Ok(folder(step, self.only(step, &root, name)?)?.0)
    }

    /// Returns the id of a folder by its name in the folder above.
    async fn child(
        &mut self,
        step: Step,
        parent: &str,
        name: &str,
    ) -> Result<Option<String>, SourceError> {
        let body = format!(
            "<m:FindFolder Traversal=\"Shallow\"><m:FolderShape><t:BaseShape>Default</t:BaseShape></m:FolderShape>\
             <m:Restriction><t:IsEqualTo><t:FieldURI FieldURI=\"folder:DisplayName\"/><t:FieldURIOrConstant>\
             <t:Constant Value=\"{}\"/></t:FieldURIOrConstant></t:IsEqualTo></m:Restriction>\
             <m:ParentFolderIds>{}</m:ParentFolderIds></m:FindFolder>",
            escaped(name),
            folder_id(parent)
        );
        let answer = self.call(step, "FindFolder", body).await?;
        let root = parsed(step, &answer.body)?;
        let message = self.only(step, &root, name)?;
        let folders = message.at(&["RootFolder", "Folders"]);
        let folders = folders.map_or(&[][..], |folders| &folders.children);
        let exact = |folder: &&Element<'_>| folder.text_of("DisplayName") == name;
        let close = |folder: &&Element<'_>| {
            folder.text_of("DisplayName").to_lowercase() == name.to_lowercase()
        };
        let found = folders.iter().find(exact).or(folders.iter().find(close));
        let id = found.and_then(|folder| folder.child("FolderId")?.attribute("Id"));
        Ok(id.map(str::to_owned))
    }

    async fn make(&mut self, step: Step, parent: &str, name: &str) -> Result<String, SourceError> {
        let body = format!(
            "<m:CreateFolder><m:ParentFolderId>{}</m:ParentFolderId><m:Folders><t:Folder>\
             <t:FolderClass>IPF.Note</t:FolderClass><t:DisplayName>{}</t:DisplayName></t:Folder></m:Folders></m:CreateFolder>",
            folder_id(parent),
            escaped(name)
        );
        let answer = self.call(step, "CreateFolder", body).await?;
        let root = parsed(step, &answer.body)?;
        match self.outcome(step, &root)? {
            Ok(message) => {
                tracing::info!(
                    mailbox = self.settings.name,
                    folder = name,
                    "folder created on the server"
                );
                Ok(folder(step, message)?.0)
            }
            // Somebody else created it in the meantime.
            Err(refusal) if refusal.code == "ErrorFolderExists" => {
                let found = self.child(step, parent, name).await?;
                found.ok_or_else(|| refusal.for_folder(step, name))
            }
            Err(refusal) if refusal.kind() == Kind::AccessDenied => {
                Err(refusal.for_folder(Step::Target, name))
            }
            Err(refusal) => Err(refusal.for_folder(step, name)),
        }
    }
}

/// Refers to a folder by its id.
pub(super) fn folder_id(id: &str) -> String {
    format!("<t:FolderId Id=\"{}\"/>", escaped(id))
}

fn get_folder(folder: &str) -> String {
    format!(
        "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>\
         <t:FieldURI FieldURI=\"folder:TotalCount\"/></t:AdditionalProperties></m:FolderShape>\
         <m:FolderIds>{folder}</m:FolderIds></m:GetFolder>"
    )
}

/// Returns the id and the number of mails of the folder in a message.
fn folder(step: Step, message: &Element<'_>) -> Result<(String, u64), SourceError> {
    let folder = message
        .child("Folders")
        .and_then(|folders| folders.children.first());
    let id = folder.and_then(|folder| folder.child("FolderId")?.attribute("Id"));
    let id = id.ok_or_else(|| protocol(step, "a folder without an id"))?;
    let mails = folder.map_or("", |folder| folder.text_of("TotalCount"));
    Ok((id.to_owned(), mails.parse().unwrap_or(0)))
}
