//! What decides: rules as they are loaded, their generations, tests and directories, and the run of a mail along its chain.

pub mod audience;
pub mod cases;
pub mod crash;
pub mod directory;
pub mod rulebook;
pub mod walk;
pub mod watch;
