//! Advice: what an admin should do about a failure, as sentences in addition to the raw code.

mod table;
mod words;

use url::Url;

use crate::error::ServerRefusal;
use crate::profile::Endpoints;
use crate::vault::VaultError;
use crate::{Account, AuthError, Cloud, Grant, Need, Profile, Provider, Remedy, Resource};
use table::{At, By, CODES, On, Row, UNKNOWN};
use words::WORDS;

pub(crate) use table::PASSING;

/// The configuration is read at the start only.
const RESTART: &str = "after a change of the configuration or its secrets: restart the service";

/// Advice for an admin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// One or two sentences: what is wrong and what to do.
    pub text: String,
    /// Commands, pages or links to use, one per line, with the profile's ids filled in.
    pub steps: Vec<String>,
}

/// Returns advice on a failed token request or sign-in. `profile` is the profile concerned, if known.
pub fn advise(error: &AuthError, profile: Option<&Profile>) -> Advice {
    let account = error.account();
    let ids = Ids { profile, account };
    match error {
        AuthError::UnknownProfile { profile } => Advice {
            text: format!("The configuration has no profiles.{profile}. Correct the name."),
            steps: Vec::new(),
        },
        AuthError::Transient { .. } => ids.advice(
            "The authorization server could not be reached, or is busy. Postroom retries by itself, at growing intervals, and no mail is lost; if this continues, check the network between this machine and {token_host}.",
            &[
                "HTTP 429 or 503: the server limits requests",
                "a DNS error or no connection: {token_host} must resolve, and be reachable on the port in its URL, directly or through the proxy of [proxy] http or HTTPS_PROXY",
                "a certificate error: the root of a firewall that inspects TLS must be in [tls] ca, and this machine's clock must be right",
            ],
        ),
        AuthError::Refused { refusal, .. } => ids.refused(refusal),
        AuthError::Nonsense { .. } => ids.advice(
            "The response from the token URL was not a token response: it came from a web page, a proxy or a firewall, or from another URL of the server than the one for tokens. Check the URL, and open it from this machine.",
            &["the token URL of profiles.{profile}: {token_url}"],
        ),
        AuthError::SignedOut { .. } => ids.advice(
            "Nobody has signed in as {account} yet, or the sign-in was deleted. Sign in once; the running service resumes by itself.",
            &["{sign_in}"],
        ),
        AuthError::Unusable { .. } => ids.advice(
            "Profile {profile} does not support this with its current settings. Correct them as the error describes, then run `postroom check`.",
            &[],
        ),
        AuthError::Vault { source, .. } => {
            let mut advice = advise_vault(source);
            let is_lost = matches!(
                source,
                VaultError::OtherKey { .. } | VaultError::Damaged { .. }
            );
            if is_lost && profile.is_none_or(|profile| profile.grant.is_interactive()) {
                advice.steps.push(ids.sign_in());
            } else if is_lost {
                advice
                    .steps
                    .push("this account needs no person: a new token is requested automatically".into());
            }
            advice
        }
    }
}

/// Returns advice on an unusable vault.
pub fn advise_vault(error: &VaultError) -> Advice {
    let (text, steps) = match error {
        VaultError::OtherKey { .. } => (
            "The tokens were encrypted with another key than the current one. Restore the old key, or sign in again: the old file is then set aside, and nothing else is lost.".to_owned(),
            vec!["[vault] key in the configuration is the source of the key".to_owned()],
        ),
        VaultError::Damaged { .. } => (
            "The file of the tokens is damaged. Restore it from a backup that is newer than the last sign-in, or sign in again: the damaged file is then set aside.".to_owned(),
            Vec::new(),
        ),
        VaultError::Busy { .. } => (
            "Another process has locked this account for a change, such as an unfinished sign-in. Wait for it to end, then try again.".to_owned(),
            Vec::new(),
        ),
        VaultError::File { path, .. } => (
            "Postroom cannot read or write its vault. The folder must belong to the user that runs Postroom, and its disk must not be full.".to_owned(),
            vec![format!("ls -ld {}", shell_word(&path.display().to_string()))],
        ),
        VaultError::Key { .. } => (
            "The vault's key is not available. It is a file of mode 0600, or the source that [vault] key names: base64 of 32 bytes. Restore the key. Without it the tokens encrypted with it are lost: move the folder vault below data_dir away, and everybody has to sign in again.".to_owned(),
            vec!["a new key: head -c 32 /dev/urandom | base64".to_owned()],
        ),
    };
    Advice { text, steps }
}

