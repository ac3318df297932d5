//! Searches for another tenant's data, by everything it may have heard of and by everything that might be a wildcard.

use postroom_sdk::{Action, Context, Failure, Mail, ignore, lookup, ticket};

postroom_sdk::rule!(decide);

const ANYTHING: [&str; 8] = [
    "%",
    "_",
    "*",
    "",
    "' OR 1=1 --",
    "x'; DROP TABLE item; --",
    "\0",
    "victim",
];

fn decide(_: &Mail, _: &Context) -> Result<Option<Action>, Failure> {
    let mut found = Vec::new();
    let mut note = |rows: usize, what: &str| {
        if rows > 0 {
            found.push(what.to_owned());
        }
    };
    for text in ANYTHING.into_iter().chain(["vera", "vault", "SN-VICTIM"]) {
        note(lookup::contacts(text).len(), "contacts");
        note(lookup::assets(text).len(), "assets");
        note(lookup::alerts(text).len(), "alerts");
    }
    for text in ["vera@victim.example", "SN-VICTIM", "T-1", "vault/door", "%"] {
        note(lookup::contact(text).iter().count(), "contact");
        note(lookup::asset(text).iter().count(), "asset");
        note(lookup::ticket(text).iter().count(), "ticket");
        note(lookup::alert(text).iter().count(), "alert");
    }
    note(lookup::tickets_of("vera@victim.example").len(), "tickets");
    note(lookup::tickets_about("vault").len(), "tickets");
    note(
        lookup::tickets_with("code", "code-of-victim").len(),
        "tickets",
    );
    note(
        lookup::tickets_with("", "vera@victim.example").len(),
        "tickets",
    );
    let long = "%".repeat(1 << 19);
    note(lookup::contacts(&long).len(), "contacts");
    Ok(Some(match found.is_empty() {
        true => ignore("nothing found"),
        false => ticket().body(found.join(", ")).into(),
    }))
}
