//! Trusted certificates in addition to the system's: TLS trusts a root regardless of its dates, but admins need a
//! warning.

use jiff::Timestamp;
use jiff::civil::Date;
use postroom_core::harmless::harmless;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{About, NOTICE_DAYS, Notice, day, step};

/// The most characters of a part of a certificate's name that are shown.
const NAME_CHARS: usize = 80;
const CURE: &str = "ask the operator of that server for the CA certificate in use, and put it into the file named by tls.ca";

/// A trusted certificate, as described to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Its subject.
    pub name: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Root {
    /// Returns `None` for a certificate that cannot be parsed, which TLS does not trust either.
    pub fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        let name = certificate.subject().to_string();
        Some(Self {
            name: harmless(&name).chars().take(NAME_CHARS).collect(),
            not_before: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
            not_after: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
        })
    }

    pub(super) fn notice(&self, now: Timestamp) -> Option<Notice> {
        let (today, begins, ends) = (day(now), day(self.not_before), day(self.not_after));
        let notice = |verb: &str, date: Date, step_days| Notice {
            about: About::Root,
            key: "tls.ca".into(),
            message: format!("the CA certificate \"{}\" {verb} {date}", self.name),
            cure: CURE.into(),
            date,
            step_days,
        };
        if now < self.not_before {
            return Some(notice("is not valid before", begins, 0));
        }
        let step_days = step(today, ends, NOTICE_DAYS)?;
        let verb = if ends < today { "ended on" } else { "ends on" };
        Some(notice(verb, ends, step_days))
    }
}
