//! Finds private data in a text: addresses, hosts, numbers, secrets, names. Words of the language stay.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::{Redactor, stand_ins};

/// The fewest letters and digits of a token; with punctuation, the patterns require 20 characters.
const TOKEN_CHARS: usize = 16;
/// The fewest digits of a telephone number.
const PHONE_DIGITS: usize = 7;

/// Folders of homes that belong to no person.
const SHARED_HOMES: &[&str] = &["all users", "default", "public", "shared", "administrator"];
/// Domains of Windows accounts that belong to no person, and roots of the registry, which look like one.
const SYSTEM_DOMAINS: &[&str] = &[
    "AUTHORITY",
    "BUILTIN",
    "HKCR",
    "HKCU",
    "HKLM",
    "HKU",
    "HKEY",
    "SERVICE",
    "SOFTWARE",
    "SYSTEM",
];

/// The label before a secret. For a password, a few words may precede the colon.
const LABEL: &str = r"(?:(?:password|passwort|kennwort|passcode|wachtwoord|contraseña|mot de passe)(?:[ \t]+[^\s:=]+){0,3}|passphrase|passwd|pwd|pin|puk|psk|otp|token|secret|(?:client|shared)[ _-]secret|(?:api|access|license|licence|product|private|session)[ _-]?key)";

struct Patterns {
    url: Regex,
    www: Regex,
    labelled: Regex,
    label_at_end: Regex,
    told: Regex,
    bearer: Regex,
    email: Regex,
    named: Regex,
    home: Regex,
    account: Regex,
    mac: Regex,
    v6: Regex,
    v4: Regex,
    iban: Regex,
    token: Regex,
    run: Regex,
    phone: Regex,
    date: Regex,
    host: Regex,
    number: Regex,
    entity: Regex,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let pattern = |text: &str| Regex::new(text).expect("a pattern of ours is sound");
    Patterns {
        url: pattern(r#"(?i)\b[a-z][a-z0-9+.-]{1,15}://[^\s<>"'\\^`{|}]+"#),
        www: pattern(r"(?i)\bwww\.[a-z0-9.-]+[a-z0-9]"),
        labelled: pattern(&format!(
            r#"(?i)\b{LABEL}\b["')\]]?[ \t]*[:=][ \t]*(?:\r?\n[ \t]*)?(?:"([^"\n]+)"|'([^'\n]+)'|(\S+))"#
        )),
        label_at_end: pattern(&format!(
            r"(?i)(?:^\s*{LABEL}\s*$|\b{LABEL}\b[ \t]*[:=]\s*$)"
        )),
        told: pattern(
            r"(?i)\b(?:password|passwort|kennwort|passcode|wachtwoord|contraseña|mot de passe|pin|puk)[ \t]+(?:is|ist|lautet|est|es)[ \t]*:?[ \t]*(\S+)",
        ),
        bearer: pattern(r"(?i)\b(?:bearer|basic)[ \t]+([a-z0-9._~+/=-]{8,})"),
        email: pattern(
            r"(?i)([\p{L}\p{N}.!#$%&*+/=?^_~-]*[\p{L}\p{N}_+-])(@|%40)([\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)*)",
        ),
        // A name beside an address: `Ann Archer <ann@…>`, `"Archer, Ann" (ann@…)`, `Ann Archer [mailto:ann@…]`.
        named: pattern(
            r#"((?:\p{Lu}[\p{L}'’.-]*,?[ \t]+){0,3}\p{Lu}[\p{L}'’-]+)["'*]?[ \t]*(?:[<(\[]|&lt;)[ \t]*(?:mailto:)?([\p{L}\p{N}.!#$%&*+/=?^_~-]+)@([\p{L}\p{N}.-]+)"#,
        ),
        home: pattern(
            r#"(?i)(?:\b[a-z]:\\(?:users|benutzer|documents and settings)\\|(?:^|[\s"'=(])/(?:home|users)/)([^\\/\s"'<>|:,;)]+)"#,
        ),
        account: pattern(
            r#"(?:^|[\s"'(=,;<>])([A-Z][A-Z0-9-]{1,14})\\(\p{L}(?:[\p{L}\p{N}._-]*[\p{L}\p{N}_-])?)"#,
        ),
        mac: pattern(
            r"(?i)\b(?:(?:[0-9a-f]{2}:){5}[0-9a-f]{2}|(?:[0-9a-f]{2}-){5}[0-9a-f]{2}|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4})\b",
        ),
        v6: pattern(r"(?i)(?:[0-9a-f]{0,4}:){2,7}(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-f]{0,4})"),
        v4: pattern(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"),
        iban: pattern(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
        token: pattern(r"[A-Za-z0-9+/_=-]{20,}"),
        run: pattern(r"[A-Za-z0-9]{20,}"),
        phone: pattern(
            r"(?:\+|\b00)[0-9](?:[ ().\-/]{0,3}[0-9]){6,30}|\([0-9]{2,5}\)(?:[ .\-/]{0,2}[0-9]){4,10}|\b0[0-9]{1,4}[ \-/.](?:[ \-/.]?[0-9]){4,10}\b|\b(?:1[-. ])?[0-9]{3}[-. ][0-9]{3}[-. ][0-9]{4}\b|\b[0-9]{4}[ -][0-9]{6}[ -][0-9]{5}\b|\b[0-9]{4}(?:[ -][0-9]{4}){2,3}(?:[ -][0-9]{1,3})?\b",
        ),
        date: pattern(r"^[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}(?:[^0-9]|$)"),
        host: pattern(r"(?i)\b(?:[a-z0-9][a-z0-9-]*\.)+[a-z][a-z0-9-]*"),
        number: pattern(r"[0-9]{6,}"),
        entity: pattern(r"&(?:#([0-9]{1,7})|#[xX]([0-9a-fA-F]{1,6})|([A-Za-z]{3,8}));"),
    }
});

/// A piece of a text that is split up; finished pieces are not examined again.
enum Piece<'t> {
    Raw(&'t str),
    Done(String),
}

/// A replacement of a range of the text.
type Edit = (Range<usize>, String);

/// Applies the edits that `find` returns for each match in the pieces that are still raw.
fn pass<'t>(
    pieces: Vec<Piece<'t>>,
    pattern: &Regex,
    mut find: impl FnMut(&'t str, &Captures<'t>) -> Vec<Edit>,
) -> Vec<Piece<'t>> {
    let mut out = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let Piece::Raw(text) = piece else {
            out.push(piece);
            continue;
        };
        let mut at = 0;
        for captures in pattern.captures_iter(text) {
            for (range, stand_in) in find(text, &captures) {
                if at < range.start {
                    out.push(Piece::Raw(&text[at..range.start]));
                }
                at = range.end;
                out.push(Piece::Done(stand_in));
            }
        }
        if at < text.len() {
            out.push(Piece::Raw(&text[at..]));
        }
    }
    out
}

