//! `postroom rule`: commands for one rule: trying it on a mail, testing it, pinning a case.

mod pin;
mod targets;
mod test;
mod try_chain;
mod try_rule;
mod watch;

pub use pin::{Pin, pin};
pub use test::{Options, test};
pub use try_chain::try_chain;
pub use try_rule::try_rule;
