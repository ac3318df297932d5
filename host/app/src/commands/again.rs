//! Has mails decided again, for `decisions again` and `quarantine release|drop`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use postroom_store::{Control, DecisionId, MailChange, MailRequest};
use serde_json::json;

use crate::commands::{operator, print};
use crate::store;

/// Changes each mail, and prints the result. The exit code is 1 if one could not be changed.
pub fn change(
    config: &Path,
    ids: &[DecisionId],
    request: MailRequest,
    reason: Option<&str>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let data_dir =
        postroom_config::data_dir(config).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let control = store::control(&data_dir);
    let mut all = true;
    for id in ids {
        let change = control
            .change_mail(*id, request, &operator(), reason)
            .with_context(|| format!("the data folder {}", data_dir.display()))?;
        let problem = problem(*id, change);
        all &= problem.is_none();
        if json {
            print(json!({ "id": id, "changed": problem.is_none(), "problem": problem }))?;
            continue;
        }
        print(match problem {
            Some(problem) => format!("{id}: not changed: {problem}"),
            None => format!("{id}: {}", done(request)),
        })?;
    }
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns the id that a person typed.
pub fn id_of(text: &str) -> anyhow::Result<DecisionId> {
    let id = text.parse().map(DecisionId);
    id.with_context(|| format!("{text} is not an id of `postroom quarantine list`"))
}

fn done(request: MailRequest) -> &'static str {
    match request {
        MailRequest::Again { .. } | MailRequest::Release => {
            "to be decided again, by the running service or the next `postroom run`"
        }
        MailRequest::Drop => "dropped from quarantine",
    }
}

fn problem(id: DecisionId, change: MailChange) -> Option<String> {
    Some(match change {
        MailChange::Changed => return None,
        MailChange::Unknown => "there is no such decision".into(),
        MailChange::Waits => "it already waits to be decided again".into(),
        MailChange::NotQuarantined(outcome) => format!(
            "it is not in quarantine, its outcome is {}; help: `postroom decisions again {id}` decides any mail again",
            outcome.as_str()
        ),
        MailChange::MadeItems(outcome) => format!(
            "its outcome is {}, which would be made a second time; help: --force decides it again anyway",
            outcome.as_str()
        ),
        MailChange::Incomplete => {
            "only its beginning was fetched; help: raise limits.raw_bytes, then import the whole mail with `postroom mail import`".into()
        }
        MailChange::Purged => "its bytes are no longer kept; help: import the mail with `postroom mail import`".into(),
    })
}
