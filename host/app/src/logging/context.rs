//! The context of a line: the fields of the spans that it is logged in. Each name is there once, and the line's own field counts first.

use std::borrow::Cow;
use std::fmt::Debug;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::DefaultFields;
use tracing_subscriber::fmt::{FmtContext, FormatFields, FormattedFields};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Keeps the fields of each span.
pub struct Contexts;

/// The fields of one span, as they are shown.
#[derive(Default)]
struct SpanFields(Vec<(&'static str, String)>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Contexts {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, spans: Context<'_, S>) {
        let mut fields = SpanFields::default();
        attributes.record(&mut fields);
        if let Some(span) = spans.span(id) {
            let mut extensions = span.extensions_mut();
            extensions.insert(fields);
            // The layer that writes lines would format the fields once more, for its own use.
            extensions.insert(FormattedFields::<DefaultFields>::new(String::new()));
        }
    }
}

impl Visit for SpanFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), harmless(value).into_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        self.0.push((field.name(), harmless(&value).into_owned()));
    }
}

/// Returns the fields that an event gets from its spans, the innermost first, without those that it has itself.
pub fn context_of<S>(event: &Event<'_>, spans: &Context<'_, S>) -> Vec<(&'static str, String)>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let mut context = Vec::new();
    for span in spans.event_scope(event).into_iter().flatten() {
        add(event, &mut context, span.extensions().get::<SpanFields>());
    }
    context
}

/// As [`context_of`], for a formatter of lines.
pub fn context_in<S, N>(
    event: &Event<'_>,
    spans: &FmtContext<'_, S, N>,
) -> Vec<(&'static str, String)>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let mut context = Vec::new();
    for span in spans.event_scope().into_iter().flatten() {
        add(event, &mut context, span.extensions().get::<SpanFields>());
    }
    context
}

fn add(event: &Event<'_>, context: &mut Vec<(&'static str, String)>, fields: Option<&SpanFields>) {
    for (name, value) in fields.into_iter().flat_map(|it| &it.0) {
        let is_said = event.metadata().fields().field(name).is_some()
            || context.iter().any(|(said, _)| said == name);
        if !is_said {
            context.push((name, value.clone()));
        }
    }
}

/// Escapes what could end a line or steer a terminal: a Message-ID is what a stranger made of it. Other hidden characters are escaped
/// where the line is written.
fn harmless(value: &str) -> Cow<'_, str> {
    match value.contains(|c: char| c.is_ascii_control()) {
        true => Cow::Owned(value.escape_debug().to_string()),
        false => Cow::Borrowed(value),
    }
}
