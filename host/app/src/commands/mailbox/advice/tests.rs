//! Each kind of failure has its own advice, with the values that the admin needs filled in.

use postroom_auth::{ClientCredential, Endpoints};
use postroom_net::ConnectError;
use postroom_target::TargetError;
use postroom_target::smtp::{SendError, SmtpStep};
use postroom_target::webhook::{SpeaksOf, WebhookError};

use super::*;
use postroom_config::{EWS, GRAPH, IMAP, POP3, SUBMISSION};

fn profile(provider: Provider, grant: Grant) -> Profile {
    Profile {
        name: "contoso".into(),
        provider,
        directory: Some("contoso.example".into()),
        endpoints: Endpoints::Fixed {
            authorize: None,
            token: "https://login.example/token".parse().unwrap(),
            device: None,
        },
        client_id: "app-1".into(),
        client: ClientCredential::None,
        grant,
        scopes: None,
        tenants: None,
    }
}

fn server(host: &str, tls: TlsMode) -> Server {
    Server {
        host: host.into(),
        port: 4711,
        tls,
    }
}

fn place<'c>(
    protocol: &'static ServerProtocol,
    server: &'c Server,
    profile: Option<&'c Profile>,
) -> Place<'c> {
    Place {
        key: "mailboxes.support".into(),
        protocol: Some(protocol),
        server: Some(server.clone()),
        has_url: false,
        user: "o'hara@acme.example",
        account_login: profile.map(|_| "eva.o'hara@acme.example"),
        address: "support@acme.example",
        profile,
        provider: provider(profile, Some(server)),
    }
}

/// Checks that the advice contains all of these words.
fn assert_says(advice: &Advice, words: &[&str], of: &dyn std::fmt::Debug) {
    let all = format!("{}\n{}", advice.text, advice.steps.join("\n"));
    for word in words {
        assert!(all.contains(word), "{of:?}: {word:?} is not in\n{all}");
    }
}

fn refused(code: Option<&str>) -> SourceError {
    SourceError::RefusedLogin {
        user: "u".into(),
        challenge: None,
        code: code.map(str::to_owned),
        text: "no".into(),
    }
}

fn refused_sending(text: &str) -> SendError {
    SendError::RefusedLogin {
        user: "u".into(),
        code: 535,
        text: text.into(),
        challenge: None,
    }
}

fn certificate(cause: CertificateError) -> SourceError {
    SourceError::Tls {
        reason: "no".into(),
        cause: Some(TlsError::InvalidCertificate(cause)),
    }
}

#[test]
fn connections_and_certificates() {
    let silent = |step| SourceError::Timeout { step, secs: 30 };
    let cases: [(TlsMode, SourceError, &[&str]); 9] = [
        (
            TlsMode::Implicit,
            silent(Step::Connect),
            &["firewall", "nc -vz mail.example 4711"],
        ),
        (
            TlsMode::StartTls,
            silent(Step::Greeting),
            &["tls = \"implicit\"", "port = 993"],
        ),
        (
            TlsMode::Implicit,
            silent(Step::Greeting),
            &["another protocol"],
        ),
        (
            TlsMode::Implicit,
            certificate(CertificateError::UnknownIssuer),
            &["[tls] ca", "openssl s_client -connect mail.example:4711"],
        ),
        (
            TlsMode::StartTls,
            certificate(CertificateError::NotValidForName),
            &["not for the name mail.example", "-starttls imap"],
        ),
        (
            TlsMode::Implicit,
            certificate(CertificateError::Expired),
            &["clock", "date --utc"],
        ),
        (
            TlsMode::Implicit,
            SourceError::Tls {
                reason: "no".into(),
                cause: Some(TlsError::InvalidMessage(
                    rustls::InvalidMessage::InvalidContentType,
                )),
            },
            &["tls = \"starttls\""],
        ),
        (
            TlsMode::StartTls,
            SourceError::Tls {
                reason: "no".into(),
                cause: Some(TlsError::InvalidMessage(
                    rustls::InvalidMessage::InvalidContentType,
                )),
            },
            &["accepted STARTTLS", "certificate"],
        ),
        (
            TlsMode::StartTls,
            SourceError::Tls {
                reason: "STARTTLS refused".into(),
                cause: None,
            },
            &["no STARTTLS", "tls = \"implicit\""],
        ),
    ];
    for (tls, error, words) in cases {
        let server = server("mail.example", tls);
        let advice = place(&IMAP, &server, None).of_source(&error);
        assert_says(&advice, words, &error);
    }
}

