//! The words and the attachments of a mail: which parts are its body, and what the others are.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use memchr::memmem;

use super::calendar::{self, CALENDAR_BYTES, Event};
use super::decode::TransferEncoding;
use super::headers::{self, Fields};
use super::mime::{Disposition, Leaf, Within};
use super::repairs::Repairs;
use super::structure::Structure;
use super::{ParseLimits, decode, enriched, flowed, html, uuencode};
use crate::harmless::is_hidden;
use crate::message::{Attachment, Calendar, OverLimit};

/// How many attachments with several names are noted individually.
const AMBIGUOUS_NOTED: usize = 16;
/// How many references of each form are read from a page.
const REFERENCES_MAX: usize = 4096;
/// How many calendars are tried until one has an event.
const CALENDARS_TRIED: usize = 4;

/// Types that repeat a text in another form when they are alternatives to it.
const OTHER_FORMS: &[&str] = &[
    "text/x-amp-html",
    "text/watch-html",
    "text/enriched",
    "text/richtext",
    "text/rtf",
    "text/x-markdown",
    "text/markdown",
];

/// The text, the attachments and the calendar of a mail.
#[derive(Default)]
pub(crate) struct Content {
    pub text: String,
    pub html: Option<String>,
    pub attachments: Vec<Attachment>,
    pub calendar: Option<Calendar>,
    /// Whether the text is the summary of the calendar.
    pub is_summary: bool,
    pub over_limit: Option<OverLimit>,
}

/// Reads the parts of a mail.
pub(crate) fn read(structure: Structure, limits: &ParseLimits, repairs: &mut Repairs) -> Content {
    let roles = roles(&structure.leaves);
    let mut collector = Collector {
        limits,
        segments: Vec::new(),
        carried: Segment::default(),
        text_bytes: 0,
        html_bytes: 0,
        attachments: Vec::new(),
        placements: Vec::new(),
        ambiguous: Vec::new(),
        event: None,
        calendars: CALENDARS_TRIED,
        parts_left: structure.parts_left,
        over_limit: structure.over_limit,
    };
    for (leaf, role) in structure.leaves.into_iter().zip(roles) {
        match role {
            Role::Body => collector.add_text(&leaf, repairs),
            Role::Attachment => collector.attach(&leaf, repairs),
            Role::Unneeded => {}
        }
    }
    collector.finish(&structure.preamble, repairs)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Body,
    Attachment,
    /// Another form of a text that is there.
    Unneeded,
}

/// Decides which parts are the body. A named text is an attachment where another text is the body.
fn roles(leaves: &[Leaf]) -> Vec<Role> {
    let sole = leaves.len() == 1;
    let has_words: Vec<bool> = leaves.iter().map(|leaf| has_words(leaf, sole)).collect();
    let plain_or_html = |leaf: &Leaf| is_plain_or_html(leaf.head.content_type());
    let groups: HashSet<usize> = leaves
        .iter()
        .filter(|leaf| plain_or_html(leaf) && leaf.head.disposition() != Disposition::Attachment)
        .filter_map(|leaf| leaf.alternative)
        .collect();
    let mut roles: Vec<Role> = leaves
        .iter()
        .zip(&has_words)
        .map(|(leaf, &has_words)| {
            let attached = leaf.head.disposition() == Disposition::Attachment;
            let named = leaf.head.file_name().is_some();
            let is_form_of_text = leaf.within == Within::Alternative
                || leaf.within == Within::Related && leaf.first && leaf.alternative.is_some();
            let beside_text = leaf
                .alternative
                .is_some_and(|group| groups.contains(&group));
            if beside_text && !attached && !named && OTHER_FORMS.contains(&leaf.head.content_type())
            {
                Role::Unneeded
            } else if !has_words {
                Role::Attachment
            } else if leaf.carried
                || !named && (sole || !attached)
                || named && !attached && (sole || is_form_of_text)
            {
                Role::Body
            } else {
                Role::Attachment
            }
        })
        .collect();
    let is_body = |(leaf, role): (&Leaf, &Role)| *role == Role::Body && !leaf.carried;
    if leaves.iter().zip(&roles).any(is_body) {
        return roles;
    }
    // No text is unnamed: the first text and the first page are the body, attached ones only if they have no name.
    let candidates = || {
        let all = leaves.iter().enumerate().zip(&has_words);
        all.filter(|(_, has_words)| **has_words)
            .map(|(leaf, _)| leaf)
    };
    let is_attached = |leaf: &Leaf| leaf.head.disposition() == Disposition::Attachment;
    for content_type in ["text/plain", "text/html"] {
        let found = candidates().find(|(_, leaf)| {
            leaf.head.content_type() == content_type && !is_attached(leaf) && !leaf.carried
        });
        let Some((first, leaf)) = found else {
            continue;
        };
        roles[first] = Role::Body;
        // Mailers that name each piece of the text say of each that it is shown.
        let shown = |leaf: &Leaf| {
            leaf.head.content_type() == "text/plain"
                && leaf.head.disposition() == Disposition::Inline
                && !leaf.carried
        };
        if shown(leaf) {
            for (index, _) in candidates().filter(|(_, leaf)| shown(leaf)) {
                roles[index] = Role::Body;
            }
        }
    }
    if !leaves.iter().zip(&roles).any(is_body) {
        let found = candidates().find(|(_, leaf)| leaf.head.file_name().is_none() && !leaf.carried);
        if let Some((index, _)) = found {
            roles[index] = Role::Body;
        }
    }
    roles
}

