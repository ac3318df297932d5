//! The form of a line: time, level, message, its own fields, then those of its context.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::context::context_in;

/// Formats events. The subscriber's own formats name the spans before the message, and repeat a field that two of them have.
pub struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        spans: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let colour = line.has_ansi_escapes();
        let (dim, plain) = match colour {
            true => ("\x1b[2m", "\x1b[0m"),
            false => ("", ""),
        };
        line.write_str(dim)?;
        SystemTime.format_time(&mut line)?;
        let level = *event.metadata().level();
        let ink = match (colour, level) {
            (false, _) => "",
            (true, Level::ERROR) => "\x1b[31m",
            (true, Level::WARN) => "\x1b[33m",
            (true, Level::INFO) => "\x1b[32m",
            (true, Level::DEBUG) => "\x1b[34m",
            (true, Level::TRACE) => "\x1b[35m",
        };
        write!(line, "{plain} {ink}{level:>5}{plain} ")?;
        spans.format_fields(line.by_ref(), event)?;
        for (name, value) in context_in(event, spans) {
            let (italic, dim) = match colour {
                true => ("\x1b[3m", "\x1b[2m"),
                false => ("", ""),
            };
            write!(line, " {italic}{name}{plain}{dim}={plain}{value}")?;
        }
        writeln!(line)
    }
}
