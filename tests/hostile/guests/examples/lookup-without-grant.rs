//! Uses `lookup`, which its tenant was not granted.

use postroom_sdk::{Action, Context, Mail, lookup, ticket};

postroom_sdk::rule!(decide);

fn decide(_: &Mail, _: &Context) -> Option<Action> {
    lookup::contact("vera@victim.example").map(|_| ticket().into())
}
