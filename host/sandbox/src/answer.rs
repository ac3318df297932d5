//! Converts a rule's decision into the domain's actions: counted, bounded and free of values that JSON cannot express.

use std::collections::BTreeMap;

use postroom_core::decision;
use postroom_core::{Action, AlertState, Value, Visibility};

use crate::bindings::types;
use crate::error::RuleTrouble;
use postroom_core::Limits;

/// Integers up to this one are exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Converts a decision; returns `None` for pass.
pub(crate) fn actions(
    decision: types::Decision,
    limits: &Limits,
) -> Result<Option<Vec<Action>>, RuleTrouble> {
    let types::Decision::Actions(list) = decision else {
        return Ok(None);
    };
    if list.len() > limits.actions {
        return Err(RuleTrouble::Output {
            message: format!(
                "{} actions, over the limit of {}",
                list.len(),
                limits.actions
            ),
        });
    }
    let mut actions = Vec::with_capacity(list.len());
    for one in list {
        action(one, limits, &mut actions)?;
    }
    Ok(Some(actions))
}

/// Returns the actions that refuse a new request: the sender gets the text once in a conversation.
fn declined(text: String) -> [Action; 2] {
    [
        Action::Ignore {
            reason: "declined".into(),
        },
        Action::Reply(decision::Reply {
            text,
            html: None,
            once: true,
        }),
    ]
}

/// Adds an action; a decline is two.
fn action(
    action: types::Action,
    limits: &Limits,
    actions: &mut Vec<Action>,
) -> Result<(), RuleTrouble> {
    actions.push(match action {
        types::Action::Decline(text) => {
            actions.extend(declined(text));
            return Ok(());
        }
        types::Action::Ticket(ticket) => Action::Ticket(decision::Ticket {
            related: None,
            title: ticket.title,
            body: ticket.body,
            queue: ticket.queue,
            priority: ticket.priority,
            requester: ticket.requester,
            fields: fields(ticket.fields, limits)?,
            tags: ticket.tags,
        }),
        types::Action::Note(note) => Action::Note(decision::Note {
            ticket: note.ticket,
            body: note.body,
            visibility: match note.visibility {
                types::Visibility::Public => Visibility::Public,
                types::Visibility::Internal => Visibility::Internal,
            },
        }),
        types::Action::Alert(alert) => Action::Alert(decision::Alert {
            key: key("an alert's key", alert.key, limits)?,
            state: match alert.state {
                types::AlertState::Firing => AlertState::Firing,
                types::AlertState::Resolved => AlertState::Resolved,
            },
            severity: alert.severity,
            host: alert.host,
            service: alert.service,
            summary: alert.summary,
            fields: fields(alert.fields, limits)?,
        }),
        types::Action::Reply(reply) => Action::Reply(decision::Reply {
            text: reply.text,
            html: reply.html,
            once: false,
        }),
        types::Action::Forward(forward) => Action::Forward { to: forward.to },
        types::Action::Ignore(reason) => Action::Ignore { reason },
        types::Action::Quarantine(reason) => Action::Quarantine { reason },
        types::Action::Expect(expect) => Action::Expect(decision::Expect {
            key: key("an expectation's key", expect.key, limits)?,
            within_secs: expect.within_secs,
        }),
        types::Action::Update(update) => Action::Update(decision::TicketUpdate {
            ticket: update.ticket,
            priority: update.priority,
            queue: update.queue,
            tags: update.tags,
            fields: fields(update.fields, limits)?,
            status: update.status,
        }),
        types::Action::Close(close) => Action::Close(decision::TicketClose {
            ticket: close.ticket,
            reason: close.reason,
        }),
        types::Action::Custom(custom) => Action::Custom {
            payload: json("a custom action's payload", &custom.payload, limits)?,
            name: key("a custom action's name", custom.name, limits)?,
        },
    });
    Ok(())
}

fn fields(
    fields: Vec<(String, types::Value)>,
    limits: &Limits,
) -> Result<BTreeMap<String, Value>, RuleTrouble> {
    fields
        .into_iter()
        .map(|(name, value)| {
            let value = match value {
                types::Value::Text(text) => Value::String(text),
                types::Value::Number(number) => self::number(&name, number)?,
                types::Value::Flag(flag) => Value::Bool(flag),
                types::Value::Json(text) => json("a field's value", &text, limits)?,
            };
            Ok((key("a field's name", name, limits)?, value))
        })
        .collect()
}

fn number(field: &str, number: f64) -> Result<Value, RuleTrouble> {
    // A number that JavaScript writes as 5 must not be stored as 5.0.
    if number.fract() == 0.0 && number.abs() <= EXACT {
        return Ok(Value::from(number as i64));
    }
    serde_json::Number::from_f64(number)
        .map(Value::Number)
        .ok_or_else(|| RuleTrouble::InvalidDecision {
            message: format!("the field {field} is {number}, which is not a number to be stored"),
        })
}

