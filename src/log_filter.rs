//! What is logged: read from a text, and changed while the server runs.
//!
//! At the start the filter may be anything that `tracing`'s env filter reads. From outside only levels and `target=level` pairs are taken,
//! which are read here: the library takes a misspelt level for a target of which everything is logged, and has patterns for values.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tracing_subscriber::{EnvFilter, reload};

/// Longest filter from outside, in bytes.
pub const MAX_FILTER_BYTES: usize = 1024;
/// Levels and pairs in a filter from outside.
pub const MAX_DIRECTIVES: usize = 32;

/// Libraries whose most talkative logs hold what people say, tokens as well: no filter reaches those, not even one that names a module.
const TALKATIVE: [&str; 2] = ["tungstenite", "tokio_tungstenite"];
/// The levels on which nothing of that is said.
const DISCREET: [&str; 3] = ["off", "error", "warn"];
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Why the filter of the log was not changed.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// It is too long.
    #[error(
        "a filter of the log has at most {MAX_FILTER_BYTES} bytes and {MAX_DIRECTIVES} parts between commas"
    )]
    TooLong,
    /// Something in it is neither a level nor a pair.
    #[error(
        "part {0} of the filter is neither a level (`off`, `error`, `warn`, `info`, `debug`, `trace`) nor a pair such as \
         `pageroom::access=debug`"
    )]
    Unreadable(usize),
    /// A pair would log what people say.
    #[error(
        "part {0} of the filter is about a library that logs what people say, and goes no further than `warn`"
    )]
    Talkative(usize),
    /// The log is somebody else's.
    #[error("the log of this process is not the server's own, and cannot be changed by it")]
    NotOurs,
    /// The library would not have it.
    #[error("the filter of the log cannot be changed: {0}")]
    Unchanged(#[from] reload::Error),
}

/// A filter as it is read: levels and pairs in small letters, without spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(String);

impl Filter {
    /// Reads a filter that comes from outside.
    ///
    /// # Errors
    /// When it is too long, something in it is neither a level nor a pair, or a pair would log what people say. Which part, not what it says.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > MAX_FILTER_BYTES {
            return Err(FilterError::TooLong);
        }
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        if parts.len() > MAX_DIRECTIVES {
            return Err(FilterError::TooLong);
        }
        let read = parts.iter().zip(1..).map(|(part, number)| {
            let (target, level) = match part.split_once('=') {
                Some((target, level)) => (Some(target.trim()), level.trim()),
                None => (None, *part),
            };
            let level = level.to_ascii_lowercase();
            let is_read = LEVELS.contains(&level.as_str()) && target.is_none_or(is_target);
            match (is_read, target) {
                (false, _) => Err(FilterError::Unreadable(number)),
                (true, Some(target)) if is_talkative(target) && !DISCREET.contains(&level.as_str()) => {
                    Err(FilterError::Talkative(number))
                }
                (true, Some(target)) => Ok(format!("{target}={level}")),
                (true, None) => Ok(level),
            }
        });
        Ok(Self(read.collect::<Result<Vec<_>, _>>()?.join(",")))
    }

    /// The filter.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether this is the name of a module of a program.
fn is_target(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-');
    !text.is_empty() && text.bytes().all(is_letter)
}

/// Whether this names a talkative library, or a module of one.
fn is_talkative(target: &str) -> bool {
    TALKATIVE.iter().any(|library| target.trim().starts_with(library))
}

/// The filter of a text from the settings; an unreadable one falls back to `info`.
pub(crate) fn configured(text: &str) -> EnvFilter {
    // A directive for a module would count before that for its library.
    let others: Vec<&str> = text.split(',').filter(|part| !is_talkative(part)).collect();
    let filter = EnvFilter::try_new(others.join(",")).unwrap_or_else(|_| EnvFilter::new("info"));
    TALKATIVE
        .iter()
        .filter_map(|library| format!("{library}=warn").parse().ok())
        .fold(filter, EnvFilter::add_directive)
}

