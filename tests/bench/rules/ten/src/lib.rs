//! The bench's sorting by ten patterns as a component. ../ten.js, ../../peers/sort.py and ../../peers/sort.mjs do the same.

use postroom_sdk::{Action, Alert, Context, Failure, Field, Mail, alert, ignore, note, ticket};

postroom_sdk::rule!(decide);

fn decide(mail: &Mail, ctx: &Context) -> Result<Action, Failure> {
    let subject = |pattern: &str| mail.find(Field::Subject, pattern);
    let text = |pattern: &str| mail.find(Field::Text, pattern);

    if let Some(m) =
        subject(r"^\*\* (PROBLEM|RECOVERY) Service Alert: ([^/]+)/(.+) is (\w+) \*\*$")?
    {
        let alert = alert(format!("nagios/{}/{}", &m[2], &m[3]))
            .host(&m[2])
            .service(&m[3]);
        return Ok(firing(alert, &m[1] == "PROBLEM"));
    }
    if let Some(m) = subject(r"^\[(Success|Warning|Failed)\] (.+) \((\d+) machines?\)$")? {
        let alert = alert(format!("backup/{}", &m[2])).service(&m[2]);
        return Ok(firing(alert, &m[1] != "Success"));
    }
    if let Some(m) = subject(r"^(Problem|Resolved): (.+) on ([\w.-]+)$")? {
        let alert = alert(format!("zabbix/{}/{}", &m[3], &m[2])).host(&m[3]);
        return Ok(firing(alert, &m[1] == "Problem"));
    }
    if subject(r"(?i)\b(out of office|automatic reply|abwesend)\b")?.is_some() {
        return Ok(ignore("out of office"));
    }
    if mail
        .find(Field::Header("list-unsubscribe".into()), r"\S")?
        .is_some()
    {
        return Ok(ignore("newsletter"));
    }
    let authorised = ctx.thread.as_ref().is_some_and(|thread| thread.authorised);
    if authorised && subject(r"(?i)^(re|aw|sv): ")?.is_some() {
        return Ok(note().into());
    }
    if let Some(m) = text(r"Volume (\d+) on (\S+) is (\d+)% full")? {
        let percent: u32 = m[3].parse().unwrap_or(100);
        let alert = alert(format!("disk/{}/{}", &m[2], &m[1])).host(&m[2]);
        return Ok(firing(alert, percent >= 80));
    }
    let queue = if text(r"Certificate for (\S+) expires in (\d+) days")?.is_some() {
        "Certificates"
    } else if text(r"(?i)\b(urgent|asap|cannot work|server down)\b")?.is_some() {
        "Urgent"
    } else if text(r"(?i)\binvoice (no\.?|number) ?(\d{4,})")?.is_some() {
        "Billing"
    } else {
        "Service desk"
    };
    Ok(ticket().queue(queue).into())
}

fn firing(alert: Alert, is_firing: bool) -> Action {
    if is_firing {
        alert.into()
    } else {
        alert.resolved().into()
    }
}
