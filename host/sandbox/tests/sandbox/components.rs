//! Components: their decisions, the reasons for refusing them, and their misbehaviour.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postroom_core::Action;
use postroom_sandbox::{
    Grants, Limits, LoadError, NoLookup, RuleSource, RuleTrouble, componentize,
};

use crate::guests::{core, foreign, rule};
use crate::support::{SANDBOX, Shelf, component, context, decide, kind, mail, parsed};

/// Returns `pass`: a result of zeros.
const PASS: &str = "(i32.const 16)";
const LOG: &str = r#"(import "postroom:plugin/log@2.0.0" "log" (func $log (param i32 i32 i32)))"#;
const CLASSIFY: &str = r#"(import "postroom:plugin/types@2.0.0" "[method]message.classification" (func $classify (param i32) (result i32)))"#;
const KV: &str = r#"
    (import "postroom:plugin/kv@2.0.0" "get" (func $get (param i32 i32 i32)))
    (import "postroom:plugin/kv@2.0.0" "delete" (func $delete (param i32 i32)))"#;

fn run(bytes: &[u8], limits: &Limits) -> postroom_sandbox::Run {
    decide(&component(bytes, limits).unwrap())
}

/// Returns `ignore` with a reason of this many bytes, which are in the second page.
fn ignore(bytes: u32) -> String {
    format!(
        "(i32.store8 (i32.const 1028) (i32.const 1))
         (i32.store (i32.const 1032) (i32.const 2048))
         (i32.store (i32.const 1036) (i32.const 1))
         (i32.store8 (i32.const 2048) (i32.const 5))
         (i32.store (i32.const 2056) (i32.const 65536))
         (i32.store (i32.const 2060) (i32.const {bytes}))
         (i32.const 1024)"
    )
}

#[test]
fn passes() {
    let run = run(&rule("", PASS), &Limits::default());
    assert_eq!(run.verdict, Ok(None));
    assert_eq!(run.memory_bytes, 65536);
}

