//! Reveals everything that a component can reach, in the ticket, the log and a reply: its context, settings and memory, and
//! the environment and files that WASI would give a program.

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package example:dump@1.0.0;

            package wasi:cli@0.2.0 {
                interface environment {
                    get-environment: func() -> list<tuple<string, string>>;
                    get-arguments: func() -> list<string>;
                    initial-cwd: func() -> option<string>;
                }
            }

            package wasi:filesystem@0.2.0 {
                interface types {
                    resource descriptor;
                }
                interface preopens {
                    use types.{descriptor};
                    get-directories: func() -> list<tuple<descriptor, string>>;
                }
            }

            world dump {
                include postroom:plugin/rule@2.0.0;
                import wasi:cli/environment@0.2.0;
                import wasi:filesystem/preopens@0.2.0;
            }
        ",
        world: "example:dump/dump",
        generate_all,
    });
}

use bindings::postroom::plugin::types::{Action, Reply, Ticket};
use bindings::postroom::plugin::{log, settings};
use bindings::wasi::cli::environment;
use bindings::wasi::filesystem::preopens;
use bindings::{Context, Decision, Failure, Guest, Message};

/// Bytes of a page of wasm memory.
const PAGE: usize = 64 << 10;
const PAGES: usize = 16;

struct Dump;

impl Guest for Dump {
    fn decide(message: &Message, context: Context) -> Result<Decision, Failure> {
        let folders: Vec<String> = preopens::get_directories()
            .into_iter()
            .map(|(_, name)| name)
            .collect();
        let text = format!(
            "context = {context:?}\nsettings = {}\nenvironment = {:?}\narguments = {:?}\nfolder = {:?}\nfolders = {folders:?}\nmail = {}\nmemory = {}\n",
            settings::all(),
            environment::get_environment(),
            environment::get_arguments(),
            environment::initial_cwd(),
            message.text(),
            fresh_memory(),
        );
        log::log(log::Level::Info, &text);
        let ticket = Ticket {
            title: Some("dump".into()),
            body: Some(text.clone()),
            queue: None,
            priority: None,
            requester: None,
            fields: Vec::new(),
            tags: Vec::new(),
        };
        let reply = Reply { text, html: None };
        Ok(Decision::Actions(vec![
            Action::Ticket(ticket),
            Action::Reply(reply),
        ]))
    }
}

/// Returns the first page by which memory grew; `usize::MAX` if it did not grow.
fn grow() -> usize {
    #[cfg(target_arch = "wasm32")]
    return core::arch::wasm32::memory_grow(0, PAGES);
    // Clippy treats guests as code for this machine.
    #[cfg(not(target_arch = "wasm32"))]
    usize::MAX
}

/// Returns never-written memory: an earlier rule's or the host's, if anything.
fn fresh_memory() -> String {
    let first = grow();
    if first == usize::MAX {
        return "not given".into();
    }
    (first * PAGE..(first + PAGES) * PAGE)
        // SAFETY: these pages were just allocated, and nothing else refers to them.
        .map(|address| unsafe { (address as *const u8).read_volatile() })
        .filter(|byte| *byte != 0)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

bindings::export!(Dump with_types_in bindings);
