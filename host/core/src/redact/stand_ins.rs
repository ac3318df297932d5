//! Stand-ins: equal values always get equal stand-ins, different values different ones.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr};

use regex::Regex;

use crate::classify::{is_no_reply, is_program, is_zabbix_event};

/// Local parts that name a function, not a person.
const ROLES: &[&str] = &[
    "abuse",
    "accounts",
    "admin",
    "administrator",
    "alert",
    "alerts",
    "backup",
    "backups",
    "billing",
    "bounce",
    "bounces",
    "contact",
    "fax",
    "help",
    "helpdesk",
    "hello",
    "hostmaster",
    "info",
    "invoice",
    "invoices",
    "it",
    "mail",
    "mail-daemon",
    "mailer-daemon",
    "mailerdaemon",
    "monitor",
    "monitoring",
    "notification",
    "notifications",
    "notify",
    "office",
    "postmaster",
    "root",
    "sales",
    "scanner",
    "service",
    "support",
    "system",
    "ticket",
    "tickets",
    "voicemail",
    "webmaster",
];
/// Host labels that do not reveal the owner of the host.
const COMMON_LABELS: &[&str] = &[
    "api",
    "app",
    "autodiscover",
    "cdn",
    "cloud",
    "ftp",
    "imap",
    "mail",
    "mx",
    "ns",
    "portal",
    "smtp",
    "support",
    "vpn",
    "www",
];
/// Second-level labels below which country domains are registered.
const SECOND_LEVEL: &[&str] = &[
    "ac", "co", "com", "edu", "gov", "gv", "ne", "net", "or", "org",
];
/// The stand-ins of the first domains (RFC 2606); the others are numbered.
const DOMAINS: &[&str] = &["example.org", "example.net", "example.com"];
/// The documentation networks of RFC 5737.
const NETWORKS: [[u8; 3]; 3] = [[192, 0, 2], [198, 51, 100], [203, 0, 113]];

/// Numbers different texts from 1, in order of occurrence.
#[derive(Debug, Default)]
pub(super) struct Numbered(HashMap<String, usize>);

impl Numbered {
    pub(super) fn of(&mut self, text: &str) -> usize {
        if let Some(known) = self.0.get(text) {
            return *known;
        }
        let next = self.0.len() + 1;
        self.0.insert(text.to_owned(), next);
        next
    }

    pub(super) fn knows(&self, text: &str) -> bool {
        self.0.contains_key(text)
    }
}

#[derive(Debug, Default)]
pub(super) struct StandIns {
    /// Domains that are not redacted, in lower case.
    kept: Vec<String>,
    bases: Numbered,
    labels: Numbered,
    people: Numbered,
    /// The people, by the local parts of their addresses.
    locals: BTreeMap<String, usize>,
    ids: Numbered,
    names: Numbered,
    secrets: Numbered,
    values: Numbered,
    numbers: Numbered,
    tokens: Numbered,
    v4: Numbered,
    v6: Numbered,
}

impl StandIns {
    pub(super) fn keeping(domains: &[String]) -> Self {
        Self {
            kept: domains.iter().map(|it| it.to_ascii_lowercase()).collect(),
            ..Self::default()
        }
    }

    /// Returns the stand-in of an address, `local@domain`; a Message-ID that occurred as such keeps its own stand-in.
    pub(super) fn email(&mut self, local: &str, domain: &str) -> String {
        let whole = format!("{}@{}", local.to_lowercase(), domain.to_lowercase());
        if self.ids.knows(&whole) {
            return self.message_id(&whole);
        }
        if self.keeps(&domain.to_ascii_lowercase()) {
            return format!("{local}@{domain}");
        }
        let host = self.host(domain);
        if names_function(local) {
            format!("{local}@{host}")
        } else if is_no_reply(&whole) {
            format!("noreply@{host}")
        } else {
            let person = self.people.of(&whole);
            self.locals.entry(local.to_lowercase()).or_insert(person);
            format!("person{person}@{host}")
        }
    }