#[test]
fn the_standard_rule_makes_a_ticket_and_a_note() {
    let limits = Limits::default();
    let standard = SANDBOX
        .load_standard(r#"{"queue":"ops"}"#, &Grants::default(), &limits)
        .unwrap();
    assert_eq!(standard.name(), "standard");
    match decide(&standard).verdict.unwrap().unwrap().as_slice() {
        [Action::Ticket(ticket)] => assert_eq!(ticket.queue.as_deref(), Some("ops")),
        other => panic!("{other:?}"),
    }
    let mut known = context();
    known.thread.as_mut().unwrap().authorised = true;
    let run = standard.decide(
        &mail(),
        &known,
        Arc::new(Shelf::default()),
        Arc::new(NoLookup),
    );
    assert!(matches!(
        run.verdict.unwrap().unwrap().as_slice(),
        [Action::Note(_)]
    ));
}

#[test]
fn a_trap_is_a_trap() {
    let run = run(&rule("", "unreachable"), &Limits::default());
    assert_eq!(kind(&run), "trap");
}

#[test]
fn each_mail_finds_a_fresh_instance() {
    let counts = rule(
        "",
        "(if (i32.load (i32.const 64)) (then unreachable))
         (i32.store (i32.const 64) (i32.const 1))
         (i32.const 16)",
    );
    let rule = component(&counts, &Limits::default()).unwrap();
    for _ in 0..100 {
        assert_eq!(decide(&rule).verdict, Ok(None));
    }
}

#[test]
fn time_is_limited_in_the_guest_and_in_the_host() {
    let limits = Limits {
        time: Duration::from_millis(50),
        ..Limits::default()
    };
    let in_guest = rule("", "(loop $again (br $again)) unreachable");
    let in_host = rule(
        CLASSIFY,
        "(loop $again (drop (call $classify (i32.load (local.get $arguments)))) (br $again)) unreachable",
    );
    for bytes in [in_guest, in_host] {
        let rule = component(&bytes, &limits).unwrap();
        let started = Instant::now();
        let run = decide(&rule);
        assert_eq!(
            run.verdict,
            Err(RuleTrouble::Deadline { limit: limits.time })
        );
        assert!(run.elapsed >= limits.time);
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn memory_is_limited() {
    let grow = |pages: u32| {
        rule(
            "",
            &format!(
                "(if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable))
                 (i32.const 16)"
            ),
        )
    };
    let limits = Limits {
        memory_bytes: 1 << 20,
        ..Limits::default()
    };
    let obeyed = run(&grow(15), &limits);
    assert_eq!((kind(&obeyed), obeyed.memory_bytes), ("pass", 1 << 20));
    assert_eq!(kind(&run(&grow(16), &limits)), "memory");
    // The highest limit is more than the initial size of the pool's slots.
    let most = Limits {
        memory_bytes: Limits::MOST_MEMORY,
        ..Limits::default()
    };
    assert_eq!(kind(&run(&grow(16383), &most)), "pass");
    assert_eq!(kind(&run(&grow(16384), &most)), "memory");
}

#[test]
fn deep_recursion_is_a_trap() {
    let body = "(drop (call $body (local.get $arguments))) (i32.const 16)";
    assert_eq!(kind(&run(&rule("", body), &Limits::default())), "trap");
}

#[test]
fn output_is_limited() {
    let giant = |bytes| componentize(&core("", 40, &ignore(bytes), "")).unwrap();
    let obeyed = run(&giant(1 << 16), &Limits::default());
    assert_eq!(kind(&obeyed), "actions");
    assert_eq!(kind(&run(&giant(2 << 20), &Limits::default())), "output");
    // Beyond its own memory.
    assert_eq!(kind(&run(&giant(1 << 30), &Limits::default())), "output");
}

#[test]
fn actions_are_limited() {
    // The memory behind the first one is zero: empty tickets.
    let many = |count: u32| {
        let body = format!(
            "(drop (memory.grow (i32.const 1)))
             (i32.store8 (i32.const 1028) (i32.const 1))
             (i32.store (i32.const 1032) (i32.const 65536))
             (i32.store (i32.const 1036) (i32.const {count}))
             (i32.const 1024)"
        );
        rule("", &body)
    };
    let limits = Limits {
        actions: 8,
        ..Limits::default()
    };
    assert_eq!(kind(&run(&many(8), &limits)), "actions");
    assert_eq!(kind(&run(&many(9), &limits)), "output");
}

#[test]
fn the_log_is_limited() {
    let flood = rule(
        LOG,
        "(local $left i32)
         (local.set $left (i32.const 10000))
         (loop $again
            (call $log (i32.const 2) (i32.const 0) (i32.const 100))
            (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
         (i32.const 16)",
    );
    let limits = Limits {
        log_bytes: 1000,
        ..Limits::default()
    };
    let run = run(&flood, &limits);
    assert_eq!(kind(&run), "pass");
    assert!(run.log[0].starts_with("warn: "));
    assert!(run.log.iter().map(String::len).sum::<usize>() < 1100);
    let giant = rule(
        LOG,
        "(drop (memory.grow (i32.const 40)))
         (call $log (i32.const 2) (i32.const 0) (i32.const 2000000))
         (i32.const 16)",
    );
    assert_eq!(kind(&self::run(&giant, &limits)), "output");
}

#[test]
fn kv_needs_its_grant() {
    let reads = rule(
        KV,
        "(call $get (i32.const 0) (i32.const 1) (i32.const 512))
         (call $delete (i32.const 0) (i32.const 1))
         (i32.const 16)",
    );
    let run = run(&reads, &Limits::default());
    assert_eq!(run.kv_reads, [("\0".to_owned(), None)]);
    assert_eq!(run.kv_writes, [("\0".to_owned(), None)]);

    let source = RuleSource::Component {
        name: "plugins/test.wasm",
        bytes: &reads,
    };
    let refused = SANDBOX
        .load(source, "{}", &Grants::default(), &Limits::default())
        .unwrap_err();
    assert!(matches!(&refused, LoadError::NotGranted { import, .. } if import == "kv"));
    assert!(refused.to_string().contains("needs kv, not granted"));
}

#[test]
fn a_start_is_limited_too() {
    let limits = Limits {
        init_time: Duration::from_millis(50),
        memory_bytes: 1 << 20,
        ..Limits::default()
    };
    let start = |body: &str| {
        let rest = format!("(func $start {body}) (start $start)");
        componentize(&core("", 1, PASS, &rest)).unwrap()
    };
    assert!(matches!(
        component(&start("(loop $again (br $again))"), &limits),
        Err(LoadError::InitDeadline { .. })
    ));
    assert!(matches!(
        component(&start("unreachable"), &limits),
        Err(LoadError::InitTrap { .. })
    ));
    let large = componentize(&core("", 17, PASS, "")).unwrap();
    assert!(matches!(
        component(&large, &limits),
        Err(LoadError::InitMemory { .. })
    ));
}

#[test]
fn refuses_what_is_no_rule() {
    let limits = Limits::default();
    let whole = rule("", PASS);
    for length in 8..whole.len() {
        let cut = match component(&whole[..length], &limits) {
            // The last section names the tool that made it, and may be missing.
            Ok(rule) => {
                assert_eq!(decide(&rule).verdict, Ok(None));
                continue;
            }
            Err(cut) => cut,
        };
        let told = matches!(&cut, LoadError::Invalid { .. })
            || matches!(&cut, LoadError::WrongWorld { found, .. } if found.contains("truncated"));
        assert!(told, "{length} of {} bytes: {cut}", whole.len());
    }
    for bytes in [&b""[..], b"export function decide() {}"] {
        assert!(matches!(
            component(bytes, &limits),
            Err(LoadError::Invalid { .. })
        ));
    }
    let module = component(&core("", 1, PASS, ""), &limits).unwrap_err();
    assert!(matches!(module, LoadError::CoreModule { .. }));
    assert!(module.to_string().contains("postroom plugin build"));

    let other_world = foreign(
        "package a:b; world other { export hello: func(); }",
        r#"(module (func (export "hello")))"#,
    );
    assert!(matches!(
        component(&other_world, &limits),
        Err(LoadError::WrongWorld { found, .. }) if found == "hello"
    ));
    let other_type = foreign(
        "package a:b; world other { export decide: func(); }",
        r#"(module (func (export "decide")))"#,
    );
    let refused = component(&other_type, &limits).unwrap_err();
    assert!(matches!(refused, LoadError::WrongWorld { .. }), "{refused}");
}

#[test]
fn refuses_imports_it_does_not_have() {
    let importing = |interface: &str, version: &str| {
        let wit = format!(
            "package postroom:plugin@{version};
             interface {interface} {{ f: func(); }}
             world other {{ import {interface}; export decide: func(); }}"
        );
        let text = format!(
            r#"(module (import "postroom:plugin/{interface}@{version}" "f" (func $f))
                (func (export "decide") (call $f)))"#
        );
        component(&foreign(&wit, &text), &Limits::default()).unwrap_err()
    };
    let newer = importing("calendar", "2.3.0");
    assert!(matches!(newer, LoadError::NewerPostroom { .. }), "{newer}");
    assert!(newer.to_string().contains("needs Postroom 2.3"), "{newer}");
    // A known interface with a function that this Postroom does not have yet.
    let newer = importing("log", "2.3.0");
    assert!(matches!(newer, LoadError::NewerPostroom { .. }), "{newer}");
    let other = importing("log", "1.1.0");
    assert!(matches!(other, LoadError::OtherContract { .. }), "{other}");
    let unknown = importing("calendar", "2.0.0");
    assert!(
        matches!(unknown, LoadError::UnknownImport { .. }),
        "{unknown}"
    );
}

#[test]
fn more_threads_than_slots_wait_for_each_other() {
    let busy = rule(
        "",
        "(local $left i32)
         (local.set $left (i32.const 1000000))
         (loop $again (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
         (i32.const 16)",
    );
    let rule = component(&busy, &Limits::default()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let run = decide(&rule);
                assert!(matches!(
                    run.verdict,
                    Ok(None) | Err(RuleTrouble::Deadline { .. })
                ));
            });
        }
    });
}

#[test]
fn a_rule_outlives_its_sandbox() {
    let config = postroom_sandbox::SandboxConfig::default();
    let sandbox = postroom_sandbox::Sandbox::new(config).unwrap();
    let limits = Limits {
        time: Duration::from_millis(20),
        ..Limits::default()
    };
    let source = RuleSource::Component {
        name: "loop.wasm",
        bytes: &rule("", "(loop $again (br $again)) unreachable"),
    };
    let rule = sandbox
        .load(source, "{}", &Grants::default(), &limits)
        .unwrap();
    drop(sandbox);
    let run = rule.decide(
        &parsed("Subject: x\r\n\r\n"),
        &context(),
        Arc::new(Shelf::default()),
        Arc::new(NoLookup),
    );
    assert_eq!(kind(&run), "deadline");
}
