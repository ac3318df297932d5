//! Imports something that no rule may use.

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package example:other@1.0.0;
            interface network {
                fetch: func(url: string) -> string;
            }
            world greedy {
                include postroom:plugin/rule@2.0.0;
                import network;
            }
        ",
        world: "example:other/greedy",
        generate_all,
    });
}

use bindings::{Context, Decision, Failure, Guest, Message};

struct Greedy;

impl Guest for Greedy {
    fn decide(message: &Message, _: Context) -> Result<Decision, Failure> {
        bindings::example::other::network::fetch(&message.text());
        Ok(Decision::Pass)
    }
}

bindings::export!(Greedy with_types_in bindings);
