//! Traps as soon as it is called.

use postroom_sdk::{Context, Decision, Mail};

postroom_sdk::rule!(decide);

fn decide(_: &Mail, _: &Context) -> Decision {
    std::process::abort()
}
