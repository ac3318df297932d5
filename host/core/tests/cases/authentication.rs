//! Authentication-Results: only those of the trusted boundary count (RFC 8601 sections 5 and 7.1).

use bytes::Bytes;
use postroom_core::AuthVerdict::{self, Fail, None as Nothing, Pass};

use crate::parse;

/// Returns SPF, DKIM and DMARC of a mail with these headers.
fn said(headers: &str) -> [AuthVerdict; 3] {
    let mail = parse(&Bytes::from(format!("{headers}From: a@b.example\n\nx\n")));
    let said = mail.authentication;
    [said.spf, said.dkim, said.dmarc]
}

const PASS: &str = "Authentication-Results: mx.postroom.example; spf=pass; dkim=pass; dmarc=pass\n";
const FAIL: &str =
    "Authentication-Results: mx.postroom.example; dmarc=fail header.from=b.example\n";
const RECEIVED: &str = "Received: from x by mx; Mon, 4 Mar 2024 10:15:00 +0100\n";
const OTHER: &str = "Authentication-Results: mx.evil.example; dmarc=pass\n";

#[test]
fn the_trusted_boundary_is_believed() {
    assert_eq!(said(PASS), [Pass; 3]);
    assert_eq!(said(FAIL), [Nothing, Nothing, Fail]);
    // The server may stamp the mail before it writes its verdicts.
    assert_eq!(said(&format!("{RECEIVED}{RECEIVED}{PASS}")), [Pass; 3]);
    // One field for each program; if two name the same method, the upper one holds.
    let spf = "Authentication-Results: MX.postroom.example 1; spf=fail (p=none; dmarc=pass)\n";
    assert_eq!(said(&format!("{spf}{FAIL}{PASS}")), [Fail, Pass, Fail]);
}

#[test]
fn what_came_with_the_mail_is_not_believed() {
    assert_eq!(said(OTHER), [Nothing; 3]);
    assert_eq!(said(&format!("{OTHER}{PASS}")), [Nothing; 3]);
    assert_eq!(
        said(&format!("{FAIL}{RECEIVED}{PASS}")),
        [Nothing, Nothing, Fail]
    );
    assert_eq!(
        said(&format!("{FAIL}{OTHER}{PASS}")),
        [Nothing, Nothing, Fail]
    );
    let ids = [
        "mx.postroom.example.evil.example",
        "evil; mx.postroom.example",
        "(mx.postroom.example) evil",
    ];
    for id in ids {
        let forged = format!("Authentication-Results: {id}; dmarc=pass\n");
        assert_eq!(said(&forged), [Nothing; 3], "{id}");
    }
    // The sender chooses the text in quotes and comments.
    for quoted in [
        "spf=fail smtp.mailfrom=\"; dmarc=pass\"@evil.example",
        "spf=fail smtp.mailfrom=\"\\\"; dmarc=pass\"@evil.example",
        "spf=fail (helo; dmarc=pass)",
        "spf=fail (a (b) ; dmarc=pass)",
    ] {
        let field = format!("Authentication-Results: mx.postroom.example; {quoted}\n");
        assert_eq!(said(&field), [Fail, Nothing, Nothing], "{quoted}");
    }
    // An unclosed comment or string may hide anything.
    for open in ["dmarc=pass (", "spf=pass smtp.mailfrom=\"x; dmarc=pass"] {
        let field = format!("Authentication-Results: mx.postroom.example; {open}\n");
        assert_eq!(said(&field), [Fail; 3], "{open}");
    }
}

#[test]
fn without_a_trusted_boundary_nothing_is_believed() {
    let raw = Bytes::from(format!("{PASS}From: a@b.example\n\nx\n"));
    let mail = postroom_core::parse(&raw, &postroom_core::ParseLimits::default(), &[]);
    assert_eq!(mail.authentication.dmarc, Nothing);
}

#[test]
fn a_boundary_without_a_name_is_believed_where_that_is_said() {
    let trusting = |trusted: &str, headers: &str| {
        let raw = Bytes::from(format!("{headers}From: a@b.example\n\nx\n"));
        let limits = postroom_core::ParseLimits::default();
        let said = postroom_core::parse(&raw, &limits, &[trusted.to_owned()]).authentication;
        [said.spf, said.dkim, said.dmarc]
    };
    // As Exchange Online reportedly writes it; this was never tried.
    let exchange = "Authentication-Results: spf=fail (sender IP is 192.0.2.1)\n smtp.mailfrom=b.example; dkim=none (message not signed)\n header.d=none;dmarc=fail action=none header.from=b.example;compauth=fail reason=000\n";
    let forged = "Authentication-Results: spf=pass; dkim=pass; dmarc=pass\n";
    assert_eq!(trusting("(none)", exchange), [Fail, Nothing, Fail]);
    assert_eq!(
        trusting("(none)", &format!("{exchange}{forged}")),
        [Fail, Nothing, Fail]
    );
    assert_eq!(
        trusting("(none)", &format!("{exchange}{RECEIVED}{forged}")),
        [Fail, Nothing, Fail]
    );
    // A field with an authserv-id counts only under that id.
    assert_eq!(trusting("(none)", PASS), [Nothing; 3]);
    assert_eq!(trusting("(none)", &format!("{PASS}{forged}")), [Nothing; 3]);
    assert_eq!(trusting("mx.postroom.example", forged), [Nothing; 3]);
    let hidden = "Authentication-Results: \"x; dmarc=pass\"; spf=fail\n";
    assert_eq!(trusting("(none)", hidden), [Nothing; 3]);
}
