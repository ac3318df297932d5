//! The parts of a mail (RFC 2046), found in one pass over its bytes: a stack of open boundaries, no recursion, no copies.

use std::ops::Range;

use memchr::{memchr, memmem};

use super::ParseLimits;
use super::decode::TransferEncoding;
use super::headers::{Field, Fields};
use super::params::Parameterised;
use super::repairs::Repairs;
use crate::message::OverLimit;

/// Longest boundary honoured; RFC 2046 allows 70.
const LONGEST_BOUNDARY: usize = 200;
/// The most names kept of one part.
const NAMES_MAX: usize = 8;
const NO_BOUNDARY: &str = "a multipart without its boundary was read as text";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Disposition {
    #[default]
    Unstated,
    Inline,
    Attachment,
}

/// The MIME headers of a mail or a part.
#[derive(Debug, Default)]
pub(crate) struct Head {
    content_type: Option<Parameterised>,
    disposition: Disposition,
    file_name: Option<String>,
    /// Every file name that the part states, each once.
    names: Vec<String>,
    pub encoding: TransferEncoding,
    pub content_id: Option<String>,
}

impl Head {
    pub(crate) fn read(&mut self, field: &Field<'_>, repairs: &mut Repairs) {
        if field.name.len() < 10 || !field.name.as_bytes()[..8].eq_ignore_ascii_case(b"content-") {
            return;
        }
        if field.is("Content-Type") {
            let content_type = Parameterised::parse(field.value, repairs);
            self.keep_names(&content_type, "name");
            match &mut self.content_type {
                Some(earlier) if content_type.tells_more_than(earlier) => {
                    repairs.note("Content-Type is given twice: the one that tells more is used");
                    *earlier = content_type;
                }
                Some(_) => {}
                None => self.content_type = Some(content_type),
            }
        } else if field.is("Content-Transfer-Encoding") {
            self.encoding = TransferEncoding::of(&String::from_utf8_lossy(field.value), repairs);
        } else if field.is("Content-Disposition") {
            let disposition = Parameterised::parse(field.value, repairs);
            self.keep_names(&disposition, "filename");
            self.file_name = disposition.param("filename").map(str::to_owned);
            self.disposition = match disposition.value.as_str() {
                "inline" => Disposition::Inline,
                "" => Disposition::Unstated,
                // RFC 2183 section 2.8: an unknown disposition counts as an attachment.
                _ => Disposition::Attachment,
            };
        } else if field.is("Content-ID") {
            self.content_id = super::message_ids(field.value).into_iter().next();
        }
    }

    pub(crate) fn content_type(&self) -> &str {
        match &self.content_type {
            Some(stated) if stated.value.contains('/') => &stated.value,
            _ => "text/plain",
        }
    }

    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.content_type
            .as_ref()
            .and_then(|stated| stated.param(name))
    }

    pub(crate) fn file_name(&self) -> Option<&str> {
        self.file_name
            .as_deref()
            .filter(|name| !name.is_empty())
            .or_else(|| self.param("name"))
            .filter(|name| !name.is_empty())
    }

    /// Returns the names that the part states in addition to [`Self::file_name`]. Mail programs differ in which one they
    /// save under.
    pub(crate) fn other_names(&self) -> impl Iterator<Item = &str> {
        let shown = self.file_name();
        self.names
            .iter()
            .map(String::as_str)
            .filter(move |name| Some(*name) != shown)
    }

    fn keep_names(&mut self, field: &Parameterised, param: &str) {
        for name in field.all(param).filter(|name| !name.is_empty()) {
            if self.names.len() < NAMES_MAX && !self.names.iter().any(|held| held == name) {
                self.names.push(name.to_owned());
            }
        }
    }

    pub(crate) fn disposition(&self) -> Disposition {
        self.disposition
    }

    fn boundary(&self) -> Option<&str> {
        self.param("boundary")
            .map(str::trim_end)
            .filter(|boundary| (1..=LONGEST_BOUNDARY).contains(&boundary.len()))
    }
}

/// A part that is not a multipart.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub head: Head,
    /// The content in the mail's bytes, still encoded.
    pub body: Range<usize>,
    /// The outermost multipart/alternative that contains it.
    pub alternative: Option<usize>,
    /// Whether it is read as text although its headers declare a multipart.
    pub unsplit: bool,
}

/// Splits the body at `at` into its parts. Also returns the limit that prevented further splitting, if any.
pub(crate) fn leaves(
    raw: &[u8],
    at: usize,
    head: Head,
    limits: &ParseLimits,
    repairs: &mut Repairs,
) -> (Vec<Leaf>, Option<OverLimit>) {
    let mut walk = Walk {
        raw,
        dashes: memmem::Finder::new(b"--"),
        open: Vec::new(),
        found: Vec::new(),
        over_limit: None,
    };
    walk.run(at, head, limits, repairs);
    (walk.found, walk.over_limit)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// A part that is not split.
    Leaf,
    /// A multipart whose parts come next.
    Opened,
    /// A multipart that cannot be split.
    Unsplit,
}

struct Open {
    boundary: Vec<u8>,
    digest: bool,
    alternative: Option<usize>,
}

/// A boundary line.
struct Delimiter {
    /// The end of the content before it, without that content's line end.
    before: usize,
    /// Start of the next line.
    after: usize,
    /// The index of the multipart that it belongs to.
    level: usize,
    closes: bool,
}

