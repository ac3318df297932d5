//! Words that identify mail programs and their notices.

mod answers;
mod failures;
mod phrases;
mod programs;

pub(super) use answers::{AWAY, AWAY_WITHIN, CHALLENGE_PHRASES, CHALLENGE_SUBJECTS, READ};
pub(super) use failures::{DELIVERED, FAILURE, FAILURE_WITHIN};
pub(super) use phrases::{DELAY_PHRASES, FAILURE_PHRASES, RETURNED};
pub(super) use programs::{
    AUTO_REPLY_HEADERS, CHALLENGE_HEADERS, CLIENTS, DAEMON_NAMES, DAEMONS, PROGRAM_ACCOUNTS,
    PROGRAM_HEADERS, PROGRAMS, SERVER_NAMES, SERVERS,
};
