//! Determines the accounts that a configuration signs in with, and the purposes of each.

use std::collections::HashMap;

use postroom_auth::{Account, AccountUse, Need, Profile};

use super::reader::{Item, Reader, join};
use super::{Credential, Login, Mailbox, Outgoing};

/// The line of each named item in the file.
pub struct Places(HashMap<String, usize>);

impl Places {
    pub fn of(entries: &[(&str, Item)]) -> Self {
        let places = entries.iter();
        Self(
            places
                .map(|(name, item)| ((*name).to_owned(), item.at))
                .collect(),
        )
    }

    fn at(&self, name: &str) -> usize {
        self.0.get(name).copied().unwrap_or_default()
    }
}

/// Returns every account in the order of the file, then those of application profiles that nothing uses yet.
pub fn of(
    reader: &Reader,
    mailboxes: (&[Mailbox], &Places),
    outgoing: (&[Outgoing], &Places),
    profiles: (&[Profile], &Places),
) -> Vec<AccountUse> {
    let mut uses: Vec<(usize, &Account, Need)> = Vec::new();
    for mailbox in mailboxes.0 {
        let source = &mailbox.source;
        if let (Some(login), Some(need)) = (source.login(), source.protocol().need) {
            uses.extend(account(login).map(|it| (mailboxes.1.at(&mailbox.name), it, need)));
        }
    }
    for way in outgoing.0 {
        let account = way.login.as_ref().and_then(account);
        uses.extend(account.map(|it| (outgoing.1.at(&way.name), it, Need::Smtp)));
    }
    uses.sort_by_key(|(at, ..)| *at);

    let mut accounts: Vec<AccountUse> = Vec::new();
    let mut known: HashMap<&Account, usize> = HashMap::new();
    for (_, account, need) in uses {
        let n = *known.entry(account).or_insert_with(|| {
            accounts.push(AccountUse {
                account: account.clone(),
                needs: Vec::new(),
            });
            accounts.len() - 1
        });
        let needs = &mut accounts[n].needs;
        if !needs.contains(&need) {
            needs.push(need);
            needs.sort_unstable();
        }
    }
    for profile in profiles.0 {
        if accounts.iter().any(|it| it.account.profile == profile.name) {
            continue;
        }
        if profile.grant.is_app_only() {
            accounts.push(AccountUse {
                account: Account {
                    profile: profile.name.clone(),
                    login: None,
                },
                needs: vec![Need::Imap, Need::Smtp],
            });
        } else {
            reader.warning(
                profiles.1.at(&profile.name),
                &join("profiles", &profile.name),
                "is used by no mailbox and no outgoing, so nobody can sign in with it",
                "name it as a mailbox's profile, or remove it",
            );
        }
    }
    accounts
}

fn account(login: &Login) -> Option<&Account> {
    match &login.credential {
        Credential::Account { account, .. } => Some(account),
        Credential::Password(_) | Credential::Unavailable(_) => None,
    }
}
