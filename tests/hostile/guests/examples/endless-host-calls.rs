//! Spends its time in the host, where no interrupt of the guest applies.

use postroom_sdk::{Context, Decision, Field, Mail};

postroom_sdk::rule!(decide);

fn decide(mail: &Mail, _: &Context) -> Decision {
    loop {
        let _ = std::hint::black_box(mail.find_all(Field::Text, r"(\w+\s*)+$"));
    }
}
