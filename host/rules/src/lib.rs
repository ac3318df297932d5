//! Rules: loading, generations, tests, directories, and the run of a mail along its rule chain.

pub mod cases;
pub mod chain_run;
pub mod crash;
pub mod directory;
pub mod publication;
pub mod rulebook;
pub mod senders;
pub mod watch;
