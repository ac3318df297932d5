//! Makes ten thousand lookups.

use postroom_sdk::{Action, Context, Mail, lookup, ticket};

postroom_sdk::rule!(decide);

fn decide(_: &Mail, _: &Context) -> Action {
    for n in 0..10_000 {
        lookup::contacts(&format!("a{n}"));
    }
    ticket().into()
}