fn has_words(leaf: &Leaf, sole: bool) -> bool {
    let content_type = leaf.head.content_type();
    leaf.unsplit
        || is_plain_or_html(content_type)
        || is_enriched(content_type)
        || sole && content_type.starts_with("text/") && !is_calendar(leaf)
}

fn is_plain_or_html(content_type: &str) -> bool {
    matches!(content_type, "text/plain" | "text/html")
}

fn is_enriched(content_type: &str) -> bool {
    matches!(content_type, "text/enriched" | "text/richtext")
}

fn is_calendar(leaf: &Leaf) -> bool {
    matches!(
        leaf.head.content_type(),
        "text/calendar" | "application/ics" | "text/x-vcalendar"
    ) || leaf.head.file_name().is_some_and(|name| {
        let name = name.as_bytes();
        name.len() > 4 && name[name.len() - 4..].eq_ignore_ascii_case(b".ics")
    })
}

/// One piece of the body: a text part, an HTML part, or the two of one multipart/alternative.
#[derive(Default)]
struct Segment {
    alternative: Option<usize>,
    plain: String,
    html: String,
}

/// The headers that decide whether an attachment is shown inside the page.
struct Placement {
    disposition: Disposition,
    location: Option<String>,
}

/// The text, HTML and attachments collected so far, part by part.
struct Collector<'l> {
    limits: &'l ParseLimits,
    segments: Vec<Segment>,
    /// The body of a TNEF stream, which counts where the mail has none.
    carried: Segment,
    text_bytes: usize,
    html_bytes: usize,
    attachments: Vec<Attachment>,
    /// One for each attachment.
    placements: Vec<Placement>,
    /// One sentence for each attachment that states several names.
    ambiguous: Vec<String>,
    event: Option<Event>,
    calendars: usize,
    parts_left: usize,
    over_limit: Option<OverLimit>,
}

