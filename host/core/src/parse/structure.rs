//! The parts of a mail (RFC 2046), found in one pass over its bytes: a stack of open boundaries, no copies. What holds
//! parts in another form (an encoded multipart, TNEF, opaque S/MIME) is opened within the same limits.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::{memchr, memmem};

use super::ParseLimits;
use super::decode::TransferEncoding;
use super::headers::{Field, Fields, is_of_mime};
use super::mime::{Head, LONGEST_BOUNDARY, Leaf, Within};
use super::repairs::Repairs;
use super::{smime, tnef};
use crate::message::OverLimit;

/// How many multiparts of a mail may have their boundary guessed. Each guess reads the rest of the mail.
const GUESSES_MAX: usize = 4;
/// How much decoding of what holds parts may yield in addition to one and a half times the mail's own size.
const OPENABLE_BYTES: usize = 1024 * 1024;
/// How much RTF of a mail is decompressed.
const RTF_BYTES: usize = 4 * 1024 * 1024;
/// How far below the headers MIME headers are looked for that a blank line cut off.
const STRAY_BYTES: usize = 2048;

/// The longest text about MIME that mailers write above the first part.
const NOTICE_BYTES: usize = 300;
/// How many fields of a mail or a report stand among a part's headers if a blank line is missing.
const ATTACHED_NAMES: usize = 2;

const NO_BOUNDARY: &str = "a multipart without its boundary was read as text";
const GUESSED: &str = "the boundary of a multipart was guessed from its lines";
const NOT_CLOSED: &str = "a multipart was not closed";
const ENCRYPTED_PGP: &str = "the mail is encrypted (PGP): its content was not read";
const ENCRYPTED_SMIME: &str = "the mail is encrypted (S/MIME): its content was not read";

/// The parts of a mail.
pub(crate) struct Structure {
    pub leaves: Vec<Leaf>,
    /// The limit that prevented further splitting, if any.
    pub over_limit: Option<OverLimit>,
    /// The text above the first part of the outermost multipart.
    pub preamble: Bytes,
    /// How many more parts the limit allows.
    pub parts_left: usize,
}

/// Splits the body of a mail at `at` into its parts.
pub(crate) fn split(
    raw: &Bytes,
    at: usize,
    head: Head,
    limits: &ParseLimits,
    repairs: &mut Repairs,
) -> Structure {
    let mut splitter = Splitter::new(limits, raw.len());
    let (head, at) = stray_head(raw, at, head, repairs);
    splitter.entity(raw, at, head, Place::default(), repairs);
    splitter.finish()
}

/// Returns the parts of a mail that is no MIME: the properties of an Outlook item.
pub(crate) fn split_item(
    item: tnef::Item,
    size: usize,
    limits: &ParseLimits,
    repairs: &mut Repairs,
) -> Structure {
    let mut splitter = Splitter::new(limits, size);
    splitter.item(item, Place::default(), false, repairs);
    splitter.finish()
}

/// Where in the structure a part stands.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    depth: usize,
    alternative: Option<usize>,
    within: Within,
    first: bool,
}

/// An open multipart.
struct Open {
    boundary: Vec<u8>,
    digest: bool,
    within: Within,
    alternative: Option<usize>,
    /// How many of its parts were found.
    parts: usize,
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

struct Splitter<'l> {
    limits: &'l ParseLimits,
    leaves: Vec<Leaf>,
    over_limit: Option<OverLimit>,
    preamble: Option<Bytes>,
    parts: usize,
    guesses: usize,
    openable: usize,
    rtf: usize,
}

impl<'l> Splitter<'l> {
    fn new(limits: &'l ParseLimits, size: usize) -> Self {
        Self {
            limits,
            leaves: Vec::new(),
            over_limit: None,
            preamble: None,
            parts: 0,
            guesses: GUESSES_MAX,
            openable: (size + size / 2).saturating_add(OPENABLE_BYTES),
            rtf: RTF_BYTES,
        }
    }

    fn finish(self) -> Structure {
        Structure {
            parts_left: self.limits.parts.saturating_sub(self.parts),
            leaves: self.leaves,
            over_limit: self.over_limit,
            preamble: self.preamble.unwrap_or_default(),
        }
    }

