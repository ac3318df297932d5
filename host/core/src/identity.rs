//! Identity of outgoing deliveries: idempotency keys and Message-IDs, derived from the mail that they answer and never
//! from a row.
//!
//! A mail that is decided again, for example after a restore, repeats its keys. A different mail never gets one of them,
//! because Message-ID and content are part of the key. The installation's secret makes both unguessable for the senders of
//! mail, and different from those of every other installation.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{AlertState, ContentHash};

/// The secret of one installation. Its `Debug` output reveals nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct InstallationSecret([u8; SECRET_BYTES]);

/// The identity of a mail.
#[derive(Debug, Clone, Copy)]
pub struct MailIdentity<'a> {
    pub tenant: &'a str,
    pub mailbox: &'a str,
    /// Without angle brackets, as journalled.
    pub message_id: &'a str,
    pub content: &'a ContentHash,
    /// 0, plus one each time the mail is deliberately decided again.
    pub repetition: u32,
}

/// The identity of one change of an alert of Postroom itself. The time keeps it apart from the changes that a restored store no
/// longer knows, the number from those of a clock that was set back.
#[derive(Debug, Clone, Copy)]
pub struct ServiceAlertIdentity<'a> {
    pub tenant: &'a str,
    pub mailbox: &'a str,
    /// The alert's key.
    pub alert: &'a str,
    pub state: AlertState,
    /// In milliseconds since 1970 in UTC.
    pub changed_ms: i64,
    /// The number of the change.
    pub change: u64,
}

const SECRET_BYTES: usize = 32;
/// The block size of SHA-256.
const BLOCK_BYTES: usize = 64;
/// Bytes of the code in a key or a Message-ID: 128 bits, in 32 digits.
const SHOWN_BYTES: usize = 16;

// The purpose of a code, so that codes of different purposes never match.
const DELIVERY: &str = "postroom delivery 1";
const RULE_ALERT: &str = "postroom rule alert 1";
const SERVICE_ALERT: &str = "postroom service alert 1";
const MESSAGE_ID: &str = "postroom message-id 1";
const REPLY_TOKEN: &str = "postroom reply token 1";

impl InstallationSecret {
    pub fn new(random: [u8; SECRET_BYTES]) -> Self {
        Self(random)
    }

    /// Returns the secret in base64, as it is stored.
    pub fn encode(&self) -> String {
        BASE64_STANDARD.encode(self.0)
    }

    /// Returns `None` for anything but the base64 of 32 bytes.
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = BASE64_STANDARD.decode(text.trim()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// Returns the HMAC-SHA-256 of the parts, each preceded by its length, so that two lists of parts never form the same
    /// text.
    fn code(&self, purpose: &str, mail: &MailIdentity<'_>, parts: &[&[u8]]) -> String {
        let repetition = mail.repetition.to_be_bytes();
        let of_mail: [&[u8]; 6] = [
            purpose.as_bytes(),
            mail.tenant.as_bytes(),
            mail.mailbox.as_bytes(),
            mail.message_id.as_bytes(),
            &mail.content.0,
            &repetition,
        ];
        self.code_of(of_mail.iter().chain(parts))
    }

    /// Returns the code that signs the reply token of a client's ticket.
    pub(crate) fn ticket_code(&self, tenant: &str, ticket: i64) -> String {
        let ticket = ticket.to_be_bytes();
        let parts: [&[u8]; 3] = [REPLY_TOKEN.as_bytes(), tenant.as_bytes(), &ticket];
        self.code_of(parts.iter())
    }

    fn code_of<'a>(&self, parts: impl Iterator<Item = &'a &'a [u8]>) -> String {
        use std::fmt::Write;
        // HMAC fills a key up to one block with zeros (RFC 2104 section 2).
        let mut block = [0; BLOCK_BYTES];
        block[..SECRET_BYTES].copy_from_slice(&self.0);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let code = mac.finalize().into_bytes();
        code.iter().take(SHOWN_BYTES).fold(
            String::with_capacity(2 * SHOWN_BYTES),
            |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            },
        )
    }
}

impl std::fmt::Debug for InstallationSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InstallationSecret(…)")
    }
}