    /// Returns the local parts of people's addresses that occurred, in lower case.
    pub(super) fn locals(&self) -> impl ExactSizeIterator<Item = &str> {
        self.locals.keys().map(String::as_str)
    }

    /// Returns the person that a bare local part refers to. Some programs write `_` in place of its dots.
    pub(super) fn person(&self, local: &str) -> Option<String> {
        let local = local.to_lowercase();
        let dotted = || local.replace('_', ".");
        let person = self
            .locals
            .get(&local)
            .or_else(|| self.locals.get(&dotted()));
        person.map(|person| format!("person{person}"))
    }

    /// Returns the stand-in of a user account, which is that of the person with this local part; the account of a function stays.
    pub(super) fn account(&mut self, user: &str) -> String {
        if names_function(user) {
            return user.to_owned();
        }
        let user = user.to_lowercase();
        let person = match self.locals.get(&user) {
            Some(person) => *person,
            None => {
                let person = self.people.of(&user);
                self.locals.insert(user, person);
                person
            }
        };
        format!("person{person}")
    }

    /// Returns the stand-in of a Message-ID or Content-ID, without angle brackets. An id that marks a machine still marks
    /// one.
    pub(super) fn message_id(&mut self, id: &str) -> String {
        let id = id.to_lowercase();
        let number = self.ids.of(&id);
        if is_zabbix_event(&id) {
            return format!("{number}.{number:032x}.1.0@zabbix.com");
        }
        match id.rsplit_once('@') {
            Some((_, domain)) if is_host(domain) => format!("id{number}@{}", self.host(domain)),
            _ => format!("id{number}@id.example"),
        }
    }

    pub(super) fn host(&mut self, host: &str) -> String {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if host == "localhost" || self.keeps(&host) {
            return host;
        }
        if let Ok(address) = host.parse::<Ipv4Addr>() {
            return self.v4(address).to_string();
        }
        let labels: Vec<&str> = host.split('.').collect();
        if labels.len() == 1 {
            return self.label(&host);
        }
        let base = base_labels(&labels);
        let number = self.bases.of(&labels[labels.len() - base..].join("."));
        let stand_in = match DOMAINS.get(number - 1) {
            Some(domain) => (*domain).to_owned(),
            None => format!("client{number}.example"),
        };
        let below = &labels[..labels.len() - base];
        let mut out: Vec<String> = below.iter().map(|label| self.label(label)).collect();
        out.push(stand_in);
        out.join(".")
    }

