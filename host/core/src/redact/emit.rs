//! Writes a mail that people can read and review: UTF-8, line feeds, nothing encoded except content that is not text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The column after which a header is folded at the next space.
const FOLD: usize = 76;
/// Bytes in one encoded word (RFC 2047 allows 75 characters, encoded).
const WORD_BYTES: usize = 42;
/// A text with a longer line counts as "binary" (RFC 2045 section 2.9).
const LONGEST_LINE: usize = 998;
/// Bytes in one line of base64.
const LINE_BYTES: usize = 57;

/// A part of the mail to be written.
pub(super) enum Part {
    Text {
        subtype: &'static str,
        text: String,
    },
    Attachment {
        content_type: String,
        name: String,
        inline: bool,
        content_id: Option<String>,
        content: Vec<u8>,
    },
    Multipart {
        /// With its parameters, except for the boundary.
        subtype: &'static str,
        parts: Vec<Part>,
    },
}

impl Part {
    pub(super) fn text(subtype: &'static str, text: String) -> Self {
        Self::Text { subtype, text }
    }

    pub(super) fn multipart(subtype: &'static str, parts: Vec<Part>) -> Self {
        Self::Multipart { subtype, parts }
    }

    /// Writes the part after the mail's own headers.
    pub(super) fn write_top(&self, out: &mut Vec<u8>) {
        header(out, "MIME-Version", "1.0");
        self.write(out, 1);
    }

    fn write(&self, out: &mut Vec<u8>, level: usize) {
        match self {
            Self::Text { subtype, text } => {
                let kind = format!("text/{subtype}; charset=utf-8");
                write_text(out, &kind, &[], text.as_bytes());
            }
            Self::Attachment {
                content_type,
                name,
                inline,
                content_id,
                content,
            } => {
                let way = if *inline { "inline" } else { "attachment" };
                let way = format!("{way}{}", file_name(name));
                let id = content_id.as_ref().map(|id| format!("<{id}>"));
                let mut more = vec![("Content-Disposition", way.as_str())];
                more.extend(id.as_deref().map(|id| ("Content-ID", id)));
                write_attachment(out, &media_type(content_type), &more, content);
            }
            Self::Multipart { subtype, parts } => {
                let mut written = Vec::new();
                for part in parts {
                    let mut content = Vec::new();
                    part.write(&mut content, level + 1);
                    written.push(content);
                }
                let boundary = boundary(level, &written);
                let kind = format!("multipart/{subtype}; boundary=\"{boundary}\"");
                header(out, "Content-Type", &kind);
                for content in written {
                    out.extend_from_slice(format!("\n--{boundary}\n").as_bytes());
                    out.extend_from_slice(&content);
                }
                out.extend_from_slice(format!("\n--{boundary}--\n").as_bytes());
            }
        }
    }
}

/// Writes one ASCII header field, folded at spaces. Other characters must already be encoded.
pub(super) fn header(out: &mut Vec<u8>, name: &str, value: &str) {
    let mut line = name.len() + 1;
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    for word in value.trim().split(' ') {
        // Some programs take a line of spaces alone for the end of the headers.
        if !word.is_empty() && line + 1 + word.len() > FOLD && line > name.len() + 1 {
            out.push(b'\n');
            line = 0;
        }
        out.push(b' ');
        out.extend_from_slice(word.as_bytes());
        line += 1 + word.len();
    }
    out.push(b'\n');
}

/// Returns free text for a header: unchanged if it is ASCII, otherwise in encoded words.
pub(super) fn unstructured(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match plain.is_ascii() && !plain.contains("=?") {
        true => plain,
        false => encoded_words(&plain),
    }
}

/// Returns a display name in header form.
pub(super) fn phrase(name: &str) -> String {
    let name = name.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == ' ';
    if !name.is_empty() && name.chars().all(plain) {
        name.to_owned()
    } else if name.bytes().all(|b| (b' '..0x7f).contains(&b)) && !name.contains("=?") {
        format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        let clean: String = name.chars().filter(|c| !c.is_control()).collect();
        encoded_words(&clean)
    }
}

fn encoded_words(text: &str) -> String {
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (word, tail) = rest.split_at(rest.floor_char_boundary(WORD_BYTES));
        words.push(format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
        rest = tail;
    }
    words.join(" ")
}

fn write_text(out: &mut Vec<u8>, kind: &str, more: &[(&str, &str)], text: &[u8]) {
    header(out, "Content-Type", kind);
    let long = text.split(|b| *b == b'\n').any(|l| l.len() > LONGEST_LINE);
    let encoding = match (long, text.is_ascii()) {
        (true, _) => "binary",
        (false, true) => "7bit",
        (false, false) => "8bit",
    };
    header(out, "Content-Transfer-Encoding", encoding);
    for (name, value) in more {
        header(out, name, value);
    }
    out.push(b'\n');
    out.extend_from_slice(text);
}

fn write_attachment(out: &mut Vec<u8>, kind: &str, more: &[(&str, &str)], content: &[u8]) {
    let readable = std::str::from_utf8(content).is_ok_and(|it| !it.contains(['\r', '\0']));
    let is_text = kind.starts_with("text/") || kind.starts_with("message/");
    if readable && is_text {
        let charset = if kind.starts_with("text/") {
            "; charset=utf-8"
        } else {
            ""
        };
        return write_text(out, &format!("{kind}{charset}"), more, content);
    }
    header(out, "Content-Type", kind);
    header(out, "Content-Transfer-Encoding", "base64");
    for (name, value) in more {
        header(out, name, value);
    }
    let lines = content.chunks(LINE_BYTES).map(|line| STANDARD.encode(line));
    out.push(b'\n');
    out.extend_from_slice(lines.collect::<Vec<_>>().join("\n").as_bytes());
}

/// Returns a media type as it was read, but only if nothing in it could end it early.
fn media_type(stated: &str) -> String {
    let sound = stated.contains('/')
        && stated
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"[]?=".contains(&b));
    match sound {
        true => stated.to_owned(),
        false => "application/octet-stream".to_owned(),
    }
}

fn file_name(name: &str) -> String {
    let plain = |b: u8| (b' '..0x7f).contains(&b) && b != b'"' && b != b'\\';
    if name.is_empty() {
        String::new()
    } else if name.bytes().all(plain) && !name.contains("=?") {
        format!("; filename=\"{name}\"")
    } else {
        let coded: String = name.bytes().map(percent).collect();
        format!("; filename*=UTF-8''{coded}")
    }
}

fn percent(b: u8) -> String {
    match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => (b as char).to_string(),
        _ => format!("%{b:02X}"),
    }
}

/// Returns a boundary that occurs in none of the parts.
fn boundary(level: usize, parts: &[Vec<u8>]) -> String {
    let mut boundary = format!("=_part{level}");
    while parts.iter().any(|part| contains(part, boundary.as_bytes())) {
        boundary.push('_');
    }
    boundary
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}
