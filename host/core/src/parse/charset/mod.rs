//! Charsets of mail: their labels, their decoders, and the detector for text whose label is missing or wrong.

mod detect;
mod iso2022;
mod labels;
mod seven_bit;
mod unicode;

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use oem_cp::code_table::DECODING_TABLE_CP_MAP;

pub(crate) use detect::{Guesses, declared_by_page, is_not_western};
pub(crate) use iso2022::Shifted;
pub(crate) use unicode::{mend_utf8, utf_16_without_mark};

/// A charset that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    /// One of the encodings of the WHATWG. Its names are wider than those of mail: `gb2312` is GB18030, `iso-8859-1` is
    /// windows-1252, `ks_c_5601` is windows-949.
    Web(&'static Encoding),
    /// A code page of MS-DOS.
    Dos(u16),
    /// ISO 2022 with seven bits, and the set that is shifted to where none is designated.
    Iso2022(Shifted),
    Hz,
    Utf7,
    /// The byte order is that of the content.
    Utf16,
    /// The byte order is that of the content.
    Utf32,
}

/// Decoded text, and how many characters in it are U+FFFD because their bytes mean nothing in the charset.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub text: String,
    pub errors: usize,
}

/// The meaning of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    /// No charset for bytes above 127: an empty label, or one such as `us-ascii`, `unknown-8bit` or `default`.
    Unstated,
    Unknown,
    Known(Charset),
}

impl Charset {
    pub(crate) const UTF_8: Self = Self::Web(UTF_8);
    pub(crate) const WINDOWS_1252: Self = Self::Web(WINDOWS_1252);

    pub(crate) fn name(self) -> Cow<'static, str> {
        match self {
            Self::Web(encoding) => Cow::Borrowed(encoding.name()),
            Self::Dos(page) => Cow::Owned(format!("cp{page}")),
            Self::Iso2022(Shifted::Katakana) => Cow::Borrowed("ISO-2022-JP"),
            Self::Iso2022(Shifted::Korean) => Cow::Borrowed("ISO-2022-KR"),
            Self::Iso2022(Shifted::Chinese) => Cow::Borrowed("ISO-2022-CN"),
            Self::Hz => Cow::Borrowed("HZ-GB-2312"),
            Self::Utf7 => Cow::Borrowed("UTF-7"),
            Self::Utf16 => Cow::Borrowed("UTF-16"),
            Self::Utf32 => Cow::Borrowed("UTF-32"),
        }
    }

    /// Returns the charset that a byte order mark indicates.
    pub(crate) fn marked(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xef, 0xbb, 0xbf, ..] => Some(Self::UTF_8),
            [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some(Self::Utf32),
            [0xff, 0xfe, ..] => Some(Self::Web(UTF_16LE)),
            [0xfe, 0xff, ..] => Some(Self::Web(UTF_16BE)),
            _ => None,
        }
    }

    /// Returns the charset whose escape sequences the text holds, if it is one of seven bits.
    pub(crate) fn escaped(bytes: &[u8]) -> Option<Self> {
        iso2022::escaped(bytes).map(Self::Iso2022)
    }

    /// Returns whether each character is two or four bytes, so that ASCII is not a subset.
    pub(crate) fn is_wide(self) -> bool {
        matches!(self, Self::Utf16 | Self::Utf32)
            || self == Self::Web(UTF_16LE)
            || self == Self::Web(UTF_16BE)
    }

    /// Returns whether text of the charset has no bytes above 127.
    pub(crate) fn is_seven_bit(self) -> bool {
        matches!(self, Self::Iso2022(_) | Self::Hz | Self::Utf7)
    }

    /// Returns whether the charset has characters of several bytes, most combinations of which mean nothing.
    pub(crate) fn is_multi_byte(self) -> bool {
        matches!(self, Self::Web(encoding) if !encoding.is_single_byte())
    }

    /// Returns how many characters of UTF-8, all valid, show that text labelled with this charset is UTF-8. A single pair of
    /// bytes such as `C3 A4` means nothing sensible in the charsets of Europe, but is a character in those of Asia.
    pub(crate) fn utf_8_proof(self) -> usize {
        match self {
            Self::Web(encoding) if encoding.is_single_byte() => match encoding.name() {
                "windows-874" | "windows-1255" | "windows-1256" | "windows-1258" | "ISO-8859-6"
                | "ISO-8859-8" | "ISO-8859-8-I" => 4,
                _ => 1,
            },
            _ => 4,
        }
    }

    /// Decodes bytes. `cut` means that they may end inside a character.
    pub(crate) fn decode(self, bytes: &[u8], cut: bool) -> Decoded {
        match self {
            Self::Web(encoding) => web(encoding, bytes, cut),
            Self::Dos(page) => match DECODING_TABLE_CP_MAP.get(&page) {
                Some(table) => Decoded::of(table.decode_string_lossy(bytes)),
                None => web(WINDOWS_1252, bytes, cut),
            },
            Self::Iso2022(shifted) => iso2022::decode(bytes, shifted),
            Self::Hz => seven_bit::hz(bytes),
            Self::Utf7 => seven_bit::utf_7(bytes),
            Self::Utf16 => web(unicode::utf_16_order(bytes), bytes, cut),
            Self::Utf32 => unicode::utf_32(bytes),
        }
    }
}

impl Label {
    pub(crate) fn of(label: &str) -> Self {
        labels::meaning(label)
    }

    pub(crate) fn known(label: &str) -> Option<Charset> {
        match Self::of(label) {
            Self::Known(charset) => Some(charset),
            Self::Unstated | Self::Unknown => None,
        }
    }
}

impl Decoded {
    fn of(text: String) -> Self {
        let errors = text.matches('\u{fffd}').count();
        Self { text, errors }
    }

    /// Returns whether so much is unreadable that the charset is probably another one.
    pub(crate) fn is_doubtful(&self) -> bool {
        const MOST_PERCENT: usize = 10;
        self.errors > 0
            && self.errors * 100
                >= self.text.chars().filter(|c| !c.is_ascii()).count() * MOST_PERCENT
    }
}

fn web(encoding: &'static Encoding, bytes: &[u8], cut: bool) -> Decoded {
    if cut {
        let mut decoder = encoding.new_decoder_without_bom_handling();
        let Some(most) = decoder.max_utf8_buffer_length(bytes.len()) else {
            return Decoded::default();
        };
        let mut text = String::with_capacity(most);
        // Not the last: an incomplete character at the end stays inside the decoder.
        let _ = decoder.decode_to_string(bytes, &mut text, false);
        return Decoded::of(text);
    }
    let (text, wrong) = encoding.decode_without_bom_handling(bytes);
    if wrong {
        Decoded::of(text.into_owned())
    } else {
        Decoded {
            text: text.into_owned(),
            errors: 0,
        }
    }
}
