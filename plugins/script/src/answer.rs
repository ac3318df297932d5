//! Converts the value returned by a script's `decide` into a decision; anything unexpected is refused by name.

use rquickjs::function::This;
use rquickjs::{Array, Ctx, Function, Object, Value};

use crate::bindings::postroom::plugin::types::{
    Action, Alert, AlertState, Close, Decision, Expect, Forward, Note, Reply, Ticket, Update,
    Value as FieldValue, Visibility,
};
use crate::trouble::shown;

/// The escape of U+FFFD.
const HALF: &str = "\\ufffd";

/// Returns the decision in a returned value, with the action that decides: the first disposition, or else the first action;
/// `None` if nothing was returned. `class` is the class of everything the constructors make.
///
/// # Errors
/// Fails with one sentence that names the unexpected value.
pub fn decision<'js>(
    ctx: &Ctx<'js>,
    class: &Object<'js>,
    value: &Value<'js>,
) -> Result<(Decision, Option<Object<'js>>), String> {
    if value.is_undefined() || value.is_null() {
        return Ok((Decision::Pass, None));
    }
    if value.is_promise() {
        return Err("decide returned a Promise; it must not be async".into());
    }
    if let Some(list) = value.as_array() {
        return actions(ctx, class, list);
    }
    let (kind, object) = made(class, value).ok_or_else(|| {
        format!("decide returned {}; it takes an action such as ticket({{…}}), a list of them, or pass()", shown(value))
    })?;
    let decision = match kind.as_str() {
        "pass" => Decision::Pass,
        kind => Decision::Actions(vec![action(ctx, kind, object)?]),
    };
    Ok((decision, Some(object.clone())))
}

/// Reads one action from the object that its constructor made.
///
/// # Errors
/// Fails with a sentence such as `ticket: title must be text, not a list`.
pub fn action<'js>(ctx: &Ctx<'js>, kind: &str, object: &Object<'js>) -> Result<Action, String> {
    let mut content = Content {
        ctx,
        kind,
        object,
        names: object.keys().flatten().collect(),
        known: vec!["kind"],
    };
    let action = match kind {
        "ticket" => Action::Ticket(Ticket {
            title: content.text("title")?,
            body: content.text("body")?,
            queue: content.text("queue")?,
            priority: content.text("priority")?,
            requester: content.text("requester")?,
            fields: content.fields("fields")?,
            tags: content.texts("tags")?,
        }),
        "note" => Action::Note(Note {
            ticket: content.text("ticket")?,
            body: content.text("body")?,
            visibility: match content.text("visibility")?.as_deref() {
                None | Some("public") => Visibility::Public,
                Some("internal") => Visibility::Internal,
                Some(_) => return Err("note: visibility is \"public\" or \"internal\"".into()),
            },
        }),
        "alert" => Action::Alert(Alert {
            key: content.required("key")?,
            state: match content.required("state")?.as_str() {
                "firing" => AlertState::Firing,
                "resolved" => AlertState::Resolved,
                _ => return Err("alert: state is \"firing\" or \"resolved\"".into()),
            },
            severity: content.text("severity")?,
            host: content.text("host")?,
            service: content.text("service")?,
            summary: content.text("summary")?,
            fields: content.fields("fields")?,
        }),
        "reply" => Action::Reply(Reply {
            text: content.required("text")?,
            html: content.text("html")?,
        }),
        "forward" => Action::Forward(Forward {
            to: content.addresses("to")?,
        }),
        "expect" => Action::Expect(Expect {
            key: content.required("key")?,
            within_secs: content.duration("within")?,
        }),
        "update" => Action::Update(Update {
            ticket: content.text("ticket")?,
            priority: content.text("priority")?,
            queue: content.text("queue")?,
            status: match content.text("status")?.as_deref() {
                known @ (None | Some("open" | "pending" | "closed")) => known.map(str::to_owned),
                Some(_) => {
                    return Err("update: status is \"open\", \"pending\" or \"closed\"".into());
                }
            },
            tags: content
                .has("tags")?
                .then(|| content.texts("tags"))
                .transpose()?,
            fields: content.fields("fields")?,
        }),
        "close" => Action::Close(Close {
            ticket: content.text("ticket")?,
            reason: content.text("reason")?,
        }),
        "decline" => Action::Decline(content.required("text")?),
        "ignore" => Action::Ignore(content.required("reason")?),
        "quarantine" => Action::Quarantine(content.required("reason")?),
        "pass" => return Err("pass() cannot be part of a list".into()),
        other => return Err(format!("there is no action {other:?}")),
    };
    content.nothing_else()?;
    Ok(action)
}