#[test]
fn sign_ins_by_provider_and_grant() {
    let microsoft = Provider::Microsoft(&CLOUDS[0]);
    let app_only = profile(microsoft, Grant::ClientCredentials);
    let delegated = profile(microsoft, Grant::DeviceCode);
    let google = profile(Provider::Google, Grant::DeviceCode);
    let custom = profile(Provider::Custom, Grant::ClientCredentials);
    let exchange = server("outlook.office365.com", TlsMode::Implicit);
    let gmail = server("imap.gmail.com", TlsMode::Implicit);
    let other = server("mail.example", TlsMode::Implicit);
    let mailbox = "-Identity 'o''hara@acme.example'";
    let bad = Some("AUTHENTICATIONFAILED");
    let not_connected = || SourceError::NotConnected { text: "no".into() };
    let cases: [(&Server, Option<&Profile>, SourceError, &[&str]); 11] = [
        (
            &exchange,
            Some(&app_only),
            refused(bad),
            &[
                "IMAP.AccessAsApp",
                "New-ServicePrincipal -AppId 'app-1'",
                mailbox,
            ],
        ),
        (
            &exchange,
            Some(&app_only),
            not_connected(),
            &["no access to the mailbox", "Add-MailboxPermission"],
        ),
        (
            &exchange,
            Some(&delegated),
            refused(bad),
            &[
                "shared mailbox",
                "postroom auth status",
                "-ImapEnabled $true",
                mailbox,
            ],
        ),
        (
            &exchange,
            Some(&delegated),
            not_connected(),
            &["Add-MailboxPermission", "-User 'eva.o''hara@acme.example'"],
        ),
        // Behind a custom profile it is Exchange nevertheless.
        (
            &exchange,
            Some(&custom),
            refused(bad),
            &["New-ServicePrincipal"],
        ),
        (
            &exchange,
            None,
            refused(bad),
            &["accepts no passwords for IMAP", "profile ="],
        ),
        (&gmail, Some(&google), refused(bad), &["allow IMAP"]),
        (&gmail, None, refused(Some("ALERT")), &["app password"]),
        (
            &gmail,
            None,
            refused(Some("WEBALERT")),
            &["in a browser once"],
        ),
        (
            &other,
            Some(&custom),
            refused(bad),
            &["cannot tell", "auth_verbose"],
        ),
        (&other, None, refused(bad), &["password is wrong"]),
    ];
    for (server, profile, error, words) in cases {
        let place = place(&IMAP, server, profile);
        assert_says(&place.of_source(&error), words, &(server, &error));
    }
    let place = place(&IMAP, &other, None);
    let advice = place.of_source(&refused(Some("PRIVACYREQUIRED")));
    assert_says(&advice, &["requires TLS first"], &"PRIVACYREQUIRED");
    let unavailable = SourceError::Transient {
        step: Step::Authenticate,
        reason: "[UNAVAILABLE]".into(),
    };
    assert_says(
        &place.of_source(&unavailable),
        &["cannot check sign-ins"],
        &unavailable,
    );
}

#[test]
fn what_only_pop3_servers_refuse() {
    let exchange = server("outlook.office365.com", TlsMode::Implicit);
    let app_only = profile(Provider::Microsoft(&CLOUDS[0]), Grant::ClientCredentials);
    let text = || "no".to_owned();
    let broken = SourceError::Refused {
        step: Step::Authenticate,
        code: Some("SYS/PERM".into()),
        text: text(),
    };
    let cases: [(SourceError, &[&str]); 4] = [
        (
            SourceError::InUse { text: text() },
            &["one at a time", "tries again by itself"],
        ),
        (
            SourceError::NoUniqueIds { text: text() },
            &["no UIDL", "protocol = \"imap\""],
        ),
        (broken, &["permanent failure", "sign-in is not the cause"]),
        (
            refused(Some("AUTH")),
            &[
                "POP.AccessAsApp",
                "-PopEnabled $true",
                "Add-MailboxPermission",
            ],
        ),
    ];
    for (error, words) in cases {
        let advice = place(&POP3, &exchange, Some(&app_only)).of_source(&error);
        assert_says(&advice, words, &error);
    }
}

