//! Scripts: what they see, what they return, how they are loaded, and how they misbehave.

use std::sync::Arc;
use std::time::Duration;

use postroom_core::Action;
use postroom_sandbox::{Grants, Limits, LoadError, NoLookup, RuleSource};

use crate::support::{
    SANDBOX, Shelf, context, decide, kind, mail, parsed, said, says, script, script_within,
};

fn error(text: &str) -> LoadError {
    script(text).unwrap_err()
}

#[test]
fn sees_the_mail_and_its_context() {
    assert_eq!(says("mail.subject"), "[Backup] Job \"nightly\" failed");
    assert_eq!(says("mail.from.email"), "backup@nas.acme.example");
    assert_eq!(says("mail.to.length"), "2");
    assert_eq!(says("mail.headers('x-job').join()"), "nightly,again");
    assert_eq!(says("mail.attachments[0].name"), "r.csv");
    assert_eq!(says("ctx.settings.queue"), "ops");
    assert_eq!(says("ctx.client.name + ctx.thread.ticket"), "AcmeT-12");
    assert_eq!(says("new Date().toISOString()"), "2025-11-03T09:00:01.500Z");
}

/// The same bytes in a text part and in an attachment give the same text.
#[test]
fn an_attachment_reads_as_the_text_does() {
    let rule = script("export function decide(mail) { return ignore(`${mail.text}|${mail.attachments[0].text()}`) }").unwrap();
    for (parameter, bytes, expected) in [
        ("", "=E4=80=F6", "ä€ö"),
        ("", "=C3=A4", "ä"),
        ("; charset=us-ascii", "=E4", "ä"),
        ("; charset=utf-8", "=E4", "ä"),
        ("; charset=x-unheard-of", "=E4", "ä"),
        ("; charset=iso-8859-15", "=A4", "€"),
        ("; charset=utf-7", "+AOQ-.", "ä."),
        ("; charset=cp850", "=84", "ä"),
        // A byte order mark decides.
        ("", "=FF=FE=E4=00", "ä"),
        ("; charset=us-ascii", "=FE=FF=00=E4", "ä"),
        ("; charset=windows-1252", "=EF=BB=BF=C3=A4", "ä"),
    ] {
        let part = format!("Content-Transfer-Encoding: quoted-printable\r\n\r\n{bytes}=\r\n");
        let raw = format!(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain{parameter}\r\n{part}--b\r\nContent-Type: text/csv{parameter}\r\nContent-Disposition: attachment; filename=r.csv\r\n{part}--b--\r\n"
        );
        let run = rule.decide(
            &parsed(&raw),
            &context(),
            Arc::new(Shelf::default()),
            Arc::new(NoLookup),
        );
        let verdict = run.verdict.unwrap().unwrap();
        let expected = format!("{expected}|{expected}");
        assert!(
            matches!(&verdict[..], [Action::Ignore { reason }] if *reason == expected),
            "{parameter} {bytes}: {verdict:?}"
        );
    }
}

/// Mails of programs, whose labels and tables a rule reads.
#[test]
fn labels_and_tables_of_reports() {
    for (case, expression, expected) in [
        (
            "backup-duplicati-labels",
            "['ParsedResult', 'duration:', 'Interrupted', 'Errors', 'Nothing'].map(l => mail.field(l)).join('|')",
            "Error|00:30:23|False|[|",
        ),
        (
            "backup-xen-orchestra-cut-emoji",
            "[mail.field('Error'), mail.field('**Mode**')].join('|')",
            "no space left on device|full",
        ),
        (
            "monitor-cacti-style-in-body",
            "JSON.stringify([mail.table(0), mail.table(1)])",
            r#"[[["Description","Hostname"],["Core switch hall 2","192.0.2.77"],["UPS cellar","192.0.2.80"]],[]]"#,
        ),
        (
            "layout-m365-service-health",
            "mail.field('id') + mail.field('Status:')",
            "EX1184502Service degradation",
        ),
        ("layout-hp-printer", "mail.field('Host name')", "NPI4A11"),
        (
            "layout-prtg",
            "mail.field('Device')",
            "Firewall (198.51.100.1)",
        ),
        (
            "layout-datto-alert",
            "mail.field('Agent')",
            "SRV-FS01 (192.0.2.14)",
        ),
        (
            "layout-table-beside-text",
            "mail.field('Organization')",
            "Globex",
        ),
        (
            "layout-keys-and-values-text",
            "mail.field('主机') + mail.field('exit_code')",
            "srv-上海3",
        ),
    ] {
        let path = format!(
            "{}/../../tests/cases/mail/{case}/mail.eml",
            env!("CARGO_MANIFEST_DIR")
        );
        let raw = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let text =
            format!("export function decide(mail) {{ return ignore(String({expression})) }}");
        let run = script(&text).unwrap().decide(
            &parsed(&raw),
            &context(),
            Arc::new(Shelf::default()),
            Arc::new(NoLookup),
        );
        let verdict = run.verdict.unwrap().unwrap();
        assert!(
            matches!(&verdict[..], [Action::Ignore { reason }] if reason == expected),
            "{case} {expression}: {verdict:?}"
        );
    }
}

