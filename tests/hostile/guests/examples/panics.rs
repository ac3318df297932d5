//! Panics, like a rule whose author trusted the mail too much.

use postroom_sdk::{Context, Mail, Ticket, ticket};

postroom_sdk::rule!(decide);

fn decide(mail: &Mail, _: &Context) -> Ticket {
    let missing: Option<String> = mail.headers("X-No-Such-Header").into_iter().next();
    ticket().title(missing.expect("every mail has this header"))
}