/// Returns what may end this refusal, based on the structured codes alone.
pub fn remedy(refusal: &ServerRefusal, grant: &Grant) -> Remedy {
    let row = row(refusal, None, Some(grant));
    match row.remedy {
        // Without a person, nobody can sign in again.
        Remedy::SignIn if !grant.is_interactive() => Remedy::Admin,
        remedy => remedy,
    }
}

/// Returns whether the tables contain this error word.
pub(crate) fn is_known(word: &str) -> bool {
    WORDS
        .iter()
        .any(|row| matches!(row.on, On::Words(words) if words.contains(&word)))
}

/// Returns the command that signs in to an account.
pub fn sign_in_command(account: &Account) -> String {
    let profile = &account.profile;
    match &account.login {
        Some(login) => format!("postroom auth login {profile} --as {}", shell_word(login)),
        None => format!("postroom auth login {profile}"),
    }
}

/// Returns the Exchange Online commands that give an app-only profile access to a mailbox (learn.microsoft.com,
/// "Authenticate an IMAP, POP or SMTP connection using OAuth"). Empty for profiles that need none.
pub fn exchange_commands(profile: &Profile, mailbox: &str) -> Vec<String> {
    let (Provider::Microsoft(cloud), Grant::ClientCredentials) = (profile.provider, &profile.grant)
    else {
        return Vec::new();
    };
    let directory = profile.directory.as_deref().map(power_shell_word);
    let organization = directory
        .clone()
        .unwrap_or_else(|| "CLIENT.onmicrosoft.com".into());
    let [connect, tenant] = ["Organization", "TenantId"].map(|option| {
        directory
            .as_ref()
            .map(|directory| format!(" -{option} {directory}"))
            .unwrap_or_default()
    });
    let graph = match cloud.graph_environment {
        Some(name) => format!(" -Environment {name}"),
        None => String::new(),
    };
    // OData doubles a quote, and PowerShell doubles each of these again.
    let filter = format!("appId eq '{}'", profile.client_id.replace('\'', "''"));
    let filter = power_shell_word(&filter);
    let environment = match cloud.exchange_environment {
        Some(name) => format!(" -ExchangeEnvironmentName {name}"),
        None => String::new(),
    };
    let app = power_shell_word(&profile.client_id);
    let name = power_shell_word(&format!("Postroom {}", profile.name));
    let mailbox = power_shell_word(mailbox);
    vec![
        "# In PowerShell, as an Exchange administrator of the client's organization:".into(),
        "Install-Module -Name ExchangeOnlineManagement -Scope CurrentUser".into(),
        format!("Connect-ExchangeOnline{connect}{environment}"),
        format!(
            "# A partner with delegated administration (GDAP): Connect-ExchangeOnline -DelegatedOrganization {organization}{environment}"
        ),
        "# The Object ID of the enterprise app. The one under App registrations is different, and every sign-in with it is refused."
            .into(),
        "Install-Module -Name Microsoft.Graph.Applications -Scope CurrentUser".into(),
        format!("Connect-MgGraph -Scopes Application.Read.All{tenant}{graph}"),
        format!("$objectId = (Get-MgServicePrincipal -Filter {filter}).Id"),
        format!("New-ServicePrincipal -AppId {app} -ObjectId $objectId -DisplayName {name}"),
        format!(
            "Add-MailboxPermission -Identity {mailbox} -User $objectId -AccessRights FullAccess"
        ),
        format!(
            "Add-RecipientPermission -Identity {mailbox} -Trustee $objectId -AccessRights SendAs -Confirm:$false"
        ),
    ]
}

