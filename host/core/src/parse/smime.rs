//! S/MIME messages in one piece (RFC 8551): the content of a signature or of compression, read from BER (ITU-T X.690)
//! without a copy where it is stored in one piece.

use bytes::Bytes;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::headers::{Fields, is_of_mime};
use super::mime::Head;

/// Nesting depth of the pieces of one octet string.
const PIECES_DEPTH: usize = 8;

/// PKCS #7's arc 1.2.840.113549.1.7, without the last number.
const PKCS7: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07];
/// The arc 1.2.840.113549.1.9.16.1 of S/MIME content types, without the last number.
const SMIME_TYPES: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01];

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const CONSTRUCTED: u8 = 0x20;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// The explicit tag `[0]`.
const TAG_0: u8 = 0xa0;

/// The content of an S/MIME message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A MIME entity.
    Signed(Bytes),
    /// A MIME entity.
    Compressed(Bytes),
    Encrypted,
}

/// Returns whether a part claims to be S/MIME in one piece.
pub(crate) fn is_message(head: &Head) -> bool {
    matches!(
        head.content_type(),
        "application/pkcs7-mime" | "application/x-pkcs7-mime"
    ) || head.file_name().is_some_and(|name| {
        let name = name.as_bytes();
        name.len() > 4 && name[name.len() - 4..].eq_ignore_ascii_case(b".p7m")
    })
}

/// Reads a ContentInfo (RFC 5652). Returns `None` if it cannot be read, or if its content is not a mail: a
/// signed document, or certificates alone. At most `most` bytes are put together or decompressed.
pub(crate) fn content(raw: &Bytes, most: usize) -> Option<Content> {
    let mut ber = Ber { raw, at: 0 };
    ber.enter(SEQUENCE)?;
    let kind = ber.primitive(OID)?;
    if let Some(last) = kind.strip_prefix(PKCS7) {
        match last {
            [2] => {
                ber.enter(TAG_0)?;
                ber.enter(SEQUENCE)?;
                ber.skip(INTEGER)?;
                ber.skip(SET)?;
                let content = ber.encapsulated(raw, most)?;
                is_entity(&content).then_some(Content::Signed(content))
            }
            [3 | 4 | 6] => Some(Content::Encrypted),
            _ => None,
        }
    } else {
        match kind.strip_prefix(SMIME_TYPES)? {
            [9] => {
                ber.enter(TAG_0)?;
                ber.enter(SEQUENCE)?;
                ber.skip(INTEGER)?;
                ber.skip(SEQUENCE)?;
                let packed = ber.encapsulated(raw, most)?;
                let content = decompress_to_vec_zlib_with_limit(&packed, most).ok()?;
                is_entity(&content).then(|| Content::Compressed(content.into()))
            }
            // AuthEnvelopedData (RFC 5083).
            [23] => Some(Content::Encrypted),
            _ => None,
        }
    }
}

/// Returns whether content is a MIME entity and not a signed document, such as an invoice.
fn is_entity(content: &[u8]) -> bool {
    const FIELDS_LOOKED_AT: usize = 32;
    Fields::of_part(content, 0)
        .take(FIELDS_LOOKED_AT)
        .any(|field| field.is("MIME-Version") || is_of_mime(field.name.as_bytes()))
}

struct Ber<'a> {
    raw: &'a [u8],
    at: usize,
}

impl<'a> Ber<'a> {
    /// Reads a tag and a length, `None` for an indefinite one.
    fn header(&mut self) -> Option<(u8, Option<usize>)> {
        let tag = *self.raw.get(self.at)?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let first = *self.raw.get(self.at + 1)?;
        self.at += 2;
        let length = match first {
            0x80 => None,
            0..0x80 => Some(usize::from(first)),
            _ => {
                let count = usize::from(first & 0x7f);
                let bytes = self.raw.get(self.at..self.at + count)?;
                self.at += count;
                let length = bytes.iter().try_fold(0usize, |sum, b| {
                    Some(sum.checked_mul(256)? | usize::from(*b))
                })?;
                Some(length)
            }
        };
        Some((tag, length))
    }

    fn enter(&mut self, tag: u8) -> Option<()> {
        (self.header()?.0 == tag).then_some(())
    }

