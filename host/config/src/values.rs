//! The kinds of values in a configuration: sizes, durations, addresses, hosts, secrets.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::civil::Date;
use postroom_auth::Secret;
use postroom_core::Address;
use postroom_files::Unread;
use postroom_net::is_loopback;
use toml::de::DeValue;
use url::{Host, Url};

use super::problem::Ready;
use super::reader::{Item, Section};

const SECRET_CURE: &str = "write { env = \"NAME\" } or { file = \"path\" }";
const DOCUMENT_CURE: &str = "write { file = \"path\" } or { env = \"NAME\" }";
/// The largest secret file that is read.
const MAX_SECRET_BYTES: u64 = 64 << 10;
/// The longest name of a tenant, mailbox, profile, outgoing or sink.
const MAX_NAME_CHARS: usize = 64;

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];
const DURATION_UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

impl Item<'_> {
    /// Returns a size in bytes: `"64MiB"`, or a number of bytes.
    pub fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let bytes = match self.value() {
            DeValue::String(text) => {
                let bytes = with_unit(text, SIZE_UNITS);
                if bytes.is_none() {
                    self.problem(
                        format!("\"{text}\" is not a size"),
                        "write a number directly followed by a unit, such as \"512KiB\", \"64MiB\" or \"1GiB\"",
                    );
                }
                bytes?
            }
            DeValue::Integer(_) => return self.integer(range),
            _ => {
                self.wrong_type("a size", "write it in quotes, such as \"64MiB\"");
                return None;
            }
        };
        if !range.contains(&bytes) {
            self.problem(
                "is out of range",
                format!(
                    "write a size from {} to {}",
                    shown(*range.start(), &SIZE_UNITS[..4]),
                    shown(*range.end(), &SIZE_UNITS[..4])
                ),
            );
            return None;
        }
        Some(bytes)
    }

    /// Returns a duration with its unit: `"250ms"`, `"2m"`, `"90d"`.
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let Some(text) = self.value().as_str() else {
            self.wrong_type("a duration", "write it with its unit, such as \"2m\"");
            return None;
        };
        let Some(duration) = duration_of(text) else {
            self.problem(
                format!("\"{text}\" is not a duration"),
                "write an integer directly followed by ms, s, m, h or d, such as \"250ms\" or \"2m\"",
            );
            return None;
        };
        if !range.contains(&duration) {
            let bound = |d: &Duration| shown(d.as_millis() as u64, DURATION_UNITS);
            self.problem(
                "is out of range",
                format!(
                    "write a duration from {} to {}",
                    bound(range.start()),
                    bound(range.end())
                ),
            );
            return None;
        }
        Some(duration)
    }

    /// Returns a day: `2027-05-01`, with or without quotes.
    pub fn date(&self) -> Option<Date> {
        let date = match self.value() {
            DeValue::String(text) => text.parse().ok(),
            DeValue::Datetime(at) if at.time.is_none() && at.offset.is_none() => {
                at.to_string().parse().ok()
            }
            _ => None,
        };
        if date.is_none() {
            self.problem("is not a date", "write year-month-day, such as 2027-05-01");
        }
        date
    }

    /// Returns a path, joined to the configuration's folder.
    pub fn path(&self) -> Option<PathBuf> {
        Some(self.reader.dir.join(self.text()?))
    }

    /// Returns a host name or address, without scheme or port.
    pub fn host(&self) -> Option<String> {
        let text = self.text()?;
        if let Some((_, rest)) = text.split_once("://") {
            let host = rest.split(['/', ':']).next().unwrap_or_default();
            self.problem(
                format!("\"{text}\" is a URL, not a host"),
                format!("write \"{host}\""),
            );
            return None;
        }
        if text.parse::<IpAddr>().is_ok() {
            return Some(text.into());
        }
        if let Some((host, port)) = text.rsplit_once(':') {
            self.problem(
                format!("\"{text}\" carries a port"),
                format!("write host = \"{host}\" and port = {port}"),
            );
            return None;
        }
        if Host::parse(text).is_err() || !is_host_name(text) {
            self.problem(
                format!("\"{text}\" is not a host name"),
                "write a name such as \"imap.example.com\", or an IP address",
            );
            return None;
        }
        Some(text.to_lowercase())
    }

    pub fn port(&self) -> Option<u16> {
        self.integer(1..=u64::from(u16::MAX))
            .map(|port| port as u16)
    }

    /// Returns a bare mailbox address, its domain in lower case.
    pub fn address(&self) -> Option<String> {
        let text = self.text()?;
        let address = bare_address(text.trim());
        if address.is_none() {
            self.problem(
                format!("\"{text}\" is not a mail address"),
                "write it as \"support@acme.example\"",
            );
        }
        address
    }

    /// Returns an address with or without a display name: `Acme Support <support@acme.example>`.
    pub fn named_address(&self) -> Option<Address> {
        let text = self.text()?.trim();
        let address = match text.strip_suffix('>').and_then(|t| t.rsplit_once('<')) {
            Some((name, email)) => {
                let name = name.trim().trim_matches('"').trim();
                let sound = !name.contains(['<', '>', '"']) && !name.contains(char::is_control);
                bare_address(email).filter(|_| sound).map(|email| Address {
                    name: (!name.is_empty()).then(|| name.to_owned()),
                    email,
                })
            }
            None => bare_address(text).map(|email| Address { name: None, email }),
        };
        if address.is_none() {
            self.problem(
                format!("\"{text}\" is not a mail address"),
                "write it as \"support@acme.example\" or \"Acme Support <support@acme.example>\"",
            );
        }
        address
    }

    /// Returns a domain name, in lower case.
    pub fn domain(&self) -> Option<String> {
        let text = self.text()?;
        let domain = text.strip_prefix('@').unwrap_or(text).to_lowercase();
        if !is_host_name(&domain) || text.starts_with('@') {
            let cure = if is_host_name(&domain) {
                format!("write \"{domain}\"")
            } else {
                "write it as \"acme.example\"".into()
            };
            self.problem(format!("\"{text}\" is not a domain"), cure);
            return None;
        }
        Some(domain)
    }

    /// Returns an https URL, or http to this machine only, so that no token or mail crosses a network in clear text.
    pub fn url(&self) -> Option<Url> {
        let text = self.text()?;
        let Ok(url) = Url::parse(text) else {
            self.problem("is not a URL", "write the full URL, with https://");
            return None;
        };
        let local = url.host_str().is_some_and(is_loopback);
        match url.scheme() {
            _ if !url.username().is_empty() || url.password().is_some() => {
                self.problem(
                    "contains a user or password in clear text",
                    "write the URL without them",
                );
                None
            }
            "https" => Some(url),
            "http" if local => Some(url),
            "http" => {
                self.problem(
                    "is http, which others on the network can read",
                    "write https://; http is for this machine only (localhost, 127.0.0.1)",
                );
                None
            }
            scheme => {
                self.problem(
                    format!("has the scheme {scheme}"),
                    "write a URL that starts with https://",
                );
                None
            }
        }
    }

    /// Returns a secret that is stored elsewhere: `{ env = "NAME" }` or `{ file = "path" }`. No message contains any of it.
    /// `None` means that a problem was reported; a missing secret is not a problem of the file.
    pub fn secret(&self) -> Option<Ready<Secret>> {
        if self.value().is_str() {
            self.problem("is a secret in clear text", SECRET_CURE);
            return None;
        }
        if !self.value().is_table() {
            self.wrong_type("{ env = … } or { file = … }", SECRET_CURE);
            return None;
        }
        let section = self.section("a secret")?;
        section.later(&["vault"]);
        let secret = match (section.item("env"), section.item("file")) {
            (Some(name), None) => name.secret_of_environment(),
            (None, Some(path)) => path.secret_of_file(),
            (Some(_), Some(file)) => {
                file.problem("cannot be combined with env", "keep one of env and file");
                None
            }
            (None, None) => {
                if !self.has("vault") {
                    self.problem("names neither env nor file", SECRET_CURE);
                }
                None
            }
        };
        section.finish();
        secret
    }

    /// Returns a whole document with a key in it, such as a PEM file: `{ file = "path" }` or `{ env = "NAME" }`.
    pub fn document(&self) -> Option<Ready<Secret>> {
        if self.value().is_str() {
            self.wrong_type("{ file = … } or { env = … }", DOCUMENT_CURE);
            return None;
        }
        self.secret()
    }

    /// Returns the value of an environment variable that this item names.
    pub fn secret_of_environment(&self) -> Option<Ready<Secret>> {
        let name = self.text()?;
        Some(self.in_environment(name))
    }

    fn in_environment(&self, name: &str) -> Ready<Secret> {
        let is_name = |name: &str| {
            let mut bytes = name.bytes();
            bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && !name.starts_with(|c: char| c.is_ascii_digit())
        };
        // What is no name may be the secret itself.
        if !is_name(name) {
            return Err(self.unavailable(
                "is not the name of an environment variable",
                "write the variable's name, such as { env = \"CONTOSO_SECRET\" }, and put the secret into the variable",
            ));
        }
        let value = (self.reader.environment)(name).ok_or_else(|| {
            self.unavailable(
                format!("the environment variable {name} is not set"),
                format!("set {name} where postroom runs, or use {{ file = \"path\" }}"),
            )
        })?;
        let value = value.into_string().map_err(|_| {
            self.unavailable(
                format!("the environment variable {name} is not UTF-8 text"),
                format!("set {name} to the secret as text"),
            )
        })?;
        let value = value.trim_end_matches(['\r', '\n']);
        if value.is_empty() {
            return Err(self.unavailable(
                format!("the environment variable {name} is empty"),
                format!("set {name} to the secret"),
            ));
        }
        Ok(Secret::new(value))
    }

    fn secret_of_file(&self) -> Option<Ready<Secret>> {
        let (name, path) = (self.text()?, self.path()?);
        Some(self.in_file(name, &path))
    }

    fn in_file(&self, name: &str, path: &Path) -> Ready<Secret> {
        let value = read_limited(path, MAX_SECRET_BYTES).map_err(|reason| {
            self.unavailable(
                format!("the secret file {name} {reason}"),
                "put the secret, and nothing else, into that file, readable by postroom",
            )
        })?;
        let value = value.trim_end_matches(['\r', '\n']);
        if value.is_empty() {
            return Err(self.unavailable(
                format!("the secret file {name} is empty"),
                "put the secret into it",
            ));
        }
        Ok(Secret::new(value))
    }

    /// Returns any value as JSON; dates become strings.
    pub fn json(&self) -> Option<serde_json::Value> {
        use serde_json::Value;
        Some(match self.value() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(flag) => Value::Bool(*flag),
            DeValue::Datetime(at) => Value::String(at.to_string()),
            DeValue::Integer(integer) => {
                let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
                if number.is_none() {
                    self.problem(
                        format!("{integer} is too large for an integer"),
                        "write it in quotes, or smaller",
                    );
                }
                Value::Number(number?.into())
            }
            DeValue::Float(float) => {
                let number = float.as_str().parse().ok();
                let number = number.and_then(serde_json::Number::from_f64);
                if number.is_none() {
                    self.problem(format!("{float} has no JSON form"), "write a finite number");
                }
                Value::Number(number?)
            }
            DeValue::Array(_) => {
                let items: Vec<_> = self.list()?.iter().map(Item::json).collect();
                Value::Array(items.into_iter().collect::<Option<_>>()?)
            }
            DeValue::Table(_) => {
                let entries = self.section("settings")?.entries();
                let entries: Vec<_> = entries
                    .into_iter()
                    .map(|(name, item)| Some((name.to_owned(), item.json()?)))
                    .collect();
                Value::Object(entries.into_iter().collect::<Option<_>>()?)
            }
        })
    }

    /// Returns every element of an array, read by `read`; problems in one do not hide those of the next. Refuses an empty
    /// array and one with duplicates.
    pub fn each<T: PartialEq>(&self, read: impl Fn(&Item) -> Option<T>) -> Option<Vec<T>> {
        let items = self.list()?;
        if items.is_empty() {
            self.problem("is empty", "name at least one, or remove the key");
            return None;
        }
        let mut values = Vec::with_capacity(items.len());
        let mut sound = true;
        for item in &items {
            match read(item) {
                Some(value) if values.contains(&value) => {
                    item.problem("is listed twice", "remove one of the two");
                    sound = false;
                }
                Some(value) => values.push(value),
                None => sound = false,
            }
        }
        sound.then_some(values)
    }
}

