//! The running mailboxes: each is one task with its own stop, so that a changed configuration touches only those it concerns.

use std::collections::HashMap;
use std::sync::Arc;

use postroom_config::{Config, MailboxConfig};
use postroom_line::Mailbox;
use postroom_line::intake::Intake;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::means::Means;
use crate::parts::{Parts, Spawner};

/// All mailboxes of the configuration in use, by name.
#[derive(Default)]
pub struct Mailboxes {
    running: HashMap<String, Running>,
    /// The ones that were stopped, until their sessions have ended.
    ending: Vec<Stopped>,
}

/// One mailbox's task, and what it was started with.
struct Running {
    config: MailboxConfig,
    mailbox: watch::Sender<Arc<Mailbox>>,
    stop: CancellationToken,
    /// Cancelled when the task has ended.
    ended: CancellationToken,
    /// Whether it can fetch mail. If a secret is missing, it cannot.
    is_ready: bool,
}

/// A mailbox whose session is ending.
struct Stopped {
    config: MailboxConfig,
    /// Cancelled when it has ended.
    ended: CancellationToken,
}

/// A mailbox that is about to serve.
pub struct Starting {
    pub intake: Intake,
    /// The end of the task that served the mailbox before: two sessions would disturb each other.
    after: Option<CancellationToken>,
    ended: CancellationToken,
}

impl Mailboxes {
    /// Makes the mailboxes of a configuration. Nothing connects yet.
    pub fn of(config: &Config, means: &Means) -> (Self, Vec<Starting>) {
        let mut mailboxes = Self::default();
        let starting = config.mailboxes.iter();
        let starting = starting
            .map(|mailbox| mailboxes.add(config, mailbox, means, None))
            .collect();
        (mailboxes, starting)
    }

    /// Stops the sessions of mailboxes that are gone, or that changed so that they need another session; those of all others go on.
    /// One that could not sign in is tried again with other tokens.
    pub fn stop_changed(&mut self, after: &Config, are_tokens_new: bool) {
        self.ending.retain(|it| !it.ended.is_cancelled());
        self.running.retain(|name, running| {
            let now = after.mailbox(name);
            let stays = now.is_some_and(|now| now.has_same_session(&running.config));
            let stays = stays && (running.is_ready || !are_tokens_new);
            if !stays {
                running.stop.cancel();
                self.ending.push(Stopped {
                    config: running.config.clone(),
                    ended: running.ended.clone(),
                });
            }
            stays
        });
    }

    /// Takes over a configuration, after [`Mailboxes::stop_changed`]: those that stay get what other parts of it changed for them, and
    /// the others are made.
    pub fn configure(&mut self, config: &Config, means: &Means) -> Vec<Starting> {
        let mut starting = Vec::new();
        for mailbox in &config.mailboxes {
            match self.running.get_mut(&mailbox.name) {
                Some(running) => {
                    running.config = mailbox.clone();
                    running
                        .mailbox
                        .send_replace(Arc::new(Mailbox::of(config, mailbox)));
                }
                None => {
                    let mut before = self.ending.iter();
                    let before = before.find(|it| it.is_same_place(mailbox));
                    let after = before.map(|it| it.ended.clone());
                    starting.push(self.add(config, mailbox, means, after));
                }
            }
        }
        starting
    }

    fn add(
        &mut self,
        config: &Config,
        mailbox: &MailboxConfig,
        means: &Means,
        after: Option<CancellationToken>,
    ) -> Starting {
        let (sender, configured) = watch::channel(Arc::new(Mailbox::of(config, mailbox)));
        let (stop, ended) = (means.stop.child_token(), CancellationToken::new());
        let (intake, is_ready) = means.intake(mailbox, configured, stop.clone());
        let running = Running {
            config: mailbox.clone(),
            mailbox: sender,
            stop,
            ended: ended.clone(),
            is_ready,
        };
        self.running.insert(mailbox.name.clone(), running);
        Starting {
            intake,
            after,
            ended,
        }
    }
}

impl Stopped {
    /// Returns whether a mailbox continues this one, possibly under another name.
    fn is_same_place(&self, mailbox: &MailboxConfig) -> bool {
        let keys = |it: &MailboxConfig| -> Vec<Vec<String>> {
            let identities = it.source.identities().into_iter();
            identities.map(|it| it.key).collect()
        };
        let own = keys(&self.config);
        self.config.name == mailbox.name || keys(mailbox).iter().any(|it| own.contains(it))
    }
}

impl Starting {
    /// Starts the mailbox's task.
    pub fn start(self, parts: &mut Parts) {
        let mailbox = self.intake.mailbox().clone();
        let name = format!("mailbox {}", mailbox.name);
        parts.spawn_in(mailbox.span(), name, self.serve());
    }

    /// Does the same while the service runs.
    pub async fn order(self, spawner: &Spawner) {
        let mailbox = self.intake.mailbox().clone();
        let name = format!("mailbox {}", mailbox.name);
        spawner.spawn_in(mailbox.span(), name, self.serve()).await;
    }

    async fn serve(self) {
        // Dropped whenever this ends, even by a panic.
        let _ended = self.ended.drop_guard();
        if let Some(before) = self.after {
            before.cancelled().await;
        }
        self.intake.serve().await;
    }
}