    /// Returns whether a host's domain occurred in an address or a URL.
    pub(super) fn knows_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let labels: Vec<&str> = host.split('.').collect();
        let base = base_labels(&labels);
        labels.len() > 1 && self.bases.knows(&labels[labels.len() - base..].join("."))
    }

    pub(super) fn name(&mut self, word: &str) -> String {
        format!("Name{}", self.names.of(&word.to_lowercase()))
    }

    pub(super) fn secret(&mut self, secret: &str) -> String {
        format!("secret{}", self.secrets.of(secret))
    }

    /// Returns the secrets that occurred.
    pub(super) fn secrets(&self) -> impl ExactSizeIterator<Item = &str> {
        self.secrets.0.keys().map(String::as_str)
    }

    /// Returns the stand-in of a value in a URL's query.
    pub(super) fn value(&mut self, value: &str) -> String {
        format!("value{}", self.values.of(value))
    }

    /// Replaces the digits of a number one by one; its length and punctuation stay.
    pub(super) fn number(&mut self, written: &str) -> String {
        let digits: String = written.chars().filter(char::is_ascii_digit).collect();
        let number = self.numbers.of(&digits);
        let mut stand_in = counted(number, digits.len(), '1').into_iter();
        written
            .chars()
            .map(|c| match c.is_ascii_digit() {
                true => stand_in.next().unwrap_or('0'),
                false => c,
            })
            .collect()
    }

    /// Replaces a random-looking text, keeping its length and the positions of letters, digits and punctuation:
    /// `xxxx00xx1`.
    pub(super) fn token(&mut self, token: &str) -> String {
        let number = self.tokens.of(token).to_string();
        let hex = token
            .chars()
            .all(|c| c.is_ascii_hexdigit() || !c.is_ascii_alphanumeric());
        let (lower, upper) = if hex { ('a', 'A') } else { ('x', 'X') };
        let room = token.chars().filter(char::is_ascii_alphanumeric).count();
        let mut tail = number.chars().skip(number.len().saturating_sub(room));
        let mut before_tail = room.saturating_sub(number.len());
        token
            .chars()
            .map(|c| {
                if !c.is_ascii_alphanumeric() {
                    return c;
                }
                if before_tail == 0 {
                    return tail.next().unwrap_or('0');
                }
                before_tail -= 1;
                match c {
                    '0'..='9' => '0',
                    'A'..='Z' => upper,
                    _ => lower,
                }
            })
            .collect()
    }

    /// Returns an address of the documentation networks; an address that names no host stays unchanged.
    pub(super) fn v4(&mut self, address: Ipv4Addr) -> Ipv4Addr {
        let [first, ..] = address.octets();
        if address.is_loopback() || address.is_unspecified() || first == 255 {
            return address;
        }
        let number = self.v4.of(&address.to_string()) - 1;
        let [a, b, c] = NETWORKS[number / 254 % NETWORKS.len()];
        Ipv4Addr::new(a, b, c, u8::try_from(number % 254 + 1).unwrap_or(1))
    }

    /// Returns an address of the documentation prefix (RFC 3849).
    pub(super) fn v6(&mut self, address: Ipv6Addr) -> Ipv6Addr {
        if address.is_loopback() || address.is_unspecified() {
            return address;
        }
        let number = self.v6.of(&address.to_string());
        let (high, low) = (number >> 16 & 0xffff, number & 0xffff);
        let part = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, part(high), part(low))
    }

    fn label(&mut self, label: &str) -> String {
        if COMMON_LABELS.contains(&label) {
            return label.to_owned();
        }
        format!("h{}", self.labels.of(label))
    }

    pub(super) fn keeps(&self, host: &str) -> bool {
        self.kept.iter().any(|kept| {
            host.strip_suffix(kept.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

/// Returns a pattern that matches any of these texts, the longest first; `None` for no text, or for too many.
pub(super) fn any_of<'t>(texts: impl Iterator<Item = &'t str>) -> Option<Regex> {
    let mut texts: Vec<&str> = texts.collect();
    // If two texts have the same prefix, the longer one matches.
    texts.sort_by_key(|text| (std::cmp::Reverse(text.len()), *text));
    texts.dedup();
    let texts: Vec<String> = texts.iter().map(|text| regex::escape(text)).collect();
    Some(texts.join("|"))
        .filter(|pattern| !pattern.is_empty())
        .and_then(|pattern| Regex::new(&pattern).ok())
}

/// Returns `number` right-aligned in `width` places that begin with `first`; only its last digits if it is longer.
fn counted(number: usize, width: usize, first: char) -> Vec<char> {
    let mut out = vec!['0'; width];
    for (place, digit) in out.iter_mut().rev().zip(number.to_string().chars().rev()) {
        *place = digit;
    }
    if let Some(place) = out.first_mut() {
        *place = first;
    }
    out
}

/// Returns the number of trailing labels that form the registered domain.
fn base_labels(labels: &[&str]) -> usize {
    match labels {
        [.., _, second, country] if country.len() == 2 && SECOND_LEVEL.contains(second) => 3,
        _ => labels.len().min(2),
    }
}

/// Returns whether a local part names a function, not a person: `support`, `nagios`.
pub(super) fn names_function(local: &str) -> bool {
    ROLES.contains(&local.to_ascii_lowercase().as_str()) || is_program(local)
}

fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
}
