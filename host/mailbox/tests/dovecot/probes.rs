//! The probe of a mailbox at Dovecot: each step is reported, and the failing one is the last.

use super::*;

#[test]
fn a_probe_walks_every_step_and_changes_nothing() {
    let desk = Desk::new("probed");
    let before = desk.probe(desk.source(desk.bearer()));
    let said = before.last().unwrap().outcome.as_ref().unwrap();
    assert_eq!(said, "the folder is empty");

    desk.append(&[
        b"Subject: older\r\n\r\nprivate".to_vec(),
        b"Subject: the newest\r\n\r\nprivate".to_vec(),
    ]);
    let trace = Trace::new();
    let tokens = desk.tokens().with_trace(trace.clone());
    let settings = ImapSettings {
        port: desk.stand.ports().imap,
        tls: TlsMode::StartTls,
        ..desk.settings()
    };
    let mut source = imap(settings, desk.bearer_of(tokens), desk.tls());
    source.set_trace(trace.clone());
    let steps = desk.probe(source);
    let names: Vec<&str> = steps.iter().map(|step| step.step.name()).collect();
    assert_eq!(
        names,
        [
            "connect",
            "greeting",
            "tls",
            "token",
            "authenticate",
            "select",
            "fetch"
        ]
    );
    let details: Vec<&String> = steps
        .iter()
        .map(|it| it.outcome.as_ref().unwrap())
        .collect();
    assert!(details[2].starts_with("STARTTLS, TLS 1.3"), "{details:#?}");
    assert_eq!(details[5], "INBOX, 2 mails");
    assert!(details[6].ends_with("\"the newest\""), "{details:#?}");
    let stored = desk.stand.folder(&desk.user, "INBOX").unwrap();
    assert!(stored.iter().all(|mail| mail.flags.is_empty()));

    let said: String = trace.take().iter().map(|it| format!("{it}\n")).collect();
    for line in [
        "C: P1 STARTTLS",
        "AUTHENTICATE XOAUTH2 [redacted, ",
        "oauth2/v2.0/token -> HTTP 200",
        "C: P",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert!(!said.contains("private"), "{said}");
    for secret in desk.stand.authority().secrets().unwrap() {
        assert!(!said.contains(&secret), "{secret}\n{said}");
    }
}

#[test]
fn a_probe_ends_at_the_step_that_is_wrong() {
    let desk = Desk::new("probed.in.vain");
    let ports = desk.stand.ports();
    let with = |change: fn(&mut ImapSettings)| {
        let mut settings = desk.settings();
        change(&mut settings);
        desk.failing(imap(settings, desk.bearer(), desk.tls()))
    };

    let (step, error) = with(|it| it.host = "no-such-host.invalid".into());
    let unknown = Unreachable::UnknownHost;
    assert!(
        matches!(error, SourceError::Unreachable { why, .. } if why == unknown),
        "{error:?}"
    );
    assert_eq!(step, "connect");

    let (step, error) = with(|it| it.port = 1);
    let refused = Unreachable::Refused;
    assert!(
        matches!(error, SourceError::Unreachable { why, .. } if why == refused),
        "{error:?}"
    );
    assert_eq!(step, "connect");

    // The modes mixed up: TLS to a port that greets in clear, and silence at a port that waits for TLS.
    let settings = ImapSettings {
        port: ports.imap,
        ..desk.settings()
    };
    let (step, error) = desk.failing(imap(settings, desk.bearer(), desk.tls()));
    assert!(
        matches!(
            error,
            SourceError::Tls {
                cause: Some(rustls::Error::InvalidMessage(_)),
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(step, "tls");
    let (step, error) = with(|it| {
        it.tls = TlsMode::StartTls;
        it.timeouts.connect = Duration::from_secs(1);
    });
    assert!(matches!(error, SourceError::Timeout { .. }), "{error:?}");
    assert_eq!(step, "greeting");

    let nobody = trusting(rustls::RootCertStore::empty());
    let (step, error) = desk.failing(imap(desk.settings(), desk.bearer(), nobody));
    assert!(
        matches!(
            error,
            SourceError::Tls {
                cause: Some(rustls::Error::InvalidCertificate(_)),
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(step, "tls");

    let wrong = [
        desk.bearer_of(desk.tokens_for(OTHER_SCOPE)),
        desk.password("wrong"),
    ];
    for login in wrong {
        let (step, error) = desk.failing(desk.source(login));
        assert!(
            matches!(&error, SourceError::RefusedLogin { code: Some(code), .. } if code == "AUTHENTICATIONFAILED"),
            "{error:?}"
        );
        assert_eq!(step, "authenticate");
    }

    let (step, error) = with(|it| it.folders = vec!["No such folder".into()]);
    assert!(
        matches!(error, SourceError::Folder { missing: true, .. }),
        "{error:?}"
    );
    assert_eq!(step, "select");
}

#[test]
fn a_probe_looks_for_the_folders_that_mail_is_moved_to() {
    let desk = Desk::new("targets");
    desk.append(&mails(1));
    desk.stand.append(&desk.user, "Done", "", mails(1)).unwrap();
    let settings = ImapSettings {
        targets: vec!["Done".into(), "Failed".into()],
        ..desk.settings()
    };
    let login = desk.password(desk.stand.password());
    let steps = desk.probe(imap(settings, login, desk.tls()));
    let told: Vec<&String> = steps
        .iter()
        .filter(|step| step.step == Step::Target)
        .map(|step| step.outcome.as_ref().unwrap())
        .collect();
    assert_eq!(told[0], "Done is there");
    assert!(
        told[1].starts_with("Failed is missing, and would be created as Failed"),
        "{told:?}"
    );
    assert_eq!(desk.count("Failed"), 0);
}
