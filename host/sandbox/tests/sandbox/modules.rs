//! Scripts of several files and scripts with types: their imports, the positions of their errors, and their costs.

use postroom_core::Action;
use postroom_sandbox::{
    Bundle, Grants, Imports, Limits, LoadError, Module, Rule, RuleSource, RuleTrouble, ScriptImport,
};

use crate::support::{SANDBOX, decide};

/// Files by name, the rule itself first.
struct Shelf<'a>(&'a [(&'a str, &'a str)]);

impl Imports for Shelf<'_> {
    fn read(&self, import: &ScriptImport<'_>) -> Result<String, String> {
        let found = self.0.iter().find(|(name, _)| *name == import.name);
        found
            .map(|(_, text)| (*text).to_owned())
            .ok_or_else(|| format!("{} does not exist", import.name))
    }
}

fn load_within(files: &[(&str, &str)], limits: &Limits) -> Result<Rule, LoadError> {
    let (name, text) = files[0];
    let source = RuleSource::Modules {
        name,
        text,
        imports: &Shelf(files),
    };
    SANDBOX.load(source, "{}", &Grants::default(), limits)
}

fn load(files: &[(&str, &str)]) -> Result<Rule, LoadError> {
    load_within(files, &Limits::default())
}

/// Returns the rule's text: the reason with which it ignores the mail.
fn said(files: &[(&str, &str)]) -> String {
    let rule = load(files).unwrap_or_else(|error| panic!("{error}"));
    match decide(&rule).verdict.unwrap().unwrap().as_slice() {
        [Action::Ignore { reason }] => reason.clone(),
        other => panic!("{other:?}"),
    }
}

fn refused(files: &[(&str, &str)]) -> String {
    load(files).unwrap_err().to_string()
}

/// Returns where the rule's decision fails.
fn fails_at(files: &[(&str, &str)]) -> String {
    let rule = load(files).unwrap_or_else(|error| panic!("{error}"));
    match decide(&rule).verdict {
        Err(RuleTrouble::Failure {
            location: Some(location),
            ..
        }) => location,
        other => panic!("{other:?}"),
    }
}

#[test]
fn modules_are_evaluated_once_before_those_that_import_them() {
    let files = [
        (
            "rules/a.js",
            "import { names, count } from './lib/names.js';
             import './lib/late.js';
             import * as all from \"./lib/deeper/all.js\";
             export function decide() { return ignore(`${names} ${count} ${all.default} ${globalThis.order}`) }",
        ),
        (
            "rules/lib/names.js",
            "globalThis.order = (globalThis.order ?? '') + 'n'; export const names = ['x', 'y']; export let count = 1;",
        ),
        ("rules/lib/late.js", "import { names } from './names.js'; names.push('z'); globalThis.order += 'l';"),
        (
            "rules/lib/deeper/all.js",
            "export * from '../names.js'; export { names as default } from '../names.js'; globalThis.order += 'd';",
        ),
    ];
    assert_eq!(said(&files), "x,y,z 1 x,y,z nld");
}

#[test]
fn a_cycle_works_as_cycles_do() {
    let a = "import { odd } from './b.js';
        export function even(n) { return n === 0 || odd(n - 1) }
        export function decide() { return ignore(String(even(10))) }";
    let b =
        "import { even } from './a.js'; export function odd(n) { return n !== 0 && even(n - 1) }";
    assert_eq!(said(&[("rules/a.js", a), ("rules/b.js", b)]), "true");
    // A value that does not exist yet fails where it is used.
    let early = "import { table } from './a.js';\nexport const size = table.length;";
    let late =
        "import { size } from './b.js';\nexport const table = [size];\nexport function decide() {}";
    let error = refused(&[("rules/a.js", late), ("rules/b.js", early)]);
    assert!(error.starts_with("rules/b.js:2:"), "{error}");
    let own = "import './a.js'; export function decide() { return ignore('itself') }";
    assert_eq!(said(&[("rules/a.js", own)]), "itself");
}