/// Lets an application into one mailbox by Graph, and into no other (learn.microsoft.com, "Role Based Access Control for Applications in
/// Exchange Online"). Empty for what is not an application of Microsoft's.
pub fn graph_commands(profile: &Profile, mailbox: &str) -> Vec<String> {
    let mut commands = exchange_commands(profile, mailbox);
    let is_general = |command: &String| {
        !command.starts_with("Add-MailboxPermission")
            && !command.starts_with("Add-RecipientPermission")
    };
    commands.retain(is_general);
    if commands.is_empty() {
        return commands;
    }
    let app = power_shell_word(&profile.client_id);
    let scope = power_shell_word(&format!("Postroom {}", profile.name));
    let filter = format!("PrimarySmtpAddress -eq '{}'", mailbox.replace('\'', "''"));
    let filter = power_shell_word(&filter);
    let mailbox = power_shell_word(mailbox);
    commands.extend([
        format!("New-ManagementScope -Name {scope} -RecipientRestrictionFilter {filter}"),
        "# Many mailboxes: a group, by -RecipientRestrictionFilter \"MemberOfGroup -eq '$((Get-Group GROUP).DistinguishedName)'\".".into(),
        format!(
            "New-ManagementRoleAssignment -App {app} -Role 'Application Mail.ReadWrite' -CustomResourceScope {scope}"
        ),
        "# It takes up to two hours to apply. What holds now:".into(),
        format!("Test-ServicePrincipalAuthorization -Identity {app} -Resource {mailbox}"),
        "# Permissions add up: Mail.ReadWrite granted in Entra opens every mailbox, whatever the scope.".into(),
        "# Where an older application access policy restricts the application, New-ApplicationAccessPolicy or its group must cover the mailbox:".into(),
        format!("Test-ApplicationAccessPolicy -AppId {app} -Identity {mailbox}"),
    ]);
    commands
}

/// Returns the page on which an admin of the directory consents to the application. `None` outside Microsoft.
pub fn admin_consent_url(profile: &Profile) -> Option<String> {
    let Provider::Microsoft(cloud) = profile.provider else {
        return None;
    };
    let directory = profile.directory.as_deref().unwrap_or("organizations");
    let mut url = Url::parse(&format!(
        "https://{}/{directory}/adminconsent",
        cloud.login_host
    ))
    .ok()?;
    url.query_pairs_mut()
        .append_pair("client_id", &profile.client_id);
    if let Grant::AuthorizationCode {
        redirect: Some(redirect),
        ..
    } = &profile.grant
    {
        url.query_pairs_mut().append_pair("redirect_uri", redirect);
    }
    Some(url.into())
}

/// The values of the placeholders in braces.
struct Ids<'a> {
    profile: Option<&'a Profile>,
    account: Option<&'a Account>,
}