type Set = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// The log of this process, while it runs.
pub struct LogFilter {
    configured: String,
    /// What was put in its place.
    changed: Mutex<Option<Filter>>,
    set: Set,
}

/// There is one log in a process.
static OF_PROCESS: OnceLock<LogFilter> = OnceLock::new();

/// Notes how the log of this process is changed. The first one stays.
pub(crate) fn installed(configured: &str, set: Set) {
    let _ = OF_PROCESS.set(LogFilter {
        configured: configured.to_owned(),
        changed: Mutex::default(),
        set,
    });
}

impl LogFilter {
    /// That of this process.
    ///
    /// # Errors
    /// When the log was installed by whoever embeds the server.
    pub fn of_process() -> Result<&'static Self, FilterError> {
        OF_PROCESS.get().ok_or(FilterError::NotOurs)
    }

    /// The filter of the settings.
    pub fn configured(&self) -> &str {
        &self.configured
    }

    /// What was put in its place, if anything was.
    pub fn changed(&self) -> Option<Filter> {
        self.lock().clone()
    }

    /// Puts a filter in the place of what there is; without one, that of the settings.
    ///
    /// # Errors
    /// When the library would not have it.
    pub fn change(&self, filter: Option<Filter>) -> Result<(), FilterError> {
        let text = filter.as_ref().map_or(self.configured.as_str(), Filter::as_str);
        let mut changed = self.lock();
        (self.set)(configured(text))?;
        *changed = filter;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Filter>> {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_pairs_are_read_and_nothing_else() {
        for (text, expected) in [
            ("debug", Some("debug")),
            (
                " INFO , pageroom::access = Debug ",
                Some("info,pageroom::access=debug"),
            ),
            ("off", Some("off")),
            ("hyper-util=warn", Some("hyper-util=warn")),
            ("", None),
            ("info,", None),
            // The library takes these for targets of which everything is logged.
            ("debgu", None),
            ("pageroom", None),
            ("pageroom=loud", None),
            ("=debug", None),
            ("[span]=debug", None),
            ("[{user=.*}]=trace", None),
            ("pageroom=debug=info", None),
            ("info\nfalse line", None),
        ] {
            let read = Filter::parse(text).ok();
            assert_eq!(read.as_ref().map(Filter::as_str), expected, "{text:?}");
        }
    }

    #[test]
    fn a_filter_is_bounded_and_an_error_names_the_part_and_not_the_text() {
        let long = format!("{}=info", "a".repeat(MAX_FILTER_BYTES));
        assert!(matches!(Filter::parse(&long), Err(FilterError::TooLong)));
        let many = vec!["info"; MAX_DIRECTIVES + 1].join(",");
        assert!(matches!(Filter::parse(&many), Err(FilterError::TooLong)));
        assert!(Filter::parse(&vec!["info"; MAX_DIRECTIVES].join(",")).is_ok());
        let error = Filter::parse("info,secret").expect_err("no level").to_string();
        assert!(error.contains("part 2") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn what_is_said_is_never_logged_whatever_the_filter() {
        use tracing_subscriber::prelude::*;

        for text in [
            "trace",
            "trace,tungstenite=trace",
            "tungstenite::protocol=trace",
            "info, tungstenite::protocol::frame=debug ,trace",
            "tokio_tungstenite::compat=trace",
            "tungstenite[{message}]=trace",
        ] {
            let subscriber = tracing_subscriber::registry().with(configured(text));
            tracing::subscriber::with_default(subscriber, || {
                assert!(!tracing::enabled!(target: "tungstenite::protocol", tracing::Level::INFO));
                assert!(!tracing::enabled!(target: "tungstenite::protocol::frame", tracing::Level::TRACE));
                assert!(!tracing::enabled!(target: "tokio_tungstenite::compat", tracing::Level::TRACE));
                assert!(tracing::enabled!(target: "tungstenite::protocol", tracing::Level::WARN));
            });
        }
        for text in ["info,tungstenite::protocol=trace", "tokio_tungstenite=info"] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
        assert!(Filter::parse("tungstenite=warn").is_ok());
    }
}