impl Collector<'_> {
    fn add_text(&mut self, leaf: &Leaf, repairs: &mut Repairs) {
        let content_type = leaf.head.content_type();
        let is_html = content_type == "text/html" && !leaf.unsplit;
        let (what, most, used) = if is_html {
            ("HTML", self.limits.html_bytes, self.html_bytes)
        } else {
            ("text", self.limits.text_bytes, self.text_bytes)
        };
        let left = most - used;
        let source = &leaf.body[..];
        let encoding = leaf.head.encoding();
        let may_hold_file = !is_html && uuencode::may_hold_file(source);
        let cap = encoding.source_cap(left);
        let mut was_cut = source.len() > cap && !may_hold_file;
        let source = if was_cut { &source[..cap] } else { source };
        let end = match encoding {
            TransferEncoding::Base64 => decode::base64_before_text(source),
            _ => None,
        };
        let (source, below) = source.split_at(end.unwrap_or(source.len()));
        let mut bytes = encoding.decode(source, repairs);
        if !below.is_empty() {
            repairs.note("text below base64 was not decoded");
            let decoded = bytes.to_mut();
            if !decoded.ends_with(b"\n") {
                decoded.push(b'\n');
            }
            decoded.extend_from_slice(below);
        }
        if may_hold_file {
            let (mut rest, files) = uuencode::take_files(&bytes, self.parts_left, repairs);
            for file in files {
                self.attach_file(file, repairs);
            }
            was_cut = rest.len() > cap;
            rest.truncate(cap);
            bytes = Cow::Owned(rest);
        }
        let charset = leaf.head.param("charset");
        let text = if is_html {
            decode::page(bytes, charset, was_cut, repairs)
        } else {
            decode::text(bytes, charset, was_cut, repairs)
        };
        let mut text = decode::normalise(text, repairs);
        if content_type == "text/plain" && leaf.head.param_is("format", "flowed") {
            text = flowed::joined(&text, leaf.head.param_is("delsp", "yes"));
        } else if is_enriched(content_type) {
            text = enriched::to_text(&text);
        }
        if decode::cut(&mut text, left) || was_cut {
            repairs.note(format!("{what} over {most} bytes was cut"));
        }
        if is_html {
            self.html_bytes += text.len();
        } else {
            self.text_bytes += text.len();
        }
        let segment = self.segment(leaf);
        append(
            if is_html {
                &mut segment.html
            } else {
                &mut segment.plain
            },
            text,
        );
    }

    fn segment(&mut self, leaf: &Leaf) -> &mut Segment {
        if leaf.carried {
            return &mut self.carried;
        }
        let joins =
            |last: &Segment| last.alternative.is_some() && last.alternative == leaf.alternative;
        if !self.segments.last().is_some_and(joins) {
            self.segments.push(Segment {
                alternative: leaf.alternative,
                ..Segment::default()
            });
        }
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }

    fn attach_file(&mut self, file: uuencode::File, repairs: &mut Repairs) {
        self.parts_left = self.parts_left.saturating_sub(1);
        if self.parts_left == 0 {
            let most = self.limits.parts;
            repairs.note(format!("parts after the first {most} were left out"));
            self.over_limit.get_or_insert(OverLimit::Parts { most });
        }
        self.attachments.push(Attachment {
            name: file_name(&file.name, repairs),
            content_type: "application/octet-stream".to_owned(),
            charset: None,
            inline: false,
            content_id: None,
            bytes: file.bytes.into(),
        });
        self.placements.push(Placement {
            disposition: Disposition::Attachment,
            location: None,
        });
    }

    fn attach(&mut self, leaf: &Leaf, repairs: &mut Repairs) {
        let head = &leaf.head;
        let bytes = match head.encoding().decode(&leaf.body, repairs) {
            Cow::Borrowed(_) => leaf.body.clone(),
            Cow::Owned(bytes) => Bytes::from(bytes),
        };
        let content_type = head.content_type();
        let mut name = head
            .file_name()
            .map_or_else(String::new, |name| file_name(name, repairs));
        if name.is_empty() && matches!(content_type, "message/rfc822" | "message/global") {
            name = name_of_mail(&bytes);
        }
        match content_type {
            "message/partial" => repairs.note("the mail holds one piece of a divided mail"),
            "message/external-body" => repairs.note("a part of the mail is stored elsewhere"),
            _ => {}
        }
        let mut others: Vec<String> = head
            .other_names()
            .map(|other| file_name(other, repairs))
            .filter(|other| *other != name)
            .collect();
        others.dedup();
        if !others.is_empty() {
            let others = others.join("\" and \"");
            self.ambiguous.push(format!(
                "the attachment \"{name}\" is also named \"{others}\""
            ));
        }
        if is_calendar(leaf) && self.event.is_none() && self.calendars > 0 {
            self.calendars -= 1;
            let text = super::text_of(&bytes, head.param("charset"), CALENDAR_BYTES);
            self.event = calendar::read(&text, self.limits.addresses);
        }
        self.attachments.push(Attachment {
            name,
            content_type: content_type.to_owned(),
            charset: head.param("charset").map(str::to_owned),
            inline: false,
            content_id: head.content_id.clone(),
            bytes,
        });
        self.placements.push(Placement {
            disposition: head.disposition(),
            location: head.location.clone(),
        });
    }

    fn finish(mut self, preamble: &[u8], repairs: &mut Repairs) -> Content {
        let more = self.ambiguous.len().saturating_sub(AMBIGUOUS_NOTED);
        if more > 0 {
            self.ambiguous.truncate(AMBIGUOUS_NOTED);
            self.ambiguous
                .push(format!("{more} more attachments have several names"));
        }
        repairs.note_first(std::mem::take(&mut self.ambiguous));
        let most = self.limits.text_bytes;
        let (mut text, mut html) = joined(self.segments, most);
        if text.trim().is_empty() || html.is_empty() {
            let (carried_text, carried_html) = joined(vec![self.carried], most);
            if text.trim().is_empty() && !carried_text.is_empty() {
                text = carried_text;
            }
            if html.is_empty() {
                html = carried_html;
            }
        }
        let mut is_summary = false;
        if text.trim().is_empty() && html.is_empty() {
            if let Some(event) = &self.event {
                text = event.summary();
                is_summary = true;
            } else if let Some(words) = words_of_preamble(preamble, most) {
                repairs.note("the text above the first part was read, as there is no other");
                text = words;
            }
        }
        if decode::cut(&mut text, most) {
            repairs.note(format!("text over {most} bytes was cut"));
        }
        note_foreign_forms(&text, repairs);
        place(&mut self.attachments, &self.placements, &html, &text);
        Content {
            text,
            html: (!html.is_empty()).then_some(html),
            attachments: self.attachments,
            calendar: self.event.map(|event| event.calendar),
            is_summary,
            over_limit: self.over_limit,
        }
    }
}