    /// Splits a mail, or what was opened to one. Recursion ends at the limit of nesting depth, which all levels share.
    fn entity(&mut self, raw: &Bytes, at: usize, head: Head, place: Place, repairs: &mut Repairs) {
        let lines = Lines {
            raw,
            dashes: memmem::Finder::new(b"--"),
        };
        let mut open: Vec<Open> = Vec::new();
        let (mut at, mut head) = (at, head);
        while self.count(repairs) {
            let depth = place.depth + open.len();
            let here = match open.last_mut() {
                Some(last) => {
                    last.parts += 1;
                    Place {
                        depth,
                        alternative: last.alternative,
                        within: last.within,
                        first: last.parts == 1,
                    }
                }
                None => place,
            };
            let end = |next: &Option<Delimiter>| {
                next.as_ref().map_or(raw.len(), |next| next.before).max(at)
            };
            let splits = head.multipart().is_some() && self.may_nest(here, repairs);
            let mut next;
            if !splits {
                next = lines.next(&open, at);
                let body = raw.slice(at..end(&next));
                self.leaf(std::mem::take(&mut head), body, here, false, repairs);
            } else {
                let outer = open.len();
                let encoding = head.encoding();
                open.push(self.opened(&head, here, repairs));
                next = lines.next(&open, at);
                if !own(&next, outer) {
                    let body = at..end(&next);
                    if encoding != TransferEncoding::Identity {
                        open.pop();
                        self.encoded(std::mem::take(&mut head), raw.slice(body), here, repairs);
                    } else if let Some(guess) = self.guess(&raw[body.clone()]) {
                        repairs.note(GUESSED);
                        open[outer].boundary = guess;
                        next = lines.next(&open, at);
                        // A report may quote a mail with its boundary: what stands above it are then the sender's.
                        let above = raw.slice(at..end(&next));
                        if has_words(&above) && self.count(repairs) {
                            self.leaf(Head::default(), above, here, true, repairs);
                        }
                    } else {
                        open.pop();
                        repairs.note(NO_BOUNDARY);
                        let body = raw.slice(body);
                        self.leaf(std::mem::take(&mut head), body, here, true, repairs);
                    }
                }
                if self.preamble.is_none() && own(&next, outer) {
                    self.preamble = Some(raw.slice(at..end(&next)));
                }
            }
            loop {
                let Some(delimiter) = next else {
                    if !open.is_empty() {
                        repairs.note(NOT_CLOSED);
                    }
                    return;
                };
                if delimiter.level + 1 < open.len() {
                    repairs.note(NOT_CLOSED);
                    open.truncate(delimiter.level + 1);
                }
                at = delimiter.after;
                if !delimiter.closes {
                    break;
                }
                open.pop();
                if open.is_empty() {
                    return;
                }
                next = lines.next(&open, at);
            }
            let digest = open.last().is_some_and(|open| open.digest);
            (head, at) = part_head(raw, at, digest, repairs);
        }
    }

    /// Counts a part; returns false if it is one too many.
    fn count(&mut self, repairs: &mut Repairs) -> bool {
        let most = self.limits.parts;
        if self.parts > 0 && self.parts >= most {
            repairs.note(format!("parts after the first {most} were left out"));
            self.over_limit.get_or_insert(OverLimit::Parts { most });
            return false;
        }
        self.parts += 1;
        true
    }

    fn may_nest(&mut self, place: Place, repairs: &mut Repairs) -> bool {
        let most = self.limits.depth;
        if place.depth >= most {
            repairs.note(format!(
                "parts nested deeper than {most} were kept as an attachment"
            ));
            self.over_limit.get_or_insert(OverLimit::Depth { most });
        }
        place.depth < most
    }

