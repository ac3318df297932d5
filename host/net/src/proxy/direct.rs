//! The hosts that are contacted without the proxy.

use std::net::IpAddr;

/// Hosts that an entry of `no_proxy` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// A domain, in lower case, and every name below it.
    Domain(String),
    /// The addresses that share the first bits with this one. A name is never resolved to compare it.
    Network { address: IpAddr, bits: u8 },
}

impl HostPattern {
    /// Parses `*`, a domain with or without a leading `.` or `*.`, an address or a network such as `10.0.0.0/8`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "*" {
            return Some(Self::Any);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        if let Ok(address) = address.trim_matches(['[', ']']).parse::<IpAddr>() {
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.unwrap_or(most);
            return (bits <= most).then_some(Self::Network { address, bits });
        }
        let domain = text.strip_prefix('*').unwrap_or(text);
        let domain = domain.strip_prefix('.').unwrap_or(domain);
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        (!domain.is_empty() && domain.chars().all(is_name))
            .then(|| Self::Domain(domain.to_ascii_lowercase()))
    }

    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Domain(domain) => {
                let host = host.to_ascii_lowercase();
                host.strip_suffix(domain.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            Self::Network { address, bits } => host
                .parse()
                .is_ok_and(|host: IpAddr| shares(*address, host, *bits)),
        }
    }
}

/// Returns whether two addresses of the same family share their first bits.
fn shares(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let (one, other, width) = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (u128::from(one.to_bits()), u128::from(other.to_bits()), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
        _ => return false,
    };
    // A shift by the full width is no shift at all.
    let rest = width - u32::from(bits);
    (one ^ other).checked_shr(rest).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_a_domain_or_a_network() {
        for (pattern, host, expected) in [
            ("*", "anything.example", true),
            ("corp.example", "corp.example", true),
            ("corp.example", "Mail.Corp.Example", true),
            ("*.corp.example", "mail.corp.example", true),
            (".corp.example", "mail.corp.example", true),
            ("corp.example", "notcorp.example", false),
            ("corp.example", "corp.example.net", false),
            ("10.0.0.0/8", "10.20.30.40", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "ten.example", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("::/0", "2001:db8::1", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe12::1", false),
        ] {
            let parsed = HostPattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(host), expected, "{pattern} {host}");
        }
    }

    #[test]
    fn what_names_no_host_is_no_pattern() {
        for text in [
            "",
            " ",
            "*.",
            "a b",
            "10.0.0.0/33",
            "10.0.0.0/x",
            "proxy:80",
            "http://a",
        ] {
            assert_eq!(HostPattern::parse(text), None, "{text}");
        }
    }
}
