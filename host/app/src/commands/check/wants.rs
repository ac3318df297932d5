//! Finds the grants that a rule needs without running it: from a component's imports, and from a script's calls of `kv`,
//! `lookup` and the constructors.

use std::collections::VecDeque;

use postroom_core::ActionKind;
use postroom_sandbox::Grants;
use postroom_sandbox::lex::{Bracket, JsToken, Kind, Lexer};

use postroom_config::{Problem, RuleUse};

const KV: &[&str] = &["get", "set", "delete"];
const LOOKUP: &[&str] = &[
    "contact", "contacts", "asset", "assets", "ticket", "tickets", "alert", "alerts",
];
/// The words that declare a name, which then is no longer the one of the scripts' API.
const DECLARING: &[&str] = &["function", "const", "let", "var", "class"];

/// The number of tokens of `kv?.get(`, the longest call that is recognised.
const LONGEST_CALL: usize = 5;

/// One grant that a script needs, with the position of the first use.
#[derive(Debug, PartialEq)]
pub struct Want {
    /// A grant, or a kind of action.
    pub what: &'static str,
    pub line: u32,
    pub column: u32,
}

/// Returns the capabilities that a script calls, each once.
pub fn of_script(script: &str) -> Vec<Want> {
    let mut wants: Vec<Want> = Vec::new();
    let mut declared: Vec<ActionKind> = Vec::new();
    let mut last: VecDeque<JsToken> = VecDeque::with_capacity(LONGEST_CALL + 1);
    for token in Lexer::new(script) {
        last.push_back(token);
        if last.len() > LONGEST_CALL {
            last.pop_front();
        }
        let kinds: Vec<Kind> = last.iter().map(|token| token.kind).collect();
        if let [.., Kind::Word(declaring), Kind::Word(name)] = kinds[..]
            && DECLARING.contains(&declaring)
            && let Some(kind) = ActionKind::named(name)
        {
            declared.push(kind);
        }
        if let Some((what, length)) = call_at_end(&kinds)
            && !wants.iter().any(|want| want.what == what)
        {
            let JsToken { line, column, .. } = last[last.len() - length];
            wants.push(Want { what, line, column });
        }
    }
    wants.retain(|want| !declared.iter().any(|kind| kind.as_str() == want.what));
    wants
}

/// Returns the grants that the tenant lacks.
pub fn missing(file: &str, wants: &[Want], wanted: &RuleUse) -> Vec<Problem> {
    let lacking = wants.iter().filter(|want| !grants(wanted, want.what));
    lacking
        .map(|want| {
            let (what, tenant) = (want.what, &wanted.tenant);
            let key = match ActionKind::named(what) {
                Some(_) => "actions",
                None => "grants",
            };
            Problem {
                file: file.into(),
                line: want.line,
                column: want.column,
                key: String::new(),
                message: format!("needs {what}, which tenant \"{tenant}\" is not granted"),
                cure: format!(
                    "add \"{what}\" to {key} of [tenants.{tenant}], or remove it: a mail that reaches it goes to the next rule"
                ),
                source: None,
            }
        })
        .collect()
}

fn grants(wanted: &RuleUse, what: &str) -> bool {
    match ActionKind::named(what) {
        Some(kind) => wanted.grants.actions.has(kind),
        None => wanted.grants.links(what),
    }
}

/// Returns the call that ends with the last token, if it needs a grant, with its length in tokens.
fn call_at_end(kinds: &[Kind]) -> Option<(&'static str, usize)> {
    let [before @ .., Kind::Open(Bracket::Round)] = kinds else {
        return None;
    };
    let (object, call, length) = match before {
        // It always exists: `?.` does not help against a missing grant.
        [
            ..,
            Kind::Word(object),
            Kind::Sign('?'),
            Kind::Sign('.'),
            Kind::Word(call),
        ] => (object, call, 5),
        [.., Kind::Word(object), Kind::Sign('.'), Kind::Word(call)] => (object, call, 4),
        // The method of another object with that name.
        [.., Kind::Sign('.'), Kind::Word(_)] => return None,
        // It is an ignore and a reply, of which the reply needs more.
        [.., Kind::Word("decline")] => return Some((ActionKind::Reply.as_str(), 2)),
        [.., Kind::Word(name)] => return Some((ActionKind::named(name)?.as_str(), 2)),
        _ => return None,
    };
    match *object {
        "kv" if KV.contains(call) => Some(("kv", length)),
        "lookup" if LOOKUP.contains(call) => Some(("lookup", length)),
        _ => None,
    }
}

/// Returns all grants that a component's imports need. Loading reports those that the tenant lacks.
pub fn of_component(bytes: &[u8]) -> Vec<&'static str> {
    postroom_sandbox::inspect(bytes).map_or_else(|_| Vec::new(), |found| found.needs())
}

/// Returns the names of the needs, grants first.
pub fn names(wants: &[Want]) -> Vec<&'static str> {
    let is_grant = |name: &&str| Grants::CAPABILITIES.contains(name);
    let all = || wants.iter().map(|want| want.what);
    let (grants, kinds) = (all().filter(is_grant), all().filter(|it| !is_grant(it)));
    grants.chain(kinds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(script: &str) -> Vec<(&'static str, u32, u32)> {
        let wants = of_script(script);
        wants
            .iter()
            .map(|it| (it.what, it.line, it.column))
            .collect()
    }

    #[test]
    fn calls_are_found_where_they_first_stand() {
        let script = "export function decide(mail, ctx) {\n  if (ctx.kv.get(\"a\")) return [ticket(), forward({ to: \"a@b\" })];\n  const { lookup } = ctx;\n  return lookup.contact(\"x\") ? [...[note()], ...many] : ticket();\n}";
        assert_eq!(
            found(script),
            [
                ("kv", 2, 11),
                ("ticket", 2, 32),
                ("forward", 2, 42),
                ("lookup", 4, 10),
                ("note", 4, 37)
            ]
        );
    }

    #[test]
    fn a_call_is_one_though_it_doubts_what_it_calls() {
        let script = "ctx.kv?.get(\"a\"); lookup?.contact(\"b\")";
        assert_eq!(found(script), [("kv", 1, 5), ("lookup", 1, 19)]);
        assert_eq!(found("kv ? get() : kv?.size"), []);
    }

    #[test]
    fn what_only_looks_like_one_is_let_be() {
        for script in [
            "if (a) /[\"`]ticket(/.test(b)",
            "`${ `ticket(` }ticket(`",
            "mail.reply.trim(); mail.forward(1); x.note()",
            "// forward({})\nconst text = \"ticket()\";",
            "function alert(x) { return x }\nalert(1)",
            "const reply = (x) => x; reply(1)",
            "kv.size; lookup.size; ctx.lookup",
            "let ticket;",
        ] {
            assert_eq!(found(script), [], "{script}");
        }
    }
}