#[test]
fn matches_on_the_host() {
    assert_eq!(says("mail.match('text', 'job=(\\\\w+)')[1]"), "nightly");
    // The emoji is two units in JavaScript, and four bytes here.
    assert_eq!(says("mail.match('text', 'job=').index"), "9");
    assert_eq!(
        says("mail.findAll('text', 'job=(?<name>\\\\w+)').map(m => m.groups.name)"),
        "nightly,weekly"
    );
    assert_eq!(
        says("mail.match('header:X-Job', '(?m)^again$') !== null"),
        "true"
    );
}

#[test]
fn the_top_level_is_evaluated_once_and_kept() {
    let rule = script(
        "let count = 0; const table = new Map([['a', 1]]); console.log('loaded');
         export function decide() { count += 1; return ignore(`${count} ${table.get('a')}`) }",
    )
    .unwrap();
    assert_eq!(rule.init_log(), ["info: loaded"]);
    for _ in 0..10 {
        assert_eq!(said(&rule), "1 1");
    }
}

#[test]
fn randomness_depends_on_the_mail_alone() {
    let once = says("Math.random()");
    assert_eq!(once, says("Math.random()"));
}

#[test]
fn remembers_with_kv() {
    let rule = script(
        "export function decide(mail, ctx) {
            const seen = ctx.kv.get('seen') ?? '0';
            ctx.kv.set('seen', String(Number(seen) + 1));
            return ignore(ctx.kv.get('seen'));
        }",
    )
    .unwrap();
    let shelf = Arc::new(Shelf::default());
    shelf.0.lock().unwrap().insert("seen".into(), "41".into());
    let run = rule.decide(&mail(), &context(), shelf, Arc::new(NoLookup));
    assert_eq!(run.kv_reads, [("seen".into(), Some("41".into()))]);
    assert_eq!(run.kv_writes, [("seen".into(), Some("42".into()))]);
}

