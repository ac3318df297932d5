//! Expiries of a configuration: secrets, certificates, and announced vendor deadlines.

use jiff::Timestamp;
use postroom_auth::runway::{self, Notice, PasswordSubmission, Root, Watched};

use postroom_config::{Config, Credential};

/// Returns everything that has expired or expires within its notice period, soonest first.
pub fn notices(config: &Config, now: Timestamp) -> Vec<Notice> {
    let submissions: Vec<PasswordSubmission> = config
        .outgoing
        .iter()
        .filter(|outgoing| {
            let login = outgoing.login.as_ref();
            login.is_some_and(|login| matches!(login.credential, Credential::Password(_)))
        })
        .map(|outgoing| PasswordSubmission {
            name: &outgoing.name,
            host: &outgoing.server.host,
        })
        .collect();
    let roots: Vec<Root> = config.extra_roots.iter().filter_map(Root::of).collect();
    runway::notices(
        &Watched {
            profiles: &config.profiles,
            accounts: &config.accounts,
            submissions: &submissions,
            roots: &roots,
        },
        now,
    )
}
