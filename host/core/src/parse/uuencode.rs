//! Files in uuencode (POSIX), as a transfer encoding and among the lines of a text; also in its base64 form.

use std::borrow::Cow;

use mail_parser::decoders::base64::base64_decode;
use memchr::{memchr, memmem};

use super::repairs::Repairs;

/// A file without its `end` counts from this many lines on.
const LINES_WITHOUT_END: usize = 4;

/// A file from a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Decodes the first file of a part; without a `begin` line, all of the part's lines.
pub(crate) fn decode<'a>(bytes: &'a [u8], repairs: &mut Repairs) -> Cow<'a, [u8]> {
    let mut found = None;
    let mut at = 0;
    while at < bytes.len() && found.is_none() {
        let (line, next) = line(bytes, at);
        found = begin(line).map(|begin| (begin.is_base64, next));
        at = next;
    }
    let body = match found {
        Some((true, at)) => base64_body(bytes, at),
        Some((false, at)) => body(bytes, at),
        None => body(bytes, 0),
    };
    if body.lines == 0 && !body.ended {
        repairs.note("a part labelled uuencode is not: kept unchanged");
        return Cow::Borrowed(bytes);
    }
    if !body.ended {
        repairs.note("a uuencoded file without its end was decoded");
    }
    Cow::Owned(body.bytes)
}

/// Returns whether a text may hold a file.
pub(crate) fn may_hold_file(text: &[u8]) -> bool {
    [&b"\nbegin "[..], b"\nbegin-base64 "]
        .iter()
        .any(|begin| text.starts_with(&begin[1..]) || memmem::find(text, begin).is_some())
}

/// Takes at most `most` files out of a text. Returns them and the rest of the text.
pub(crate) fn take_files(text: &[u8], most: usize, repairs: &mut Repairs) -> (Vec<u8>, Vec<File>) {
    let mut rest = Vec::new();
    let mut files = Vec::new();
    let mut kept = 0;
    let mut at = 0;
    while at < text.len() && files.len() < most {
        let (head, next) = line(text, at);
        let Some(begin) = begin(head) else {
            at = next;
            continue;
        };
        let body = match begin.is_base64 {
            true => base64_body(text, next),
            false => body(text, next),
        };
        // No line of a file looks like a `begin` line, so nothing is read twice.
        let is_whole_enough =
            body.lines >= LINES_WITHOUT_END || body.lines > 0 && body.at >= text.len();
        if body.ended || is_whole_enough && !begin.is_base64 {
            if !body.ended {
                repairs.note("a uuencoded file without its end was decoded");
            }
            rest.extend_from_slice(&text[kept..at]);
            kept = body.at;
            files.push(File {
                name: String::from_utf8_lossy(begin.name).into_owned(),
                bytes: body.bytes,
            });
        }
        at = body.at;
    }
    rest.extend_from_slice(&text[kept..]);
    (rest, files)
}

/// Returns the line at an offset, without its end, and the offset of the next.
fn line(text: &[u8], at: usize) -> (&[u8], usize) {
    let (end, next) = match memchr(b'\n', &text[at..]) {
        Some(found) => (at + found, at + found + 1),
        None => (text.len(), text.len()),
    };
    let line = &text[at..end];
    (line.strip_suffix(b"\r").unwrap_or(line), next)
}

/// The line that begins a file.
struct Begin<'a> {
    name: &'a [u8],
    is_base64: bool,
}

/// Reads a line `begin 644 NAME` or `begin-base64 644 NAME`.
fn begin(line: &[u8]) -> Option<Begin<'_>> {
    let rest = line.strip_prefix(b"begin")?;
    let (rest, is_base64) = match rest.strip_prefix(b"-base64") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let rest = rest.strip_prefix(b" ")?;
    let digits = rest
        .iter()
        .take_while(|b| (b'0'..=b'7').contains(b))
        .count();
    let name = rest[digits..].strip_prefix(b" ")?.trim_ascii();
    ((3..=4).contains(&digits) && !name.is_empty()).then_some(Begin { name, is_base64 })
}

struct Body {
    bytes: Vec<u8>,
    lines: usize,
    ended: bool,
    /// The offset of the first line that is not part of the file.
    at: usize,
}

