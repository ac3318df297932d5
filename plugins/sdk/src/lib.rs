//! Everything that a rule written in Rust needs: the mail, the context, and builders for actions.
//!
//! ```text
//! use postroom_sdk::{Context, Failure, Field, Mail, Action, alert};
//!
//! postroom_sdk::rule!(decide);
//!
//! fn decide(mail: &Mail, _ctx: &Context) -> Result<Option<Action>, Failure> {
//!     let Some(found) = mail.find(Field::Subject, r"^DISK (\S+) full")? else { return Ok(None) };
//!     Ok(Some(alert(format!("disk/{}", &found[1])).severity("critical").into()))
//! }
//! ```
//!
//! Build it as a `cdylib` for `wasm32-unknown-unknown`, then run `postroom plugin build FILE.wasm`. The host clears a
//! rule's memory after every mail, so request a small stack in `build.rs`
//! (`cargo::rustc-link-arg-cdylib=-zstack-size=131072`): with the linker's default of one mebibyte a decision takes twice
//! as long.

// The bindings refer to this crate by the name that rules use.
extern crate self as postroom_sdk;

mod actions;
mod answer;
#[doc(hidden)]
pub mod bindings;
mod json;
pub mod kv;
pub mod log;
pub mod lookup;
mod mail;
#[cfg(any(all(target_arch = "wasm32", feature = "memory"), test))]
mod memory;
pub mod settings;
pub mod zones;
#[doc(hidden)]
pub use wit_bindgen;

pub use actions::{
    alert, close, custom, decline, expect, forward, ignore, note, quarantine, reply, ticket, update,
};
pub use answer::Answer;
pub use bindings::postroom::plugin::types::{
    Action, Address, Alert, AlertState, Attachment, Attendee, Authentication, Calendar,
    Classification, Client, Close, Context, Decision, DeliveryReport, Expect, FailedRecipient,
    Failure, Field, Forward, Link, Note, Reply, Thread, Ticket, Update, Value, Verdict, Visibility,
};
pub use mail::{Mail, Match};

/// A rule with its own allocator disables the feature `memory`.
#[cfg(all(target_arch = "wasm32", feature = "memory"))]
#[global_allocator]
static MEMORY: memory::Arena = memory::Arena::new();

/// Returns pass: the next rule decides.
pub fn pass() -> Decision {
    Decision::Pass
}

/// Exports a function as the rule: `fn(&Mail, &Context) -> impl Answer`.
#[macro_export]
macro_rules! rule {
    ($decide:path) => {
        const _: () = {
            struct Rule;
            impl $crate::bindings::Guest for Rule {
                fn decide(
                    message: &$crate::bindings::Message,
                    context: $crate::Context,
                ) -> ::core::result::Result<$crate::Decision, $crate::Failure> {
                    $crate::Answer::answer($decide(&$crate::Mail::new(message), &context))
                }
            }
    $crate::bindings::export_rule!(Rule with_types_in $crate::bindings);
        };
    };
}

/// Declares the settings that the rule reads, so that `postroom check` finds a misspelt key: `declare_settings!("queue", "priority")`.
#[macro_export]
macro_rules! declare_settings {
    ($($name:literal),+ $(,)?) => {
        const _: () = {
            const NAMES: &[u8] = ::core::concat!($($name, "\n"),+).as_bytes();
            // A custom section holds an array, not a reference to one.
            #[used]
            #[cfg_attr(target_arch = "wasm32", unsafe(link_section = "postroom:settings"))]
            static SECTION: [u8; NAMES.len()] = {
                let mut bytes = [0; NAMES.len()];
                bytes.copy_from_slice(NAMES);
                bytes
            };
        };
    };
}
