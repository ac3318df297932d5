//! Expiry: what of an account will stop working, and when.

mod roots;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Unit};
use serde::Serialize;

use crate::advice::{advise, capitalized, remedy, sign_in_command};
use crate::provider::CLOUDS;
use crate::tokens::registration;
use crate::vault::{Cause, Failure, Record, VaultError};
use crate::{
    Account, AccountUse, AuthError, ClientCredential, Need, Profile, Provider, Remedy,
    ServerRefusal,
};

pub use roots::Root;

/// Days before the expiry of a secret, certificate or sign-in at which a notice is logged.
pub const NOTICE_DAYS: &[i64] = &[60, 30, 7];
/// The same for deadlines announced by vendors, which need a migration.
pub const KNOWN_DATE_NOTICE_DAYS: &[i64] = &[365, 180, 60, 30, 7];
/// A refresh that started longer ago than this was interrupted.
const INTERRUPTED_SECS: i64 = 120;
/// Temporary trouble counts as a failure after this time.
const TROUBLE_SECS: i64 = 60 * 60;
/// The reason for a sign-in that ended without a cause at the provider.
const ANSWER_LOST: &str = "The response to a refresh was lost, and with it the new refresh token. ";

/// One row of `auth status`; the JSON keys are a contract.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub profile: String,
    pub login: Option<String>,
    pub grant: &'static str,
    pub identity: Option<String>,
    pub scopes: Vec<String>,
    pub access_expires: Option<Timestamp>,
    pub refresh_expires: Option<Timestamp>,
    /// The expiry of the client secret or certificate, whichever the profile has.
    pub secret_expires: Option<Timestamp>,
    pub last_refresh: Option<Timestamp>,
    pub state: State,
    /// The next expiry with its date, or the failure and its fix; empty when neither is known.
    pub advice: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Ok,
    /// Something expires within 60 days.
    Expiring,
    Failed,
    SignedOut,
    /// No token was obtained yet, and nobody needs to sign in.
    Untried,
}

impl State {
    /// Returns the name in listings.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Expiring => "expiring",
            State::Failed => "failed",
            State::SignedOut => "signed-out",
            State::Untried => "untried",
        }
    }
}

/// A day on which a vendor switches something off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownDate {
    pub concerns: Concern,
    /// The thing that expires, as a sentence without the date.
    pub what: &'static str,
    pub date: Date,
    pub cure: &'static str,
    /// The vendor's page.
    pub source: &'static str,
}

/// The profiles or outgoings that a known date applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// Profiles that get tokens for Exchange Web Services of a Microsoft cloud.
    ExchangeOnlineEws,
    /// Outgoings that sign in to a Microsoft cloud with a password.
    ExchangeOnlineSmtpPassword,
}

/// Announced dates. A new one is a new entry.
pub const KNOWN_DATES: &[KnownDate] = &[
    KnownDate {
        concerns: Concern::ExchangeOnlineEws,
        what: "Exchange Online switches EWS off, unless an admin has allowed it by then",
        date: Date::constant(2026, 10, 1),
        cure: "move to IMAP or Graph; until then ask an admin to allow this application (EWSEnabled and EwsAllowedAppIDs)",
        source: "https://learn.microsoft.com/exchange/clients-and-mobile-in-exchange-online/deprecation-of-ews-exchange-online",
    },
    KnownDate {
        concerns: Concern::ExchangeOnlineEws,
        what: "Exchange Online removes EWS for good",
        date: Date::constant(2027, 4, 1),
        cure: "move to IMAP or Graph",
        source: "https://learn.microsoft.com/exchange/clients-and-mobile-in-exchange-online/deprecation-of-ews-exchange-online",
    },
    KnownDate {
        concerns: Concern::ExchangeOnlineSmtpPassword,
        what: "Exchange Online switches SMTP AUTH with passwords off by default",
        date: Date::constant(2026, 12, 31),
        cure: "give the outgoing a profile in place of its password; an admin can switch it back on for a while",
        source: "https://learn.microsoft.com/exchange/clients-and-mobile-in-exchange-online/deprecation-of-basic-authentication-exchange-online",
    },
];

/// The parts of the configuration that can expire.
#[derive(Debug, Clone, Copy)]
pub struct Watched<'a> {
    pub profiles: &'a [Profile],
    pub accounts: &'a [AccountUse],
    pub submissions: &'a [PasswordSubmission<'a>],
    /// Certificates that are trusted in addition to the system's.
    pub roots: &'a [Root],
}

/// An outgoing that signs in with a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordSubmission<'a> {
    /// Its name under `[outgoing]`.
    pub name: &'a str,
    pub host: &'a str,
}