impl<'r> Item<'r> {
    /// Returns every entry of a table whose keys are names, if the names are valid.
    pub fn named(&self, what: &'static str) -> Vec<(&'r str, Item<'r>)> {
        if !self.value().is_table() {
            let cure = format!("write [{}.NAME] above the keys of each one", self.path);
            self.wrong_type("tables by their names", &cure);
            return Vec::new();
        }
        let Some(section) = self.section(what) else {
            return Vec::new();
        };
        let mut entries = section.entries();
        entries.retain(|(name, item)| {
            let sound = !name.is_empty()
                && name.chars().count() <= MAX_NAME_CHARS
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
            if !sound {
                item.problem(
                    format!("is no name for {what}"),
                    format!(
                        "use letters, digits, \"-\", \"_\" and \".\", {MAX_NAME_CHARS} at most"
                    ),
                );
            }
            sound
        });
        entries
    }
}

/// Returns the value of an optional key: the outer `None` means that a problem was reported, the inner one that the key is
/// absent.
pub fn optional<'r, T>(
    section: &Section<'r>,
    key: &'static str,
    read: impl Fn(&Item<'r>) -> Option<T>,
) -> Option<Option<T>> {
    match section.item(key) {
        Some(item) => read(&item).map(Some),
        None => Some(None),
    }
}