    fn opened(&self, head: &Head, place: Place, repairs: &mut Repairs) -> Open {
        let subtype = head.multipart().unwrap_or_default();
        if subtype == "encrypted" {
            repairs.note(ENCRYPTED_PGP);
        }
        let own = (subtype == "alternative").then_some(self.leaves.len());
        Open {
            // Without a boundary no line delimits it until one is guessed.
            boundary: head
                .boundary()
                .map_or_else(|| b"\n".to_vec(), |boundary| boundary.as_bytes().to_vec()),
            digest: subtype == "digest",
            within: match subtype {
                "alternative" => Within::Alternative,
                "related" => Within::Related,
                _ => Within::Mixed,
            },
            alternative: place.alternative.or(own),
            parts: 0,
        }
    }

    fn guess(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        self.guesses = self.guesses.checked_sub(1)?;
        guessed_boundary(body)
    }

    /// Opens a multipart that is encoded as a whole, which RFC 2045 section 6.4 forbids.
    fn encoded(&mut self, mut head: Head, body: Bytes, place: Place, repairs: &mut Repairs) {
        let source = body.as_ptr();
        let body = decoded(&head, &body, repairs);
        head.set_decoded();
        if self.may_open(body.len(), place, repairs) {
            if body.as_ptr() != source {
                repairs.note("a multipart that was encoded as a whole was decoded");
            }
            let place = Place {
                depth: place.depth + 1,
                ..place
            };
            self.parts -= 1;
            self.entity(&body, 0, head, place, repairs);
        } else {
            self.leaf(head, body, place, false, repairs);
        }
    }

    /// Takes `bytes` of what opening may yield.
    fn may_open(&mut self, bytes: usize, place: Place, repairs: &mut Repairs) -> bool {
        match self.openable.checked_sub(bytes) {
            Some(left) => {
                self.openable = left;
                self.may_nest(place, repairs)
            }
            None => {
                let most = place.depth;
                repairs
                    .note("parts encoded within each other too often were kept as an attachment");
                self.over_limit.get_or_insert(OverLimit::Depth { most });
                false
            }
        }
    }

    fn leaf(
        &mut self,
        mut head: Head,
        mut body: Bytes,
        place: Place,
        unsplit: bool,
        repairs: &mut Repairs,
    ) {
        if !unsplit {
            if tnef::is_stream(&head, &body) {
                body = decoded(&head, &body, repairs);
                head.set_decoded();
                if self.tnef(&body, place, repairs) {
                    return;
                }
            } else if smime::is_message(&head) {
                body = decoded(&head, &body, repairs);
                head.set_decoded();
                if self.smime(&head, &body, place, repairs) {
                    return;
                }
            }
        }
        self.leaves.push(Leaf {
            head,
            body,
            alternative: place.alternative,
            within: place.within,
            first: place.first,
            unsplit,
            carried: false,
        });
    }

    /// Opens opaque S/MIME; returns whether its content took its place.
    fn smime(&mut self, head: &Head, body: &Bytes, place: Place, repairs: &mut Repairs) -> bool {
        let content = match smime::content(body, self.openable) {
            Some(smime::Content::Signed(content)) => {
                repairs.note(
                    "the content of an S/MIME signature was read; the signature was not checked",
                );
                content
            }
            Some(smime::Content::Compressed(content)) => content,
            Some(smime::Content::Encrypted) => {
                repairs.note(ENCRYPTED_SMIME);
                return false;
            }
            None => {
                if head.param_is("smime-type", "enveloped-data") {
                    repairs.note(ENCRYPTED_SMIME);
                }
                return false;
            }
        };
        // A slice takes no memory, but its headers are read once more.
        let is_slice = body.as_ptr_range().contains(&content.as_ptr());
        let cost = if is_slice {
            content.len() / 4
        } else {
            content.len()
        };
        if !self.may_open(cost, place, repairs) {
            return false;
        }
        let (head, at) = part_head(&content, 0, false, repairs);
        let place = Place {
            depth: place.depth + 1,
            ..place
        };
        self.parts -= 1;
        self.entity(&content, at, head, place, repairs);
        true
    }

