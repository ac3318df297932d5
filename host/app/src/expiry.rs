//! Expiries of a configuration: secrets, certificates, and announced vendor deadlines.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use postroom_auth::expiry::{self, Notice, PasswordSubmission, Root, Watched};
use postroom_core::Clock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use postroom_config::{Config, Credential};

/// The interval of looks for what ends soon.
const NOTICE_EVERY: Duration = Duration::from_secs(60 * 60);

/// Everything that ends within its notice, or has ended; the soonest first.
pub fn notices(config: &Config, now: Timestamp) -> Vec<Notice> {
    let submissions: Vec<PasswordSubmission> = config
        .outgoing
        .iter()
        .filter_map(|outgoing| {
            let target = &outgoing.target;
            let by_password = matches!(target.login()?.credential, Credential::Password(_));
            let host = &target.server()?.host;
            by_password.then_some(PasswordSubmission {
                name: &outgoing.name,
                host,
            })
        })
        .collect();
    let roots: Vec<Root> = config.extra_roots.iter().filter_map(Root::of).collect();
    expiry::notices(
        &Watched {
            profiles: &config.profiles,
            accounts: &config.accounts,
            submissions: &submissions,
            roots: &roots,
        },
        now,
    )
}

/// Reports once everything that ends soon, at the start, when the configuration changes and when the next step of its notice is
/// reached.
pub async fn report(
    mut config: watch::Receiver<Arc<Config>>,
    clock: Clock,
    stop: CancellationToken,
) {
    let mut told: Vec<Notice> = Vec::new();
    loop {
        let current = config.borrow_and_update().clone();
        let found = notices(&current, clock.now());
        for notice in found.iter().filter(|notice| !told.contains(notice)) {
            tracing::warn!(key = notice.key, cure = notice.cure, "{}", notice.message);
        }
        told = found;
        tokio::select! {
            () = tokio::time::sleep(NOTICE_EVERY) => {}
            Ok(()) = config.changed() => {}
            () = stop.cancelled() => return,
        }
    }
}
