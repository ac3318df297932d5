//! RTF of Outlook: decompression (MS-OXRTFCP), and the text, or the page it encapsulates (MS-OXRTFEX).

use std::borrow::Cow;

use super::repairs::Repairs;
use super::{decode, mapi};

/// The initial content of the compression window.
const WINDOW: &[u8] = b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx";
const WINDOW_BYTES: usize = 4096;
const HEADER_BYTES: usize = 16;

/// Groups whose text is not part of the document.
const UNSEEN: &[&str] = &[
    "fonttbl",
    "colortbl",
    "stylesheet",
    "info",
    "pict",
    "object",
    "header",
    "headerl",
    "headerr",
    "headerf",
    "footer",
    "footerl",
    "footerr",
    "footerf",
    "mhtmltag",
];

/// The content of an RTF document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Document {
    Text(String),
    Html(String),
}

/// Decompresses at most `most` bytes; returns `None` if the data is not compressed RTF.
pub(crate) fn decompress(packed: &[u8], most: usize) -> Option<Vec<u8>> {
    let header = packed.get(..HEADER_BYTES)?;
    let raw_size = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    let most = most.min(usize::try_from(raw_size).ok()?);
    let data = &packed[HEADER_BYTES..];
    match &header[8..12] {
        b"MELA" => return Some(data[..data.len().min(most)].to_vec()),
        b"LZFu" => {}
        _ => return None,
    }
    let mut window = [b' '; WINDOW_BYTES];
    window[..WINDOW.len()].copy_from_slice(WINDOW);
    let mut write = WINDOW.len();
    let mut out = Vec::new();
    let mut bytes = data.iter().copied();
    'all: while let Some(control) = bytes.next() {
        for bit in 0..8 {
            if out.len() >= most {
                break 'all;
            }
            let Some(first) = bytes.next() else {
                break 'all;
            };
            if control >> bit & 1 == 0 {
                out.push(first);
                window[write] = first;
                write = (write + 1) % WINDOW_BYTES;
                continue;
            }
            let Some(second) = bytes.next() else {
                break 'all;
            };
            let offset = usize::from(first) << 4 | usize::from(second >> 4);
            if offset == write {
                break 'all;
            }
            for step in 0..usize::from(second & 15) + 2 {
                let byte = window[(offset + step) % WINDOW_BYTES];
                out.push(byte);
                window[write] = byte;
                write = (write + 1) % WINDOW_BYTES;
            }
        }
    }
    out.truncate(most);
    Some(out)
}

/// Reads a document.
pub(crate) fn read(source: &[u8]) -> Document {
    let mut reader = Reader {
        source,
        at: 0,
        group: Group::default(),
        groups: Vec::new(),
        codepage: 1252,
        out: String::new(),
        pending: Vec::new(),
        surrogate: None,
        replaced: 0,
        is_html: false,
    };
    reader.run();
    reader.flush();
    let Reader { out, is_html, .. } = reader;
    if is_html {
        Document::Html(out)
    } else {
        Document::Text(out)
    }
}

/// The state of a group; small, because a document may open millions.
#[derive(Debug, Clone, Copy)]
struct Group {
    unseen: bool,
    /// Inside `\htmltag`, whose text is source of the page.
    tag: bool,
    /// Inside `\htmlrtf`, which only readers of RTF show.
    rtf_only: bool,
    /// How many characters stand in for one of `\u`.
    stand_ins: u8,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            unseen: false,
            tag: false,
            rtf_only: false,
            stand_ins: 1,
        }
    }
}

struct Reader<'a> {
    source: &'a [u8],
    at: usize,
    group: Group,
    groups: Vec<Group>,
    codepage: u32,
    out: String,
    /// Bytes in the document's code page.
    pending: Vec<u8>,
    surrogate: Option<u16>,
    /// How many more characters stand in for one that was read.
    replaced: u8,
    is_html: bool,
}

