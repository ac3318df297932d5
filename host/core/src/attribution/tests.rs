//! Whom a mail is attributed to, by which evidence.

use super::*;
use crate::parse::parse;

/// Contacts by client and address.
struct Listed(&'static [(&'static str, &'static str, ContactMatch)]);

impl Contacts for Listed {
    fn find(&self, client: &str, email: &str) -> Option<ContactMatch> {
        let mut all = self.0.iter();
        all.find(|(of, address, _)| (*of, *address) == (client, email))
            .map(|it| it.2)
    }
}

fn clients() -> Clients {
    let texts = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let all = [
        (
            "acme",
            texts(&["acme.example", "gmail.com", "shared.example"]),
            texts(&[]),
            texts(&["acme@msp.example"]),
        ),
        (
            "globex",
            texts(&["globex.example", "eu.acme.example", "shared.example"]),
            texts(&["solo@gmail.com"]),
            texts(&["globex@msp.example"]),
        ),
        (
            "hooli",
            texts(&["bücher.example", "example"]),
            texts(&["one+shop@web.de"]),
            texts(&["desk+h@msp.example"]),
        ),
    ];
    let names = all
        .iter()
        .map(|(name, domains, addresses, recipients)| ClientNames {
            name,
            domains,
            addresses,
            recipients,
        });
    Clients::new(names, ["freemail.example".to_owned()])
}

fn mail(headers: &str) -> Message {
    let text = format!("{headers}Subject: x\r\n\r\nx");
    parse(&text.into_bytes().into(), &Default::default(), &[])
}

#[test]
fn a_sender_is_attributed_by_the_narrowest_evidence() {
    let contacts = Listed(&[
        ("acme", "ann@home.example", ContactMatch::Exact),
        ("acme", "annie@home.example", ContactMatch::Alias),
        ("globex", "bob@acme.example", ContactMatch::Exact),
        ("acme", "twice@home.example", ContactMatch::Exact),
        ("globex", "twice@home.example", ContactMatch::Exact),
    ]);
    use ClientEvidence::*;
    type Expected = Option<(ClientEvidence, &'static [&'static str])>;
    let cases: &[(&str, Expected)] = &[
        ("ann@home.example", Some((Contact, &["acme"]))),
        ("ann+news@home.example", Some((Alias, &["acme"]))),
        ("annie@home.example", Some((Alias, &["acme"]))),
        ("SOLO@gmail.com", Some((Contact, &["globex"]))),
        ("solo+x@gmail.com", Some((Alias, &["globex"]))),
        ("one+shop@web.de", Some((Contact, &["hooli"]))),
        ("one@web.de", None),
        ("who@acme.example", Some((Domain, &["acme"]))),
        ("who@ACME.example.", Some((Domain, &["acme"]))),
        // A contact of one client in the domain of another.
        ("bob@acme.example", Some((Contact, &["globex"]))),
        ("who@mail.acme.example", Some((Subdomain, &["acme"]))),
        ("who@eu.acme.example", Some((Domain, &["globex"]))),
        ("who@a.eu.acme.example", Some((Subdomain, &["globex"]))),
        ("who@notacme.example", None),
        ("who@xn--bcher-kva.example", Some((Domain, &["hooli"]))),
        ("who@bücher.example", Some((Domain, &["hooli"]))),
        // Several candidates are named.
        ("who@shared.example", Some((Domain, &["acme", "globex"]))),
        ("twice@home.example", Some((Contact, &["acme", "globex"]))),
        // Never by the domain of a mail service, even if a client names it.
        ("who@gmail.com", None),
        ("who@freemail.example", None),
        ("nobody", None),
        ("", None),
    ];
    let clients = clients();
    for (email, expected) in cases {
        let found = clients.by_sender(email, &contacts);
        let found = found.as_ref().map(|it| {
            let names: Vec<&str> = it.candidates.iter().map(String::as_str).collect();
            (it.evidence, names)
        });
        let expected = expected.map(|(evidence, names)| (evidence, names.to_vec()));
        assert_eq!(found, expected, "{email}");
    }
}