impl Redactor {
    /// Returns a text with stand-ins for all private data.
    pub fn text(&mut self, text: &str) -> String {
        let pieces = pass(vec![Piece::Raw(text)], &PATTERNS.url, |_, found| {
            let url = found[0].trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '*']);
            let start = found.get_match().start();
            vec![(start..start + url.len(), self.url(url))]
        });
        self.within(pieces)
    }

    /// Redacts HTML: its tags and the texts between them.
    pub(super) fn html(&mut self, html: &str) -> String {
        let mut out = String::with_capacity(html.len());
        let mut secret_next = false;
        for segment in Segments(html) {
            let segment = &*with_plain_characters(segment);
            if segment.starts_with('<') {
                out.push_str(&self.text(segment));
                continue;
            }
            let text = segment.trim();
            if secret_next && !text.is_empty() && !text.starts_with("&nbsp;") {
                let word = text.split_whitespace().next().unwrap_or_default();
                let secret = self.stand_ins.secret(word);
                let (before, after) = segment.split_once(word).unwrap_or((segment, ""));
                out.push_str(before);
                out.push_str(&secret);
                out.push_str(&self.text(after));
                secret_next = false;
                continue;
            }
            if !text.is_empty() {
                secret_next = PATTERNS.label_at_end.is_match(segment);
            }
            out.push_str(&self.text(segment));
        }
        out
    }

    /// Redacts everything except URLs.
    fn within(&mut self, pieces: Vec<Piece<'_>>) -> String {
        for piece in &pieces {
            if let Piece::Raw(text) = piece {
                self.learn_names(text);
            }
        }
        self.names.build(&self.stand_ins);
        let stand_ins = &mut self.stand_ins;
        let whole = |found: &Captures<'_>| found.get_match().range();
        let pieces = pass(pieces, &PATTERNS.told, |_, found| {
            // `the password is about to expire` contains no password.
            let value = found.get(1).map(|it| unended(it.as_str(), it.start()));
            let value = value.filter(|(value, _)| value.contains(|c: char| c.is_ascii_digit()));
            value
                .map(|(value, range)| (range, stand_ins.secret(value)))
                .into_iter()
                .collect()
        });
        let pieces = pass(pieces, &PATTERNS.labelled, |_, found| {
            let value = (1..=3).find_map(|group| found.get(group));
            value
                .map(|it| unended(it.as_str(), it.start()))
                .map(|(value, range)| (range, stand_ins.secret(value)))
                .into_iter()
                .collect()
        });
        let pieces = match &self.names.secrets {
            None => pieces,
            Some(secrets) => pass(pieces, secrets, |_, found| {
                vec![(whole(found), stand_ins.secret(&found[0]))]
            }),
        };
        let pieces = pass(pieces, &PATTERNS.bearer, |_, found| {
            let value = found.get(1);
            value
                .map(|value| (value.range(), stand_ins.secret(value.as_str())))
                .into_iter()
                .collect()
        });
        let pieces = pass(pieces, &PATTERNS.email, |_, found| {
            let email = stand_ins.email(&found[1], &found[3]);
            vec![(whole(found), email.replacen('@', &found[2], 1))]
        });
        let pieces = pass(pieces, &PATTERNS.home, |_, found| match found.get(1) {
            Some(user) if !SHARED_HOMES.contains(&user.as_str().to_lowercase().as_str()) => {
                vec![(user.range(), stand_ins.account(user.as_str()))]
            }
            _ => Vec::new(),
        });
        let pieces = pass(pieces, &PATTERNS.account, |text, found| {
            let (Some(domain), Some(user)) = (found.get(1), found.get(2)) else {
                return Vec::new();
            };
            let goes_on = text[user.end()..].starts_with('\\');
            if goes_on || SYSTEM_DOMAINS.contains(&domain.as_str()) {
                return Vec::new();
            }
            vec![
                (domain.range(), "DOMAIN".to_owned()),
                (user.range(), stand_ins.account(user.as_str())),
            ]
        });
        let pieces = pass(pieces, &PATTERNS.mac, |_, found| {
            vec![(whole(found), stand_ins.token(&found[0]))]
        });
        let pieces = pass(pieces, &PATTERNS.v6, |text, found| {
            let range = whole(found);
            let has_digit = found[0].bytes().any(|b| b.is_ascii_digit());
            let goes_on = text[..range.start].ends_with(':');
            match found[0].parse::<Ipv6Addr>() {
                Ok(address) if has_digit && !goes_on && stands_alone(text, &range) => {
                    vec![(range, stand_ins.v6(address).to_string())]
                }
                _ => Vec::new(),
            }
        });
        let pieces = pass(pieces, &PATTERNS.v4, |text, found| {
            let range = whole(found);
            match found[0].parse::<Ipv4Addr>() {
                Ok(address) if stands_alone(text, &range) => {
                    vec![(range, stand_ins.v4(address).to_string())]
                }
                _ => Vec::new(),
            }
        });
        let pieces = pass(pieces, &PATTERNS.iban, |_, found| {
            if !is_iban(&found[0]) {
                return Vec::new();
            }
            let (country, rest) = found[0].split_at(2);
            let rest = stand_ins.number(rest);
            let rest: String = rest
                .chars()
                .map(|c| if c.is_ascii_uppercase() { 'X' } else { c })
                .collect();
            vec![(whole(found), format!("{country}{rest}"))]
        });
        let pieces = pass(pieces, &PATTERNS.token, |_, found| {
            let start = found.get_match().start();
            if looks_random(&found[0]) {
                return vec![(whole(found), stand_ins.token(&found[0]))];
            }
            PATTERNS
                .run
                .find_iter(&found[0])
                .filter(|run| looks_random(run.as_str()))
                .map(|run| {
                    let range = start + run.start()..start + run.end();
                    (range, stand_ins.token(run.as_str()))
                })
                .collect()
        });
        let pieces = pass(pieces, &PATTERNS.phone, |_, found| {
            let digits = found[0].bytes().filter(u8::is_ascii_digit).count();
            if digits < PHONE_DIGITS || PATTERNS.date.is_match(&found[0]) {
                return Vec::new();
            }
            vec![(whole(found), stand_ins.number(&found[0]))]
        });
        let pieces = pass(pieces, &PATTERNS.www, |_, found| {
            vec![(whole(found), stand_ins.host(&found[0]))]
        });
        let pieces = pass(pieces, &PATTERNS.host, |_, found| {
            match stand_ins.knows_host(&found[0]) {
                true => vec![(whole(found), stand_ins.host(&found[0]))],
                false => Vec::new(),
            }
        });
        let pieces = match &self.names.pattern {
            None => pieces,
            Some(names) => pass(pieces, names, |text, found| {
                let range = whole(found);
                match stands_alone(text, &range) {
                    true => vec![(range, stand_ins.name(&found[0]))],
                    false => Vec::new(),
                }
            }),
        };
        let pieces = match &self.names.locals {
            None => pieces,
            Some(locals) => pass(pieces, locals, |text, found| {
                let range = whole(found);
                match (stand_ins.person(&found[0]), stands_alone(text, &range)) {
                    (Some(person), true) => vec![(range, person)],
                    _ => Vec::new(),
                }
            }),
        };
        let pieces = pass(pieces, &PATTERNS.number, |_, found| {
            vec![(whole(found), stand_ins.number(&found[0]))]
        });
        pieces
            .into_iter()
            .fold(String::new(), |out, piece| match piece {
                Piece::Raw(text) => out + text,
                Piece::Done(stand_in) => out + &stand_in,
            })
    }

    /// Learns the names that stand beside addresses: those are names of people for sure.
    fn learn_names(&mut self, text: &str) {
        for found in PATTERNS.named.captures_iter(text) {
            let (name, local, domain) = (&found[1], &found[2], &found[3]);
            if !stand_ins::names_function(local) && !self.stand_ins.keeps(&domain.to_lowercase()) {
                self.display_name(name);
            }
        }
    }

    /// Redacts a URL. Scheme, port and the names of query values stay; user information is removed.
    fn url(&mut self, url: &str) -> String {
        let Some((scheme, rest)) = url.split_once("://") else {
            return url.to_owned();
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let host = authority.rsplit_once('@').map_or(authority, |(_, it)| it);
        let (rest, fragment) = match rest.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (rest, None),
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let mut out = format!("{scheme}://{}", self.authority(host));
        out.push_str(&self.within(vec![Piece::Raw(path)]));
        if let Some(query) = query {
            out.push('?');
            out.push_str(&self.query(query));
        }
        if let Some(fragment) = fragment {
            out.push('#');
            out.push_str(&match fragment.contains('=') {
                true => self.query(fragment),
                false => self.within(vec![Piece::Raw(fragment)]),
            });
        }
        out
    }

    fn authority(&mut self, host: &str) -> String {
        if let Some((address, port)) = host.strip_prefix('[').and_then(|it| it.split_once(']')) {
            return match address.parse::<Ipv6Addr>() {
                Ok(address) => format!("[{}]{port}", self.stand_ins.v6(address)),
                Err(_) => format!("[::1]{port}"),
            };
        }
        match host.split_once(':') {
            Some((host, port)) => format!("{}:{port}", self.stand_ins.host(host)),
            None => self.stand_ins.host(host),
        }
    }

    fn query(&mut self, query: &str) -> String {
        let and = if query.contains("&amp;") {
            "&amp;"
        } else {
            "&"
        };
        let values = query.split(and).map(|pair| match pair.split_once('=') {
            Some((key, "")) => format!("{key}="),
            Some((key, value)) => format!("{key}={}", self.stand_ins.value(value)),
            None if pair.is_empty() => String::new(),
            None => self.stand_ins.value(pair),
        });
        values.collect::<Vec<_>>().join(and)
    }
}

