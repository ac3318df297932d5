//! The arguments of `postroom config`.

use clap::Subcommand;

use super::{ConfigArg, Output};

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// List the applied configurations, newest first, with their changes
    List {
        /// Maximum number of configurations
        #[arg(long)]
        limit: Option<usize>,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Show the files of an applied configuration
    Show {
        /// The configuration; by default the newest
        number: Option<u64>,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Write the files of an earlier configuration again; a running service applies them. What was never applied is kept beside them
    Back {
        /// The configuration; by default the one before the newest
        number: Option<u64>,
        #[command(flatten)]
        config: ConfigArg,
    },
}
