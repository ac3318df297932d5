//! Backup reports: a failed job raises an alert, the next success closes it, a warning is a ticket.

use postroom_sdk::{Action, Context, Failure, Field, Mail, alert, ticket};

postroom_sdk::rule!(decide);

fn decide(mail: &Mail, _: &Context) -> Result<Option<Action>, Failure> {
    let subject = r"(?i)^Backup (?<job>.+) on (?<host>\S+): (?<result>failed|succeeded|warning)$";
    let Some(report) = mail.find(Field::Subject, subject)? else {
        return Ok(None);
    };
    let (job, host) = (&report["job"], &report["host"]);
    let message = mail.find(Field::Text, r"(?m)^Message: (.+)$")?;
    let message = message.as_ref().and_then(|found| found.group(1));

    if report["result"].eq_ignore_ascii_case("warning") {
        let mut warning = ticket()
            .title(format!("Backup {job} on {host} ended with a warning"))
            .queue("backup")
            .field("host", host)
            .field("job", job);
        warning.body = message.map(str::to_owned);
        return Ok(Some(warning.into()));
    }
    let mut state = alert(format!("backup/{host}/{job}"))
        .severity("critical")
        .host(host)
        .service(job);
    state.summary = message.map(str::to_owned);
    if report["result"].eq_ignore_ascii_case("succeeded") {
        state = state.resolved();
    }
    Ok(Some(state.into()))
}