struct Walk<'a> {
    raw: &'a [u8],
    dashes: memmem::Finder<'static>,
    open: Vec<Open>,
    found: Vec<Leaf>,
    over_limit: Option<OverLimit>,
}

impl Walk<'_> {
    fn run(&mut self, at: usize, head: Head, limits: &ParseLimits, repairs: &mut Repairs) {
        let mut at = at;
        let mut head = head;
        let mut parts = 0;
        loop {
            parts += 1;
            let mut entry = self.enter(&head, limits, repairs);
            let mut next = self.delimiter(at);
            if entry == Entry::Opened {
                let own = self.open.len() - 1;
                if next.as_ref().is_some_and(|next| next.level == own) {
                    head = Head::default();
                } else {
                    repairs.note(NO_BOUNDARY);
                    self.open.pop();
                    entry = Entry::Unsplit;
                }
            }
            if entry != Entry::Opened {
                let end = next.as_ref().map_or(self.raw.len(), |next| next.before);
                self.found.push(Leaf {
                    head: std::mem::take(&mut head),
                    body: at..end.max(at),
                    alternative: self.open.last().and_then(|open| open.alternative),
                    unsplit: entry == Entry::Unsplit,
                });
            }
            loop {
                let Some(delimiter) = next else {
                    if !self.open.is_empty() {
                        repairs.note("a multipart was not closed");
                    }
                    return;
                };
                if delimiter.level + 1 < self.open.len() {
                    repairs.note("a multipart was not closed");
                    self.open.truncate(delimiter.level + 1);
                }
                at = delimiter.after;
                if !delimiter.closes {
                    break;
                }
                self.open.pop();
                if self.open.is_empty() {
                    return;
                }
                next = self.delimiter(at);
            }
            if parts >= limits.parts {
                repairs.note(format!(
                    "parts after the first {} were left out",
                    limits.parts
                ));
                self.over_limit
                    .get_or_insert(OverLimit::Parts { most: limits.parts });
                return;
            }
            (head, at) = self.part_head(at, repairs);
        }
    }

    /// Opens a multipart, if the part is one that can be split.
    fn enter(&mut self, head: &Head, limits: &ParseLimits, repairs: &mut Repairs) -> Entry {
        let Some(subtype) = head.content_type().strip_prefix("multipart/") else {
            return Entry::Leaf;
        };
        if self.open.len() >= limits.depth {
            repairs.note(format!(
                "parts nested deeper than {} were kept as an attachment",
                limits.depth
            ));
            self.over_limit
                .get_or_insert(OverLimit::Depth { most: limits.depth });
            return Entry::Leaf;
        }
        let Some(boundary) = head.boundary() else {
            repairs.note(NO_BOUNDARY);
            return Entry::Unsplit;
        };
        let outer = self.open.last().and_then(|open| open.alternative);
        self.open.push(Open {
            boundary: boundary.as_bytes().to_vec(),
            digest: subtype == "digest",
            alternative: outer.or((subtype == "alternative").then_some(self.found.len())),
        });
        Entry::Opened
    }

    fn part_head(&self, at: usize, repairs: &mut Repairs) -> (Head, usize) {
        let mut head = Head::default();
        let mut fields = Fields::of_part(self.raw, at);
        for field in fields.by_ref() {
            head.read(&field, repairs);
        }
        if head.content_type.is_none() && self.open.last().is_some_and(|open| open.digest) {
            head.content_type = Some(Parameterised::plain("message/rfc822"));
        }
        (head, fields.at)
    }

    /// Returns the next boundary line from the start of a line.
    fn delimiter(&self, from: usize) -> Option<Delimiter> {
        if self.open.is_empty() {
            return None;
        }
        let mut search = from;
        loop {
            let at = search + self.dashes.find(&self.raw[search..])?;
            if at == from || self.raw[at - 1] == b'\n' {
                if let Some(delimiter) = self.delimiter_at(at, from) {
                    return Some(delimiter);
                }
                search = at + 2;
            } else {
                // Not at the start of a line: a run of dashes contains no boundary line either.
                search = at + self.raw[at..].iter().take_while(|b| **b == b'-').count();
            }
            if search >= self.raw.len() {
                return None;
            }
        }
    }

    fn delimiter_at(&self, at: usize, from: usize) -> Option<Delimiter> {
        let rest = &self.raw[at + 2..];
        let window = &rest[..rest.len().min(LONGEST_BOUNDARY + 80)];
        let (line, after) = match memchr(b'\n', window) {
            Some(end) => (&window[..end], at + 2 + end + 1),
            None if window.len() == rest.len() => (window, self.raw.len()),
            None => return None,
        };
        let line = line.trim_ascii_end();
        let (level, closes) = self
            .open
            .iter()
            .enumerate()
            .rev()
            .find_map(
                |(level, open)| match line.strip_prefix(open.boundary.as_slice())? {
                    b"" => Some((level, false)),
                    b"--" => Some((level, true)),
                    _ => None,
                },
            )?;
        let mut before = at.saturating_sub(1);
        if before > from && self.raw[before - 1] == b'\r' {
            before -= 1;
        }
        Some(Delimiter {
            before: before.max(from),
            after,
            level,
            closes,
        })
    }
}
