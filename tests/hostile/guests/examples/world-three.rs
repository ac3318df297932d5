//! A rule built against a contract that does not exist yet: it decides, and imports what it needs from version 3.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package postroom:plugin@3.0.0;
            interface log {
                say: func(line: string);
            }
            world rule {
                import log;
                export decide: func() -> string;
            }
        ",
    });
}

use bindings::postroom::plugin::log;

struct Rule;

impl bindings::Guest for Rule {
    fn decide() -> String {
        log::say("decided");
        "pass".into()
    }
}

bindings::export!(Rule with_types_in bindings);
