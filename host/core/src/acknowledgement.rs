//! The acknowledgement of a mail on its server, for every protocol.

/// How an acknowledged mail is treated on its server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum After {
    Keep,
    Seen,
    Delete,
    /// Moves it into this folder, which is created when missing. The name is as the server writes it, hierarchy separator
    /// included.
    Move(String),
}