/// Returns the text of a file that should be small; the error finishes the sentence "the file … ".
pub fn read_limited(path: &Path, max_bytes: u64) -> Result<String, String> {
    text_of(path, max_bytes, postroom_files::read(path, max_bytes))
}

/// Returns the same for a file that must be in a folder, wherever its symbolic links lead.
pub fn read_limited_inside(folder: &Path, name: &str, max_bytes: u64) -> Result<String, String> {
    let path = folder.join(name);
    text_of(
        &path,
        max_bytes,
        postroom_files::read_within(folder, &path, max_bytes),
    )
}

/// Returns the same for the file that a command line names.
pub fn read_argument(path: &Path, max_bytes: u64) -> Result<String, String> {
    text_of(
        path,
        max_bytes,
        postroom_files::read_argument(path, max_bytes),
    )
}

fn text_of(path: &Path, max_bytes: u64, read: Result<Vec<u8>, Unread>) -> Result<String, String> {
    match read {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".into()),
        Err(Unread::TooLarge(_)) => Err(format!("is over {max_bytes} bytes")),
        Err(Unread::NoFile) if path.is_dir() => Err("is a folder".into()),
        Err(unread) => Err(unread.to_string()),
    }
}

/// Parses a duration as the configuration and the command line write it: an integer directly followed by one of the units.
pub fn duration_of(text: &str) -> Option<Duration> {
    with_unit(text, DURATION_UNITS).map(Duration::from_millis)
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Returns a number in the largest unit that divides it.
fn shown(number: u64, units: &[(&str, u64)]) -> String {
    let unit = units
        .iter()
        .rfind(|(_, factor)| number > 0 && number.is_multiple_of(*factor));
    let (name, factor) = unit.unwrap_or(&units[0]);
    format!("\"{}{name}\"", number / factor)
}

fn bare_address(text: &str) -> Option<String> {
    let (local, domain) = text.rsplit_once('@')?;
    let local_sound = !local.is_empty()
        && local
            .chars()
            .all(|c| !c.is_whitespace() && !c.is_control() && !"<>()[]\\,;:@\"".contains(c));
    (local_sound && is_host_name(domain)).then(|| format!("{local}@{}", domain.to_lowercase()))
}

/// Returns whether a text consists of labels of letters, digits, hyphens and underscores; other scripts are letters too
/// (RFC 5890).
pub(crate) fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .chars()
                    .all(|c| c.is_alphanumeric() || c == '-' || c == '_')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_with_their_units() {
        for (text, bytes) in [("64MiB", 64 << 20), ("1GiB", 1 << 30), ("5kB", 5000)] {
            assert_eq!(with_unit(text, SIZE_UNITS), Some(bytes), "{text}");
        }
        for (text, millis) in [("250ms", 250), ("2m", 120_000), ("90d", 7_776_000_000)] {
            assert_eq!(with_unit(text, DURATION_UNITS), Some(millis), "{text}");
        }
        for text in [
            "",
            "2",
            "m",
            "-2m",
            "2.5m",
            "2m30s",
            "30 s",
            " 30s",
            "30s ",
            "2M",
            "99999999999999999999d",
        ] {
            assert_eq!(with_unit(text, DURATION_UNITS), None, "{text}");
        }
        assert_eq!(shown(64 << 20, &SIZE_UNITS[..4]), "\"64MiB\"");
        assert_eq!(shown(0, DURATION_UNITS), "\"0ms\"");
    }

    #[test]
    fn addresses_are_told_from_what_only_looks_like_one() {
        assert_eq!(
            bare_address("Help+1@ACME.Example").as_deref(),
            Some("Help+1@acme.example")
        );
        for text in [
            "", "@", "a@", "@b", "a b@c", "a@b@c", "a@b..c", "a@-b", "<a@b>",
        ] {
            assert_eq!(bare_address(text), None, "{text}");
        }
    }
}