/// Returns whether a header's name indicates that its value is a secret.
pub(super) fn names_secret(header: &str) -> bool {
    let name = header.to_ascii_lowercase();
    ["token", "secret", "password", "api-key", "apikey"]
        .iter()
        .any(|word| name.contains(word))
}

/// Returns a secret without a trailing comma or full stop, and its range; `start` is its offset.
fn unended(value: &str, start: usize) -> (&str, Range<usize>) {
    let bare = value.trim_end_matches([',', ';', '.']);
    let bare = if bare.is_empty() { value } else { bare };
    (bare, start..start + bare.len())
}

/// Returns whether the text is not adjacent to a letter, a digit, or a dot with more digits. `%20` counts as a space.
fn stands_alone(text: &str, range: &Range<usize>) -> bool {
    let joins = char::is_alphanumeric;
    let before = &text[..range.start];
    let is_escaped = before.len() >= 3
        && before.as_bytes()[before.len() - 3] == b'%'
        && before.bytes().rev().take(2).all(|b| b.is_ascii_hexdigit());
    let before = before.chars().next_back().filter(|_| !is_escaped);
    let mut after = text[range.end..].chars();
    let next = after.next();
    let dotted = next == Some('.') && after.next().is_some_and(|c| c.is_ascii_digit());
    !before.is_some_and(joins) && !next.is_some_and(|c| c.is_alphanumeric()) && !dotted
}