impl MailIdentity<'_> {
    /// Returns the idempotency key of the delivery that action number `action` sends to a target.
    pub fn idempotency_key(
        &self,
        secret: &InstallationSecret,
        action: usize,
        target: &str,
    ) -> String {
        let action = (action as u64).to_be_bytes();
        let code = secret.code(DELIVERY, self, &[&action, target.as_bytes()]);
        format!("pr_{code}")
    }

    /// Returns the idempotency key of an alert about a rule that failed on this mail.
    pub fn rule_alert_key(
        &self,
        secret: &InstallationSecret,
        alert: &str,
        state: AlertState,
        target: &str,
    ) -> String {
        let parts = [alert.as_bytes(), state_bytes(state), target.as_bytes()];
        format!("pr_{}", secret.code(RULE_ALERT, self, &parts))
    }

    /// Returns the Message-ID, without angle brackets, of the mail that action number `action` sends.
    pub fn outgoing_message_id(
        &self,
        secret: &InstallationSecret,
        action: usize,
        from_domain: &str,
    ) -> String {
        let action = (action as u64).to_be_bytes();
        let code = secret.code(MESSAGE_ID, self, &[&action]);
        format!("{code}@{from_domain}")
    }
}

impl ServiceAlertIdentity<'_> {
    /// Returns the idempotency key of the delivery of this change to a target.
    pub fn idempotency_key(&self, secret: &InstallationSecret, target: &str) -> String {
        let (changed_ms, change) = (self.changed_ms.to_be_bytes(), self.change.to_be_bytes());
        let parts: [&[u8]; 8] = [
            SERVICE_ALERT.as_bytes(),
            self.tenant.as_bytes(),
            self.mailbox.as_bytes(),
            self.alert.as_bytes(),
            state_bytes(self.state),
            &changed_ms,
            &change,
            target.as_bytes(),
        ];
        format!("pr_{}", secret.code_of(parts.iter()))
    }
}

fn state_bytes(state: AlertState) -> &'static [u8] {
    match state {
        AlertState::Firing => b"firing",
        AlertState::Resolved => b"resolved",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn mail<'a>(tenant: &'a str, mailbox: &'a str, content: &'a ContentHash) -> MailIdentity<'a> {
        MailIdentity {
            tenant,
            mailbox,
            message_id: "a@x",
            content,
            repetition: 0,
        }
    }

    #[test]
    fn a_key_is_the_mail_the_action_the_target_and_the_installation() {
        let (here, there) = (
            InstallationSecret::new([1; 32]),
            InstallationSecret::new([2; 32]),
        );
        let (one, two) = (ContentHash::of(b"one"), ContentHash::of(b"two"));
        let base = mail("acme", "support", &one);
        let key = base.idempotency_key(&here, 0, "psa");
        assert_eq!(key, base.idempotency_key(&here, 0, "psa"));
        assert!(key.len() == 35 && key.starts_with("pr_"), "{key}");

        let others = [
            mail("acm", "esupport", &one),
            mail("acme", "support", &two),
            MailIdentity {
                message_id: "b@x",
                ..base
            },
            MailIdentity {
                repetition: 1,
                ..base
            },
        ];
        let mut seen: BTreeSet<String> = others
            .iter()
            .map(|mail| mail.idempotency_key(&here, 0, "psa"))
            .collect();
        seen.extend([
            key,
            base.idempotency_key(&here, 1, "psa"),
            base.idempotency_key(&here, 0, "psb"),
            base.idempotency_key(&there, 0, "psa"),
            base.rule_alert_key(&here, "rule/a", AlertState::Firing, "psa"),
            base.rule_alert_key(&here, "rule/a", AlertState::Resolved, "psa"),
        ]);
        assert_eq!(seen.len(), 10);
    }

    #[test]
    fn a_message_id_tells_nothing_of_its_making() {
        let (here, there) = (
            InstallationSecret::new([1; 32]),
            InstallationSecret::new([2; 32]),
        );
        let content = ContentHash::of(b"one");
        let base = mail("acme", "support", &content);
        let id = base.outgoing_message_id(&here, 0, "acme.example");
        let (local, domain) = id.split_once('@').unwrap();
        assert_eq!((local.len(), domain), (32, "acme.example"));
        assert_ne!(id, base.outgoing_message_id(&there, 0, "acme.example"));
        assert_ne!(id, base.outgoing_message_id(&here, 1, "acme.example"));
        assert_ne!(
            format!("pr_{local}"),
            base.idempotency_key(&here, 0, "acme.example")
        );
    }

    #[test]
    fn a_secret_is_stored_and_never_printed() {
        let secret = InstallationSecret::new([7; 32]);
        assert_eq!(
            InstallationSecret::decode(&secret.encode()),
            Some(secret.clone())
        );
        assert_eq!(InstallationSecret::decode("AAAA"), None);
        assert_eq!(format!("{secret:?}"), "InstallationSecret(…)");
    }
}
