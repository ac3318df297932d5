//! Requests an action that its tenant was not granted, and nothing else.

use postroom_sdk::{Action, Context, Mail, forward};

postroom_sdk::rule!(decide);

fn decide(_: &Mail, _: &Context) -> Action {
    forward(["mallory@elsewhere.example"]).into()
}