/// Something that expires soon, or has expired. Two notices are equal until the next step is reached, so a caller that
/// remembers the reported ones reports each step once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Notice {
    pub about: About,
    /// The configuration key concerned, such as `profiles.contoso.secret_expires`.
    pub key: String,
    /// The thing that expires or expired, with the day; no full stop.
    pub message: String,
    pub cure: String,
    pub date: Date,
    /// The smallest number of days' notice reached; 0 once the day has passed.
    pub step_days: i64,
}

/// The subject of a notice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// The secret or certificate of this profile.
    Credential(String),
    /// A vendor's date that concerns this profile.
    Profile(String),
    /// A vendor's date that concerns this outgoing.
    Outgoing(String),
    /// A certificate that is trusted in addition to the system's.
    Root,
}

/// Returns everything in a configuration that expires within its notice, or has expired; the soonest first.
pub fn notices(watched: &Watched, now: Timestamp) -> Vec<Notice> {
    let today = day(now);
    let mut notices: Vec<Notice> = watched
        .profiles
        .iter()
        .filter_map(|profile| credential_notice(profile, today))
        .collect();
    notices.extend(watched.roots.iter().filter_map(|root| root.notice(now)));
    for known in KNOWN_DATES {
        let Some(step_days) = step(today, known.date, KNOWN_DATE_NOTICE_DAYS) else {
            continue;
        };
        notices.extend(concerned(known, watched).into_iter().map(|about| Notice {
            key: match &about {
                About::Credential(name) | About::Profile(name) => format!("profiles.{name}"),
                About::Outgoing(name) => format!("outgoing.{name}.password"),
                About::Root => "tls.ca".into(),
            },
            about,
            message: format!("{} (on {})", known.what, known.date),
            cure: format!("{} ({})", known.cure, known.source),
            date: known.date,
            step_days,
        }));
    }
    notices.sort_by(|a, b| a.date.cmp(&b.date).then_with(|| a.key.cmp(&b.key)));
    notices
}

/// Determines the status of one account. `scopes` are those it is used with.
pub fn status(
    profile: &Profile,
    account: &Account,
    scopes: Vec<String>,
    record: Result<Option<&Record>, &VaultError>,
    now: Timestamp,
) -> Status {
    let found = record.as_ref().ok().copied().flatten();
    let kept = found.filter(|record| registration::is_of(record, profile));
    let view = View {
        profile,
        account,
        scopes: &scopes,
        kept,
        is_moved: found.is_some() && kept.is_none(),
        now,
    };
    let (state, advice) = view.judge(record.err());
    Status {
        profile: profile.name.clone(),
        login: account.login.clone(),
        grant: profile.grant.name(),
        identity: kept.and_then(|record| record.identity.clone()),
        access_expires: view.access_expires().map(whole_seconds),
        refresh_expires: view.refresh_expires().map(whole_seconds),
        secret_expires: secret_expires(profile).map(whole_seconds),
        last_refresh: kept
            .and_then(|record| record.last_refresh)
            .map(whole_seconds),
        state,
        advice,
        scopes,
    }
}

/// One account with everything that its state depends on.
struct View<'a> {
    profile: &'a Profile,
    account: &'a Account,
    scopes: &'a [String],
    kept: Option<&'a Record>,
    /// The stored tokens belong to another registration.
    is_moved: bool,
    now: Timestamp,
}

/// Something that expires, with the advice.
struct End {
    at: Timestamp,
    what: String,
    cure: String,
    /// Whether it is close enough for a notice.
    is_near: bool,
}

