//! Never returns.

use postroom_sdk::{Context, Decision, Mail};

postroom_sdk::rule!(decide);

fn decide(_: &Mail, _: &Context) -> Decision {
    let mut count = 0u64;
    loop {
        count = std::hint::black_box(count.wrapping_add(1));
    }
}
