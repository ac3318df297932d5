//! HTTPS and SOAP of the EWS double: sign-in, impersonation, envelopes, faults, ordered failures and streams.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use roxmltree::{Document, Node};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::operations::{self, Caller, Done, escaped};
use super::schema::{self, MESSAGES, SOAP, TYPES};
use super::{EwsFailure, EwsRequest, Shared};
use crate::PASSWORD;
use crate::authority::{INTROSPECTION_CLIENT, INTROSPECTION_SECRET};
use crate::listener::{hang, locked};
use crate::wire::Wire;

/// The longest head of a request.
const HEAD_BYTES_MAX: u64 = 64 * 1024;
/// The longest body of a request. IIS refuses longer ones too.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The schema versions that a request may use, those without SuppressReadReceipts first.
const VERSIONS: [&str; 9] = [
    "Exchange2007",
    "Exchange2007_SP1",
    "Exchange2010",
    "Exchange2010_SP1",
    "Exchange2010_SP2",
    "Exchange2013",
    "Exchange2013_SP1",
    "Exchange2015",
    "Exchange2016",
];
const OLD_VERSIONS: usize = 5;
/// The pause between two keep-alives on a stream.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A parsed request.
struct Http {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// A complete response.
struct Plain {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

enum Answer {
    Plain(Plain),
    Stream {
        mailbox: String,
        subscriptions: Vec<String>,
        lasts: Duration,
    },
    Hang,
    Drop,
}

pub(super) fn tls(dir: &Path) -> Result<TlsAcceptor> {
    let chain =
        CertificateDer::pem_file_iter(dir.join("server.pem"))?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(dir.join("server.key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves one connection, kept alive as long as the client wants.
pub(super) async fn serve(
    stream: TcpStream,
    tls: &TlsAcceptor,
    shared: &Arc<Shared>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(tls.accept(stream).await?);
    while let Some(http) = read(&mut stream).await? {
        let body = String::from_utf8_lossy(&http.body).into_owned();
        let mut request = EwsRequest {
            operation: String::new(),
            user: String::new(),
            impersonated: None,
            scheme: String::new(),
            body,
            status: None,
            received: SystemTime::now(),
        };
        let answer = answer(&http, &mut request, shared).await;
        request.status = match &answer {
            Answer::Plain(plain) => Some(plain.status),
            Answer::Stream { .. } => Some(200),
            Answer::Hang | Answer::Drop => None,
        };
        locked(&shared.requests).push(request);
        match answer {
            Answer::Plain(plain) => write(&mut stream, &plain).await?,
            Answer::Stream {
                mailbox,
                subscriptions,
                lasts,
            } => notify(&mut stream, shared, &mailbox, &subscriptions, lasts).await?,
            Answer::Hang => hang(&mut stream).await,
            Answer::Drop => return Ok(()),
        }
    }
    Ok(())
}

async fn read<S: tokio::io::AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
) -> Result<Option<Http>> {
    let mut head = Vec::new();
    loop {
        let start = head.len();
        let read = (&mut *stream)
            .take(HEAD_BYTES_MAX)
            .read_until(b'\n', &mut head)
            .await?;
        if read == 0 || head.len() as u64 > HEAD_BYTES_MAX {
            return Ok(None);
        }
        if head[start..].trim_ascii().is_empty() && start > 0 {
            break;
        }
    }
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.lines();
    let mut words = lines
        .next()
        .unwrap_or_default()
        .split(' ')
        .map(str::to_owned);
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .map_or(Ok(0), |it| it.parse())?;
    anyhow::ensure!(length <= BODY_BYTES_MAX, "a request of {length} bytes");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(Http {
        method,
        path,
        headers,
        body,
    }))
}

async fn answer(http: &Http, request: &mut EwsRequest, shared: &Arc<Shared>) -> Answer {
    if !http.path.eq_ignore_ascii_case("/EWS/Exchange.asmx") {
        return Answer::Plain(page(404, "Not Found"));
    }
    let signed_in = sign_in(http, request, shared).await;
    if let Err(refused) = signed_in {
        return Answer::Plain(refused);
    }
    if http.method != "POST" {
        return Answer::Plain(page(405, "Method Not Allowed"));
    }
    let kind = http.headers.get("content-type").map_or("", String::as_str);
    if !kind.starts_with("text/xml") {
        return Answer::Plain(page(415, "Unsupported Media Type"));
    }
    let text = request.body.clone();
    let document = match Document::parse(&text) {
        Ok(document) => document,
        Err(error) => {
            let said = format!("The request failed schema validation: {error}");
            return Answer::Plain(fault("ErrorSchemaValidation", &said, ""));
        }
    };
    let outcome = operate(document.root_element(), request, shared);
    outcome.unwrap_or_else(|refused| Answer::Plain(*refused))
}

/// Determines who signs in.
async fn sign_in(http: &Http, request: &mut EwsRequest, shared: &Arc<Shared>) -> Result<(), Plain> {
    let header = http.headers.get("authorization").map_or("", String::as_str);
    let (scheme, value) = header.split_once(' ').unwrap_or_default();
    request.scheme = scheme.to_owned();
    let refused = |why: &str| {
        let mut plain = page(401, "Unauthorized");
        plain.headers = vec![
            ("WWW-Authenticate", "Basic realm=\"localhost\"".into()),
            (
                "WWW-Authenticate",
                "Bearer client_id=\"00000002-0000-0ff1-ce00-000000000000\"".into(),
            ),
        ];
        if !why.is_empty() {
            plain.headers.push(("x-ms-diagnostics", why.to_owned()));
        }
        plain
    };
    match scheme {
        "Basic" => {
            let pair = BASE64
                .decode(value)
                .ok()
                .and_then(|it| String::from_utf8(it).ok());
            let pair = pair.ok_or_else(|| refused(""))?;
            let (user, password) = pair.split_once(':').ok_or_else(|| refused(""))?;
            if password != PASSWORD {
                return Err(refused(""));
            }
            request.user = user.to_lowercase();
        }
        "Bearer" => {
            let port = shared.introspection_port;
            let token = value.to_owned();
            let claims = tokio::task::spawn_blocking(move || introspect(port, &token)).await;
            let claims = claims.ok().and_then(Result::ok);
            let claims = claims.ok_or_else(|| page(503, "Service Unavailable"))?;
            let claim = |name: &str| claims[name].as_str().unwrap_or_default();
            request.user = match (claim("mail"), claim("delegated")) {
                ("any", _) => "application".into(),
                (_, "yes") => claim("owner").to_lowercase(),
                _ if claims["active"] == true => {
                    return Err(refused(
                        "2000008;reason=\"The token contains no permissions, or permissions can not be understood.\";error_category=\"invalid_grant\"",
                    ));
                }
                _ => {
                    return Err(refused(
                        "2000003;reason=\"The token has expired or is not ours.\";error_category=\"invalid_token\"",
                    ));
                }
            };
        }
        _ => return Err(refused("")),
    }
    Ok(())
}

fn introspect(port: u16, token: &str) -> Result<serde_json::Value> {
    let pair = BASE64.encode(format!("{INTROSPECTION_CLIENT}:{INTROSPECTION_SECRET}"));
    let answer = Wire::plain(port)?.exchange(
        "POST",
        "/token/introspection/ews",
        &[
            ("Authorization", &format!("Basic {pair}")),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ],
        format!("token={token}").as_bytes(),
    )?;
    anyhow::ensure!(answer.status == 200, "introspection: {}", answer.status);
    serde_json::from_slice(&answer.body).context("introspection")
}

/// Reads the envelope and runs the operation in it.
fn operate(
    root: Node<'_, '_>,
    request: &mut EwsRequest,
    shared: &Shared,
) -> Result<Answer, Box<Plain>> {
    let schema = |said: &str| {
        let said = format!("The request failed schema validation: {said}");
        Box::new(fault("ErrorSchemaValidation", &said, ""))
    };
    if !root.has_tag_name((SOAP, "Envelope")) {
        return Err(schema("the root is no SOAP 1.1 envelope"));
    }
    let part = |name: &'static str| root.children().find(|it| it.has_tag_name((SOAP, name)));
    let body = part("Body").ok_or_else(|| schema("there is no Body"))?;
    let mut inside = body.children().filter(Node::is_element);
    let (Some(operation), None) = (inside.next(), inside.next()) else {
        return Err(schema("the Body does not hold one operation"));
    };
    if operation.tag_name().namespace() != Some(MESSAGES) {
        return Err(schema("the operation is in no known namespace"));
    }
    request.operation = operation.tag_name().name().to_owned();
    let headers = part("Header");
    let header = |name: &'static str| {
        headers?
            .children()
            .find(|it| it.has_tag_name((TYPES, name)))
    };
    let version = header("RequestServerVersion").map_or("Exchange2007", |it| {
        it.attribute("Version").unwrap_or_default()
    });
    let Some(version) = VERSIONS.iter().position(|it| *it == version) else {
        return Err(Box::new(fault(
            "ErrorInvalidServerVersion",
            "The specified server version is invalid.",
            "",
        )));
    };
    if let Some(impersonation) = header("ExchangeImpersonation") {
        let sid = impersonation
            .first_element_child()
            .and_then(|it| it.first_element_child());
        let names = ["PrincipalName", "PrimarySmtpAddress", "SmtpAddress"];
        let address = sid
            .filter(|it| names.contains(&it.tag_name().name()))
            .and_then(|it| it.text());
        request.impersonated = Some(
            address
                .ok_or_else(|| schema("ConnectingSID is empty"))?
                .trim()
                .to_owned(),
        );
    }
    let mailboxes = mailboxes(request, shared)?;
    schema::check(operation).map_err(|said| schema(&said))?;

    let mut is_lost = false;
    if let Some(failure) = shared.failure(&mailboxes[0], &request.operation) {
        match failure {
            EwsFailure::Conflict => {
                let mut store = locked(&shared.store);
                let (mailbox, clock) = store.mailbox(&mailboxes[0]);
                for id in operation.descendants().filter_map(|it| it.attribute("Id")) {
                    mailbox.touch(clock, id, None);
                }
            }
            EwsFailure::AnswerLost => is_lost = true,
            failure => return Ok(failed(failure, operation)),
        }
    }
    let caller = Caller {
        mailboxes,
        is_modern: version >= OLD_VERSIONS,
    };
    let done = {
        let mut store = locked(&shared.store);
        operations::run(&mut store, &caller, operation).map_err(|said| schema(&said))?
    };
    shared.has_changed();
    Ok(match done {
        _ if is_lost => Answer::Drop,
        Done::Messages(messages) => {
            Answer::Plain(soap(200, &responses(&request.operation, &messages)))
        }
        Done::Stream {
            mailbox,
            subscriptions,
            lasts,
        } => Answer::Stream {
            mailbox,
            subscriptions,
            lasts,
        },
    })
}

/// Returns the mailboxes that the caller may open, first the one that they act for.
fn mailboxes(request: &EwsRequest, shared: &Shared) -> Result<Vec<String>, Box<Plain>> {
    let rights = locked(&shared.rights);
    let is_application = request.user == "application";
    let refused = |code, said| Err(Box::new(fault(code, said, "")));
    let acting = match &request.impersonated {
        Some(address) => {
            let address = address.to_lowercase();
            if rights.missing.contains(&address) {
                return refused("ErrorNonExistentMailbox", "No mailbox with such guid.");
            }
            let pair = (request.user.clone(), address.clone());
            if !is_application
                && !rights.impersonators.contains(&request.user)
                && !rights.impersonations.contains(&pair)
            {
                return refused(
                    "ErrorImpersonateUserDenied",
                    "The account does not have permission to impersonate the requested user.",
                );
            }
            address
        }
        None if is_application => {
            return refused(
                "ErrorInvalidRequest",
                "ExchangeImpersonation SOAP header must be present for this type of OAuth token.",
            );
        }
        None => request.user.clone(),
    };
    if rights.missing.contains(&acting) {
        return refused("ErrorMissingEmailAddress", "The user has no mailbox.");
    }
    if is_application && rights.closed.contains(&acting) {
        return refused(
            "ErrorAccessDenied",
            "Access is denied. Check credentials and try again.",
        );
    }
    let shares = rights.shares.get(&acting).into_iter().flatten().cloned();
    Ok(std::iter::once(acting.clone())
        .chain(shares.filter(|_| request.impersonated.is_none()))
        .collect())
}

fn failed(failure: EwsFailure, operation: Node<'_, '_>) -> Answer {
    let name = operation.tag_name().name();
    let back_off = |millis: u64| {
        format!(
            "<{{m}}:MessageXml><t:Value Name=\"BackOffMilliseconds\">{millis}</t:Value></{{m}}:MessageXml>"
        )
    };
    let each = |code: &str, more: &str| {
        // There are as many response messages as items in the request.
        let lists = ["ItemIds", "ItemChanges", "FolderIds", "ParentFolderIds"];
        let list = operation
            .children()
            .find(|it| lists.contains(&it.tag_name().name()));
        let count = list.map_or(1, |list| list.children().filter(Node::is_element).count());
        let message = format!(
            "<m:{name}ResponseMessage ResponseClass=\"Error\"><m:MessageText>Ordered by the test.</m:MessageText>\
             <m:ResponseCode>{code}</m:ResponseCode><m:DescriptiveLinkKey>0</m:DescriptiveLinkKey>{more}</m:{name}ResponseMessage>"
        );
        soap(200, &responses(name, &vec![message; count]))
    };
    Answer::Plain(match failure {
        EwsFailure::Busy { back_off_millis } => fault(
            "ErrorServerBusy",
            "The server cannot service this request right now. Try again later.",
            &back_off(back_off_millis).replace("{m}", "t"),
        ),
        EwsFailure::BusyMessage { back_off_millis } => each(
            "ErrorServerBusy",
            &back_off(back_off_millis).replace("{m}", "m"),
        ),
        EwsFailure::Code(code) => each(code, ""),
        EwsFailure::Fault(code) => fault(code, "Ordered by the test.", ""),
        EwsFailure::Status {
            code,
            headers,
            body,
        } => Plain {
            status: code,
            headers,
            body,
        },
        EwsFailure::Hang => return Answer::Hang,
        EwsFailure::AnswerLost | EwsFailure::Conflict => return Answer::Drop,
    })
}

// --- what goes out ---

fn page(status: u16, reason: &str) -> Plain {
    Plain {
        status,
        headers: Vec::new(),
        body: format!(
            "<!DOCTYPE html><html><head><title>{status} {reason}</title></head><body><br></body></html>"
        ),
    }
}

fn fault(code: &str, said: &str, more: &str) -> Plain {
    let said = escaped(said);
    soap(
        500,
        &format!(
            "<s:Fault><faultcode xmlns:a=\"{TYPES}\">a:{code}</faultcode><faultstring xml:lang=\"en-US\">{said}</faultstring>\
             <detail><e:ResponseCode xmlns:e=\"http://schemas.microsoft.com/exchange/services/2006/errors\">{code}</e:ResponseCode>\
             <e:Message xmlns:e=\"http://schemas.microsoft.com/exchange/services/2006/errors\">{said}</e:Message>{more}</detail></s:Fault>"
        ),
    )
}

fn responses(operation: &str, messages: &[String]) -> String {
    format!(
        "<m:{operation}Response><m:ResponseMessages>{}</m:ResponseMessages></m:{operation}Response>",
        messages.concat()
    )
}

fn envelope(body: &str) -> String {
    format!(
        "<s:Envelope xmlns:s=\"{SOAP}\" xmlns:m=\"{MESSAGES}\" xmlns:t=\"{TYPES}\"><s:Header>\
         <h:ServerVersionInfo MajorVersion=\"15\" MinorVersion=\"1\" MajorBuildNumber=\"2507\" MinorBuildNumber=\"6\" \
         Version=\"V2017_07_11\" xmlns:h=\"{TYPES}\"/></s:Header><s:Body>{body}</s:Body></s:Envelope>"
    )
}

fn soap(status: u16, body: &str) -> Plain {
    Plain {
        status,
        headers: vec![("Content-Type", "text/xml; charset=utf-8".into())],
        body: format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>{}",
            envelope(body)
        ),
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), plain: &Plain) -> Result<()> {
    let mut head = format!("HTTP/1.1 {} By the double\r\n", plain.status);
    for (name, value) in &plain.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!(
        "Date: {}\r\nContent-Length: {}\r\n\r\n",
        http_date(),
        plain.body.len()
    ));
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(plain.body.as_bytes()).await?;
    stream.flush().await?;
    Ok(())
}

