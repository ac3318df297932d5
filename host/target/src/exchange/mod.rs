//! Outgoings at Microsoft Exchange: Microsoft Graph, and Exchange Web Services. Exchange replaces the Message-ID of a mail, so
//! the id under which a mail was sent is read back from its copy in the sent items.

mod ews;
mod graph;

use std::time::Duration;

use postroom_core::{Address, Receipt};
use postroom_exchange::ExchangeError;
use postroom_net::{ProbeReporter, Step};

pub use ews::{EwsTarget, EwsTargetSettings};
pub use graph::{GraphTarget, GraphTargetSettings};

use crate::mail::{ComposeError, angled, bare};
use crate::{Attempt, Fault, ProbeInterval, Scope, Severity, TargetError};

/// The pauses before each look for the sent copy of a mail, which Exchange moves to the sent items in the background.
const READ_BACK_PAUSES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];
/// Added to the receipt of a mail that was found to have been sent in an earlier attempt.
const SENT_BEFORE: &str = "; the answer to an earlier try was lost, and the mail had been sent";
/// Added to a refusal that an administrator has to lift.
const TEST_HELP: &str = "; `postroom target test` shows what to grant";

/// Returns the receipt of a sent mail. `message_id` is the id that Exchange gave it, if it could be read back.
fn receipt(status: &str, own: &str, message_id: Option<&str>) -> Receipt {
    let given = message_id.and_then(angled);
    let given = given.as_deref().map(bare).filter(|it| *it != bare(own));
    Receipt {
        status: match given {
            Some(id) => format!("{status}, Message-ID {id}"),
            None => status.to_owned(),
        },
        message_id: given.map(str::to_owned),
        ..Receipt::default()
    }
}

/// Reports how a test mail ended, as the last step of a probe.
fn report_test(
    attempt: Attempt,
    to: &Address,
    probe: &mut ProbeReporter<'_, TargetError>,
) -> Result<(), ExchangeError> {
    let problem = match attempt {
        Attempt::Delivered(receipt) => {
            probe.passed(Step::Send, || {
                format!("to {}: {}", to.email, receipt.status)
            });
            return Ok(());
        }
        Attempt::Partly { problem, .. } | Attempt::Final(problem) => problem,
        Attempt::Failed(fault) => fault.problem,
    };
    Err(ExchangeError::Refused {
        step: Step::Send,
        code: None,
        text: problem,
    })
}

fn not_composed(error: ComposeError) -> Attempt {
    match error {
        ComposeError::Sender(problem) => {
            let mut fault = Fault::new(Scope::Target, problem);
            fault.severity = Severity::Error;
            Attempt::Failed(fault)
        }
        ComposeError::Mail(problem) => Attempt::Final(problem),
    }
}

/// Returns the attempt of a mail whose earlier attempt could not be looked up. That is no verdict on the mail.
fn not_looked_up(attempt: Attempt) -> Attempt {
    match attempt {
        Attempt::Final(problem) => Attempt::Failed(Fault::new(Scope::Unclear, problem)),
        attempt => attempt,
    }
}

/// Returns what a failed request says about the target.
fn fault(error: &ExchangeError, by_password: bool) -> Fault {
    let scope = match error {
        ExchangeError::Transient { .. }
        | ExchangeError::Lost { .. }
        | ExchangeError::Timeout { .. }
        | ExchangeError::Refused { .. } => Scope::Unclear,
        _ => Scope::Target,
    };
    let severity = match error {
        ExchangeError::Auth(_) => Severity::ReportedElsewhere,
        ExchangeError::RefusedLogin { .. }
        | ExchangeError::NotConnected { .. }
        | ExchangeError::AccessDenied { .. }
        | ExchangeError::Tls { .. }
        | ExchangeError::Unusable { .. } => Severity::Error,
        _ => Severity::Warning,
    };
    let probe_interval = match error {
        ExchangeError::Auth(_) => ProbeInterval::Token,
        ExchangeError::RefusedLogin { .. } if by_password => ProbeInterval::Password,
        _ => ProbeInterval::Usual,
    };
    let retry_after = match error {
        ExchangeError::Auth(error) => error.retry_after(),
        ExchangeError::OverLimit { retry_after, .. } => *retry_after,
        _ => None,
    };
    let denied = matches!(
        error,
        ExchangeError::AccessDenied { .. } | ExchangeError::NotConnected { .. }
    );
    Fault {
        scope,
        problem: match denied {
            true => format!("{error}{TEST_HELP}"),
            false => error.to_string(),
        },
        probe_interval,
        severity,
        retry_after,
        may_have_arrived: false,
    }
}

/// Returns whether the server may have carried out a request that failed like this.
fn may_be_done(error: &ExchangeError) -> bool {
    matches!(
        error,
        ExchangeError::Lost { .. } | ExchangeError::Timeout { .. }
    )
}
