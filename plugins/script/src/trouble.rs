//! JavaScript exceptions as a message and a place in the rule's own file.

use rquickjs::{CaughtError, Value};

/// An exception, told in terms of the script.
pub struct Trouble {
    pub message: String,
    /// Line and column of the script, both from 1.
    pub place: Option<(u32, u32)>,
}

impl Trouble {
    pub fn new(message: impl Into<String>) -> Self {
        Trouble {
            message: message.into(),
            place: None,
        }
    }

    /// `script` is the name the source was evaluated under.
    pub fn from_caught(caught: &CaughtError<'_>, script: &str) -> Self {
        match caught {
            CaughtError::Exception(exception) => {
                let name = exception
                    .as_object()
                    .get::<_, String>("name")
                    .unwrap_or_else(|_| "Error".into());
                let message = exception.message().unwrap_or_default();
                Trouble {
                    message: if message.is_empty() {
                        name
                    } else {
                        format!("{name}: {message}")
                    },
                    place: exception.stack().and_then(|stack| place(&stack, script)),
                }
            }
            CaughtError::Value(value) => Trouble::new(format!("threw {}", shown(value))),
            CaughtError::Error(error) => Trouble::new(error.to_string()),
        }
    }
}

/// A value in a few words, for messages about it.
pub fn shown(value: &Value<'_>) -> String {
    const CHARS: usize = 60;
    if let Some(text) = value.as_string() {
        let text = text.to_string().unwrap_or_default();
        let mut short: String = text.chars().take(CHARS).collect();
        if short.len() < text.len() {
            short.push('…');
        }
        return format!("the text {short:?}");
    }
    if let Some(number) = value.as_number() {
        return format!("the number {number}");
    }
    match value.type_of() {
        rquickjs::Type::Undefined => "undefined".into(),
        rquickjs::Type::Null => "null".into(),
        rquickjs::Type::Bool => format!("{}", value.as_bool().unwrap_or_default()),
        rquickjs::Type::Array => "a list".into(),
        rquickjs::Type::Promise => "a Promise".into(),
        rquickjs::Type::Function | rquickjs::Type::Constructor => "a function".into(),
        rquickjs::Type::Symbol => "a symbol".into(),
        rquickjs::Type::BigInt => "a bigint".into(),
        _ => "an object".into(),
    }
}

/// The first frame of a stack that lies in the script: `    at decide (NAME:LINE:COLUMN)` or `    at NAME:LINE:COLUMN`.
fn place(stack: &str, script: &str) -> Option<(u32, u32)> {
    stack.lines().find_map(|line| {
        let line = line.trim_end().trim_end_matches(')');
        let (front, column) = line.rsplit_once(':')?;
        let (front, line) = front.rsplit_once(':')?;
        let before = front.strip_suffix(script)?;
        (before.ends_with('(') || before.ends_with(' ')).then_some(())?;
        Some((line.parse().ok()?, column.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn the_first_frame_of_the_script_counts() {
        let stack = "    at check (native)\n    at Action (postroom:prelude:20:9)\n    at helper (a b/x:y.js:12:5)\n    at decide (a b/x:y.js:3:1)\n";
        assert_eq!(place(stack, "a b/x:y.js"), Some((12, 5)));
        assert_eq!(place("    at a b/x:y.js:7:2\n", "a b/x:y.js"), Some((7, 2)));
        assert_eq!(place(stack, "y.js"), None);
        assert_eq!(place("", "y.js"), None);
    }
}
