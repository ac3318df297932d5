//! End-to-end tests: the real binary on real servers. Each module covers a part of the line's promises.

// clippy.toml allows it in test functions, and the helpers between them are tests too.
#![allow(clippy::unwrap_used)]

mod attribution;
mod auth_browser;
mod auth_crash;
mod auth_grants;
mod auth_leak;
mod auth_recipes;
mod auth_refusals;
mod auth_sign_in;
mod auth_status;
mod auth_trouble;
mod bad_files;
mod bad_mail;
#[path = "../../../hostile/bombs.rs"]
mod bombs;
mod brakes;
mod commands;
mod compile;
mod configuration;
mod crash;
mod dev;
mod ews;
mod ews_clients;
mod examples;
mod fair;
mod freshness;
mod generations;
mod graph;
mod hostile;
mod hostile_servers;
mod identity;
mod imap_folders;
mod imap_wire;
mod interop;
mod kv;
mod line;
mod loads;
mod lookup;
mod mailbox_test;
mod misconfigured;
mod odd_files;
mod old_mail;
mod origins;
mod outbox;
mod output;
mod pop3;
mod proxies;
mod recipes;
mod reliability;
mod reload;
mod renumbering;
mod replay;
mod rule_tests;
mod scaffolds;
mod send;
mod shadow;
mod stop;
mod switches;
mod targets;
mod trouble;
mod types;
mod ways_out;
mod wit_reference;