/// Joins the pieces of the body to a text and a page.
fn joined(segments: Vec<Segment>, most: usize) -> (String, String) {
    let mut text = String::new();
    let mut html = String::new();
    // Where the text above begins that a page may repeat.
    let mut last = 0;
    for segment in segments {
        let Segment {
            plain, html: page, ..
        } = segment;
        if !plain.trim().is_empty() || page.is_empty() {
            last = text.len();
            append(&mut text, plain);
        } else {
            let derived = html::to_text(&page, most);
            // Careless senders put both forms side by side in a multipart/mixed.
            let repeats = [&text[..], &text[last..]]
                .iter()
                .any(|above| html::has_same_words(above, &derived));
            if !repeats {
                last = text.len();
                append(&mut text, derived);
            }
        }
        append(&mut html, page);
    }
    (text, html)
}

/// Returns the text above the first part, unless it only says that the mail is MIME.
fn words_of_preamble(preamble: &[u8], most: usize) -> Option<String> {
    let text = super::text_of(preamble, None, most);
    let text = decode::normalise(text, &mut Repairs::default());
    let says_mime = memmem::find(text.to_ascii_lowercase().as_bytes(), b"mime").is_some();
    (!text.trim().is_empty() && !says_mime).then_some(text)
}

/// Notes what a text holds that is not opened.
fn note_foreign_forms(text: &str, repairs: &mut Repairs) {
    let begins_line = |words: &str| {
        memmem::find_iter(text.as_bytes(), words)
            .any(|at| at == 0 || text.as_bytes()[at - 1] == b'\n')
    };
    if begins_line("-----BEGIN PGP MESSAGE-----") {
        repairs.note("the text is encrypted (PGP): its content was not read");
    }
    if begins_line("=ybegin ") {
        repairs.note("a file in yEnc was left in the text");
    }
}

/// Decides for each attachment whether it is shown inside the page: if the page refers to it, or if it is a picture that
/// says so without an id to refer to.
fn place(attachments: &mut [Attachment], placements: &[Placement], html: &str, text: &str) {
    let may_be_shown = |attachment: &Attachment, placement: &Placement| {
        attachment.content_id.is_some()
            || placement.location.is_some()
            || placement.disposition == Disposition::Inline
    };
    let mut both = attachments.iter().zip(placements);
    if !both.any(|(attachment, placement)| may_be_shown(attachment, placement)) {
        return;
    }
    let referred = references(if html.is_empty() { text } else { html });
    for (attachment, placement) in attachments.iter_mut().zip(placements) {
        let id = attachment.content_id.as_ref();
        let is_referred = id.is_some_and(|id| referred.contains(id.as_str()))
            || placement
                .location
                .as_ref()
                .is_some_and(|location| referred.contains(&unescaped(location)));
        let is_picture = ["image/", "audio/", "video/"]
            .iter()
            .any(|kind| attachment.content_type.starts_with(kind));
        attachment.inline = is_referred
            || placement.disposition == Disposition::Inline
                && is_picture
                && (id.is_none() || html.is_empty());
    }
}

