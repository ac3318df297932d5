//! Returns far more than a decision may contain.

use postroom_sdk::{Context, Mail, Ticket, ticket};

postroom_sdk::rule!(decide);

fn decide(_: &Mail, _: &Context) -> Ticket {
    ticket().body("x".repeat(16 << 20))
}
