//! The program's own log in the view, so that no failure is lost and none garbles the view.

use std::fmt::{Debug, Write as _};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::view::{HANG, View, now};
use crate::commands::screen::Ink;
use crate::logging::context_of;

/// Shows each event as a line.
pub struct InView(pub Arc<View>);

/// The fields of an event.
#[derive(Default)]
struct Said {
    message: String,
    fields: String,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for InView {
    fn on_event(&self, event: &Event<'_>, spans: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        for (name, value) in context_of(event, &spans) {
            let _ = write!(said.fields, " {name}={value}");
        }
        let (ink, word) = match *event.metadata().level() {
            Level::ERROR => (Ink::Red, "error: "),
            Level::WARN => (Ink::Yellow, "warning: "),
            Level::INFO => (Ink::Plain, ""),
            Level::DEBUG | Level::TRACE => (Ink::Dim, ""),
        };
        let line = now()
            .with(ink, word)
            .with(ink, said.message)
            .with(Ink::Dim, said.fields)
            .wrapped(HANG);
        self.0.show(|_| vec![line]);
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value}"),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}
