//! Expiries of a configuration: secrets, certificates, and announced vendor deadlines.

use jiff::Timestamp;
use postroom_auth::expiry::{self, Notice, PasswordSubmission, Root, Watched};

use postroom_config::{Config, Credential};

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