impl View<'_> {
    fn judge(&self, unreadable: Option<&VaultError>) -> (State, String) {
        if let Some(error) = unreadable {
            return (State::Failed, self.unreadable(error));
        }
        if self.is_moved && self.profile.grant.is_interactive() {
            let text = format!(
                "The URL, the client id or the tenant of profiles.{} changed since somebody signed in. Run: {}",
                self.profile.name,
                sign_in_command(self.account)
            );
            return (State::SignedOut, text);
        }
        let trouble = self.trouble();
        if let Some(failure) = self.kept.and_then(|record| record.failure.as_ref())
            && trouble.is_none_or(|trouble| self.age_secs(trouble.at) >= TROUBLE_SECS)
        {
            return (State::Failed, self.failed(failure));
        }
        if let Some(text) = self.credential_ended() {
            return (State::Failed, text);
        }
        let signed_in = self.has_refresh_token() || self.has_access_token();
        if self.profile.grant.is_interactive() && !signed_in {
            let text = format!(
                "Nobody is signed in. Run: {}",
                sign_in_command(self.account)
            );
            return (State::SignedOut, text);
        }
        if let Some(at) = self.refresh_expires().filter(|at| *at <= self.now) {
            let text = format!(
                "The sign-in ended on {}. Run: {}",
                day(at),
                sign_in_command(self.account)
            );
            return (State::Failed, text);
        }
        let (state, text) = self.ahead();
        match trouble {
            Some(trouble) => (state, self.failed(trouble)),
            None => (state, text),
        }
    }

    /// Returns a failure that may be temporary.
    fn trouble(&self) -> Option<&Failure> {
        let failure = self.kept?.failure.as_ref()?;
        matches!(failure.cause, Cause::Transient(_)).then_some(failure)
    }

    fn age_secs(&self, at: Timestamp) -> i64 {
        self.now.duration_since(at).as_secs()
    }

    /// Returns the next expiry.
    fn ahead(&self) -> (State, String) {
        let mut ends = self.ends();
        ends.sort_by_key(|end| end.at);
        let near: Vec<String> = ends
            .iter()
            .filter(|end| end.is_near)
            .map(|end| self.told(end))
            .collect();
        if !near.is_empty() {
            return (State::Expiring, near.join(" "));
        }
        if let Some(since) = self.interrupted_since() {
            let text = format!(
                "A refresh that began at {since:.0} was interrupted. Should the next one be refused, its result was lost. Run then: {}",
                sign_in_command(self.account)
            );
            return (State::Ok, text);
        }
        if let Some(at) = self.unrenewed_since() {
            let text = format!(
                "No token since {at:.0}: the service is not running, or does not use this account."
            );
            return (State::Ok, text);
        }
        let next = ends
            .first()
            .map(|end| format!("Next: {} on {}.", end.what, day(end.at)));
        if self.is_untried() {
            let untried = format!(
                "No token was obtained yet; the service requests one when it needs it. To try now, run: {}",
                sign_in_command(self.account)
            );
            let text = next.map_or(untried.clone(), |next| format!("{untried}. {next}"));
            return (State::Untried, text);
        }
        (State::Ok, next.unwrap_or_default())
    }

    /// Returns whether an account that needs no person never had a token, so that nobody knows whether it works.
    fn is_untried(&self) -> bool {
        let refreshed = self
            .kept
            .is_some_and(|record| record.last_refresh.is_some());
        !self.profile.grant.is_interactive() && !refreshed && !self.has_access_token()
    }

    fn ends(&self) -> Vec<End> {
        let mut ends = Vec::new();
        if let Some(at) = secret_expires(self.profile) {
            if self.works_beyond(day(at)) {
                ends.push(End {
                    at,
                    what: format!(
                        "according to profiles.{}.secret_expires the client secret expired",
                        self.profile.name
                    ),
                    cure: "it still works: write the date of the new one".into(),
                    is_near: true,
                });
            } else {
                ends.push(End {
                    at,
                    what: format!("{} ends", credential_name(self.profile)),
                    cure: renewal(self.profile),
                    is_near: step(day(self.now), day(at), NOTICE_DAYS).is_some(),
                });
            }
        }
        if let Some(at) = self.refresh_expires()
            && self.refresh_is_near(at)
        {
            ends.push(End {
                at,
                what: "the sign-in expires unless it is used".into(),
                cure: format!(
                    "let the service run, or sign in again: {}",
                    sign_in_command(self.account)
                ),
                is_near: true,
            });
        }
        if self.profile.grant.is_interactive()
            && !self.has_refresh_token()
            && let Some(at) = self.access_expires()
        {
            ends.push(End {
                at,
                what: "the server returned no refresh token, and the sign-in expires".into(),
                cure: format!(
                    "make profiles.{} request one (most servers require the scope offline_access), and sign in again",
                    self.profile.name
                ),
                is_near: true,
            });
        }
        if names_ews_online(self.scopes) {
            let concerned = KNOWN_DATES
                .iter()
                .filter(|known| known.concerns == Concern::ExchangeOnlineEws);
            for known in concerned {
                let at = start_of(known.date);
                // An admin may have extended it beyond this day, so only a date in the future counts.
                if at > self.now {
                    ends.push(End {
                        at,
                        what: known.what.to_owned(),
                        cure: known.cure.to_owned(),
                        is_near: step(day(self.now), known.date, NOTICE_DAYS).is_some(),
                    });
                }
            }
        }
        ends
    }

    fn told(&self, end: &End) -> String {
        format!(
            "{} on {} ({}): {}.",
            capitalized(&end.what),
            day(end.at),
            distance(day(self.now), day(end.at)),
            end.cure
        )
    }

    fn unreadable(&self, error: &VaultError) -> String {
        if !self.profile.grant.is_interactive() {
            return format!("{error}. A new token is requested automatically when needed.");
        }
        let error = AuthError::Vault {
            account: self.account.clone(),
            source: error.clone(),
        };
        let advice = advise(&error, Some(self.profile));
        format!(
            "{error}. {} Run: {}",
            advice.text,
            sign_in_command(self.account)
        )
    }

    fn failed(&self, failure: &Failure) -> String {
        let error = failure.error(self.account);
        let mut text = advise(&error, Some(self.profile)).text;
        if failure.answer_lost {
            text.insert_str(0, ANSWER_LOST);
        }
        let raw = match &failure.cause {
            Cause::Refused(refusal) => {
                if remedy(refusal, &self.profile.grant) == Remedy::SignIn {
                    text.push_str(" Run: ");
                    text.push_str(&sign_in_command(self.account));
                }
                raw(refusal)
            }
            Cause::Nonsense(reason) | Cause::Unusable(reason) | Cause::Transient(reason) => {
                reason.clone()
            }
        };
        format!("{text} ({raw}, since {:.0})", failure.at)
    }

    /// Returns a credential whose day has passed, unless the server accepted it later.
    fn credential_ended(&self) -> Option<String> {
        let at = secret_expires(self.profile)?;
        let ended = match self.profile.client {
            ClientCredential::Certificate(_) => at <= self.now,
            // For a secret only the day is known: it counts as valid until that day is over.
            _ => day(at) < day(self.now),
        };
        (ended && !self.works_beyond(day(at))).then(|| {
            format!(
                "{} ended on {}: {}.",
                capitalized(credential_name(self.profile)),
                day(at),
                renewal(self.profile)
            )
        })
    }

    /// Returns whether the server issued a token after the day on which the secret should have expired.
    fn works_beyond(&self, end: Date) -> bool {
        let last = self.kept.and_then(|record| record.last_refresh);
        let is_secret = matches!(self.profile.client, ClientCredential::Secret { .. });
        is_secret && end < day(self.now) && last.is_some_and(|last| day(last) > end)
    }

    fn has_refresh_token(&self) -> bool {
        self.kept
            .is_some_and(|record| record.refresh_token.is_some())
    }

    fn has_access_token(&self) -> bool {
        self.access_expires().is_some_and(|at| at > self.now)
    }

    /// Returns the expiry of the newest access token.
    fn access_expires(&self) -> Option<Timestamp> {
        self.kept?.access.iter().map(|access| access.expires).max()
    }

    fn refresh_expires(&self) -> Option<Timestamp> {
        let record = self.kept?;
        record.refresh_token.as_ref()?;
        record.refresh_expires.or_else(|| {
            let days = self.profile.provider.refresh_days()?;
            let hours = Span::new().try_hours(days * 24).ok()?;
            record.last_refresh?.checked_add(hours).ok()
        })
    }

    /// Returns whether a refresh token is close to its expiry. If each use renews it, it is close once two thirds of its
    /// life have passed unused, but at most the first step ahead.
    fn refresh_is_near(&self, at: Timestamp) -> bool {
        let in_notice = step(day(self.now), day(at), NOTICE_DAYS).is_some();
        if self.profile.provider == Provider::Google {
            // Google states a lifetime only for tokens that no use renews.
            return in_notice;
        }
        let last = self.kept.and_then(|record| record.last_refresh);
        let life = last.map(|last| at.duration_since(last));
        in_notice && life.is_none_or(|life| at.duration_since(self.now) * 3 <= life * 2)
    }

    /// Returns when the last token expired, if a running service would have renewed it long ago.
    fn unrenewed_since(&self) -> Option<Timestamp> {
        let at = self.access_expires()?;
        let is_long_ago = self.age_secs(at) >= TROUBLE_SECS;
        (is_long_ago && !self.profile.grant.is_interactive()).then_some(at)
    }

    fn interrupted_since(&self) -> Option<Timestamp> {
        let since = self.kept?.refreshing_since?;
        (self.age_secs(since) >= INTERRUPTED_SECS).then_some(since)
    }
}

