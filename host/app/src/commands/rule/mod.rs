//! `postroom rule`: work on one rule, from trying it on a mail to the tests it keeps.

mod pin;
mod targets;
mod test;
mod try_rule;
mod watch;

pub use pin::{Pin, pin};
pub use test::{Options, test};
pub use try_rule::try_rule;
