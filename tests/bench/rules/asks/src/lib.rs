//! Makes two lookups for each mail, unless its settings say otherwise. ../asks.js does the same.

use postroom_sdk::{Action, Context, Failure, Mail, ignore, lookup, settings};

postroom_sdk::rule!(decide);

fn decide(mail: &Mail, _ctx: &Context) -> Result<Action, Failure> {
    if settings::text("asks").is_none() {
        return Ok(ignore("asked nothing"));
    }
    let from = mail.from().map(|from| from.email).unwrap_or_default();
    let caller = lookup::contact(&from);
    let open = lookup::tickets_of(&from);
    let name = caller.map_or_else(|| "nobody".to_owned(), |caller| caller.name);
    Ok(ignore(format!("{name} has {}", open.len())))
}