fn body(text: &[u8], from: usize) -> Body {
    let mut body = Body {
        bytes: Vec::new(),
        lines: 0,
        ended: false,
        at: from,
    };
    while body.at < text.len() {
        let (line, next) = line(text, body.at);
        if line == b"end" {
            body.at = next;
            body.ended = true;
            break;
        }
        if !matches!(line.trim_ascii_end(), b"" | b"`") {
            if !decode_line(line, &mut body.bytes) {
                break;
            }
            body.lines += 1;
        }
        body.at = next;
    }
    body
}

/// Reads lines of base64 up to `====`.
fn base64_body(text: &[u8], from: usize) -> Body {
    let mut body = Body {
        bytes: Vec::new(),
        lines: 0,
        ended: false,
        at: from,
    };
    while body.at < text.len() {
        let (line, next) = line(text, body.at);
        if line == b"====" {
            body.at = next;
            body.ended = true;
            break;
        }
        let Some(decoded) = base64_decode(line).filter(|_| !line.contains(&b' ')) else {
            break;
        };
        body.bytes.extend_from_slice(&decoded);
        body.lines += 1;
        body.at = next;
    }
    body
}

/// Appends the bytes of a line; returns false if the line does not belong to a file.
fn decode_line(line: &[u8], out: &mut Vec<u8>) -> bool {
    let Some((&first, data)) = line.split_first() else {
        return false;
    };
    let value = |b: u8| b.wrapping_sub(b' ') & 0x3f;
    let length = usize::from(value(first));
    let needed = (length * 4).div_ceil(3);
    let padded = length.div_ceil(3) * 4;
    // Transport strips blanks at the end, which are zeros; a checksum may follow.
    let may_be_short = length == 45 && data.len() > padded / 2;
    let in_range = |b: &u8| (b' '..=b'`').contains(b);
    if !in_range(&first)
        || length == 0
        || data.len() > padded + 2
        || data.len() < needed && !may_be_short
        || !data.iter().all(in_range)
    {
        return false;
    }
    let start = out.len();
    for group in data[..data.len().min(padded)].chunks(4) {
        let mut bits = 0u32;
        for index in 0..4 {
            let six = group.get(index).map_or(0, |b| value(*b));
            bits = bits << 6 | u32::from(six);
        }
        out.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    out.resize(start + length, 0);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAT: &str = "begin 644 cat.txt\n#0V%T\n`\nend\n";

    fn taken(text: &str) -> (String, Vec<(String, Vec<u8>)>) {
        let (rest, files) = take_files(text.as_bytes(), 10, &mut Repairs::default());
        let files = files.into_iter().map(|file| (file.name, file.bytes));
        (String::from_utf8(rest).expect("text"), files.collect())
    }

    #[test]
    fn files_are_taken_out_of_a_text() {
        let cat = ("cat.txt".to_owned(), b"Cat".to_vec());
        let (rest, files) = taken(&format!(
            "Hello,\n\n{CAT}Regards\n{}",
            CAT.replace('\n', "\r\n")
        ));
        assert_eq!(rest, "Hello,\n\nRegards\n");
        assert_eq!(files, [cat.clone(), cat]);
    }

    #[test]
    fn the_base64_form_is_taken_too() {
        let (rest, files) = taken("a\nbegin-base64 644 cat.txt\nQ2F0\nQ2F0\n====\nb\n");
        assert_eq!(rest, "a\nb\n");
        assert_eq!(files, [("cat.txt".to_owned(), b"CatCat".to_vec())]);
    }

    #[test]
    fn prose_that_begins_like_a_file_stays() {
        for text in [
            "begin 644 words of a poem\nand go on\nend\n",
            "begin 644 \n#0V%T\n",
            "begin with this\nend\n",
            "Please begin 644 cat.txt\n#0V%T\nend\n",
        ] {
            assert_eq!(taken(text), (text.to_owned(), Vec::new()), "{text}");
        }
    }

    #[test]
    fn a_million_beginnings_are_read_once() {
        let text = "begin 644 x\n".repeat(1_000_000);
        let (rest, files) = taken(&text);
        assert_eq!((rest.len(), files.len()), (text.len(), 0));
    }

    #[test]
    fn blanks_lost_at_the_end_of_a_line_are_zeros() {
        let line = format!("M{}\n", "0V%T".repeat(10));
        let (_, files) = taken(&format!("begin 644 a\n{line}`\nend\n"));
        assert_eq!(files[0].1.len(), 45);
    }
}
