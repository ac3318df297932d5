//! Folder names: the names that the server lists, and which of them a name in the configuration refers to.

use super::connection::{Connection, quoted, refusal};
use super::response::{Code, Done, Folder, Namespace, Status, Untagged};
use super::utf7;
use crate::SourceError;
use postroom_net::Step;

/// The state of a folder on the server that mail is moved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The name as the server writes it, encoded.
    pub name: String,
    pub exists: bool,
    pub namespace: Namespace,
}

/// Returns whether two names refer to the same folder: INBOX is written in any case (RFC 9051 section 5.1).
pub(super) fn is_same(one: &str, other: &str) -> bool {
    one == other || (is_inbox(one) && is_inbox(other))
}

fn is_inbox(name: &str) -> bool {
    name.eq_ignore_ascii_case("INBOX")
}

/// Requests the list entry of one folder by its encoded name. Wildcards in the name may match others, which are ignored.
pub(super) async fn list(
    connection: &mut Connection,
    step: Step,
    name: &str,
) -> Result<(Option<Folder>, Done), SourceError> {
    let has_wildcards = name.contains(['*', '%']);
    let command = format!("LIST \"\" {}", quoted(name, step)?);
    let mut found = None;
    let done = connection
        .command_with(step, &command, 0, |untagged| {
            if let Untagged::List(folder) = untagged
                && (!has_wildcards || folder.name == name.as_bytes())
            {
                found = Some(folder);
            }
            Ok(())
        })
        .await?;
    Ok((found, done))
}

/// Returns the user's own namespace: from NAMESPACE, or only the separator on servers without it.
async fn namespace(connection: &mut Connection, step: Step) -> Result<Namespace, SourceError> {
    let command = match connection.can("NAMESPACE") {
        true => "NAMESPACE",
        false => "LIST \"\" \"\"",
    };
    let mut found = Namespace::default();
    connection
        .command_with(step, command, 0, |untagged| {
            match untagged {
                Untagged::Namespace(namespace) => found = namespace,
                Untagged::List(folder) => found.separator = folder.separator,
                _ => {}
            }
            Ok(())
        })
        .await?;
    Ok(found)
}

/// Resolves a folder name: the folder of that name, or else the one below the user's own prefix.
pub(super) async fn resolve(
    connection: &mut Connection,
    step: Step,
    name: &str,
) -> Result<Target, SourceError> {
    if is_inbox(name) {
        return Ok(Target {
            name: "INBOX".into(),
            exists: true,
            namespace: Namespace::default(),
        });
    }
    let name = utf7::encode(name);
    let namespace = namespace(connection, step).await?;
    let below =
        (!name.starts_with(&namespace.prefix)).then(|| format!("{}{name}", namespace.prefix));
    for candidate in [Some(name.as_str()), below.as_deref()]
        .into_iter()
        .flatten()
    {
        let (found, _) = list(connection, step, candidate).await?;
        if found.is_some_and(|folder| folder.selectable) {
            return Ok(Target {
                name: candidate.to_owned(),
                exists: true,
                namespace,
            });
        }
    }
    Ok(Target {
        name: below.unwrap_or(name),
        exists: false,
        namespace,
    })
}

/// Creates a folder by its encoded name, and makes it visible in mail programs.
pub(super) async fn create(
    connection: &mut Connection,
    step: Step,
    name: &str,
) -> Result<(), SourceError> {
    let name = quoted(name, step)?;
    let created = connection.command(step, &format!("CREATE {name}")).await?;
    if created.status == Status::Ok {
        // Mail programs show subscribed folders only; a failure does no harm.
        connection
            .command(step, &format!("SUBSCRIBE {name}"))
            .await?;
        return Ok(());
    }
    match created.code {
        Some(Code::AlreadyExists) => Ok(()),
        _ => Err(refusal(step, created)),
    }
}