fn concerned(known: &KnownDate, watched: &Watched) -> Vec<About> {
    match known.concerns {
        Concern::ExchangeOnlineEws => watched
            .profiles
            .iter()
            .filter(|profile| uses_ews_online(profile, watched.accounts))
            .map(|profile| About::Profile(profile.name.clone()))
            .collect(),
        Concern::ExchangeOnlineSmtpPassword => watched
            .submissions
            .iter()
            .filter(|submission| is_exchange_online(submission.host))
            .map(|submission| About::Outgoing(submission.name.to_owned()))
            .collect(),
    }
}

fn credential_notice(profile: &Profile, today: Date) -> Option<Notice> {
    let date = profile.credential_expires()?;
    let step_days = step(today, date, NOTICE_DAYS)?;
    let key = match profile.client {
        ClientCredential::Certificate(_) => "certificate",
        _ => "secret_expires",
    };
    let verb = if date < today { "ended" } else { "ends" };
    Some(Notice {
        about: About::Credential(profile.name.clone()),
        key: format!("profiles.{}.{key}", profile.name),
        message: format!("{} {verb} on {date}", credential_name(profile)),
        cure: renewal(profile),
        date,
        step_days,
    })
}

fn credential_name(profile: &Profile) -> &'static str {
    match profile.client {
        ClientCredential::Certificate(_) => "the certificate",
        _ => "the client secret",
    }
}

