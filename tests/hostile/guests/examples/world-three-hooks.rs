//! A rule of a version 2 that has interfaces where version 1 has one function.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package postroom:plugin@3.0.0;
            interface hooks {
                decide: func() -> string;
            }
            world rule {
                export hooks;
            }
        ",
    });
}

struct Rule;

impl bindings::exports::postroom::plugin::hooks::Guest for Rule {
    fn decide() -> String {
        "pass".into()
    }
}

bindings::export!(Rule with_types_in bindings);