impl Reader<'_> {
    fn run(&mut self) {
        while let Some(&byte) = self.source.get(self.at) {
            self.at += 1;
            match byte {
                b'{' => {
                    self.flush();
                    self.groups.push(self.group);
                }
                b'}' => {
                    self.flush();
                    self.replaced = 0;
                    self.group = self.groups.pop().unwrap_or_default();
                }
                b'\\' => self.control(),
                b'\r' | b'\n' | 0 => {}
                byte => self.byte(byte),
            }
        }
    }

    fn control(&mut self) {
        let Some(&byte) = self.source.get(self.at) else {
            return;
        };
        if byte.is_ascii_alphabetic() {
            self.word(false);
            return;
        }
        self.at += 1;
        match byte {
            b'\'' => {
                let digit = |at: usize| {
                    let byte = self.source.get(at).copied();
                    byte.filter(u8::is_ascii_hexdigit).map(decode::hex)
                };
                if let (Some(high), Some(low)) = (digit(self.at), digit(self.at + 1)) {
                    self.at += 2;
                    self.byte(high << 4 | low);
                }
            }
            b'*' => {
                if self.source.get(self.at) == Some(&b'\\')
                    && self
                        .source
                        .get(self.at + 1)
                        .is_some_and(u8::is_ascii_alphabetic)
                {
                    self.at += 1;
                    self.word(true);
                } else {
                    self.group.unseen = true;
                }
            }
            b'\r' | b'\n' => self.char('\n'),
            b'~' => self.char('\u{a0}'),
            b'_' => self.char('\u{2011}'),
            b'\\' | b'{' | b'}' => self.byte(byte),
            _ => {}
        }
    }

    fn word(&mut self, may_be_ignored: bool) {
        let from = self.at;
        let run =
            |at: usize, is: fn(&u8) -> bool| self.source[at..].iter().take_while(|b| is(b)).count();
        let end = from + run(from, u8::is_ascii_alphabetic);
        let sign = usize::from(self.source.get(end) == Some(&b'-'));
        let digits = run(end + sign, u8::is_ascii_digit);
        let stop = if digits > 0 { end + sign + digits } else { end };
        let text = |range: std::ops::Range<usize>| {
            std::str::from_utf8(&self.source[range]).unwrap_or_default()
        };
        let word = text(from..end);
        let number: Option<i32> = text(end..stop).parse().ok();
        self.at = stop + usize::from(self.source.get(stop) == Some(&b' '));
        match word {
            "bin" => {
                let bytes = usize::try_from(number.unwrap_or(0)).unwrap_or(0);
                self.at = self.at.saturating_add(bytes).min(self.source.len());
            }
            "fromhtml" => self.is_html = number != Some(0),
            "htmltag" => self.group.tag = true,
            "htmlrtf" => self.group.rtf_only = number != Some(0),
            "ansicpg" => {
                let codepage = number.and_then(|number| u32::try_from(number).ok());
                self.codepage = codepage.unwrap_or(self.codepage);
            }
            "uc" => self.group.stand_ins = number.map_or(1, |number| number.clamp(0, 255) as u8),
            "u" => {
                self.unicode(number.unwrap_or(0));
                self.replaced = self.group.stand_ins;
            }
            "par" | "line" | "row" | "sect" | "page" => self.char('\n'),
            "tab" | "cell" => self.char('\t'),
            "lquote" => self.char('\u{2018}'),
            "rquote" => self.char('\u{2019}'),
            "ldblquote" => self.char('\u{201c}'),
            "rdblquote" => self.char('\u{201d}'),
            "bullet" => self.char('\u{2022}'),
            "endash" => self.char('\u{2013}'),
            "emdash" => self.char('\u{2014}'),
            _ if may_be_ignored || UNSEEN.contains(&word) => self.group.unseen = true,
            _ => {}
        }
    }

    fn unicode(&mut self, number: i32) {
        // Negative numbers are the upper half of 16 bits.
        let unit = number as u16;
        let character = match (self.surrogate.take(), unit) {
            (_, 0xd800..0xdc00) => {
                self.surrogate = Some(unit);
                return;
            }
            (Some(high), 0xdc00..0xe000) => {
                let point =
                    0x10000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(unit) - 0xdc00);
                char::from_u32(point)
            }
            _ => char::from_u32(u32::from(unit)),
        };
        self.replaced = 0;
        self.char(character.unwrap_or(char::REPLACEMENT_CHARACTER));
    }

    fn is_seen(&self) -> bool {
        !self.group.unseen && (!self.is_html || !self.group.rtf_only)
    }

    fn byte(&mut self, byte: u8) {
        if self.replaced > 0 {
            self.replaced -= 1;
        } else if self.is_seen() {
            self.pending.push(byte);
        }
    }

    fn char(&mut self, character: char) {
        if self.is_seen() {
            self.flush();
            self.push(character);
        }
    }

    /// Decodes the bytes that are pending.
    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.pending);
        let charset = mapi::charset(self.codepage).or(Some("windows-1252"));
        let text = decode::text(Cow::Owned(bytes), charset, false, &mut Repairs::default());
        for character in text.chars() {
            self.push(character);
        }
    }

    fn push(&mut self, character: char) {
        if !self.is_html || self.group.tag {
            self.out.push(character);
            return;
        }
        match character {
            '<' => self.out.push_str("&lt;"),
            '>' => self.out.push_str("&gt;"),
            '&' => self.out.push_str("&amp;"),
            _ => self.out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification_are_decompressed() {
        let hello = b"\x2d\0\0\0\x2b\0\0\0LZFu\xf1\xc5\xc7\xa7\x03\0\x0a\0rcpg125B2\x0a\xf3 hel\x09\0 bw\x05\xb0ld}\x0a\x80\x0f\xa0";
        assert_eq!(
            decompress(hello, 1000).as_deref(),
            Some(&b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"[..])
        );
        let crossing = b"\x1a\0\0\0\x1c\0\0\0LZFu\xe2\xd4KQA\0\x04 WXYZ\x0dn}\x01\x0e\xb0";
        assert_eq!(
            decompress(crossing, 1000).as_deref(),
            Some(&b"{\\rtf1 WXYZWXYZWXYZWXYZWXYZ}"[..])
        );
    }

    #[test]
    fn decompression_ends_at_its_limit() {
        let mut bomb = b"\0\0\0\0\xff\xff\xff\xffLZFu\0\0\0\0".to_vec();
        for _ in 0..10_000 {
            bomb.extend_from_slice(&[0xff]);
            bomb.extend_from_slice(&[0x00, 0x1f].repeat(8));
        }
        assert_eq!(decompress(&bomb, 5000).map(|out| out.len()), Some(5000));
    }

    #[test]
    fn documents_become_text_or_html() {
        let text = |text: &str| Document::Text(text.to_owned());
        let html = |text: &str| Document::Html(text.to_owned());
        for (source, expected) in [
            (&br"{\rtf1\ansi hello \b world\b0\par next}"[..], text("hello world\nnext")),
            (br"{\rtf1{\fonttbl{\f0 Arial;}}{\*\generator x;}K\'fchlung}", text("Kühlung")),
            (br"{\rtf1\ansicpg1251 \'cf\'f0\'e8}", text("При")),
            (br"{\rtf1\ansicpg932 \'83\'65}", text("テ")),
            (br"{\rtf1 \u8364?5 \uc2\u-4051??x{\uc0\u252}\u252?}", text("€5 \u{f02d}x\u{fc}\u{fc}")),
            (br"{\rtf1 \u-10179?\u-8704?}", text("\u{1f600}")),
            (br"{\rtf1 a\{b\}\\c\bin3 {}{d}", text("a{b}\\cd")),
            (
                br"{\rtf1\fromhtml1{\*\htmltag64 <p>}\htmlrtf {\htmlrtf0 a & b\htmlrtf\par}\htmlrtf0{\*\htmltag72 </p>}}",
                html("<p>a &amp; b</p>"),
            ),
            (br"}}}{{{", text("")),
        ] {
            assert_eq!(read(source), expected);
        }
    }
}