/// Returns whether upper case, lower case and digits alternate too often for words: hashes, keys, base64.
fn looks_random(text: &str) -> bool {
    let known: Vec<char> = text.chars().filter(char::is_ascii_alphanumeric).collect();
    if known.len() < TOKEN_CHARS {
        return false;
    }
    let digits = known.iter().filter(|c| c.is_ascii_digit()).count();
    if known.iter().all(char::is_ascii_hexdigit) && digits >= 2 && digits < known.len() {
        return true;
    }
    let class = |c: char| (c.is_ascii_digit(), c.is_ascii_uppercase());
    let changes = known.windows(2).filter(|pair| {
        // A capital letter followed by small letters begins a word.
        let begins_word = pair[0].is_ascii_uppercase() && pair[1].is_ascii_lowercase();
        class(pair[0]) != class(pair[1]) && !begins_word
    });
    changes.count() * 5 >= known.len()
}

/// Returns whether the check digits of an IBAN (ISO 13616) are right.
fn is_iban(text: &str) -> bool {
    let text: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
    if !(15..=34).contains(&text.len()) {
        return false;
    }
    let rest = text[4..].iter().chain(&text[..4]).fold(0_u32, |rest, b| {
        let value = (*b as char).to_digit(36).unwrap_or(0);
        (rest * if value > 9 { 100 } else { 10 } + value) % 97
    });
    rest == 1
}

