//! Folder names on the wire: modified UTF-7 (RFC 3501 section 5.1.3), which servers without IMAP4rev2 expect.

use base64::Engine;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::NO_PAD;

/// Returns a folder name as it is sent.
pub(super) fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    let mut other = Vec::new();
    for c in name.chars() {
        if matches!(c, ' '..='~') {
            end_shift(&mut other, &mut encoded);
            encoded.push(c);
            if c == '&' {
                encoded.push('-');
            }
        } else {
            let mut units = [0; 2];
            other.extend(
                c.encode_utf16(&mut units)
                    .iter()
                    .flat_map(|u| u.to_be_bytes()),
            );
        }
    }
    end_shift(&mut other, &mut encoded);
    encoded
}

const BASE64: GeneralPurpose = GeneralPurpose::new(&IMAP_MUTF7, NO_PAD);

fn end_shift(other: &mut Vec<u8>, encoded: &mut String) {
    if !other.is_empty() {
        encoded.push('&');
        BASE64.encode_string(&other, encoded);
        encoded.push('-');
        other.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, wire) in [
            ("INBOX", "INBOX"),
            ("R&D", "R&-D"),
            ("Gel\u{f6}scht", "Gel&APY-scht"),
            ("Envoy\u{e9}s", "Envoy&AOk-s"),
            (
                "~peter/mail/\u{53f0}\u{5317}/\u{65e5}\u{672c}\u{8a9e}",
                "~peter/mail/&U,BTFw-/&ZeVnLIqe-",
            ),
            ("\u{1f600}", "&2D3eAA-"),
        ] {
            assert_eq!(encode(name), wire);
        }
    }
}
