//! End to end: the real binary on real servers. One module a slice of the line's promises.

mod bad_mail;
mod commands;
mod crash;
mod examples;
mod hostile;
mod line;
mod reload;
mod trouble;
