//! Installs the log, and puts into each line for which request or connection it was written.

use std::{
    fmt::{self, Write},
    io::IsTerminal,
};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{DefaultFields, JsonFields, Writer, format},
    },
    registry::LookupSpan,
};

use super::Correlation;
use crate::log_filter;

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends the log to standard error. `filter` is in the syntax of `tracing`'s env filter; an unreadable one falls back to `info`. It may be
/// changed later ([`LogFilter`](log_filter::LogFilter)).
pub fn install_log(form: LogFormat, filter: &str) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(log_filter::configured(filter))
        .with_writer(std::io::stderr);
    // Fails only when a log is installed already, which then stays.
    match form {
        LogFormat::Text => {
            let line = format().with_ansi(is_coloured()).with_target(false);
            let log = log
                .fmt_fields(DefaultFields::new())
                .event_format(Correlated { line, form })
                .with_filter_reloading();
            let handle = log.reload_handle();
            if log.try_init().is_ok() {
                log_filter::installed(filter, Box::new(move |filter| handle.reload(filter)));
            }
        }
        LogFormat::Json => {
            let line = format().json().flatten_event(true).with_target(false);
            let log = log
                .fmt_fields(JsonFields::new())
                .event_format(Correlated { line, form })
                .with_filter_reloading();
            let handle = log.reload_handle();
            if log.try_init().is_ok() {
                log_filter::installed(filter, Box::new(move |filter| handle.reload(filter)));
            }
        }
    }
}

/// Colours are for people: not for files and pipes, and not for who asks for none (<https://no-color.org>).
fn is_coloured() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !refused
}

/// Lines with what the request or the connection is called that they were written for. A `tracing` span would say so too, but it would
/// be entered each time that a connection's task is polled, and is gone where a filter leaves it out.
struct Correlated<F> {
    line: F,
    form: LogFormat,
}

impl<S, N, F> FormatEvent<S, N> for Correlated<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(correlation) = Correlation::current() else {
            return self.line.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.line.format_event(context, Writer::new(&mut line), event)?;
        correlation.name_in(&mut line, self.form)?;
        writer.write_str(&line)
    }
}

impl Correlation {
    /// Puts the ids into a line that ends with a line break; of JSON it is an object.
    fn name_in(&self, line: &mut String, form: LogFormat) -> fmt::Result {
        let end = match form {
            LogFormat::Text => "\n",
            LogFormat::Json => "}\n",
        };
        if !line.ends_with(end) {
            return Ok(());
        }
        line.truncate(line.len() - end.len());
        // No id has a letter in it that JSON would want escaped.
        for (name, id) in self.ids() {
            match form {
                LogFormat::Text => write!(line, " {name}={id}")?,
                LogFormat::Json => write!(line, ",\"{name}\":\"{id}\"")?,
            }
        }
        line.push_str(end);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::RequestId;

    #[test]
    fn ids_stand_at_the_end_of_a_line_whatever_its_form() {
        let correlation = Correlation::of_request(RequestId::of(Some(b"abc-1")), None, None);
        for (form, line, expected) in [
            (LogFormat::Text, "INFO hello\n", "INFO hello request_id=abc-1\n"),
            (
                LogFormat::Json,
                "{\"level\":\"INFO\"}\n",
                "{\"level\":\"INFO\",\"request_id\":\"abc-1\"}\n",
            ),
            // What is no line stays as it is.
            (LogFormat::Json, "", ""),
        ] {
            let mut line = line.to_owned();
            correlation.name_in(&mut line, form).expect("a string takes all");
            assert_eq!(line, expected);
        }
    }
}
