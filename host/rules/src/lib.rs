//! Rules: loading, generations, tests, directories, and the run of a mail along its rule chain.

pub mod audience;
pub mod cases;
pub mod crash;
pub mod directory;
pub mod rulebook;
pub mod walk;
pub mod watch;
