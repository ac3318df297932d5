//! Shared parts of the tests: one sandbox, one mail, and a short way to load and decide.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use postroom_core::parse::{ParseLimits, parse};
use postroom_core::{Action, Client, Context, Message, Thread};
use postroom_sandbox::{
    Grants, Kv, KvError, Limits, LoadError, NoLookup, Rule, RuleSource, Run, Sandbox, SandboxConfig,
};

/// The sandbox, with a cache, so that the interpreter is compiled once for all runs of the tests.
pub static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| {
    Sandbox::new(SandboxConfig {
        cache_dir: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")),
        ..SandboxConfig::default()
    })
    .unwrap()
});

const MAIL: &str = "From: Backup <backup@nas.acme.example>\r\n\
    To: support@msp.example, \"Second\" <second@msp.example>\r\n\
    Subject: [Backup] Job \"nightly\" failed\r\n\
    Message-ID: <one@nas.acme.example>\r\n\
    Date: Mon, 3 Nov 2025 10:00:00 +0100\r\n\
    X-Job: nightly\r\n\
    X-Job: again\r\n\
    MIME-Version: 1.0\r\n\
    Content-Type: multipart/mixed; boundary=b\r\n\
    \r\n\
    --b\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    \r\n\
    h\u{e9}llo \u{1f600} job=nightly code=7\r\n\
    job=weekly code=0\r\n\
    --b\r\n\
    Content-Type: text/csv; charset=iso-8859-1\r\n\
    Content-Disposition: attachment; filename=r.csv\r\n\
    Content-Transfer-Encoding: base64\r\n\
    \r\n\
    5GI7MQ==\r\n\
    --b--\r\n";

pub fn mail() -> Arc<Message> {
    parsed(MAIL)
}

pub fn parsed(raw: &str) -> Arc<Message> {
    let bytes = raw.as_bytes().to_vec().into();
    Arc::new(parse(&bytes, &ParseLimits::default(), &[]))
}

pub fn context() -> Context {
    Context {
        tenant: "acme".into(),
        mailbox: "acme-support".into(),
        client: Some(Client {
            name: "Acme".into(),
            sure: true,
            evidence: postroom_core::ClientEvidence::Domain,
            candidates: Vec::new(),
        }),
        staff: true,
        thread: Some(Thread {
            ticket: "T-12".into(),
            method: postroom_core::ThreadMethod::Subject,
            authorised: false,
        }),
        now: "2025-11-03T09:00:01.500Z".into(),
        ..Context::default()
    }
}

/// A store behind `kv`.
#[derive(Default)]
pub struct Shelf(pub Mutex<HashMap<String, String>>);

impl Kv for Shelf {
    fn get(&self, key: &str) -> Result<Option<String>, KvError> {
        match key {
            "broken" => Err(KvError("the disk is gone".into())),
            key => Ok(self.0.lock().unwrap().get(key).cloned()),
        }
    }
}

pub fn script(text: &str) -> Result<Rule, LoadError> {
    script_within(text, &Limits::default())
}

pub fn script_within(text: &str, limits: &Limits) -> Result<Rule, LoadError> {
    let source = RuleSource::Script {
        name: "rules/test.js",
        text,
    };
    SANDBOX.load(source, r#"{"queue":"ops"}"#, &Grants::ALL, limits)
}

pub fn component(bytes: &[u8], limits: &Limits) -> Result<Rule, LoadError> {
    let source = RuleSource::Component {
        name: "plugins/test.wasm",
        bytes,
    };
    SANDBOX.load(source, "{}", &Grants::ALL, limits)
}

pub fn decide(rule: &Rule) -> Run {
    rule.decide(
        &mail(),
        &context(),
        Arc::new(Shelf::default()),
        Arc::new(NoLookup),
    )
}

/// Returns the kind of a rule's trouble, or of its decision.
pub fn kind(run: &Run) -> &'static str {
    match &run.verdict {
        Ok(None) => "pass",
        Ok(Some(_)) => "actions",
        Err(trouble) => trouble.kind().name(),
    }
}

/// Returns a script's text about the mail: the reason with which it ignores the mail.
pub fn says(expression: &str) -> String {
    let text =
        format!("export function decide(mail, ctx) {{ return ignore(String({expression})) }}");
    said(&script(&text).unwrap())
}

pub fn said(rule: &Rule) -> String {
    match decide(rule).verdict.unwrap().unwrap().as_slice() {
        [Action::Ignore { reason }] => reason.clone(),
        other => panic!("{other:?}"),
    }
}