#[test]
fn a_mailbox_at_graph_by_grant_and_code() {
    let microsoft = Provider::Microsoft(&CLOUDS[0]);
    let app_only = profile(microsoft, Grant::ClientCredentials);
    let delegated = profile(microsoft, Grant::DeviceCode);
    let custom = profile(Provider::Custom, Grant::ClientCredentials);
    let server = server("graph.microsoft.com", TlsMode::Implicit);
    let denied = || SourceError::AccessDenied {
        user: "u".into(),
        code: "ErrorAccessDenied".into(),
        text: "no".into(),
    };
    let no_user = SourceError::Refused {
        step: Step::Select,
        code: Some("ErrorInvalidUser".into()),
        text: "no".into(),
    };
    let trouble = SourceError::Transient {
        step: Step::Select,
        reason: "HTTP 502".into(),
    };
    let unknown_host = SourceError::Unreachable {
        why: Unreachable::UnknownHost,
        reason: "no".into(),
    };
    let scope = "-RecipientRestrictionFilter 'PrimarySmtpAddress -eq ''o''''hara@acme.example'''";
    let cases: [(&Profile, SourceError, &[&str]); 7] = [
        (
            &app_only,
            denied(),
            &[
                "New-ServicePrincipal -AppId 'app-1'",
                scope,
                "-Role 'Application Mail.ReadWrite'",
                "Test-ServicePrincipalAuthorization",
                "New-ApplicationAccessPolicy",
            ],
        ),
        // Behind a custom profile's back it is Graph all the same.
        (&custom, denied(), &["New-ManagementScope"]),
        (
            &delegated,
            denied(),
            &[
                "Mail.ReadWrite.Shared",
                "Add-MailboxPermission -Identity 'o''hara@acme.example' -User 'eva.o''hara@acme.example'",
            ],
        ),
        (
            &delegated,
            refused(Some("InvalidAuthenticationToken")),
            &["token for graph.microsoft.com", "postroom auth status"],
        ),
        (&app_only, no_user, &["no mailbox", "Get-Mailbox"]),
        (&app_only, trouble, &["retries by itself"]),
        (&app_only, unknown_host, &["[mailboxes.support] base_url"]),
    ];
    for (profile, error, words) in cases {
        let place = place(&GRAPH, &server, Some(profile));
        let advice = place.of_source(&error);
        assert_says(&advice, words, &error);
        let all = advice.steps.join("\n");
        assert!(!all.contains("CASMailbox"), "{all}");
    }
    let of_open = |profile| place(&GRAPH, &server, Some(profile)).of_open_mailbox();
    assert_says(
        &of_open(&app_only),
        &["Permissions add up", "in Entra"],
        &"app",
    );
    assert_says(&of_open(&delegated), &["Remove-MailboxPermission"], &"user");
}

#[test]
fn ews_has_rights_and_addresses_of_its_own() {
    let own = server("mail.example", TlsMode::Implicit);
    let place = place(&EWS, &own, None);
    let protocol = SourceError::Protocol {
        step: Step::Select,
        reason: "a redirect".into(),
    };
    let missing = SourceError::Refused {
        step: Step::Select,
        code: Some("404".into()),
        text: "HTTP 404".into(),
    };
    let denied = SourceError::NotConnected { text: "no".into() };
    let cases: [(&SourceError, &[&str]); 4] = [
        (
            &refused(Some("401")),
            &["NTLM is not supported", "-BasicAuthentication $true"],
        ),
        (
            &denied,
            &[
                "New-ManagementRoleAssignment -Role ApplicationImpersonation -User 'o''hara@acme.example'",
                "-Identity 'support@acme.example'",
            ],
        ),
        (
            &protocol,
            &[
                "not Exchange Web Services",
                "https://mail.example:4711/EWS/Exchange.asmx",
            ],
        ),
        (&missing, &["not Exchange Web Services"]),
    ];
    for (error, words) in cases {
        assert_says(&place.of_source(error), words, error);
    }
}

