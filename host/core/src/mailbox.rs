//! The states of a mailbox.

use crate::named::named;

named! {
    /// The activity of a mailbox, or the reason that it waits.
    MailboxState {
        /// Not reached yet.
        Starting = "starting",
        Serving = "serving",
        /// The server cannot be reached, or the network fails.
        Unreachable = "unreachable",
        /// The authorization server refuses the mailbox's account, or nobody is signed in.
        SignIn = "sign-in",
        /// The server refuses something that the mailbox needs.
        Refused = "refused",
        /// The server accepts the sign-in and soon ends the session, repeatedly.
        Unsteady = "unsteady",
        /// Some of its folders cannot be opened; the others are read.
        PartlyRead = "partly-read",
        /// The server gave the folder new numbers, and the folder is read again.
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
        /// A bug in Postroom ended the session.
        Defect = "defect",
    }
}