fn renewal(profile: &Profile) -> String {
    let name = &profile.name;
    match profile.client {
        ClientCredential::Certificate(_) => format!(
            "create a new certificate, upload its public part to the provider, and store it where profiles.{name}.certificate points"
        ),
        _ => format!(
            "create a new secret at the provider, keep the old one in profiles.{name}.previous_client_secret while both are valid, and write the new date to secret_expires"
        ),
    }
}

/// Returns the time from which the secret or certificate may be refused.
fn secret_expires(profile: &Profile) -> Option<Timestamp> {
    match &profile.client {
        ClientCredential::Certificate(certificate) => Some(certificate.not_after()),
        _ => profile.credential_expires().map(start_of),
    }
}

/// Returns whether a profile gets tokens for EWS of a Microsoft cloud.
fn uses_ews_online(profile: &Profile, accounts: &[AccountUse]) -> bool {
    let needs_ews = accounts
        .iter()
        .any(|usage| usage.account.profile == profile.name && usage.needs.contains(&Need::Ews));
    let at_microsoft = matches!(profile.provider, Provider::Microsoft(_));
    (at_microsoft && needs_ews) || profile.scopes.as_deref().is_some_and(names_ews_online)
}

fn names_ews_online(scopes: &[String]) -> bool {
    scopes.iter().any(|scope| {
        let Some((server, permission)) = scope.rsplit_once('/') else {
            return false;
        };
        let host = server.split("://").last().unwrap_or(server);
        (permission.starts_with("EWS.") || permission == "full_access_as_app")
            && is_exchange_online(host)
    })
}

/// Returns whether a host belongs to Exchange Online, in any of Microsoft's clouds.
fn is_exchange_online(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let host = host.trim_end_matches(['.', '/']);
    CLOUDS.iter().any(|cloud| {
        let known = [cloud.mail_host, cloud.smtp_host, cloud.delegated_mail_host];
        // A cloud has more server names than are listed here; all names of its domain belong to it.
        known.iter().any(|known| {
            *known == host
                || known
                    .split_once('.')
                    .is_some_and(|(_, domain)| host.ends_with(&format!(".{domain}")))
        })
    })
}

/// Returns the smallest step reached; 0 once the day has passed, `None` while the day is further away than all steps.
fn step(today: Date, end: Date, steps: &[i64]) -> Option<i64> {
    let left = days_between(today, end);
    if left < 0 {
        return Some(0);
    }
    steps.iter().copied().filter(|step| left <= *step).min()
}

fn days_between(from: Date, to: Date) -> i64 {
    from.until((Unit::Day, to))
        .map_or(0, |span| i64::from(span.get_days()))
}

fn distance(today: Date, end: Date) -> String {
    match days_between(today, end) {
        0 => "today".into(),
        1 => "tomorrow".into(),
        days if days > 0 => format!("in {days} days"),
        -1 => "yesterday".into(),
        days => format!("{} days ago", -days),
    }
}

/// Returns the refusal's codes without the server's text.
fn raw(refusal: &ServerRefusal) -> String {
    let mut text = refusal.error.clone();
    for code in &refusal.codes {
        text.push_str(&format!(" AADSTS{code}"));
    }
    if let Some(id) = &refusal.correlation_id {
        text.push_str(&format!(", correlation id {id}"));
    }
    text
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

fn start_of(date: Date) -> Timestamp {
    date.to_zoned(TimeZone::UTC)
        .map_or(Timestamp::MAX, |zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests;