#[test]
fn sending_by_status_code_and_step() {
    let exchange = server("smtp.office365.com", TlsMode::StartTls);
    let gmail = server("smtp.gmail.com", TlsMode::Implicit);
    let app_only = profile(Provider::Microsoft(&CLOUDS[0]), Grant::ClientCredentials);
    let at_sender = |problem: &str| SendError::Permanent {
        step: SmtpStep::Sender,
        code: Some(550),
        problem: problem.into(),
    };
    let cases: [(&Server, Option<&Profile>, SendError, &[&str]); 10] = [
        (
            &exchange,
            Some(&app_only),
            refused_sending("5.7.139 SmtpClientAuthentication is disabled"),
            &[
                "Set-CASMailbox -Identity 'o''hara@acme.example' -SmtpClientAuthenticationDisabled $false",
                "Set-TransportConfig",
            ],
        ),
        (
            &exchange,
            Some(&app_only),
            refused_sending("5.7.3 Authentication unsuccessful"),
            &["SMTP.SendAsApp", "Add-RecipientPermission"],
        ),
        (
            &exchange,
            None,
            refused_sending("5.7.30 Basic"),
            &["no longer accepts passwords"],
        ),
        (
            &exchange,
            None,
            at_sender("5.7.57 Client not authenticated"),
            &["has none"],
        ),
        (
            &exchange,
            None,
            at_sender("5.7.60 no permissions"),
            &[
                "Add-RecipientPermission -Identity 'support@acme.example' -Trustee 'o''hara@acme.example'",
            ],
        ),
        (
            &gmail,
            None,
            refused_sending("5.7.9 Application-specific"),
            &["app password"],
        ),
        (
            &gmail,
            None,
            refused_sending("5.7.14 log in"),
            &["in a browser once"],
        ),
        (
            &exchange,
            None,
            SendError::Unsupported {
                step: SmtpStep::Login,
                feature: "AUTH XOAUTH2",
            },
            &["offers no sign-in", "port = 587"],
        ),
        (
            &exchange,
            None,
            SendError::Unsupported {
                step: SmtpStep::Tls,
                feature: "STARTTLS",
            },
            &["no STARTTLS"],
        ),
        (
            &exchange,
            None,
            SendError::Lost {
                problem: "…".into(),
            },
            &["Check whether it arrived"],
        ),
    ];
    for (server, profile, error, words) in cases {
        let place = place(&SUBMISSION, server, profile);
        assert_says(&place.of_sending(&error), words, &error);
    }
}

#[test]
fn receivers_of_events() {
    let answered = |status| WebhookError::Failed {
        speaks_of: SpeaksOf::Receiver,
        status: Some(status),
        retry_after: None,
        problem: "no".into(),
    };
    let unreachable = |why| {
        WebhookError::Connect(ConnectError::Unreachable {
            why,
            reason: "no".into(),
        })
    };
    let receiver = server("psa.example", TlsMode::Implicit);
    let cases: [(WebhookError, &[&str]); 9] = [
        (answered(308), &["[sinks.psa] url", "redirect"]),
        (answered(401), &["secret", "signature"]),
        (answered(404), &["nothing at this path"]),
        (answered(429), &["too many"]),
        (answered(503), &["its log"]),
        (answered(422), &["real event"]),
        (
            unreachable(Unreachable::UnknownHost),
            &[
                "[sinks.psa] url = \"https://…\"",
                "getent hosts psa.example",
            ],
        ),
        (
            unreachable(Unreachable::Refused),
            &["[sinks.psa] url names now: host psa.example, port 4711"],
        ),
        (
            WebhookError::Connect(ConnectError::Tls {
                reason: "no".into(),
                cause: Some(TlsError::InvalidCertificate(
                    CertificateError::NotValidForName,
                )),
            }),
            &[
                "as the url's host",
                "openssl s_client -connect psa.example:4711",
            ],
        ),
    ];
    for (error, words) in cases {
        let mut place = Place {
            key: "sinks.psa".into(),
            protocol: None,
            has_url: true,
            ..place(&SUBMISSION, &receiver, None)
        };
        let advice = place.of_target(&TargetError::Webhook(error));
        assert_says(&advice, words, &words);
    }
}

#[test]
fn the_alternate_host_is_named_where_it_is_the_one_that_fails() {
    let first = server("smtp.example", TlsMode::Implicit);
    let mut place = place(&SUBMISSION, &first, None);
    let error = TargetError::Alternate {
        host: "smtp2.example".into(),
        error: SendError::Unreachable {
            why: Unreachable::UnknownHost,
            problem: "no".into(),
        },
    };
    assert_says(
        &place.of_target(&error),
        &["getent hosts smtp2.example"],
        &error,
    );
}

#[test]
fn only_known_words_are_filled_in() {
    let word = |word: &str| (word == "user").then(|| "{ann}".to_owned());
    assert_eq!(
        fill("[k] x = { env = \"A\" } {user}, {nobody} {user", word),
        "[k] x = { env = \"A\" } {ann}, {nobody} {user"
    );
}
