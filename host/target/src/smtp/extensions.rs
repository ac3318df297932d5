//! The extensions of a server (RFC 5321 section 4.1.1.1): the keywords of its reply to EHLO, in any case.

use crate::smtp::reply::Reply;

/// The server's name and its extensions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Extensions {
    pub server: String,
    pub start_tls: bool,
    pub eight_bit_mime: bool,
    pub pipelining: bool,
    pub smtp_utf8: bool,
    /// Whether SIZE is a parameter of MAIL FROM (RFC 1870).
    pub size: bool,
    /// The largest mail in bytes, if the server states it.
    pub size_max: Option<u64>,
    /// Authentication mechanisms, in upper case.
    mechanisms: Vec<String>,
}

impl Extensions {
    /// Parses a reply to EHLO, or to HELO, which contains only the name.
    pub fn read(reply: &Reply) -> Self {
        let mut lines = reply.lines.iter().map(|line| String::from_utf8_lossy(line));
        let first = lines.next().unwrap_or_default();
        let mut read = Self {
            server: first.split_whitespace().next().unwrap_or_default().into(),
            ..Self::default()
        };
        for line in lines {
            // Before RFC 2554 it was written AUTH=PLAIN LOGIN, and some servers send both forms.
            let line = line.to_ascii_uppercase().replacen("AUTH=", "AUTH ", 1);
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("STARTTLS") => read.start_tls = true,
                Some("PIPELINING") => read.pipelining = true,
                Some("8BITMIME") => read.eight_bit_mime = true,
                Some("SMTPUTF8") => read.smtp_utf8 = true,
                Some("SIZE") => {
                    read.size = true;
                    let max = words.next().and_then(|max| max.parse().ok());
                    // 0 states no limit.
                    read.size_max = max.filter(|max| *max > 0);
                }
                Some("AUTH") => read.mechanisms.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        read
    }

    /// Returns whether the server offers `mechanism`, given in upper case.
    pub fn can_sign_in_by(&self, mechanism: &str) -> bool {
        self.mechanisms.iter().any(|offered| offered == mechanism)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_read_in_any_case() {
        for lines in [
            &["mx hello", "STARTTLS", "SIZE 1000", "AUTH PLAIN LOGIN"][..],
            &["mx", "starttls", "size 1000", "auth plain login"],
            &["mx", "StartTLS", "Size  1000", "AUTH=PLAIN LOGIN"],
            &["mx", "starttls", "SIZE 1000", "auth=plain", "auth login"],
        ] {
            let lines = lines.iter().map(|line| line.as_bytes().into()).collect();
            let read = Extensions::read(&Reply { code: 250, lines });
            assert_eq!(read.server, "mx");
            assert!(read.start_tls && read.size && !read.smtp_utf8);
            assert_eq!(read.size_max, Some(1000));
            assert!(read.can_sign_in_by("PLAIN") && read.can_sign_in_by("LOGIN"));
            assert!(!read.can_sign_in_by("XOAUTH2"));
        }
        for (size, max) in [("SIZE", None), ("SIZE 0", None), ("SIZE x", None)] {
            let lines = vec!["mx".into(), size.into()];
            let read = Extensions::read(&Reply { code: 250, lines });
            assert_eq!((read.size, read.size_max), (true, max), "{size}");
        }
    }
}