/// Returns the ids (`cid:ID`) and the locations (`src=`, `background=`) that a page refers to.
fn references<'p>(page: &'p str) -> HashSet<Cow<'p, str>> {
    const LONGEST: usize = 1000;
    let first_url = |text: &'p str| {
        let text = &text[..text.floor_char_boundary(LONGEST)];
        let ends = |c: char| c.is_whitespace() || "\"'<>()[]".contains(c);
        unescaped(&text[..text.find(ends).unwrap_or(text.len())])
    };
    let mut found = HashSet::new();
    for scheme in ["cid:", "CID:", "Cid:"] {
        for at in memmem::find_iter(page.as_bytes(), scheme).take(REFERENCES_MAX) {
            found.insert(first_url(&page[at + scheme.len()..]));
        }
    }
    for name in ["src=", "SRC=", "background=", "BACKGROUND="] {
        for at in memmem::find_iter(page.as_bytes(), name).take(REFERENCES_MAX) {
            let rest = &page[at + name.len()..];
            found.insert(first_url(rest.strip_prefix(['"', '\'']).unwrap_or(rest)));
        }
    }
    found
}

/// Decodes what a URL in a page has escaped.
fn unescaped(url: &str) -> Cow<'_, str> {
    let url = match url.contains('&') {
        true => Cow::Owned(url.replace("&amp;", "&").replace("&quot;", "")),
        false => Cow::Borrowed(url),
    };
    if !url.contains('%') {
        return url;
    }
    let mut out = Vec::with_capacity(url.len());
    let mut rest = url.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match tail {
            [high, low, tail @ ..]
                if byte == b'%' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                out.push(decode::hex(*high) << 4 | decode::hex(*low));
                rest = tail;
            }
            _ => out.push(byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// Returns a file name for an attached mail, from its subject; empty if it has none.
fn name_of_mail(mail: &[u8]) -> String {
    const HEADER_BYTES: usize = 64 * 1024;
    const SUBJECT_BYTES: usize = 120;
    let mut unsaid = Repairs::default();
    let mail = &mail[..mail.len().min(HEADER_BYTES)];
    let start = headers::start(mail, &mut unsaid);
    let Some(field) = Fields::of_mail(mail, start).find(|field| field.is("Subject")) else {
        return String::new();
    };
    let subject = headers::decoded(field.value, &mut unsaid);
    let subject = subject.replace(['/', '\\', ':', '*', '?', '"', '<', '>', '|'], "-");
    let mut name: String = subject.chars().filter(|c| !is_hidden(*c)).collect();
    decode::cut(&mut name, SUBJECT_BYTES);
    match name.trim().trim_matches('.') {
        "" => String::new(),
        name => format!("{name}.eml"),
    }
}

fn append(to: &mut String, more: String) {
    if to.is_empty() {
        *to = more;
    } else if !more.is_empty() {
        if !to.ends_with('\n') {
            to.push('\n');
        }
        to.push_str(&more);
    }
}

/// Returns a name without folders and without hidden characters.
fn file_name(name: &str, repairs: &mut Repairs) -> String {
    const LONGEST_NAME: usize = 255;
    let last = name.rsplit(['/', '\\']).next().unwrap_or("");
    let mut kept: String = last.chars().filter(|c| !is_hidden(*c)).collect();
    decode::cut(&mut kept, LONGEST_NAME);
    let kept = match kept.trim() {
        "." | ".." => "",
        kept => kept,
    };
    if kept != name.trim() {
        repairs.note("an unsafe file name was shortened");
    }
    kept.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_refers_to_ids_and_locations_however_they_are_written() {
        let page = "<img src=\"CID:a&amp;b%40quill\"><td background='http://q.example/a%20b.png'>\
                    <p style=\"background: url(cid:c@quill)\"><IMG SRC=logo.png>[cid:d@quill]";
        let found = references(page);
        for name in [
            "a&b@quill",
            "http://q.example/a b.png",
            "c@quill",
            "logo.png",
            "d@quill",
        ] {
            assert!(found.contains(name), "{name}: {found:?}");
        }
    }
}
