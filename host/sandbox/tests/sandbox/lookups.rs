//! Grants of a script: `ctx.lookup` returns results and is recorded, within its limits; actions that are not granted are
//! refused by name.

use std::sync::Arc;

use postroom_core::lookup::{Known, Query, QueryResult};
use postroom_core::{Action, ActionKind};
use postroom_sandbox::{
    Grants, Limits, Lookup, LookupError, NoKv, Rule, RuleSource, RuleTrouble, Run,
};
use serde_json::json;

use crate::support::{SANDBOX, context, kind, mail};

struct Stated(Known);

impl Lookup for Stated {
    fn ask(&self, question: &Query, most: usize) -> Result<QueryResult, LookupError> {
        Ok(self.0.answer(question, most))
    }
}

fn known() -> Arc<Stated> {
    let known = json!({
        "contacts": [
            {"name": "Ann", "email": "ann@acme.example", "phone": "1", "vip": true, "fields": {"floor": "2"}},
            {"name": "Bob", "email": "bob@acme.example"},
        ],
        "assets": [{"name": "db1", "serial": "SN-1"}],
        "tickets": [{"ticket": "T-7", "title": "Disk full", "fields": {"code": 7, "deep": {"a": [1]}, "on": true}}],
        "alerts": [{"key": "disk/db1", "state": "firing", "host": "db1", "count": 3}],
    });
    Arc::new(Stated(serde_json::from_value(known).unwrap()))
}

fn load(text: &str, grants: &Grants, limits: &Limits) -> Rule {
    let source = RuleSource::Script {
        name: "rules/test.js",
        text,
    };
    SANDBOX.load(source, "{}", grants, limits).unwrap()
}

fn run(body: &str, grants: &Grants, limits: &Limits) -> Run {
    let text = format!("export function decide(mail, ctx) {{ {body} }}");
    load(&text, grants, limits).decide(&mail(), &context(), Arc::new(NoKv), known())
}