fn actions<'js>(
    ctx: &Ctx<'js>,
    class: &Object<'js>,
    list: &Array<'js>,
) -> Result<(Decision, Option<Object<'js>>), String> {
    if list.is_empty() {
        return Err("decide returned an empty list; return pass() or ignore(reason)".into());
    }
    let mut actions = Vec::new();
    let (mut first, mut disposition) = (None, None);
    for (index, entry) in list.iter::<Value>().enumerate() {
        let entry = entry
            .map_err(|error| format!("decide returned a list that cannot be read: {error}"))?;
        let (kind, object) = made(class, &entry).ok_or_else(|| {
            format!(
                "decide returned a list with {} at [{index}]; it takes actions only",
                shown(&entry)
            )
        })?;
        let action = action(ctx, &kind, object)?;
        if disposition.is_none() && is_disposition(&action) {
            disposition = Some(object.clone());
        }
        first.get_or_insert_with(|| object.clone());
        actions.push(action);
    }
    Ok((Decision::Actions(actions), disposition.or(first)))
}

/// Returns whether the action is a disposition rather than a side action.
fn is_disposition(action: &Action) -> bool {
    matches!(
        action,
        Action::Ticket(_)
            | Action::Note(_)
            | Action::Alert(_)
            | Action::Ignore(_)
            | Action::Decline(_)
            | Action::Quarantine(_)
    )
}

/// Returns a text in which U+FFFD replaces each unpaired surrogate.
pub fn well_formed(text: &rquickjs::String<'_>) -> rquickjs::Result<String> {
    text.to_string().or_else(|_| {
        let class: Object = text.ctx().globals().get("String")?;
        let methods: Object = class.get("prototype")?;
        let repair: Function = methods.get("toWellFormed")?;
        repair.call((This(text.clone()),))
    })
}

/// Does the same for JSON, in which `JSON.stringify` leaves each unpaired surrogate as an escape that other parsers refuse.
fn without_halves(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let is_half = escape.starts_with("\\ud");
        // The first two characters of an escape determine its kind; a complete pair is never escaped.
        let length = if is_half { HALF.len() } else { 2 };
        out.push_str(if is_half { HALF } else { &escape[..length] });
        rest = &escape[length..];
    }
    out + rest
}

/// Returns the kind of an object made by a constructor; `None` for everything else.
fn made<'a, 'js>(class: &Object<'js>, value: &'a Value<'js>) -> Option<(String, &'a Object<'js>)> {
    let object = value.as_object()?;
    if !object.is_instance_of(class) {
        return None;
    }
    Some((object.get("kind").ok()?, object))
}

/// The properties of one action while they are read.
struct Content<'a, 'js> {
    ctx: &'a Ctx<'js>,
    kind: &'a str,
    object: &'a Object<'js>,
    /// The names of its properties.
    names: Vec<String>,
    /// Every name that was requested.
    known: Vec<&'static str>,
}