#[test]
fn errors_name_the_file_they_are_in() {
    let uses = "import { host } from './lib.js';\nexport function decide(mail) {\n  return ignore(host(mail));\n}";
    let at = |lib: &str| fails_at(&[("rules/a.js", uses), ("rules/lib.js", lib)]);
    assert_eq!(
        at("export function host(mail) {\n  return mail.no.where;\n}"),
        "rules/lib.js:2:10"
    );
    // The host and the prelude are in between.
    let within = "export const host = (mail) => mail.findAll('text', 'job').map((m) => {\n  throw new Error(m[0]);\n});";
    assert_eq!(at(within), "rules/lib.js:2:19");
    let getter =
        "export const host = (mail) => ({\n  get text() { throw new Error('no') },\n}).text;";
    assert_eq!(at(getter), "rules/lib.js:2:26");
    let refused_value = "export const host = (mail) => {\n  return ticket({ titel: 1 });\n};";
    assert_eq!(at(refused_value), "rules/lib.js:2:10");
    let pattern = "export const host = (mail) =>\n  mail.match('text', '(')[0];";
    assert_eq!(at(pattern), "rules/lib.js:2:8");
    let sorted =
        "export const host = (mail) => [2, 1].sort(\n  () => { throw new TypeError('x') });";
    assert_eq!(at(sorted), "rules/lib.js:2:21");

    let broken = |lib: &str| refused(&[("rules/a.js", uses), ("rules/lib.js", lib)]);
    let syntax = broken("\nexport const host = ;");
    assert!(
        syntax.starts_with("rules/lib.js:2:21: SyntaxError"),
        "{syntax}"
    );
    let thrown = broken("export const host = 1;\n  throw new Error('no');");
    assert!(
        thrown.starts_with("rules/lib.js:2:13: Error: no"),
        "{thrown}"
    );
    let lacking = broken("export const hosts = 1;");
    assert_eq!(
        lacking,
        "rules/a.js:1:10: SyntaxError: rules/lib.js exports no \"host\""
    );
    let waiting = broken("export const host = await 1;");
    assert!(waiting.contains("await at the top level"), "{waiting}");
}

#[test]
fn imports_that_cannot_be_are_refused_where_they_stand() {
    let decide = "\nexport function decide() {}";
    for (import, place, words) in [
        (
            "import './no.js'",
            "1:8",
            "import of \"./no.js\": rules/no.js does not exist",
        ),
        (
            "/* a */\n  export * from \"../../etc/passwd\"",
            "2:17",
            "../etc/passwd does not exist",
        ),
        ("import x from 'lodash'", "1:15", "import of \"lodash\""),
        (
            "import x from './x.json' with { type: 'json' }",
            "1:15",
            "no `with`",
        ),
    ] {
        let error = refused(&[("rules/a.js", &format!("{import}{decide}"))]);
        let place = format!("rules/a.js:{place}: ");
        assert!(
            error.starts_with(&place) && error.contains(words),
            "{error}"
        );
    }
    let lone = RuleSource::Script {
        name: "a.js",
        text: "import './b.js'",
    };
    let error = SANDBOX
        .load(lone, "{}", &Grants::default(), &Limits::default())
        .unwrap_err();
    assert!(
        error.to_string().contains("a single file without imports"),
        "{error}"
    );
}

#[test]
fn a_dynamic_import_reaches_nothing() {
    let rule = |body: &str| format!("export function decide() {{ {body} }}");
    let lib = ("rules/lib.js", "console.log('evaluated')");
    for body in [
        "import('./lib.js')",
        "import('./lib.js').then(() => console.log('evaluated'))",
    ] {
        let rule = load(&[("rules/a.js", &rule(body)), lib]).unwrap();
        let run = decide(&rule);
        assert!(run.verdict.unwrap().is_none());
        assert!(run.log.is_empty(), "{:?}", run.log);
    }
    let top = load(&[
        (
            "rules/a.js",
            "import('./lib.js');\nexport function decide() {}",
        ),
        lib,
    ])
    .unwrap();
    assert!(top.init_log().is_empty(), "{:?}", top.init_log());
}

