//! The grants that a rule needs, found without running it: a component's imports; in a script the calls of `kv`, `lookup` and the constructors.

use postroom_core::ActionKind;
use postroom_sandbox::Grants;

use super::patterns::{Token, place, tokens};
use crate::config::{Problem, RuleUse};

/// The warning of `check` and `rule try` on `expect`.
pub const EXPECT_IS_NOT_WATCHED: &str =
    "expect is recorded with the decision only: no alert comes when the mail is missing";
const KV: &[&str] = &["get", "set", "delete"];
const LOOKUP: &[&str] = &[
    "contact", "contacts", "asset", "assets", "ticket", "tickets", "alert", "alerts",
];
/// After these words a name is made here, and no longer the one that scripts find around them.
const DECLARING: &[&str] = &["function", "const", "let", "var", "class"];

/// One thing that a script wants, where it first does.
#[derive(Debug, PartialEq)]
pub struct Want {
    /// A grant, or a kind of action.
    pub what: &'static str,
    pub line: u32,
    pub column: u32,
}

/// Returns the capabilities that a script calls, each once.
pub fn of_script(script: &str) -> Vec<Want> {
    let tokens = tokens(script);
    let mut wants: Vec<Want> = Vec::new();
    for n in 0..tokens.len() {
        let Some((what, word)) = call_at(&tokens, n) else {
            continue;
        };
        if wants.iter().any(|want| want.what == what) {
            continue;
        }
        let at = word.as_ptr() as usize - script.as_ptr() as usize;
        let (line, column) = place(script, at);
        wants.push(Want { what, line, column });
    }
    wants
}

/// Those that the tenant is not granted.
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

/// `expect` is recorded, and nothing watches for the mail yet: an author must not rely on it.
pub fn unwatched(file: &str, wants: &[Want]) -> Option<Problem> {
    let want = wants.iter().find(|want| want.what == "expect")?;
    Some(Problem {
        file: file.into(),
        line: want.line,
        column: want.column,
        key: String::new(),
        message: EXPECT_IS_NOT_WATCHED.into(),
        cure: "watch for the missing mail by other means until a later version does".into(),
        source: None,
    })
}

fn grants(wanted: &RuleUse, what: &str) -> bool {
    match ActionKind::named(what) {
        Some(kind) => wanted.grants.actions.has(kind),
        None => wanted.grants.links(what),
    }
}

/// The call that begins with a token, if it is one that needs a grant.
fn call_at<'s>(tokens: &[Token<'s>], n: usize) -> Option<(&'static str, &'s str)> {
    let Token::Word(word) = tokens[n] else {
        return None;
    };
    let after = match &tokens[n + 1..] {
        // It is always there: `?.` saves nobody from a missing grant.
        [Token::Sign('?'), after @ ..] => after,
        after => after,
    };
    let capability = match (word, after) {
        ("kv", [Token::Sign('.'), Token::Word(call), Token::Sign('('), ..])
            if KV.contains(call) =>
        {
            Some("kv")
        }
        ("lookup", [Token::Sign('.'), Token::Word(call), Token::Sign('('), ..])
            if LOOKUP.contains(call) =>
        {
            Some("lookup")
        }
        _ => None,
    };
    if let Some(what) = capability {
        return Some((what, word));
    }
    let kind = ActionKind::named(word)?;
    // Another thing's method of that name; three dots spread what is made.
    let is_method = match &tokens[..n] {
        [.., Token::Sign('.'), Token::Sign('.'), Token::Sign('.')] => false,
        [.., Token::Sign('.')] => true,
        _ => false,
    };
    let is_call = matches!(tokens.get(n + 1), Some(Token::Sign('(')));
    (is_call && !is_method && !is_declared(tokens, word)).then_some((kind.as_str(), word))
}

fn is_declared(tokens: &[Token], name: &str) -> bool {
    tokens.windows(2).any(|pair| {
        matches!(pair, [Token::Word(declaring), Token::Word(declared)]
            if DECLARING.contains(declaring) && *declared == name)
    })
}

/// The grants that a component's imports need and its tenant lacks is what loading it says; this is the list of all of them.
pub fn of_component(bytes: &[u8]) -> Vec<&'static str> {
    postroom_sandbox::inspect(bytes).map_or_else(|_| Vec::new(), |found| found.needs())
}

/// The names of what is wanted, grants first.
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