    /// Opens a TNEF stream; returns whether its content took its place.
    fn tnef(&mut self, body: &Bytes, place: Place, repairs: &mut Repairs) -> bool {
        let Some(item) = tnef::read(body, self.limits) else {
            repairs.note("a TNEF attachment (winmail.dat) could not be read");
            return false;
        };
        if !self.may_nest(place, repairs) {
            return false;
        }
        repairs.note(if item.cut {
            "a TNEF attachment (winmail.dat) was opened as far as it is whole"
        } else {
            "a TNEF attachment (winmail.dat) was opened"
        });
        let place = Place {
            depth: place.depth + 1,
            first: false,
            ..place
        };
        self.parts -= 1;
        self.item(item, place, true, repairs);
        true
    }

    /// Adds the body and the attachments of an Outlook item. `carried` means that a mail has them beside its own.
    fn item(&mut self, item: tnef::Item, place: Place, carried: bool, repairs: &mut Repairs) {
        let bodies = item.bodies(&mut self.rtf);
        let group = Some(self.leaves.len());
        for (content_type, text) in bodies {
            if !self.count(repairs) {
                return;
            }
            self.leaves.push(Leaf {
                head: Head::made(content_type, text.charset),
                body: text.bytes,
                alternative: group,
                within: Within::Alternative,
                carried,
                ..Leaf::default()
            });
        }
        for attachment in item.attachments {
            if !self.count(repairs) {
                return;
            }
            let (head, body) = attachment.into_part(self.openable, &mut self.rtf);
            if head.content_type() == "message/rfc822" {
                self.openable = self.openable.saturating_sub(body.len());
            }
            self.leaf(head, body, place, false, repairs);
        }
    }
}

/// Finds the boundary lines of a buffer.
struct Lines<'a> {
    raw: &'a [u8],
    dashes: memmem::Finder<'static>,
}

