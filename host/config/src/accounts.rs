//! Determines the accounts that a configuration signs in with, and the purposes of each.

use std::collections::HashMap;

use postroom_auth::{Account, AccountUse, Need, Profile};

use super::reader::{Item, TomlReader, join};
use super::{Credential, MailLogin, MailboxConfig, Outgoing};

/// The file and offset of each named item in one table.
pub struct Places<'r>(HashMap<&'r str, (&'r TomlReader<'r>, usize)>);

impl<'r> Places<'r> {
    pub fn of(entries: &[(&'r str, Item<'r>)]) -> Self {
        let places = entries.iter();
        Self(
            places
                .map(|(name, item)| (*name, (item.reader, item.at)))
                .collect(),
        )
    }

    /// Returns the file of an item, and the offset in it.
    pub fn get(&self, name: &str) -> Option<(&'r TomlReader<'r>, usize)> {
        self.0.get(name).copied()
    }

    /// Returns the position of an item among those of all files.
    fn at(&self, name: &str) -> (usize, usize) {
        let place = self.0.get(name);
        place.map_or_else(Default::default, |(reader, at)| (reader.order, *at))
    }
}

/// Returns every account in the order of the file, then those of application profiles that nothing uses yet.
pub fn of(
    mailboxes: (&[MailboxConfig], &Places),
    outgoing: (&[Outgoing], &Places),
    profiles: (&[Profile], &Places),
) -> Vec<AccountUse> {
    let mut uses: Vec<((usize, usize), &Account, Need)> = Vec::new();
    for mailbox in mailboxes.0 {
        let source = &mailbox.source;
        if let (Some(login), Some(need)) = (source.login(), source.need()) {
            uses.extend(account(login).map(|it| (mailboxes.1.at(&mailbox.name), it, need)));
        }
    }
    for way in outgoing.0 {
        let target = &way.target;
        if let Some(account) = target.login().and_then(account) {
            let at = outgoing.1.at(&way.name);
            uses.extend(target.needs().into_iter().map(|need| (at, account, need)));
        }
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
        } else if let Some((reader, at)) = profiles.1.get(&profile.name) {
            reader.warning(
                at,
                &join("profiles", &profile.name),
                "is used by no mailbox and no outgoing, so nobody can sign in with it",
                "name it as a mailbox's profile, or remove it",
            );
        }
    }
    accounts
}

fn account(login: &MailLogin) -> Option<&Account> {
    match &login.credential {
        Credential::Account { account, .. } => Some(account),
        Credential::Password(_) | Credential::Unavailable(_) => None,
    }
}
