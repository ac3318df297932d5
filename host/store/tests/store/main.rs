//! The store from outside: what is promised to the line holds, also across kills and full disks.

mod crash;
mod decisions;
mod intake;
mod kit;
mod leaving;
mod operation;
