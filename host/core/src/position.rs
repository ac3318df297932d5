//! The position of one mail: on its server, or in an imported file.

use std::borrow::Cow;

/// The position of one mail, sufficient to acknowledge it after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Position {
    /// On the mailbox's server. Opaque to all code but the protocol that wrote it, like [`crate::Cursor`].
    OnServer(String),
    /// In a file, by its name; nothing has to be acknowledged.
    Imported(String),
}

/// Marks an imported mail in the stored form.
const IMPORTED: &str = "imported:";
/// Marks a server's position that would otherwise be read as another kind.
const ON_SERVER: &str = "server:";

impl Position {
    /// Returns the position in its stored form.
    pub fn stored(&self) -> Cow<'_, str> {
        match self {
            Position::OnServer(text)
                if text.starts_with(IMPORTED) || text.starts_with(ON_SERVER) =>
            {
                Cow::Owned(format!("{ON_SERVER}{text}"))
            }
            Position::OnServer(text) => Cow::Borrowed(text),
            Position::Imported(name) => Cow::Owned(format!("{IMPORTED}{name}")),
        }
    }

    /// Reads a stored position.
    pub fn from_stored(text: String) -> Self {
        if let Some(name) = text.strip_prefix(IMPORTED) {
            return Position::Imported(name.to_owned());
        }
        match text.strip_prefix(ON_SERVER) {
            Some(text) => Position::OnServer(text.to_owned()),
            None => Position::OnServer(text),
        }
    }

    /// Returns the server's text; `None` for an imported mail.
    pub fn on_server(&self) -> Option<&str> {
        match self {
            Position::OnServer(text) => Some(text),
            Position::Imported(_) => None,
        }
    }

    pub fn is_imported(&self) -> bool {
        matches!(self, Position::Imported(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_is_read_as_it_was_stored() {
        let on_server = |text: &str| Position::OnServer(text.into());
        for (position, stored) in [
            (on_server(r#"{"uid":1}"#), r#"{"uid":1}"#),
            (on_server(""), ""),
            (on_server("imported:a"), "server:imported:a"),
            (on_server("server:a"), "server:server:a"),
            (Position::Imported("a.eml".into()), "imported:a.eml"),
            (Position::Imported("server:a".into()), "imported:server:a"),
        ] {
            assert_eq!(position.stored(), stored);
            assert_eq!(Position::from_stored(stored.into()), position);
        }
    }
}
