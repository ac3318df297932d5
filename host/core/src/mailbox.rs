//! How a mailbox is doing.

use crate::named::named;

named! {
    /// What a mailbox does, or what stops it.
    MailboxState {
        /// Not reached yet.
        Starting = "starting",
        Serving = "serving",
        /// The server cannot be reached, or the network fails.
        Unreachable = "unreachable",
        /// The authorization server refuses the mailbox's account, or nobody is signed in.
        SignIn = "sign-in",
        /// The server refuses what the mailbox needs.
        Refused = "refused",
        /// The server accepts the sign-in and soon ends the session, repeatedly.
        Unsteady = "unsteady",
        /// The server gave the folder other numbers, and the folder is read again.
        Renumbered = "renumbered",
        /// A secret, key or certificate that the sign-in needs is missing.
        Misconfigured = "misconfigured",
        /// The tenant's rules could not be loaded: its mail waits in the journal.
        NotLoaded = "not-loaded",
        /// The tenant's share of the outbox is full: its mail waits in the journal.
        OutboxFull = "outbox-full",
        DiskFull = "disk-full",
        /// The store cannot be written.
        StoreFailed = "store-failed",
        /// A defect of Postroom ended the session.
        Defect = "defect",
    }
}
