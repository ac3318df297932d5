//! Uses `kv`, which its tenant was not granted.

use postroom_sdk::{Action, Context, Failure, Mail, kv, ticket};

postroom_sdk::rule!(decide);

fn decide(mail: &Mail, _: &Context) -> Result<Option<Action>, Failure> {
    if kv::get("last").as_deref() == Some(mail.message_id().as_str()) {
        return Ok(None);
    }
    kv::set("last", &mail.message_id())?;
    Ok(Some(ticket().into()))
}