/// Sends notifications as they arise, each in its own envelope, until time is up.
async fn notify(
    stream: &mut (impl AsyncWrite + Unpin),
    shared: &Shared,
    mailbox: &str,
    subscriptions: &[String],
    lasts: Duration,
) -> Result<()> {
    let head = format!(
        "HTTP/1.1 200 By the double\r\nContent-Type: text/xml; charset=utf-8\r\nDate: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        http_date()
    );
    stream.write_all(head.as_bytes()).await?;
    let mut changed = shared.changed.subscribe();
    let end = tokio::time::Instant::now() + lasts;
    let said = |status: &str| Ok(format!("<m:ConnectionStatus>{status}</m:ConnectionStatus>"));
    let mut next = vec![said("OK")];
    loop {
        for outcome in next.drain(..) {
            let message = operations::message("GetStreamingEvents", outcome);
            let text = envelope(&responses("GetStreamingEvents", &[message]));
            // Sent in two pieces: no client may rely on receiving a notification whole.
            let (one, two) = text.split_at(text.len() / 2);
            for piece in [one, two] {
                stream
                    .write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())
                    .await?;
                stream.flush().await?;
            }
        }
        if tokio::time::Instant::now() >= end {
            break;
        }
        let beat = end.min(tokio::time::Instant::now() + HEARTBEAT);
        let is_beat = tokio::time::timeout_at(beat, changed.changed())
            .await
            .is_err();
        let fresh = notifications(shared, mailbox, subscriptions);
        if fresh.is_none() {
            let message =
                operations::message("GetStreamingEvents", Err("ErrorSubscriptionNotFound"));
            let text = envelope(&responses("GetStreamingEvents", &[message]));
            stream
                .write_all(format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len()).as_bytes())
                .await?;
            stream.flush().await?;
            return Ok(());
        }
        next.extend(fresh.into_iter().flatten().map(Ok));
        if is_beat && next.is_empty() {
            let is_over = tokio::time::Instant::now() >= end;
            next.push(said(if is_over { "Closed" } else { "OK" }));
        }
    }
    stream.write_all(b"0\r\n\r\n").await?;
    stream.flush().await?;
    Ok(())
}

/// Returns the pending notifications of the subscriptions, or `None` if one of them is gone.
fn notifications(shared: &Shared, mailbox: &str, subscriptions: &[String]) -> Option<Vec<String>> {
    let mut store = locked(&shared.store);
    let mut known = subscriptions.iter();
    if !known.all(|id| store.mailbox(mailbox).0.subscriptions.contains_key(id)) {
        return None;
    }
    let fresh = subscriptions.iter();
    Some(
        fresh
            .filter_map(|id| operations::notification(&mut store, mailbox, id))
            .collect(),
    )
}

/// Formats the time as HTTP does (RFC 9110 section 5.6.7).
fn http_date() -> String {
    let secs = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |it| it.as_secs());
    operations::http_date(secs)
}