#[test]
fn files_and_bytes_are_limited() {
    let limits = Limits {
        modules: 3,
        source_bytes: 200,
        ..Limits::default()
    };
    let rule = "import './b.js';\nexport function decide() {}";
    let with = |b: &str, c: &str, d: &str| {
        let files = [("a.js", rule), ("b.js", b), ("c.js", c), ("d.js", d)];
        load_within(&files, &limits)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(with("import './c.js'", "", ""), Ok(()));
    let many = with("import './c.js'", "\nimport './d.js'", "").unwrap_err();
    assert!(
        many.starts_with("c.js:2:8: ") && many.contains("`modules`"),
        "{many}"
    );
    let wide = with("import './c.js'; import './d.js'", "", "").unwrap_err();
    assert!(
        wide.starts_with("b.js:1:25: ") && wide.contains("`modules`"),
        "{wide}"
    );
    let large = with(&"/".repeat(200), "", "").unwrap_err();
    assert!(
        large.starts_with("a.js: ") && large.contains("`source`"),
        "{large}"
    );
}

#[test]
fn a_script_near_the_limit_of_its_size_loads() {
    let text = format!(
        "/*{}*/ export function decide() {{ return ignore('large') }}",
        "x".repeat(5_000_000)
    );
    assert_eq!(said(&[("a.js", &text)]), "large");
}

#[test]
fn types_are_taken_out_and_places_stay() {
    let rule = "import { host, type Found } from './lib.ts';
import type { Mail } from './mail.d.ts';
type Names = Record<string, string>;
export function decide(mail: Mail, ctx: { tenant: string }): unknown {
  const found = <T,>(x: T): T => x as T;
  const all: Array<Found> = [host!(mail)] satisfies Found[];
  return ignore(found<string>(all[0].name));
}";
    let lib = "export interface Found { name: string }
export class Host<T> { private name?: string; constructor(readonly_: T) { this.name = 'h' } }
export function host(mail: any): Found { return { name: `${mail.from?.email as string}` } }";
    let files = [("rules/a.ts", rule), ("rules/lib.ts", lib)];
    assert_eq!(said(&files), "backup@nas.acme.example");

    let fails = "export interface Ünïcode { a: 'ü' }\nexport function host(mail: { ü: Ünïcode }): never {  throw new Error('no') }";
    assert_eq!(
        fails_at(&[("rules/a.ts", rule), ("rules/lib.ts", fails)]),
        "rules/lib.ts:2:64"
    );
    for (text, words) in [
        (
            "enum Level { low }",
            "rules/a.ts:1:1: an enum is more than a type",
        ),
        (
            "\nexport const enum Level { low }",
            "rules/a.ts:2:8: an enum is more than a type",
        ),
        (
            "namespace A { export const b = 1 }",
            "rules/a.ts:1:1: a namespace",
        ),
        ("import x = require('x');", "rules/a.ts:1:1: `import x = …`"),
        ("let x = <string>y;", "rules/a.ts:1:9: SyntaxError"),
        ("let a: string\nlet b: = 1", "rules/a.ts:2:8: SyntaxError"),
        (
            "class A {\n  constructor(private b: string) {}\n}",
            "rules/a.ts:2:23: a property",
        ),
        ("let a: string = 1;\n  nothing();", "rules/a.ts:2:"),
        ("import { Found } from './lib.ts'", "import type { Found }"),
    ] {
        let error = refused(&[("rules/a.ts", text), ("rules/lib.ts", lib)]);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn types_nested_without_end_are_refused() {
    for text in [
        format!("let a: {}1", "[".repeat(100_000)),
        format!("let a = {}1", "!".repeat(100_000)),
        format!("let a = 1{}", " + 1".repeat(300_000)),
    ] {
        let error = refused(&[("a.ts", &text)]);
        assert!(error.starts_with("a.ts"), "{error}");
    }
}

#[test]
fn a_bundle_loads_as_its_files_did() {
    let files = [
        (
            "rules/a.ts",
            "import { b } from './b.js'; export const decide = (): any => ignore(b);",
        ),
        ("rules/b.js", "export const b = 'from b'"),
    ];
    let rule = load(&files).unwrap();
    let bundle = rule.bundle().unwrap();
    let names: Vec<&str> = bundle
        .modules()
        .iter()
        .map(|module: &Module| module.name.as_str())
        .collect();
    assert_eq!(names, ["rules/a.ts", "rules/b.js"]);
    assert_eq!(rule.hash(), bundle.hash());
    let kept = Bundle::unpack("rules/a.ts", &bundle.pack()).unwrap();
    let again = RuleSource::Modules {
        name: "rules/a.ts",
        text: &kept.modules()[0].text,
        imports: &kept,
    };
    let again = SANDBOX
        .load(again, "{}", &Grants::default(), &Limits::default())
        .unwrap();
    assert_eq!(again.hash(), rule.hash());
    assert!(decide(&again).verdict.is_ok());
}

#[test]
fn a_stack_shows_nothing_but_the_script() {
    let rule = "export function decide(mail) {
  try {
    mail.findAll('text', 'job').map(() => ticket({ titel: 1 }));
  } catch (error) {
    console.log(error);
    return ignore(error.stack);
  }
}";
    let run = decide(&load(&[("rules/a.js", rule)]).unwrap());
    let [Action::Ignore { reason: stack }] = &*run.verdict.unwrap().unwrap() else {
        panic!("no stack");
    };
    assert!(!stack.contains("postroom:"), "{stack}");
    assert!(
        stack
            .trim_start()
            .starts_with("at <anonymous> (rules/a.js:3:43)"),
        "{stack}"
    );
    assert!(
        run.log[0].contains("unknown \"titel\"") && run.log[0].contains("rules/a.js:3:43"),
        "{:?}",
        run.log
    );
    assert!(!run.log[0].contains("postroom:"), "{:?}", run.log);
}