    fn primitive(&mut self, tag: u8) -> Option<&'a [u8]> {
        match self.header()? {
            (found, Some(length)) if found == tag => self.take(length),
            _ => None,
        }
    }

    /// Takes as much as there is: a message may be cut at its end.
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.saturating_add(length).min(self.raw.len());
        let taken = &self.raw[self.at..end];
        self.at = end;
        Some(taken)
    }

    fn skip(&mut self, tag: u8) -> Option<()> {
        let (found, length) = self.header()?;
        if found != tag {
            return None;
        }
        let mut open = 0usize;
        match length {
            Some(length) => {
                self.take(length)?;
            }
            None => open = 1,
        }
        while open > 0 {
            match self.header()? {
                (0, Some(0)) => open -= 1,
                (_, Some(length)) => {
                    self.take(length)?;
                }
                (_, None) => open += 1,
            }
        }
        Some(())
    }

    /// Reads an EncapsulatedContentInfo.
    fn encapsulated(&mut self, whole: &Bytes, most: usize) -> Option<Bytes> {
        self.enter(SEQUENCE)?;
        self.primitive(OID)?;
        self.enter(TAG_0)?;
        match self.header()? {
            (OCTET_STRING, Some(length)) => {
                let piece = self.take(length)?;
                Some(whole.slice_ref(piece))
            }
            (tag, length) if tag == OCTET_STRING | CONSTRUCTED => {
                self.pieces(length, most).map(Bytes::from)
            }
            _ => None,
        }
    }

    /// Joins the pieces of an octet string.
    fn pieces(&mut self, length: Option<usize>, most: usize) -> Option<Vec<u8>> {
        let end_of =
            |at: usize, length: Option<usize>| length.map(|length| at.saturating_add(length));
        let mut out = Vec::new();
        let mut ends = vec![end_of(self.at, length)];
        while let Some(end) = ends.last() {
            if end.is_some_and(|end| self.at >= end) {
                ends.pop();
                continue;
            }
            match self.header() {
                // Cut at its end.
                None => break,
                Some((0, Some(0))) => {
                    ends.pop();
                }
                Some((OCTET_STRING, Some(length))) => {
                    let piece = self.take(length)?;
                    if out.len() + piece.len() > most {
                        return None;
                    }
                    out.extend_from_slice(piece);
                }
                Some((tag, length))
                    if tag == OCTET_STRING | CONSTRUCTED && ends.len() < PIECES_DEPTH =>
                {
                    ends.push(end_of(self.at, length));
                }
                Some(_) => return None,
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTITY: &[u8] = b"Content-Type: text/plain\r\n\r\nsigned";

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag, 0x82];
        out.extend_from_slice(&(content.len() as u16).to_be_bytes());
        out.extend_from_slice(content);
        out
    }

    fn endless(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, 0x80], content, &[0, 0]].concat()
    }

    fn signed(wrap: fn(u8, &[u8]) -> Vec<u8>, octets: &[u8]) -> Bytes {
        let oid = |last: u8| tlv(OID, &[PKCS7, &[last]].concat());
        let inner = wrap(SEQUENCE, &[oid(1), wrap(TAG_0, octets)].concat());
        let data = [
            tlv(INTEGER, &[1]),
            wrap(SET, &wrap(SEQUENCE, &oid(9))),
            inner,
        ]
        .concat();
        let data = wrap(TAG_0, &wrap(SEQUENCE, &data));
        wrap(SEQUENCE, &[oid(2), data].concat()).into()
    }

    #[test]
    fn signed_content_is_found_in_each_encoding() {
        let whole = tlv(OCTET_STRING, ENTITY);
        let halves = [
            tlv(OCTET_STRING, &ENTITY[..10]),
            tlv(OCTET_STRING, &ENTITY[10..]),
        ]
        .concat();
        let nested = endless(OCTET_STRING | CONSTRUCTED, &halves);
        for octets in [
            whole,
            tlv(OCTET_STRING | CONSTRUCTED, &halves),
            endless(OCTET_STRING | CONSTRUCTED, &nested),
            nested,
        ] {
            for wrap in [tlv, endless] {
                let raw = signed(wrap, &octets);
                let found = content(&raw, 1000);
                assert_eq!(found, Some(Content::Signed(Bytes::from_static(ENTITY))));
            }
        }
    }

    #[test]
    fn pieces_over_the_limit_are_not_joined() {
        let pieces = tlv(OCTET_STRING, ENTITY).repeat(3);
        let raw = signed(tlv, &tlv(OCTET_STRING | CONSTRUCTED, &pieces));
        assert_eq!(content(&raw, ENTITY.len() * 3 - 1), None);
        assert!(content(&raw, ENTITY.len() * 3).is_some());
    }

    #[test]
    fn a_signed_document_is_no_mail() {
        let raw = signed(
            tlv,
            &tlv(OCTET_STRING, b"<?xml version=\"1.0\"?><invoice/>"),
        );
        assert_eq!(content(&raw, 1000), None);
    }

    #[test]
    fn damage_at_each_byte_ends() {
        let pieces = tlv(OCTET_STRING, ENTITY);
        let raw = signed(endless, &endless(OCTET_STRING | CONSTRUCTED, &pieces));
        for at in 0..raw.len() {
            content(&raw.slice(..at), 1000);
            for byte in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut damaged = raw.to_vec();
                damaged[at] = byte;
                content(&damaged.into(), 1000);
            }
        }
    }
}
