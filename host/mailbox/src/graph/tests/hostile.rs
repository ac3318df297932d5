//! Hostile responses: each ends in an error or a timeout, with bounded memory.

use postroom_stand::{Hostile, Then, http_hostilities};
use tokio::time::timeout;

use super::*;

/// The time limit of waits, never reached when everything works.
const PATIENCE: Duration = Duration::from_secs(60);

const SHORT: Duration = Duration::from_millis(150);

fn short(settings: &mut GraphSettings) {
    settings.timeouts.answer = SHORT;
    settings.timeouts.stall = SHORT;
    settings.timeouts.body = SHORT;
}

/// Returns the error of the first fetch from a server that acts like this when asked for a listing.
async fn listing(act: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> SourceError {
    let server = Scripted::start(
        move |asked| match asked.path.contains("/mailFolders/inbox?") {
            true => folder(),
            false => act(asked),
        },
    )
    .await;
    let mut source = server.source_with(Import::All, short);
    source
        .fetch(None, &FetchLimits::default())
        .await
        .unwrap_err()
}

#[tokio::test]
async fn silence_and_trickle_end_in_timeouts() {
    for act in [|_: &Asked| Act::Silence, |_: &Asked| Act::Trickle] {
        let error = listing(act).await;
        assert!(matches!(error, SourceError::Timeout { .. }), "{error}");
        assert!(error.is_transient());
    }
}

#[tokio::test]
async fn json_without_end_is_an_error_and_takes_no_memory() {
    let error = listing(|_| Act::Endless("application/json", 1024 * 1024 * 1024)).await;
    let SourceError::Protocol { reason, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(reason, "a JSON answer of more than 4194304 bytes");
    // This also applies to the text of an error.
    let error = listing(|_| {
        Act::Answer(
            400,
            String::new(),
            "application/json",
            vec![b' '; 10 * 1024 * 1024],
        )
    })
    .await;
    assert_eq!(error.to_string(), "list: refused: HTTP 400");
}

#[tokio::test]
async fn answers_that_are_no_listing_are_refused() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for (kind, body, expected) in [
        ("text/html", "<html>".to_owned(), "an answer of the type \"text/html\" instead of JSON"),
        ("application/json", "{".to_owned(), "JSON that cannot be read"),
        ("application/json", deep, "JSON that cannot be read"),
        ("application/json", "{}".to_owned(), "JSON that cannot be read: missing field `value`"),
        ("application/json", r#"{"value":[]}"#.to_owned(), "neither nextLink nor deltaLink"),
        ("application/json", r#"{"value":[{"id":7}]}"#.to_owned(), "JSON that cannot be read"),
        (
            "application/json",
            r#"{"value":[],"@odata.nextLink":"http://127.0.0.1:1/a","@odata.deltaLink":"http://127.0.0.1:1/b"}"#.to_owned(),
            "both nextLink and deltaLink",
        ),
    ] {
        let error = listing(move |_| Act::Answer(200, String::new(), kind, body.clone().into())).await;
        let SourceError::Protocol { reason, .. } = &error else {
            panic!("{error}")
        };
        assert!(reason.contains(expected), "{reason}");
    }
}

#[tokio::test]
async fn a_link_to_another_host_is_not_followed() {
    for name in ["@odata.nextLink", "@odata.deltaLink"] {
        for link in [
            "https://graph.evil.example/v1.0/x",
            "http://127.0.0.1:1/v1.0/x",
            "https://127.0.0.1/v1.0/x",
            "http://user:pw@127.0.0.1/",
            "/v1.0/x",
            "file:///etc/passwd",
        ] {
            let error = listing(move |_| {
                let mut page = serde_json::json!({"value": []});
                page[name] = link.into();
                json(200, page)
            })
            .await;
            assert!(
                matches!(error, SourceError::Protocol { .. }),
                "{link}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn a_page_that_leads_to_itself_and_a_redirect_are_refused() {
    let server = Scripted::start(|asked| match asked.path.as_str() {
        path if path.contains("/mailFolders/inbox?") => folder(),
        _ => {
            let host = asked
                .head
                .lines()
                .find_map(|line| line.strip_prefix("host: "))
                .unwrap();
            let link = format!("http://{host}/v1.0/again");
            json(
                200,
                serde_json::json!({"value": [], "@odata.nextLink": link}),
            )
        }
    })
    .await;
    let mut source = server.source();
    let error = source
        .fetch(None, &FetchLimits::default())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a page whose next page is itself"),
        "{error}"
    );

    let error = listing(|_| {
        let headers = "location: http://127.0.0.1:1/\r\n".to_owned();
        Act::Answer(302, headers, "text/plain", Vec::new())
    })
    .await;
    assert!(error.to_string().contains("a redirect"), "{error}");
}

#[tokio::test]
async fn a_place_that_is_lost_at_once_does_not_turn_in_circles() {
    let server = Scripted::start(|asked| match asked.path.contains("/mailFolders/inbox?") {
        true => folder(),
        false => error(410, "syncStateNotFound", ""),
    })
    .await;
    let mut source = server.source();
    let error = source
        .fetch(None, &FetchLimits::default())
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(server.count("delta"), 2);
}

/// Returns the result of loading one mail from a server that acts like this.
async fn loading(act: fn() -> Act, limits: &FetchLimits) -> Result<Batch, SourceError> {
    let server = Scripted::start(move |asked| match asked.path.as_str() {
        path if path.contains("/mailFolders/inbox?") => folder(),
        path if path.ends_with("/$value") => act(),
        _ => {
            let host = asked
                .head
                .lines()
                .find_map(|line| line.strip_prefix("host: "))
                .unwrap();
            let link = format!("http://{host}/v1.0/d");
            json(
                200,
                serde_json::json!({"value": [{"id": "A"}], "@odata.deltaLink": link}),
            )
        }
    })
    .await;
    server
        .source_with(Import::All, short)
        .fetch(None, limits)
        .await
}

#[tokio::test]
async fn a_mail_without_end_is_cut_at_the_limit_and_a_page_is_no_mail() {
    let limits = FetchLimits {
        raw_bytes: 1024 * 1024,
        ..FetchLimits::default()
    };
    let batch = loading(|| Act::Endless("text/plain", 1024 * 1024 * 1024), &limits).await;
    let mail = &batch.unwrap().messages[0];
    assert_eq!((mail.bytes.len(), mail.size), (64 * 1024, 1024 * 1024 + 1));
    for act in [
        || Act::Answer(200, String::new(), "text/html", b"<html>".to_vec()),
        || json(200, "{}"),
    ] {
        let error = loading(act, &limits).await.unwrap_err();
        assert!(error.to_string().contains("instead of a mail"), "{error}");
    }
    // Without a length, a cut connection looks like the end of the mail.
    let error = loading(|| Act::Endless("text/plain", 64 * 1024), &limits).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("which may be cut off"), "{error}");
    let error = loading(|| Act::Silence, &limits).await.unwrap_err();
    assert!(matches!(error, SourceError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn what_a_server_says_is_shown_without_the_token_and_control_characters() {
    let error = listing(|_| {
        json(
            400,
            serde_json::json!({"error": {"code": "Bad\u{1b}[31m", "message": format!("tok1 {}", "x".repeat(1000))}}),
        )
    })
    .await;
    let text = error.to_string();
    assert!(
        !text.contains("tok1") && !text.contains('\u{1b}') && text.len() < 500,
        "{text}"
    );
}

/// Returns whether a request is the one at this stage of a fetch.
fn is_at(stage: &str, path: &str) -> bool {
    match stage {
        "folder" => path.contains("/mailFolders/inbox?"),
        "mail" => path.ends_with("/$value"),
        _ => !is_at("folder", path) && !is_at("mail", path),
    }
}

/// Returns what an honest server with one mail answers.
fn honest(asked: &Asked) -> Act {
    if is_at("folder", &asked.path) {
        return folder();
    }
    if is_at("mail", &asked.path) {
        return mime("Subject: a\r\n\r\nhelp\r\n");
    }
    let host = asked.head.lines();
    let host = host
        .filter_map(|line| line.strip_prefix("host: "))
        .next()
        .unwrap();
    let link = format!("http://{host}/v1.0/d");
    json(
        200,
        serde_json::json!({"value": [{"id": "A"}], "@odata.deltaLink": link}),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_answer_ends_at_every_stage() {
    let limits = FetchLimits {
        raw_bytes: 1024 * 1024,
        ..FetchLimits::default()
    };
    for stage in ["folder", "list", "mail"] {
        for (name, hostility) in http_hostilities("200 OK") {
            let at = format!("{name} at {stage}");
            let server = Scripted::start(move |asked| match is_at(stage, &asked.path) {
                true => Act::Play(hostility.clone()),
                false => honest(asked),
            })
            .await;
            let mut source = server.source_with(Import::All, short);
            let fetched = timeout(PATIENCE, source.fetch(None, &limits)).await;
            match fetched.unwrap_or_else(|_| panic!("{at}: no end")) {
                // A mail may be any bytes; one without end is cut.
                Ok(batch) if stage == "mail" => {
                    let kept = batch.messages.iter().map(|mail| mail.bytes.len());
                    assert!(kept.sum::<usize>() <= 1024 * 1024, "{at}");
                }
                Ok(_) => panic!("{at}: believed"),
                Err(error) => assert!(
                    matches!(
                        error,
                        SourceError::Timeout { .. }
                            | SourceError::Transient { .. }
                            | SourceError::Unreachable { .. }
                            | SourceError::Protocol { .. }
                    ),
                    "{at}: {error:?}"
                ),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_takes_the_token_nowhere() {
    let elsewhere = Hostile::start(Hostility::new("", Then::Close)).unwrap();
    let port = elsewhere.port();
    for stage in ["folder", "list", "mail"] {
        for status in [301, 302, 303, 307, 308] {
            let server = Scripted::start(move |asked| match is_at(stage, &asked.path) {
                true => {
                    let headers = format!("location: http://127.0.0.1:{port}/v1.0\r\n");
                    Act::Answer(status, headers, "text/plain", Vec::new())
                }
                false => honest(asked),
            })
            .await;
            let mut source = server.source_with(Import::All, short);
            let error = source.fetch(None, &FetchLimits::default()).await;
            let error = error.unwrap_err().to_string();
            assert!(error.contains("a redirect"), "{stage} {status}: {error}");
        }
    }
    assert_eq!(elsewhere.connections(), 0);
}
