//! The mail that a test of an outgoing sends.

use std::time::{SystemTime, UNIX_EPOCH};

use postroom_core::{Address, MailKind, OutgoingMail};

/// Returns a short mail with a unique Message-ID.
pub(crate) fn test_mail(outgoing: &str, from: &Address, to: &Address) -> OutgoingMail {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let unique = format!(
        "{}.{}",
        now.unwrap_or_default().as_nanos(),
        std::process::id()
    );
    OutgoingMail {
        kind: MailKind::Notification,
        to: vec![to.clone()],
        subject: format!("Postroom test mail from outgoing {outgoing}"),
        text: format!(
            "Somebody ran a test with --send-to to find out whether mail can be sent by outgoing {outgoing}.\n\
             It can. Nothing else needs to be done."
        ),
        html: None,
        message_id: format!("postroom-test.{unique}@{}", from.domain()),
        in_reply_to: None,
        references: Vec::new(),
        reply_token: None,
    }
}