fn says(expression: &str) -> String {
    let body = format!("return ignore(String({expression}))");
    match run(&body, &Grants::ALL, &Limits::default())
        .verdict
        .unwrap()
        .unwrap()
        .as_slice()
    {
        [Action::Ignore { reason }] => reason.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn finds_contacts_assets_tickets_and_alerts() {
    for (expression, expected) in [
        ("ctx.lookup.contact('ANN@acme.example').fields.floor", "2"),
        ("ctx.lookup.contact('ann@acme.example').vip", "true"),
        ("ctx.lookup.contact('nobody@acme.example')", "null"),
        ("ctx.lookup.contacts('acme').length", "2"),
        ("ctx.lookup.contacts('bob')[0].phone", "null"),
        ("ctx.lookup.asset('sn-1').name", "db1"),
        ("ctx.lookup.assets('db').length", "1"),
        ("ctx.lookup.ticket('T-7').title", "Disk full"),
        (
            "JSON.stringify(ctx.lookup.ticket('T-7').fields)",
            r#"{"code":7,"deep":{"a":[1]},"on":true}"#,
        ),
        ("ctx.lookup.tickets({ subject: 'disk' })[0].ticket", "T-7"),
        (
            "ctx.lookup.tickets({ field: { name: 'code', value: 7 } }).length",
            "1",
        ),
        ("ctx.lookup.tickets({ requester: 'a@b' }).length", "0"),
        ("ctx.lookup.alert('disk/db1').count", "3"),
        ("ctx.lookup.alerts()[0].host", "db1"),
        ("ctx.lookup.alerts('db2').length", "0"),
    ] {
        assert_eq!(says(expression), expected, "{expression}");
    }
}

#[test]
fn a_question_of_another_shape_is_told() {
    for (body, words) in [
        (
            "ctx.lookup.contact(5)",
            "lookup.contact: the address must be text, not a number",
        ),
        ("ctx.lookup.tickets()", "lookup.tickets: takes one of"),
        (
            "ctx.lookup.tickets({ subject: 'a', requester: 'b' })",
            "takes one of",
        ),
        (
            "ctx.lookup.tickets({ field: 'a' })",
            "the field must be { name, value }",
        ),
    ] {
        let run = run(body, &Grants::ALL, &Limits::default());
        let Err(RuleTrouble::Failure { message, location }) = run.verdict else {
            panic!("{body}: {:?}", run.verdict);
        };
        assert!(message.contains(words), "{message}");
        assert!(location.unwrap().starts_with("rules/test.js:1:"));
    }
}

#[test]
fn questions_and_answers_are_told_with_the_run() {
    let body =
        "ctx.lookup.ticket('T-8'); ctx.lookup.ticket('T-8'); ctx.lookup.contacts('ann'); throw 1";
    let run = run(body, &Grants::ALL, &Limits::default());
    assert_eq!(kind(&run), "failure");
    let asked: Vec<_> = run
        .lookups
        .iter()
        .map(|(it, found)| (it.clone(), found.len()))
        .collect();
    assert_eq!(
        asked,
        [
            (Query::Ticket("T-8".into()), 0),
            (Query::Contacts("ann".into()), 1)
        ]
    );
}

#[test]
fn the_limits_of_lookup_are_obeyed_and_violated() {
    let ask = |times: usize| {
        format!("for (let i = 0; i < {times}; i++) ctx.lookup.contacts('acme'); return pass()")
    };
    let limits = Limits {
        lookups: 5,
        lookup_rows: 1,
        ..Limits::default()
    };
    let obeyed = run(&ask(5), &Grants::ALL, &limits);
    assert_eq!((kind(&obeyed), obeyed.lookups[0].1.len()), ("pass", 1));
    assert_eq!(kind(&run(&ask(6), &Grants::ALL, &limits)), "output");
    let bytes = obeyed.lookups[0].1.bytes();
    for (lookup_bytes, expected) in [(5 * bytes, "pass"), (5 * bytes - 1, "output")] {
        let limits = Limits {
            lookup_bytes,
            ..limits.clone()
        };
        assert_eq!(kind(&run(&ask(5), &Grants::ALL, &limits)), expected);
    }
}

#[test]
fn without_its_grant_lookup_refuses_by_name() {
    let grants = Grants {
        lookup: false,
        ..Grants::ALL
    };
    let run = run("ctx.lookup.contact('a@b')", &grants, &Limits::default());
    let expected = RuleTrouble::NotGranted { import: "lookup" };
    assert_eq!(run.verdict, Err(expected));
    assert!(run.lookups.is_empty());
}

#[test]
fn an_action_that_is_not_granted_is_refused_where_it_is_made() {
    let grants = Grants {
        actions: [ActionKind::Ticket, ActionKind::Ignore]
            .into_iter()
            .collect(),
        ..Grants::default()
    };
    let forward = "return [ticket(),\n forward({ to: 'a@b.example' })]";
    let refused = run(forward, &grants, &Limits::default());
    let Err(RuleTrouble::Failure { message, location }) = refused.verdict else {
        panic!("{:?}", refused.verdict);
    };
    assert!(
        message.contains("forward is not granted to tenant acme"),
        "{message}"
    );
    assert!(location.unwrap().starts_with("rules/test.js:2:"));
    // A script that catches the error continues.
    let caught = "try { return note() } catch { return ticket() }";
    assert_eq!(kind(&run(caught, &grants, &Limits::default())), "actions");
    assert_eq!(
        kind(&run(forward, &Grants::ALL, &Limits::default())),
        "actions"
    );
    // At the top level no grant can be queried; the host refuses the action when it is returned.
    let early = load(
        "const early = forward({ to: 'a@b.example' }); export function decide() { return [ticket(), early] }",
        &grants,
        &Limits::default(),
    );
    let run = early.decide(&mail(), &context(), Arc::new(NoKv), known());
    assert_eq!(kind(&run), "actions");
}
