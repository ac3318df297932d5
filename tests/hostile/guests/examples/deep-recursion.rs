//! Calls itself until the stack is exhausted.

use std::hint::black_box;

use postroom_sdk::{Answer, Context, Mail, ignore};

postroom_sdk::rule!(decide);

fn decide(_: &Mail, _: &Context) -> impl Answer {
    ignore(down(0).to_string())
}

#[expect(unconditional_recursion, reason = "the point of it")]
fn down(depth: u64) -> u64 {
    let here = black_box([depth; 4]);
    down(black_box(depth + 1)) + here[0]
}
