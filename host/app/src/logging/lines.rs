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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::super::context::Contexts;
    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `work` logs, without their times.
    fn logged(work: impl FnOnce()) -> Vec<String> {
        let log = Log::default();
        let to = log.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(move || to.clone())
            .with_ansi(false)
            .event_format(Lines);
        let subscriber = tracing_subscriber::registry().with(Contexts).with(lines);
        tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| line.split_once(' ').unwrap().1);
        lines.map(|line| line.trim_start().to_owned()).collect()
    }

    #[test]
    fn a_line_ends_with_its_context_and_says_nothing_twice() {
        let lines = logged(|| {
            let mailbox =
                tracing::error_span!("mailbox", mailbox = %"support", tenant = %"acme").entered();
            tracing::info!("serving again");
            let mail = tracing::info_span!("mail", mail = 7, mailbox = %"support");
            let _mail = mail.entered();
            tracing::warn!(mailbox = %"support", folder = "INBOX", "skipped");
            drop(mailbox);
        });
        assert_eq!(
            lines,
            [
                "INFO serving again mailbox=support tenant=acme",
                "WARN skipped mailbox=support folder=\"INBOX\" mail=7 tenant=acme",
            ]
        );
    }

    #[test]
    fn a_strangers_message_id_makes_no_line_of_its_own() {
        let lines = logged(|| {
            let forged = "a@x\n2026 ERROR forged \u{1b}[31m";
            let _mail = tracing::info_span!("mail", message_id = %forged).entered();
            tracing::info!("parsed");
        });
        assert_eq!(
            lines,
            ["INFO parsed message_id=a@x\\n2026 ERROR forged \\u{1b}[31m"]
        );
    }
}
