//! Allocates memory until it is refused.

use postroom_sdk::{Context, Decision, Mail};

postroom_sdk::rule!(decide);

fn decide(_: &Mail, _: &Context) -> Decision {
    let mut kept = Vec::new();
    loop {
        kept.push(std::hint::black_box(vec![1u8; 1 << 20]));
    }
}
