//! The subcommands about mails: their decisions, their deliveries, the quarantine, and the mails themselves.

use std::path::PathBuf;

use clap::Subcommand;

use super::{ConfigArg, Output};

#[derive(Debug, Subcommand)]
pub enum DecisionsCommand {
    /// List decisions, one per line (the default)
    List,
    /// Show one mail's whole story: how it was read, classified, attributed and threaded, each rule, the actions and the deliveries
    Show {
        /// A decision's id, a Message-ID or a ticket such as T-12
        #[arg(value_name = "ID|MESSAGE-ID|TICKET")]
        which: String,
    },
    /// List decisions that contain all of these words in sender, subject, ticket, alert, rule, Message-ID or client
    Search {
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Have a mail decided again by the present rules; works beside a running service. What was decided before is kept, with the
    /// user and the reason
    Again {
        /// A decision's id or a Message-ID
        #[arg(value_name = "ID|MESSAGE-ID")]
        which: String,
        /// Also a mail that made a ticket, a note or an alert; those stay, and others may be made
        #[arg(long)]
        force: bool,
        /// The reason, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// List entries, one per line (the default)
    List,
    /// Show one entry with its whole record and payload
    Show {
        /// The entry's id, as `list` prints it
        id: i64,
    },
    /// Make waiting and dead entries due now, with a new age; works beside a running service
    #[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
    Retry {
        /// These entries
        #[arg(group = "which", conflicts_with_all = ["target", "all_dead"])]
        ids: Vec<i64>,
        /// All waiting and dead entries of this sink or outgoing; with --all-dead only the dead ones
        #[arg(long, value_name = "NAME", group = "which")]
        target: Option<String>,
        /// All dead entries
        #[arg(long, group = "which")]
        all_dead: bool,
    },
    /// Drop waiting or dead entries without sending them; the user and reason are recorded
    Drop {
        /// These entries
        #[arg(required = true)]
        ids: Vec<i64>,
        /// The reason, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List quarantined mails, one per line (the default)
    List,
    /// Show why a mail is quarantined, and its raw bytes
    Show {
        /// The decision's id, as `list` shows it
        id: String,
        /// Print only the raw mail, byte for byte
        #[arg(long)]
        raw: bool,
    },
    /// Have mails decided again; one that its rules quarantine again becomes a plain ticket. Works beside a running service
    Release {
        /// The decisions' ids, as `list` prints them
        #[arg(required = true)]
        ids: Vec<String>,
        /// The reason, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Take mails out of quarantine as ignored; the user and reason are recorded
    Drop {
        /// The decisions' ids, as `list` prints them
        #[arg(required = true)]
        ids: Vec<String>,
        /// The reason, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum MailCommand {
    /// Show a recorded mail as rules read it
    #[command(group = clap::ArgGroup::new("form"))]
    Show {
        /// A decision's id or a Message-ID
        #[arg(value_name = "ID|MESSAGE-ID")]
        which: String,
        /// Print only the mail as it was fetched, byte for byte
        #[arg(long, group = "form")]
        raw: bool,
        /// Print only the HTML, without scripts, styles and remote images
        #[arg(long, group = "form")]
        html: bool,
        /// Print only the text
        #[arg(long, group = "form")]
        text: bool,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Process mbox files, maildirs or .eml files as if they had been fetched
    Import {
        /// The mailbox they belong to
        #[arg(long)]
        mailbox: String,
        /// mbox files, maildirs, folders of .eml files, .eml files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Treat all mail as old: it is decided and listed, but never answered and sent to no sink. By default mail is old when its
        /// Date or its last Received is more than a day ago, or it has neither
        #[arg(long)]
        old: bool,
        /// Also send the items of old mail to the sinks; old mail is still never answered
        #[arg(long)]
        deliver: bool,
        /// Start with an empty database although this data folder was in use; ticket numbers continue above those given out
        #[arg(long)]
        start_anew: bool,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
}
