//! Raises an alert for mails such as "DISK srv-01 full"; leaves every other mail to the next rule.

use postroom_sdk::{Action, Context, Failure, Field, Mail, alert};

postroom_sdk::rule!(decide);

fn decide(mail: &Mail, _ctx: &Context) -> Result<Option<Action>, Failure> {
    let Some(found) = mail.find(Field::Subject, r"^DISK (\S+) full")? else {
        return Ok(None);
    };
    let host = &found[1];
    let full = alert(format!("disk/{host}"))
        .severity("critical")
        .host(host);
    Ok(Some(full.into()))
}
