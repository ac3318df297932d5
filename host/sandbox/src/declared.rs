//! The settings that a rule declares, read without running it, so that a misspelt key of a configuration is found.

use wasmparser::{Parser, Payload};

use crate::sandbox::STANDARD;
use crate::script::lex::{Bracket, Kind, Lexer, text_value};

/// The custom section of a module with the names, one a line. The Rust SDK's `declare_settings!` writes it.
const SECTION: &str = "postroom:settings";
/// Names beyond this are not read.
const MOST: usize = 1_000;

/// The settings of the built-in standard rule.
pub fn standard_settings() -> Vec<String> {
    component_settings(STANDARD).unwrap_or_default()
}

/// The settings that a component or a core module declares; `None` where it declares none.
pub fn component_settings(bytes: &[u8]) -> Option<Vec<String>> {
    let mut declared = None;
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::CustomSection(section) = payload.ok()?
            && section.name() == SECTION
        {
            let names = str::from_utf8(section.data()).ok()?.lines();
            let names = names.filter(|name| !name.is_empty()).take(MOST);
            declared = Some(names.map(str::to_owned).collect());
        }
    }
    declared
}

/// The settings that a script declares by `export const settings = ["a", "b"]`, or by the keys of an object in place of the array.
/// `None` where it declares none in one of these forms.
pub fn script_settings(script: &str) -> Option<Vec<String>> {
    let mut tokens = Lexer::new(script).map(|token| token.kind);
    let declaring = ["export", "const", "settings"].map(Kind::Word);
    let mut last = [Kind::Number; 4];
    loop {
        last.rotate_left(1);
        last[3] = tokens.next()?;
        if last[..3] == declaring && last[3] == Kind::Sign('=') {
            break;
        }
    }
    let is_object = match tokens.next()? {
        Kind::Open(Bracket::Curly) => true,
        Kind::Open(Bracket::Square) => false,
        _ => return None,
    };
    let mut names = Vec::new();
    let mut depth = 0;
    let mut is_key = true;
    for kind in tokens {
        match kind {
            Kind::Close(_) if depth == 0 => return Some(names),
            Kind::Close(_) => depth -= 1,
            Kind::Open(_) => depth += 1,
            Kind::Sign(',') if depth == 0 => is_key = true,
            Kind::Word(name) if depth == 0 && is_key && is_object => {
                names.push(name.to_owned());
                is_key = false;
            }
            Kind::Text(text) if depth == 0 && is_key => {
                names.push(text_value(text)?);
                is_key = false;
            }
            // Something that is not a literal name.
            _ if depth == 0 && is_key => return None,
            _ => {}
        }
        if names.len() > MOST {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_declares_its_settings_as_literals() {
        let declared = |script| script_settings(script).map(|names| names.join(" "));
        for (script, expected) in [
            (
                "export const settings = ['queue', \"sla\"];",
                Some("queue sla"),
            ),
            (
                "// x\nexport const settings = {\n  queue: 'where to', \"two words\": { a: 1, b: [2] }, // c\n};",
                Some("queue two words"),
            ),
            ("export const settings = {};", Some("")),
            ("export const settings = names;", None),
            ("export const settings = [...names];", None),
            ("export const settings = ['a'", None),
            ("const settings = ['a'];", None),
            (
                "export function decide(mail, ctx) { return ctx.settings.a; }",
                None,
            ),
            ("", None),
        ] {
            assert_eq!(declared(script).as_deref(), expected, "{script}");
        }
    }

    #[test]
    fn the_standard_rule_declares_what_it_reads() {
        assert_eq!(standard_settings(), ["queue", "priority", "acknowledge"]);
    }

    #[test]
    fn bytes_that_are_no_module_declare_nothing() {
        for bytes in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0\0\x05\xff"] {
            assert_eq!(component_settings(bytes), None);
        }
    }
}