impl<'js> Content<'_, 'js> {
    /// Returns a property; `None` if it is left out, undefined or null.
    fn value(&mut self, name: &'static str) -> Result<Option<Value<'js>>, String> {
        self.known.push(name);
        if !self.names.iter().any(|own| own == name) {
            return Ok(None);
        }
        let value: Value = self
            .object
            .get(name)
            .map_err(|_| format!("{}: {name} cannot be read", self.kind))?;
        Ok(Some(value).filter(|value| !value.is_undefined() && !value.is_null()))
    }

    /// Returns whether a property is neither left out, undefined nor null.
    fn has(&mut self, name: &'static str) -> Result<bool, String> {
        Ok(self.value(name)?.is_some())
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, String> {
        self.value(name)?
            .map(|value| self.as_text(name, &value))
            .transpose()
    }

    fn required(&mut self, name: &'static str) -> Result<String, String> {
        match self.text(name)? {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(format!("{}: {name} is missing", self.kind)),
        }
    }

    fn as_text(&self, name: &str, value: &Value<'js>) -> Result<String, String> {
        if let Some(text) = value.as_string() {
            return well_formed(text)
                .map_err(|_| format!("{}: {name} is not Unicode text", self.kind));
        }
        match value.as_number() {
            Some(number) if number.is_finite() => Ok(number.to_string()),
            _ => Err(format!(
                "{}: {name} must be text, not {}",
                self.kind,
                shown(value)
            )),
        }
    }

    fn texts(&mut self, name: &'static str) -> Result<Vec<String>, String> {
        let Some(value) = self.value(name)? else {
            return Ok(Vec::new());
        };
        let list = value.as_array().ok_or_else(|| {
            format!(
                "{}: {name} must be a list of texts, not {}",
                self.kind,
                shown(&value)
            )
        })?;
        let unreadable = |_| format!("{}: {name} cannot be read", self.kind);
        list.iter::<Value>()
            .map(|entry| self.as_text(name, &entry.map_err(unreadable)?))
            .collect()
    }

    /// Returns one address or several.
    fn addresses(&mut self, name: &'static str) -> Result<Vec<String>, String> {
        let one = self.value(name)?.filter(Value::is_string);
        let addresses = match one {
            Some(value) => vec![self.as_text(name, &value)?],
            None => self.texts(name)?,
        };
        if addresses.is_empty() {
            Err(format!("{}: {name} is missing", self.kind))
        } else {
            Ok(addresses)
        }
    }

    fn fields(&mut self, name: &'static str) -> Result<Vec<(String, FieldValue)>, String> {
        let Some(value) = self.value(name)? else {
            return Ok(Vec::new());
        };
        let object = value
            .as_object()
            .filter(|_| !value.is_array() && !value.is_function())
            .ok_or_else(|| {
                format!(
                    "{}: {name} must be an object, not {}",
                    self.kind,
                    shown(&value)
                )
            })?;
        let mut fields = Vec::new();
        for entry in object.props::<String, Value>() {
            let (key, value) =
                entry.map_err(|_| format!("{}: {name} cannot be read", self.kind))?;
            if !value.is_undefined() && !value.is_null() {
                let value = self.field(&value).ok_or_else(|| {
                    format!(
                        "{}: {name}.{key} must be text, a number, a flag or plain data, not {}",
                        self.kind,
                        shown(&value)
                    )
                })?;
                fields.push((key, value));
            }
        }
        Ok(fields)
    }

    fn field(&self, value: &Value<'js>) -> Option<FieldValue> {
        if let Some(text) = value.as_string() {
            return Some(FieldValue::Text(well_formed(text).ok()?));
        }
        if let Some(number) = value.as_number() {
            return number.is_finite().then_some(FieldValue::Number(number));
        }
        if let Some(flag) = value.as_bool() {
            return Some(FieldValue::Flag(flag));
        }
        let json = match self.ctx.json_stringify(value.clone()) {
            Ok(json) => json?,
            Err(_) => {
                self.ctx.catch();
                return None;
            }
        };
        Some(FieldValue::Json(without_halves(&json.to_string().ok()?)))
    }

    /// Returns seconds, from a number or a string such as `90m`, `24h` or `7d`.
    fn duration(&mut self, name: &'static str) -> Result<u64, String> {
        let kind = self.kind;
        let wrong = || {
            format!(
                "{kind}: {name} is a number of seconds or a text such as \"90m\", \"24h\" or \"7d\""
            )
        };
        let Some(value) = self.value(name)? else {
            return Err(format!("{}: {name} is missing", self.kind));
        };
        if let Some(number) = value.as_number() {
            return if number >= 1.0 && number <= f64::from(u32::MAX) {
                Ok(number as u64)
            } else {
                Err(wrong())
            };
        }
        let text = value
            .as_string()
            .and_then(|text| text.to_string().ok())
            .ok_or_else(wrong)?;
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return Err(wrong()),
        };
        let count: u32 = digits.parse().map_err(|_| wrong())?;
        if count == 0 {
            Err(wrong())
        } else {
            Ok(u64::from(count) * unit)
        }
    }

    /// Fails if there is a property that was never requested, which is a typing error.
    fn nothing_else(&self) -> Result<(), String> {
        for name in &self.names {
            if !self.known.contains(&name.as_str()) {
                let names = self.known[1..].join(", ");
                return Err(format!("{}: unknown {name:?} (known: {names})", self.kind));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::without_halves;

    #[test]
    fn halves_of_pairs_are_replaced_in_json() {
        for (json, expected) in [
            (r#"["a\ud83d","\udc00b"]"#, r#"["a\ufffd","\ufffdb"]"#),
            (
                r#"["\\ud83d","\\\ud83d","\u0007","\"😀"]"#,
                r#"["\\ud83d","\\\ufffd","\u0007","\"😀"]"#,
            ),
            ("[]", "[]"),
        ] {
            assert_eq!(without_halves(json), expected);
        }
    }
}
