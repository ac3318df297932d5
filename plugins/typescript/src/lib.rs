//! Removes the types from TypeScript, so that scripts may be written in it.
//!
//! This is a guest rather than a part of the host: a parser of untrusted input may exhaust its stack or time, and here that
//! affects only one rule.

use std::sync::{Arc, Mutex, PoisonError};

use swc_common::errors::{DiagnosticBuilder, Emitter, Handler};
use swc_common::{GLOBALS, Globals, SourceMap, Span};
use swc_ts_fast_strip::{Options, operate};

#[allow(unsafe_code)]
mod bindings {
    //! The bindings that `wit-bindgen` generates for the world `type-stripper`.
    wit_bindgen::generate!({
        path: "../../wit",
        world: "type-stripper",
    });
}

use bindings::{Guest, StripError};

struct TypeScript;

impl Guest for TypeScript {
    fn strip(source: String) -> Result<String, StripError> {
        strip(source)
    }
}

#[allow(unsafe_code)]
const _: () = {
    bindings::export!(TypeScript with_types_in bindings);
};

/// The modifiers that turn a constructor's parameter into a property.
const MODIFIERS: [&str; 5] = ["private", "protected", "public", "readonly", "override"];

/// The first error, with its position.
type Complaint = Arc<Mutex<Option<(String, Option<Span>)>>>;

struct First(Complaint);

impl Emitter for First {
    fn emit(&mut self, diagnostic: &mut DiagnosticBuilder<'_>) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| (diagnostic.message(), diagnostic.span.primary_span()));
    }
}

fn strip(source: String) -> Result<String, StripError> {
    let complaint = Complaint::default();
    let handler = Handler::with_emitter(true, false, Box::new(First(complaint.clone())));
    let files = swc_common::sync::Lrc::new(SourceMap::default());
    let options = Options {
        module: Some(true),
        ..Options::default()
    };
    let stripped = GLOBALS.set(&Globals::new(), || {
        operate(&files, &handler, source.clone(), options)
    });
    stripped.map(|output| output.code).map_err(|error| {
        let first = complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let (message, span) = first.unwrap_or((error.message, None));
        // The only file begins at position 1; 0 means no position.
        let at = span.and_then(|span| span.lo.0.checked_sub(1));
        let (before, text) = at
            .and_then(|at| source.split_at_checked(at as usize))
            .unwrap_or_default();
        let (line, column) = at.map_or((0, 0), |at| line_and_column(&source, at as usize));
        StripError {
            message: instead(before, text)
                .map_or_else(|| format!("SyntaxError: {message}"), str::to_owned),
            line,
            column,
        }
    })
}

/// Returns what to write in place of TypeScript that is more than types.
fn instead(before: &str, text: &str) -> Option<&'static str> {
    let is_sign = |c: char| !c.is_alphanumeric() && c != '_';
    // A parameter's own position is after the modifier that makes it a property.
    if before.ends_with(char::is_whitespace)
        && MODIFIERS.contains(&before.trim_end().rsplit(is_sign).next()?)
    {
        return Some(
            "a property declared in a constructor's parameters is more than a type; declare it in the class and assign it",
        );
    }
    if text.starts_with('@') {
        return Some(
            "decorators are not available: JavaScript has none yet, and only types are taken out",
        );
    }
    let skipped = ["", "export", "declare", "const"];
    let word = text.split(is_sign).find(|word| !skipped.contains(word))?;
    Some(match word {
        "enum" => {
            "an enum is more than a type, and only types are taken out; write `const Level = { low: 1 } as const`"
        }
        "namespace" | "module" => {
            "a namespace with code in it is more than a type; write a file of its own and import it"
        }
        "import" if text.contains('=') => {
            "`import x = …` is not available; write `import { x } from \"./file.ts\"`"
        }
        _ => return None,
    })
}

fn line_and_column(source: &str, at: usize) -> (u32, u32) {
    let before = source.get(..at).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    (line as u32, column as u32)
}
