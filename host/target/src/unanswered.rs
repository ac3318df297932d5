//! Remembers mails whose reply was lost, and flags what becomes of them.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::Attempt;

/// The most mails without a reply that are remembered. Beyond it, a mail that arrives twice is not flagged.
const MAX_UNANSWERED: usize = 10_000;
/// Added to the receipt of a mail that may have arrived in an earlier attempt.
const MAYBE_TWICE: &str =
    "; the answer to an earlier try was lost, so the mail may have arrived twice";
/// Added to the error when such a mail is given up.
const MAYBE_ONCE: &str = "; the answer to an earlier try was lost, so the mail may have arrived";

/// Idempotency keys of mails that were sent completely and whose reply was lost.
#[derive(Default)]
pub(crate) struct Unanswered(Mutex<HashSet<String>>);

impl Unanswered {
    pub fn contains(&self, key: &str) -> bool {
        let unanswered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        unanswered.contains(key)
    }

    /// Forgets a mail, once the server said what became of it.
    pub fn forget(&self, key: &str) {
        let mut unanswered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        unanswered.remove(key);
    }

    /// Flags a mail that may have arrived twice, and remembers one whose reply was lost now.
    pub fn flagged(&self, key: &str, attempt: Attempt) -> Attempt {
        let mut unanswered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match attempt {
            Attempt::Failed(fault) => {
                if fault.may_have_arrived && unanswered.len() < MAX_UNANSWERED {
                    unanswered.insert(key.to_owned());
                }
                Attempt::Failed(fault)
            }
            attempt if !unanswered.remove(key) => attempt,
            Attempt::Delivered(mut receipt) => {
                receipt.status.push_str(MAYBE_TWICE);
                Attempt::Delivered(receipt)
            }
            Attempt::Partly {
                rest,
                mut receipt,
                problem,
            } => {
                receipt.push_str(MAYBE_TWICE);
                Attempt::Partly {
                    rest,
                    receipt,
                    problem,
                }
            }
            Attempt::Final(problem) => Attempt::Final(problem + MAYBE_ONCE),
        }
    }
}
