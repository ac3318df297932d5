//! One way out: its mails go one after the other, and while none could be sent no mail is tried, however many wait.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use postroom_core::backoff::backoff;
use postroom_outgoing::{OutgoingMail, Receipt, SendError, Smtp};

use super::REFUSED_PASSWORD;

/// A server in trouble is tried again at least this often.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Without a token the way looks again this often, and asks no server then: news of the account end the wait.
const TOKEN_PAUSE: Duration = Duration::from_secs(30);

/// A way out with its trouble, if it has any.
pub struct Way {
    smtp: Smtp,
    by_password: bool,
    /// Who holds it sends: those behind it learn of trouble before they run into it themselves.
    turn: tokio::sync::Mutex<()>,
    trouble: Mutex<Option<Trouble>>,
}

/// Why a mail was not sent.
pub enum NotSent {
    /// Nothing can be sent this way now; the mail was not tried.
    Held(String),
    Failed(SendError),
}

/// Nothing can be sent.
struct Trouble {
    /// In a row.
    failures: u32,
    until: Instant,
    /// The step that fails: another one is news.
    step: &'static str,
    problem: String,
}

impl Way {
    /// `by_password` tells whether it signs in with a password.
    pub fn new(smtp: Smtp, by_password: bool) -> Self {
        Self {
            smtp,
            by_password,
            turn: tokio::sync::Mutex::default(),
            trouble: Mutex::default(),
        }
    }

    /// How long nothing is tried.
    pub fn held_for(&self) -> Option<Duration> {
        let trouble = self.trouble();
        let left = trouble.as_ref()?.left();
        (!left.is_zero()).then_some(left)
    }

    /// What kept it may be over: the next mail is tried.
    pub fn reopen(&self) {
        if let Some(trouble) = self.trouble().as_mut() {
            trouble.until = Instant::now();
        }
    }

    pub async fn send(&self, mail: &OutgoingMail) -> Result<Receipt, NotSent> {
        let _turn = self.turn.lock().await;
        if let Some(trouble) = self.trouble().as_ref()
            && !trouble.left().is_zero()
        {
            return Err(NotSent::Held(trouble.problem.clone()));
        }
        match self.smtp.send(mail).await {
            Err(error) if error.is_before_mail() => Err(NotSent::Held(self.fails(&error))),
            outcome => {
                self.works();
                outcome.map_err(NotSent::Failed)
            }
        }
    }

    /// Ends the kept connection politely.
    pub async fn close(&self) {
        self.smtp.close().await;
    }

    /// Pauses, and says so once. Answers the problem.
    fn fails(&self, error: &SendError) -> String {
        let problem = error.to_string();
        let step = error.step();
        let mut trouble = self.trouble();
        let failures = trouble.as_ref().map_or(0, |it| it.failures) + 1;
        let is_news = trouble.as_ref().is_none_or(|it| it.step != step);
        let pause = self.pause(error, failures);
        *trouble = Some(Trouble {
            failures,
            until: Instant::now() + pause,
            step,
            problem: problem.clone(),
        });
        let (to, retry_secs) = (self.smtp.name(), pause.as_secs());
        match error {
            // The trouble of the account was told of once, with the cure.
            SendError::Auth(_) => tracing::debug!(to, retry_secs, "mail is held back: {problem}"),
            _ if !is_news => tracing::debug!(to, retry_secs, "mail is still held back: {problem}"),
            SendError::RefusedLogin { .. }
            | SendError::Tls { .. }
            | SendError::Unsupported { .. } => {
                tracing::error!(to, retry_secs, "mail is held back: {problem}");
            }
            _ => tracing::warn!(to, retry_secs, "mail is held back: {problem}"),
        }
        problem
    }

    fn works(&self) {
        if let Some(trouble) = self.trouble().take()
            && trouble.step != SendError::TOKEN_STEP
        {
            tracing::info!(to = self.smtp.name(), was = %trouble.problem, "mail goes out again");
        }
    }

    fn pause(&self, error: &SendError, failures: u32) -> Duration {
        let seed = RandomState::new().hash_one(());
        match error {
            SendError::Auth(error) => TOKEN_PAUSE.max(error.retry_after().unwrap_or_default()),
            SendError::RefusedLogin { .. } if self.by_password => {
                REFUSED_PASSWORD.delay(failures, seed)
            }
            _ => backoff(failures, seed).min(LONGEST_PAUSE),
        }
    }

    /// Never held while waiting for anything.
    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trouble {
    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}