#[test]
fn what_a_rule_remembers_in_all_is_limited() {
    let limits = Limits {
        kv_total_keys: 1,
        ..Limits::default()
    };
    let text = "export function decide(mail, ctx) {
        ctx.kv.set('a', '1');
        try { ctx.kv.set('b', '1') } catch (error) { return ignore(error.message) }
    }";
    let run = decide(&script_within(text, &limits).unwrap());
    match run.verdict.unwrap().unwrap().as_slice() {
        [Action::Ignore { reason }] => assert!(reason.contains("2 keys in all"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(run.kv_writes, [("a".into(), Some("1".into()))]);
}

#[test]
fn trouble_writes_nothing_and_a_broken_store_is_told() {
    let rule =
        script("export function decide(mail, ctx) { ctx.kv.set('a', 'b'); throw new Error('no') }")
            .unwrap();
    let run = decide(&rule);
    assert_eq!(kind(&run), "failure");
    assert!(run.kv_writes.is_empty());
    let rule = script("export function decide(mail, ctx) { ctx.kv.get('broken') }").unwrap();
    assert!(matches!(
        decide(&rule).verdict,
        Err(postroom_sandbox::RuleTrouble::Kv { .. })
    ));
}

#[test]
fn kv_refuses_by_name_when_it_is_not_granted() {
    let source = RuleSource::Script {
        name: "rules/test.js",
        text: "export function decide(mail, ctx) { ctx.kv.get('a') }",
    };
    let rule = SANDBOX
        .load(source, "{}", &Grants::default(), &Limits::default())
        .unwrap();
    let run = decide(&rule);
    assert_eq!(kind(&run), "not-granted");
    assert!(run.verdict.unwrap_err().to_string().contains("kv"));
}

#[test]
fn errors_point_into_the_file() {
    match error("let a = 1;\n  let a = ;\nexport function decide() {}") {
        LoadError::Script {
            file, line, column, ..
        } => assert_eq!(
            (file.as_str(), line, column > 0),
            ("rules/test.js", 2, true)
        ),
        other => panic!("{other:?}"),
    }
    let thrown = error("\n\nthrow new Error('at once')").to_string();
    assert!(
        thrown.starts_with("rules/test.js:3:") && thrown.contains("at once"),
        "{thrown}"
    );
    assert!(matches!(error("const a = 1"), LoadError::Script { .. }));

    let rule = script("export function decide(mail) {\n  return mail.nothing.there\n}").unwrap();
    let trouble = decide(&rule).verdict.unwrap_err();
    assert_eq!(trouble.kind().name(), "failure");
    assert!(
        trouble.location().unwrap().starts_with("rules/test.js:2:"),
        "{trouble:?}"
    );
}

#[test]
fn the_top_level_is_limited() {
    let limits = Limits {
        init_time: Duration::from_millis(100),
        memory_bytes: 8 << 20,
        ..Limits::default()
    };
    let load = |text: &str| script_within(text, &limits).unwrap_err();
    let endless = load("for (;;) {}");
    assert!(
        matches!(endless, LoadError::InitDeadline { .. }),
        "{endless}"
    );
    let hog = load("const all = []; for (;;) all.push(new Uint8Array(1 << 20))");
    assert!(matches!(hog, LoadError::InitMemory { .. }), "{hog}");
}

#[test]
fn time_memory_and_depth_are_limited() {
    let limits = Limits {
        time: Duration::from_millis(100),
        memory_bytes: 8 << 20,
        ..Limits::default()
    };
    let run = |body: &str| {
        let text = format!("export function decide(mail) {{ {body} }}");
        decide(&script_within(&text, &limits).unwrap())
    };
    let endless = run("for (;;) {}");
    assert_eq!(kind(&endless), "deadline");
    assert!(endless.elapsed < Duration::from_secs(2));
    assert_eq!(kind(&run("for (;;) mail.subject.length")), "deadline");
    assert_eq!(kind(&run("for (;;) mail.match('text', 'job')")), "deadline");
    assert_eq!(
        kind(&run("/^(a+)+$/.test('a'.repeat(40) + 'b')")),
        "deadline"
    );
    let hog = run("const all = []; for (;;) all.push(new Uint8Array(1 << 20))");
    assert_eq!(kind(&hog), "memory");
    assert!(hog.memory_bytes <= 8 << 20);
    let deep = run("const f = () => f() + 1; f()");
    assert!(
        ["failure", "trap"].contains(&kind(&deep)),
        "{:?}",
        deep.verdict
    );
    // The next mail is decided as if nothing had happened.
    assert_eq!(kind(&run("return pass()")), "pass");
}

#[test]
fn output_and_log_are_limited() {
    let run = |body: &str| {
        let text = format!("export function decide(mail) {{ {body} }}");
        decide(&script(&text).unwrap())
    };
    assert_eq!(kind(&run("return ignore('x'.repeat(1 << 21))")), "output");
    assert_eq!(
        kind(&run(
            "return Array(64).fill(expect({key: 'k', within: 60}))"
        )),
        "actions"
    );
    assert_eq!(
        kind(&run(
            "return Array(65).fill(expect({key: 'k', within: 60}))"
        )),
        "output"
    );
    let flood = run("for (let i = 0; i < 5000; i++) console.log('flood ' + i)");
    assert!(flood.log.iter().map(String::len).sum::<usize>() < 17 << 10);
}

#[test]
fn patterns_are_limited() {
    let limits = Limits {
        patterns: 3,
        matches: 2,
        ..Limits::default()
    };
    let run = |body: &str| {
        let text = format!("export function decide(mail) {{ {body} }}");
        decide(&script_within(&text, &limits).unwrap())
    };
    assert_eq!(
        kind(&run("for (const p of 'abc') mail.match('text', p)")),
        "pass"
    );
    assert_eq!(
        kind(&run("for (const p of 'abcd') mail.match('text', p)")),
        "failure"
    );
    assert_eq!(
        kind(&run(
            "return ignore(String(mail.findAll('text', '.').length))"
        )),
        "actions"
    );
    assert_eq!(kind(&run("mail.match('text', '(')")), "failure");
}

#[test]
fn scripts_do_not_see_each_other() {
    let one =
        script("globalThis.mark = 1; export function decide() { return ignore(typeof mark) }")
            .unwrap();
    let two = script("export function decide() { return ignore(typeof mark) }").unwrap();
    for _ in 0..5 {
        assert_eq!(said(&one), "number");
        assert_eq!(said(&two), "undefined");
    }
}
