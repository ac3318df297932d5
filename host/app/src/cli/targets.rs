//! The arguments of the commands that use sinks and outgoings: `target test` and `send`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ConfigArg, Output, mail_address};

#[derive(Debug, Subcommand)]
pub enum TargetCommand {
    /// Connect, secure the connection and sign in, and deliver a test where one is asked for. Each step is timed, a failing one
    /// explained. A running service is not disturbed. Exit code 1 when a step failed
    Test {
        /// The name of the sink or outgoing in the configuration; both are tested if both have it
        name: String,
        /// Also send a short test mail to this address by the outgoing
        #[arg(long, value_name = "ADDRESS", value_parser = mail_address)]
        send_to: Option<String>,
        /// Also post a signed event of type postroom.test to the sink
        #[arg(long)]
        send_event: bool,
        /// Print the protocol log, without secrets and contents
        #[arg(long)]
        trace: bool,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
}

/// The notification that `send` sends.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// A recipient; may be given several times
    #[arg(long, required = true, value_name = "ADDRESS", value_parser = mail_address)]
    pub to: Vec<String>,
    /// The subject
    #[arg(long, value_name = "TEXT")]
    pub subject: String,
    /// The text, in UTF-8; - reads it from standard input
    #[arg(long, value_name = "FILE|-")]
    pub body: Option<PathBuf>,
    /// The same text as HTML
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Attach this file; may be given several times
    #[arg(long, value_name = "FILE")]
    pub attach: Vec<PathBuf>,
    /// The outgoing, if the configuration has several
    #[arg(long, value_name = "NAME")]
    pub outgoing: Option<String>,
}