impl Lines<'_> {
    /// Returns the next boundary line from the start of a line.
    fn next(&self, open: &[Open], from: usize) -> Option<Delimiter> {
        if open.is_empty() {
            return None;
        }
        let mut search = from;
        loop {
            let at = search + self.dashes.find(&self.raw[search..])?;
            if at == from || self.raw[at - 1] == b'\n' {
                if let Some(delimiter) = self.delimiter_at(open, at, from) {
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

    fn delimiter_at(&self, open: &[Open], at: usize, from: usize) -> Option<Delimiter> {
        let rest = &self.raw[at + 2..];
        let window = &rest[..rest.len().min(LONGEST_BOUNDARY + 80)];
        let (line, after) = match memchr(b'\n', window) {
            Some(end) => (&window[..end], at + 2 + end + 1),
            None if window.len() == rest.len() => (window, self.raw.len()),
            None => return None,
        };
        let line = line.trim_ascii_end();
        let (level, closes) =
            open.iter().enumerate().rev().find_map(|(level, open)| {
                match line.strip_prefix(open.boundary.as_slice())? {
                    b"" => Some((level, false)),
                    b"--" => Some((level, true)),
                    _ => None,
                }
            })?;
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

/// Returns whether a boundary line belongs to the multipart of this level.
fn own(next: &Option<Delimiter>, level: usize) -> bool {
    next.as_ref().is_some_and(|next| next.level == level)
}

fn part_head(raw: &[u8], at: usize, digest: bool, repairs: &mut Repairs) -> (Head, usize) {
    let mut head = Head::default();
    let mut fields = Fields::of_part(raw, at);
    let mut inner = None;
    let mut names = 0;
    for field in fields.by_ref() {
        if inner.is_none() && head.is_of_mail() && is_of_attached(&field) {
            inner = Some(field.at);
        }
        match inner {
            Some(_) => names += usize::from(is_of_attached(&field)),
            None => head.read(&field, repairs),
        }
    }
    // The blank line below the part's own headers is missing, so that those of the attached mail followed at once.
    if let Some(inner) = inner
        && names >= ATTACHED_NAMES
        && !Fields::of_mail(raw, fields.at)
            .next()
            .is_some_and(|field| is_of_attached(&field) && !is_of_report(&field))
    {
        repairs.note("an attached mail directly below the headers of its part was split from them");
        return (head, inner);
    }
    if digest && !head.states_type() {
        head.set_type("message/rfc822");
    }
    (head, fields.at)
}

/// Returns whether a field belongs to a mail or to a report about it, and not to a part.
fn is_of_attached(field: &Field<'_>) -> bool {
    const NAMES: &[&str] = &[
        "Date",
        "From",
        "Message-ID",
        "Received",
        "Return-Path",
        "Subject",
        "To",
    ];
    is_of_report(field) || NAMES.iter().any(|name| field.is(name))
}

/// Returns whether a field is one of a report on a mail (RFC 3464, RFC 8098).
fn is_of_report(field: &Field<'_>) -> bool {
    const NAMES: &[&str] = &[
        "Action",
        "Arrival-Date",
        "Disposition",
        "Final-Recipient",
        "Original-Recipient",
        "Reporting-MTA",
        "Reporting-UA",
        "Status",
    ];
    NAMES.iter().any(|name| field.is(name))
}

/// Returns whether the text above a guessed boundary is more than the notice of old mailers about MIME.
fn has_words(above: &[u8]) -> bool {
    let head = above[..above.len().min(NOTICE_BYTES)].to_ascii_lowercase();
    !above.trim_ascii().is_empty()
        && (above.len() > NOTICE_BYTES || memmem::find(&head, b"mime").is_none())
}

fn decoded(head: &Head, body: &Bytes, repairs: &mut Repairs) -> Bytes {
    match head.encoding().decode(body, repairs) {
        Cow::Borrowed(_) => body.clone(),
        Cow::Owned(bytes) => Bytes::from(bytes),
    }
}

/// Returns the first line that looks like a boundary: two dashes, and below them a MIME header, or a blank line if the same
/// boundary also closes.
fn guessed_boundary(body: &[u8]) -> Option<Vec<u8>> {
    let first = body.starts_with(b"--").then_some(0);
    let others = memmem::find_iter(body, b"\n--").map(|at| at + 1);
    let mut unsure = true;
    for at in first.into_iter().chain(others) {
        let rest = &body[at + 2..];
        let window = &rest[..rest.len().min(LONGEST_BOUNDARY + 80)];
        let Some(end) = memchr(b'\n', window) else {
            continue;
        };
        let boundary = window[..end].trim_ascii_end();
        if boundary.is_empty() || boundary.len() > LONGEST_BOUNDARY || boundary.ends_with(b"--") {
            continue;
        }
        let below = &rest[end + 1..];
        if is_of_mime(below) {
            return Some(boundary.to_vec());
        }
        if unsure && matches!(below.first(), Some(b'\r' | b'\n')) {
            // Only once, so that the search stays linear.
            unsure = false;
            let closing = [b"\n--", boundary, b"--"].concat();
            if memmem::find(below, &closing).is_some() {
                return Some(boundary.to_vec());
            }
        }
    }
    None
}

/// Returns the head of a mail without Content-Type whose MIME headers, or whose parts, stand below the first blank line.
fn stray_head(raw: &[u8], at: usize, head: Head, repairs: &mut Repairs) -> (Head, usize) {
    if head.states_type() {
        return (head, at);
    }
    let blank = raw[at..]
        .iter()
        .take_while(|b| b.is_ascii_whitespace())
        .count();
    let from = at + blank;
    let window = &raw[from..raw.len().min(from + STRAY_BYTES)];
    let begins = |words: &[u8]| {
        window.len() > words.len() && window[..words.len()].eq_ignore_ascii_case(words)
    };
    if begins(b"mime-version:") || begins(b"content-type:") {
        let (below, body) = part_head(raw, from, false, repairs);
        if below.multipart().is_some() {
            repairs.note("MIME headers below a blank line were read as the mail's");
            return (below, body);
        }
    } else if let Some(boundary) = guessed_boundary(window) {
        let opening = [b"--", boundary.as_slice()].concat();
        // A text that quotes a mail with its parts is no multipart.
        if memmem::find(window, &opening).is_some_and(|begins| has_words(&window[..begins])) {
            return (head, at);
        }
        let closing = [b"\n--", boundary.as_slice(), b"--"].concat();
        if memmem::find(&raw[from..], &closing).is_some() {
            repairs.note("parts of a mail without Content-Type were split");
            let boundary = String::from_utf8_lossy(&boundary);
            return (Head::multipart_of(&boundary), at);
        }
    }
    (head, at)
}