#[test]
fn a_sender_may_belong_to_a_client_whoever_else_they_belong_to() {
    let clients = clients();
    let contacts = Listed(&[("globex", "bob@acme.example", ContactMatch::Exact)]);
    let of = |client: &str, email: &str| clients.evidence_for(client, email, &contacts);
    assert_eq!(of("acme", "bob@acme.example"), Some(ClientEvidence::Domain));
    assert_eq!(
        of("globex", "bob@acme.example"),
        Some(ClientEvidence::Contact)
    );
    assert_eq!(
        of("acme", "who@eu.acme.example"),
        Some(ClientEvidence::Subdomain)
    );
    assert_eq!(of("hooli", "bob@acme.example"), None);
    assert_eq!(of("nobody", "bob@acme.example"), None);
}

#[test]
fn public_domains_of_every_country_are_known() {
    for domain in [
        "gmail.com",
        "outlook.com",
        "outlook.fr",
        "hotmail.co.uk",
        "gmx.de",
        "gmx.net",
        "yahoo.com.br",
        "yahoo.co.jp",
        "yahoo.ne.jp",
        "web.de",
        "qq.com",
        "163.com",
        "live.nl",
        "yandex.ru",
        "t-online.de",
        "icloud.com",
        "proton.me",
    ] {
        let is_known = public_domains::is_public(domain);
        assert!(is_known, "{domain}");
    }
    for domain in [
        "outlook.acme.example",
        "live.events.example",
        "gmxtra.de",
        "acme.com",
        "yahoo.evil.com",
    ] {
        assert!(!public_domains::is_public(domain), "{domain}");
    }
}

#[test]
fn a_mail_is_attributed_by_where_it_arrived() {
    let clients = clients();
    let only = |headers: &str| {
        let found = clients.by_recipient(&mail(headers));
        found.map(|it| it.candidates)
    };
    assert_eq!(
        only("To: Acme <ACME@msp.example>\r\n"),
        Some(vec!["acme".to_owned()])
    );
    assert_eq!(
        only("Cc: globex+x@msp.example\r\n"),
        Some(vec!["globex".to_owned()])
    );
    assert_eq!(
        only("To: desk+h@msp.example\r\n"),
        Some(vec!["hooli".to_owned()])
    );
    assert_eq!(only("To: desk@msp.example\r\n"), None);
    // What the server recorded counts for more than what the sender wrote.
    let both = "X-Original-To: globex@msp.example\r\nTo: acme@msp.example\r\n";
    assert_eq!(only(both), Some(vec!["globex".to_owned()]));
    let two = only("To: globex@msp.example, acme@msp.example\r\n");
    assert_eq!(two, Some(vec!["acme".to_owned(), "globex".to_owned()]));
}

#[test]
fn a_mail_is_attributed_by_the_tag_of_an_own_address() {
    let clients = clients();
    let own = ["support@msp.example".to_owned()];
    let only = |headers: &str| {
        let found = clients.by_plus_address(&mail(headers), &own);
        found.map(|it| it.candidates)
    };
    assert_eq!(
        only("To: support+Acme@msp.example\r\n"),
        Some(vec!["acme".to_owned()])
    );
    assert_eq!(
        only("Delivered-To: support+globex@msp.example\r\nTo: x@y.example\r\n"),
        Some(vec!["globex".to_owned()])
    );
    assert_eq!(only("To: support@msp.example\r\n"), None);
    assert_eq!(only("To: support+nobody@msp.example\r\n"), None);
    assert_eq!(only("To: other+acme@msp.example\r\n"), None);
}

#[test]
fn technicians_are_known_unless_the_boundary_disowns_them() {
    let staff = Staff {
        domains: vec!["msp.example".into()],
        addresses: vec!["freelance@home.example".into()],
    };
    for (from, is_one) in [
        ("tom@msp.example", true),
        ("TOM@MSP.example", true),
        ("freelance+x@home.example", true),
        ("tom@evil.msp.example", false),
        ("tom@notmsp.example", false),
        ("other@home.example", false),
    ] {
        let mut mail = mail(&format!("From: {from}\r\n"));
        assert_eq!(is_staff(&staff, &mail), is_one, "{from}");
        mail.authentication.dmarc = crate::AuthVerdict::Fail;
        assert!(!is_staff(&staff, &mail), "{from}");
    }
}