impl Ids<'_> {
    fn refused(&self, refusal: &ServerRefusal) -> Advice {
        let grant = self.profile.map(|profile| &profile.grant);
        let row = row(refusal, self.profile.map(|profile| profile.provider), grant);
        let mut advice = self.advice(row.text, row.steps);
        let may_sign_in = grant.is_none_or(Grant::is_interactive);
        if row.remedy == Remedy::SignIn && may_sign_in {
            advice.steps.insert(0, self.sign_in());
        }
        if row.remedy != Remedy::SignIn && row.text.contains("profiles.{profile}") {
            advice.steps.push(RESTART.into());
        }
        // No row has the number, otherwise the row would have been found by it.
        if let (On::Words(_), Some(code)) = (&row.on, refusal.codes.first()) {
            let host = self.cloud().login_host;
            advice.steps.push(format!(
                "Microsoft's page about it: https://{host}/error?code={code}"
            ));
        }
        if let Some(id) = &refusal.correlation_id {
            advice.steps.push(format!(
                "correlation id, for the sign-in logs and for support: {id}"
            ));
        }
        advice
    }

    fn advice(&self, text: &str, steps: &[&str]) -> Advice {
        Advice {
            text: fill(text, |word| self.word(word)).unwrap_or_else(|| text.to_owned()),
            steps: steps
                .iter()
                .filter_map(|step| fill(step, |word| self.word(word)))
                .collect(),
        }
    }

    fn word(&self, word: &str) -> Option<String> {
        match word {
            "app" => Some(self.app("")),
            "App" => Some(capitalized(&self.app("the "))),
            "account" => Some(self.user()),
            "directory" => Some(
                match self
                    .profile
                    .and_then(|profile| profile.directory.as_deref())
                {
                    Some(directory) => format!("directory {directory}"),
                    None => "directory".into(),
                },
            ),
            "profile" => self.account.map(|account| account.profile.clone()),
            "consent" => admin_consent_url(self.profile?),
            "sign_in" => Some(self.sign_in()),
            "scopes" => Some(
                self.profile?
                    .scopes_for(Resource::Mail, &[Need::Imap])
                    .join(","),
            ),
            "service_account" => match &self.profile?.grant {
                Grant::ServiceAccount(key) => Some(key.client_email.clone()),
                _ => None,
            },
            "token_url" => self.token_url(),
            "token_host" => Some(self.token_host().unwrap_or_else(|| "the server".into())),
            _ => None,
        }
    }

    fn app(&self, article: &str) -> String {
        match self.profile {
            Some(profile) if !profile.client_id.is_empty() => {
                format!("application {}", profile.client_id)
            }
            _ => format!("{article}application"),
        }
    }

    fn user(&self) -> String {
        match self.account.and_then(|account| account.login.as_deref()) {
            Some(login) => login.to_owned(),
            None => "the user".into(),
        }
    }

    fn sign_in(&self) -> String {
        self.account.map(sign_in_command).unwrap_or_default()
    }

    fn token_url(&self) -> Option<String> {
        match &self.profile?.endpoints {
            Endpoints::Fixed { token, .. } => Some(token.to_string()),
            Endpoints::Discovered { issuer } => Some(format!("the one that {issuer} names")),
        }
    }

    fn token_host(&self) -> Option<String> {
        let url = match &self.profile?.endpoints {
            Endpoints::Fixed { token, .. } => token,
            Endpoints::Discovered { issuer } => issuer,
        };
        url.host_str().map(str::to_owned)
    }

    fn cloud(&self) -> &'static Cloud {
        match self.profile.map(|profile| profile.provider) {
            Some(Provider::Microsoft(cloud)) => cloud,
            _ => &crate::provider::CLOUDS[0],
        }
    }
}

/// Returns the matching row: by number if known, otherwise by the error word.
fn row(refusal: &ServerRefusal, provider: Option<Provider>, grant: Option<&Grant>) -> &'static Row {
    let fits = |row: &&Row| row.fits(provider, grant);
    let by_code = refusal.codes.iter().find_map(|code| {
        let on_code = |row: &&Row| matches!(row.on, On::Codes(codes) if codes.contains(code));
        CODES.iter().filter(on_code).find(fits)
    });
    let on_word =
        |row: &&Row| matches!(row.on, On::Words(words) if words.contains(&refusal.error.as_str()));
    by_code
        .or_else(|| WORDS.iter().filter(on_word).find(fits))
        .unwrap_or(&UNKNOWN)
}

impl Row {
    fn fits(&self, provider: Option<Provider>, grant: Option<&Grant>) -> bool {
        let by = match self.by {
            By::Any => true,
            By::Person => grant.is_none_or(Grant::is_interactive),
            By::Password => matches!(grant, Some(Grant::Password { .. })),
            By::App => matches!(grant, Some(Grant::ClientCredentials)),
            By::ServiceAccount => matches!(grant, Some(Grant::ServiceAccount(_))),
        };
        let at = match self.at {
            At::Any => true,
            At::Google => provider == Some(Provider::Google),
        };
        by && at
    }
}

/// Replaces each `{word}` of a template; returns `None` if one of them is unknown.
fn fill(template: &str, word: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        filled.push_str(before);
        filled.push_str(&word(name)?);
        rest = after;
    }
    filled.push_str(rest);
    Some(filled)
}

pub(crate) fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}

/// Returns a word quoted for a POSIX shell.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Returns a word quoted for PowerShell (about_Quoting_Rules).
fn power_shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
pub(crate) mod tests;