fn json(what: &str, text: &str, limits: &Limits) -> Result<Value, RuleTrouble> {
    let depth = depth(text);
    if depth > limits.json_depth {
        return Err(RuleTrouble::Output {
            message: format!(
                "{what} is nested {depth} levels deep, over the limit of {}",
                limits.json_depth
            ),
        });
    }
    serde_json::from_str(text).map_err(|error| RuleTrouble::InvalidDecision {
        message: format!("{what} is not JSON: {error}"),
    })
}

/// Returns the nesting depth of arrays and objects. For text that is not JSON the number has no meaning.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.bytes();
    let mut in_text = false;
    while let Some(byte) = bytes.next() {
        match (in_text, byte) {
            (true, b'\\') => drop(bytes.next()),
            (_, b'"') => in_text = !in_text,
            (false, b'[' | b'{') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn key(what: &str, key: String, limits: &Limits) -> Result<String, RuleTrouble> {
    match key.len() {
        0 => Err(RuleTrouble::InvalidDecision {
            message: format!("{what} is empty"),
        }),
        size if size > limits.key_bytes => Err(RuleTrouble::InvalidDecision {
            message: format!(
                "{what} has {size} bytes, over the limit of {}",
                limits.key_bytes
            ),
        }),
        _ => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(value: types::Value) -> types::Decision {
        types::Decision::Actions(vec![types::Action::Ticket(types::Ticket {
            title: None,
            body: None,
            queue: None,
            priority: None,
            requester: None,
            fields: vec![("n".into(), value)],
            tags: vec![],
        })])
    }

    fn stored(value: types::Value) -> Result<Value, &'static str> {
        match actions(ticket(value), &Limits::default()) {
            Ok(Some(actions)) => match &actions[..] {
                [Action::Ticket(ticket)] => Ok(ticket.fields["n"].clone()),
                other => panic!("{other:?}"),
            },
            Ok(None) => panic!("passed"),
            Err(trouble) => Err(trouble.kind().name()),
        }
    }

    #[test]
    fn numbers_keep_their_look() {
        assert_eq!(stored(types::Value::Number(5.0)), Ok(5.into()));
        assert_eq!(stored(types::Value::Number(0.5)), Ok(0.5.into()));
        assert_eq!(stored(types::Value::Number(1e300)), Ok(1e300.into()));
        assert_eq!(stored(types::Value::Number(f64::NAN)), Err("nonsense"));
        assert_eq!(stored(types::Value::Number(f64::INFINITY)), Err("nonsense"));
    }

    #[test]
    fn json_must_be_json() {
        assert_eq!(
            stored(types::Value::Json("[1]".into())),
            Ok(Value::from(vec![1]))
        );
        assert_eq!(stored(types::Value::Json("[1".into())), Err("nonsense"));
    }

    #[test]
    fn json_is_nested_within_its_limit() {
        let nested = |levels: usize| {
            let text = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            stored(types::Value::Json(text))
        };
        assert!(nested(32).is_ok());
        // The last two exceed what the JSON reader itself accepts.
        for levels in [33, 126, 128, 100_000] {
            assert_eq!(nested(levels), Err("output"), "{levels}");
        }
        for (text, levels) in [
            ("1", 0),
            (r#"{"a":[1,[2]],"b":{}}"#, 3),
            (r#"["[[[[", "\"[[[", "\\", []]"#, 2),
        ] {
            assert!(serde_json::from_str::<Value>(text).is_ok());
            assert_eq!(depth(text), levels, "{text}");
        }
        let custom = types::Decision::Actions(vec![types::Action::Custom(types::Custom {
            name: "n".into(),
            payload: format!("{}{}", r#"{"a":"#.repeat(33), "}".repeat(33)),
        })]);
        let refused = actions(custom, &Limits::default()).unwrap_err();
        assert_eq!(refused.kind().name(), "output");
    }

    #[test]
    fn actions_and_keys_are_bounded() {
        let limits = Limits {
            actions: 2,
            key_bytes: 3,
            ..Limits::default()
        };
        let ignore = |n| types::Decision::Actions(vec![types::Action::Ignore("x".into()); n]);
        assert!(actions(ignore(2), &limits).is_ok());
        assert_eq!(
            actions(ignore(3), &limits).unwrap_err().kind().name(),
            "output"
        );
        let expect = |key: &str| {
            types::Decision::Actions(vec![types::Action::Expect(types::Expect {
                key: key.into(),
                within_secs: 60,
            })])
        };
        assert!(actions(expect("abc"), &limits).is_ok());
        assert_eq!(
            actions(expect("abcd"), &limits).unwrap_err().kind().name(),
            "nonsense"
        );
        assert_eq!(
            actions(expect(""), &limits).unwrap_err().kind().name(),
            "nonsense"
        );
    }
}