/// Returns the text with unnecessary entities decoded: `&#64;` hides an address from the patterns, and `J&ouml;rg` a name,
/// but not from readers.
fn with_plain_characters(text: &str) -> std::borrow::Cow<'_, str> {
    PATTERNS.entity.replace_all(text, |found: &Captures<'_>| {
        let number = match (found.get(1), found.get(2), found.get(3)) {
            (Some(decimal), _, _) => decimal.as_str().parse().ok(),
            (_, Some(hex), _) => u32::from_str_radix(hex.as_str(), 16).ok(),
            (_, _, Some(name)) => postroom_html::named(name.as_str())
                .filter(|c| matches!(c, '@' | '.' | 'À'..='ž'))
                .map(u32::from),
            _ => None,
        };
        match number.and_then(char::from_u32) {
            Some(c) if c.is_alphanumeric() || c.is_ascii_graphic() && !"<>&\"'".contains(c) => {
                c.to_string()
            }
            _ => found[0].to_owned(),
        }
    })
}

/// Iterates over tags, comments, and the texts between them.
struct Segments<'h>(&'h str);

impl<'h> Iterator for Segments<'h> {
    type Item = &'h str;

    fn next(&mut self) -> Option<&'h str> {
        let rest = self.0;
        if rest.is_empty() {
            return None;
        }
        let end = if rest.starts_with("<!--") {
            rest.find("-->").map(|at| at + 3)
        } else if rest.starts_with('<') {
            rest.find('>').map(|at| at + 1)
        } else {
            rest.find('<')
        };
        let (segment, rest) = rest.split_at(end.unwrap_or(rest.len()));
        self.0 = rest;
        Some(segment)
    }
}
