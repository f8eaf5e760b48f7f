//! One rule for every variable, whatever setting it is for.
//!
//! A variable that is empty is not set. A secret may stand in a file that `NAME_FILE` names. A value that cannot be read is a problem
//! like any other, so that all of them are told at once. A variable that no setting has is told of: nobody sees a mistyped
//! name otherwise.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    path::Path,
};

use clap::{Arg, Command, builder::Resettable};

use super::ConfigError;
use crate::telemetry::otlp::OtlpConfig;

/// Variables with our prefix that are no settings: of our own tests, and those that Kubernetes makes for a service of this name.
const OTHERS: [&str; 4] = ["BIN", "TEST_", "SERVICE_", "PORT_"];
/// The one that Kubernetes makes with a name that is nearly a setting's: it holds the address of the service, `tcp://10.0.0.1:80`.
const SERVICE_ADDRESS: &str = "PORT";
/// What our names begin with.
const PREFIX: &str = "PAGEROOM_";
/// Names that are shorter are near to too many others.
const SHORTEST: usize = 8;
/// Largest file of a secret, in bytes.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// What was found in the environment beside good values.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// What whoever runs the server should look at.
    pub(crate) warnings: Vec<String>,
    /// What is sent to a collector.
    pub(crate) otlp: OtlpConfig,
    problems: BTreeMap<String, String>,
    empty: BTreeSet<String>,
}

impl Environment {
    /// Prepares a command line for these variables.
    pub(crate) fn read(command: Command, variables: &BTreeMap<OsString, OsString>) -> (Command, Self) {
        let mut found = Self::default();
        let mut known = BTreeSet::new();
        let command = found.prepare(command, variables, &mut known);
        if !found.empty.is_empty() {
            let names: Vec<_> = found.empty.iter().map(String::as_str).collect();
            let names = names.join(", ");
            found
                .warnings
                .push(format!("set to nothing, which counts as not set: {names}"));
        }
        let named = variables.iter();
        for (name, value) in named.filter_map(|(name, value)| Some((name.to_str()?, value))) {
            found
                .warnings
                .extend(stray(name, &value.to_string_lossy(), &known));
        }
        let (otlp, left_out) = OtlpConfig::read(variables);
        found.otlp = otlp;
        found.warnings.extend(left_out);
        (command, found)
    }

    /// What stops the start, with what the settings themselves say.
    pub(crate) fn join<T>(&self, checked: Result<T, ConfigError>) -> Result<T, ConfigError> {
        let own = self
            .problems
            .iter()
            .map(|(name, problem)| format!("{name}{problem}"));
        let mut problems: Vec<_> = own.collect();
        match checked {
            Ok(checked) if problems.is_empty() => Ok(checked),
            Ok(_) => Err(ConfigError(problems)),
            Err(ConfigError(more)) => {
                problems.extend(more);
                Err(ConfigError(problems))
            }
        }
    }

    fn prepare(
        &mut self,
        command: Command,
        variables: &BTreeMap<OsString, OsString>,
        known: &mut BTreeSet<String>,
    ) -> Command {
        command
            .mut_args(|arg| self.prepare_arg(arg, variables, known))
            .mut_subcommands(|command| self.prepare(command, variables, known))
    }

    fn prepare_arg(
        &mut self,
        arg: Arg,
        variables: &BTreeMap<OsString, OsString>,
        known: &mut BTreeSet<String>,
    ) -> Arg {
        let Some(name) = arg.get_env().and_then(OsStr::to_str).map(str::to_owned) else {
            return arg;
        };
        known.insert(name.clone());
        let value = |name: &str| variables.get(OsStr::new(name));
        let is_empty = |value: &&OsString| value.to_string_lossy().trim().is_empty();
        let file_name = format!("{name}_FILE");
        let file = match arg.is_hide_env_values_set() {
            true => {
                known.insert(file_name.clone());
                value(&file_name)
            }
            false => None,
        };
        for (name, value) in [(&name, value(&name)), (&file_name, file)] {
            if value.as_ref().is_some_and(is_empty) {
                self.empty.insert(name.clone());
            }
        }
        let full = |value: Option<&OsString>| value.filter(|value| !is_empty(value)).cloned();
        match (full(value(&name)), full(file)) {
            (Some(_), Some(_)) => {
                self.problems
                    .insert(file_name, format!(" and {name} are both set: which one counts?"));
                arg.env(Resettable::Reset)
            }
            (None, Some(file)) => match read_secret(Path::new(&file)) {
                Ok(secret) => arg
                    .env(Resettable::Reset)
                    // Read once, and kept for as long as the command line is.
                    .default_value(&*secret.leak())
                    .hide_default_value(true),
                Err(problem) => {
                    let file = file.to_string_lossy();
                    self.problems.insert(file_name, format!(": {file} {problem}"));
                    arg.env(Resettable::Reset)
                }
            },
            (Some(value), None) => match unreadable(&arg, &value) {
                Some(problem) => {
                    self.problems.insert(name, format!(": {problem}"));
                    arg.env(Resettable::Reset)
                }
                None => arg,
            },
            (None, None) if value(&name).is_some() => arg.env(Resettable::Reset),
            (None, None) => arg,
        }
    }
}

/// A secret as a file holds it, without the end of its last line.
fn read_secret(file: &Path) -> Result<String, String> {
    let about = std::fs::metadata(file).map_err(|error| format!("cannot be read: {error}"))?;
    if about.len() > MAX_SECRET_BYTES {
        return Err(format!("is larger than {MAX_SECRET_BYTES} bytes"));
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot be read: {error}"))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err("is empty".to_owned()),
        secret => Ok(secret.to_owned()),
    }
}

/// Why a value cannot be one of a setting, in the words of its reader.
fn unreadable(arg: &Arg, value: &OsStr) -> Option<String> {
    let long = arg.get_long()?;
    let mut given = OsString::from(format!("--{long}="));
    given.push(value);
    let alone = arg.clone().env(Resettable::Reset).required(false);
    let command = Command::new("setting").no_binary_name(true).arg(alone);
    let error = command.try_get_matches_from([given]).err()?;
    let said = error.to_string();
    let lines = said.lines().map(str::trim).take_while(|line| !line.is_empty());
    let said = lines.collect::<Vec<_>>().join(" ");
    Some(said.trim_start_matches("error: ").to_owned())
}

/// What is suspicious about the name of a variable with this value.
fn stray(name: &str, value: &str, known: &BTreeSet<String>) -> Option<String> {
    let own = name.strip_prefix(PREFIX);
    let is_other = |own: &str| {
        let is_service = own == SERVICE_ADDRESS && value.contains("://");
        is_service || OTHERS.iter().any(|other| own.starts_with(other))
    };
    if known.contains(name) || own.is_some_and(is_other) {
        return None;
    }
    // Names that the whole field knows have no prefix.
    if let Some(meant) = own.filter(|own| known.contains(*own)) {
        return Some(format!("no setting is called {name}: is {meant} meant?"));
    }
    let is_ours = own.is_some();
    let reach = if is_ours { 3 } else { 2 };
    let near = known
        .iter()
        .filter(|known| is_ours || known.len() >= SHORTEST)
        .map(|known| (distance(name, known), known))
        .filter(|(distance, _)| *distance <= reach)
        .min();
    match near {
        Some((_, meant)) => Some(format!("no setting is called {name}: is {meant} meant?")),
        None if is_ours => Some(format!("no setting is called {name}")),
        None => None,
    }
}

/// How many letters must be changed, added, left out or exchanged with their neighbour to make one name of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > 3 {
        return usize::MAX;
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    let at =
        |row: Option<&Vec<usize>>, j: usize| row.and_then(|row| row.get(j)).copied().unwrap_or(usize::MAX);
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let above = rows.get(i);
            let change = at(above, j) + usize::from(x != y);
            let mut least = change.min(at(above, j + 1) + 1).min(at(Some(&row), j) + 1);
            let exchanged = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if exchanged {
                least = least.min(at(rows.get(i - 1), j - 1) + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    at(rows.last(), b.len())
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;
    use crate::config::Settings;

    fn read(variables: &[(&str, &str)]) -> (Result<Settings, clap::Error>, Environment) {
        let variables = variables
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .collect();
        let command = Settings::augment_args(Command::new("pageroom"));
        let (command, found) = Environment::read(command, &variables);
        let matches = command.try_get_matches_from(["pageroom"]);
        (
            matches.and_then(|matches| Settings::from_arg_matches(&matches)),
            found,
        )
    }

    const SECRET: &str = "a secret of the tests, long enough";

    /// A name with our prefix that no setting has.
    fn ours(name: &str) -> String {
        format!("{PREFIX}{name}")
    }

    #[test]
    fn names_that_are_nearly_those_of_settings_are_told_of() {
        for (name, meant) in [
            ("JWT_SECERT", Some("JWT_SECRET")),
            ("CORS_ORIGINS", Some("CORS_ORIGIN")),
            ("DATABASE_URI", Some("DATABASE_URL")),
            ("JWT_SECRET_FLIE", Some("JWT_SECRET_FILE")),
            (&ours("MAX_CONNECTION"), Some("PAGEROOM_MAX_CONNECTIONS")),
            (&ours("NO_SUCH_THING"), None),
            (&ours("PORT"), Some("PORT")),
            (&ours("HOST"), Some("HOST")),
            (&ours("JWT_SECRET"), Some("JWT_SECRET")),
            (&ours("JWT_SECRET_FILE"), Some("JWT_SECRET_FILE")),
            (&ours("DATABASE_URL"), Some("DATABASE_URL")),
            (&ours("CORS_ORIGIN"), Some("CORS_ORIGIN")),
        ] {
            let (_, found) = read(&[(name, "x")]);
            let [warning] = found.warnings.as_slice() else {
                panic!("{name}: {:?}", found.warnings);
            };
            assert!(warning.contains(name), "{warning}");
            match meant {
                Some(meant) => assert!(warning.ends_with(&format!("is {meant} meant?")), "{warning}"),
                None => assert!(!warning.contains("meant"), "{warning}"),
            }
        }
        for unrelated in [
            "PATH",
            "POST",
            "HOSTNAME",
            "AUTH_URL",
            "REDIS_URL",
            &ours("SERVICE_HOST"),
            &ours("PORT_3001_TCP"),
            &ours("TEST_POSTGRES_BIN"),
        ] {
            assert_eq!(
                read(&[(unrelated, "x")]).1.warnings,
                [] as [String; 0],
                "{unrelated}"
            );
        }
    }

    #[test]
    fn what_kubernetes_says_of_a_service_is_no_setting() {
        for (name, value, is_told) in [
            ("PORT", "8080", true),
            ("PORT", "tcp://10.0.0.1:80", false),
            ("PORT", "udp://10.0.0.1:80", false),
            ("PORT_80_TCP", "tcp://10.0.0.1:80", false),
            ("PORT_80_TCP_PORT", "80", false),
            ("PORT_80_TCP_ADDR", "10.0.0.1", false),
            ("SERVICE_HOST", "10.0.0.1", false),
            ("SERVICE_PORT", "80", false),
            ("SERVICE_PORT_HTTP", "80", false),
        ] {
            let (_, found) = read(&[(&ours(name), value)]);
            let told = found
                .warnings
                .iter()
                .any(|warning| warning.ends_with("is PORT meant?"));
            assert_eq!(told, is_told, "{name}={value}: {:?}", found.warnings);
            assert_eq!(found.warnings.len(), usize::from(is_told), "{name}={value}");
        }
    }

    fn given(flags: &[&str]) -> Settings {
        let command = Settings::augment_args(Command::new("pageroom")).no_binary_name(true);
        let matches = command.try_get_matches_from(flags).expect("flags that exist");
        Settings::from_arg_matches(&matches).expect("settings")
    }

    #[test]
    fn so_many_connections_read_as_is_said() {
        let readers = |flags: &[&str]| given(flags).check().map(|config| config.store.readers);
        assert_eq!(readers(&[]).expect("settings"), 4);
        assert_eq!(readers(&["--store-readers", "9"]).expect("settings"), 9);
        let none = readers(&["--store-readers", "0"]);
        assert_eq!(none.expect("settings"), 1, "somebody has to");
        let (settings, found) = read(&[(&ours("STORE_READERS"), "many")]);
        let problem = found.join(settings.expect("settings").check());
        let problem = problem.expect_err("a problem").to_string();
        assert!(problem.contains("PAGEROOM_STORE_READERS:"), "{problem}");
    }

    #[test]
    fn what_an_address_says_to_other_tools_is_told_to_be_unused() {
        let address = "postgres://ada:hunter2@h/d?connection_limit=5&pool_timeout=20&connect_timeout=10&schema=s&pgbouncer=false";
        let told = given(&["--database-url", address, "--database-direct-url", address]).warnings();
        assert_eq!(told.len(), 6, "{told:?}");
        for (at, words) in [
            (0, ["DATABASE_URL", "connection_limit", "PAGEROOM_STORE_READERS"]),
            (1, ["DATABASE_URL", "pool_timeout", "no setting"]),
            (2, ["DATABASE_URL", "connect_timeout", "no setting"]),
            (
                3,
                [
                    "PAGEROOM_DATABASE_DIRECT_URL",
                    "connection_limit",
                    "PAGEROOM_STORE_READERS",
                ],
            ),
        ] {
            let line = told.get(at).map_or("", String::as_str);
            assert!(words.iter().all(|word| line.contains(word)), "{told:?}");
        }
        assert!(!told.concat().contains("hunter2"), "{told:?}");
        for quiet in [
            "postgres://h/d",
            "postgres://h/d?connection_limit=",
            "sqlite://a?connection_limit=5",
            "memory:",
        ] {
            let told = given(&["--database-url", quiet]).warnings();
            assert_eq!(told, [] as [String; 0], "{quiet}");
        }
    }

    #[test]
    fn what_is_set_to_nothing_is_not_set_and_told_of() {
        let names = [
            "JWT_SECRET",
            "PAGEROOM_ADMIN_TOKEN",
            "PORT",
            "CORS_ORIGIN",
            "NEXTAUTH_SECRET_FILE",
        ];
        for nothing in ["", " ", "\n"] {
            let given = names.map(|name| (name, nothing));
            let (settings, found) = read(&given);
            assert!(found.join(settings.expect("settings").check()).is_ok());
            let [warning] = found.warnings.as_slice() else {
                panic!("{:?}", found.warnings);
            };
            assert!(names.iter().all(|name| warning.contains(name)), "{warning}");
        }
    }

    #[test]
    fn secrets_may_stand_in_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("secret");
        std::fs::write(&file, format!("{SECRET}\n")).expect("a file");
        let path = file.to_str().expect("a path");
        let (settings, found) = read(&[
            ("JWT_SECRET_FILE", path),
            (&format!("{}_FILE", "PAGEROOM_ADMIN_TOKEN"), path),
        ]);
        let settings = settings.expect("settings");
        let secret = settings.auth.jwt_secret.as_ref().expect("a secret");
        assert_eq!(secret.expose(), SECRET);
        let problems = found.join(settings.check()).expect_err("a problem").0;
        assert!(problems.iter().any(|problem| problem.contains("are the same")));
        let problems = |variables: &[(&str, &str)]| {
            let (settings, found) = read(variables);
            let joined = found.join(settings.expect("settings").check());
            joined.expect_err("a problem").to_string()
        };
        let both = problems(&[("JWT_SECRET", SECRET), ("JWT_SECRET_FILE", path)]);
        assert!(
            both.contains("JWT_SECRET_FILE and JWT_SECRET are both set"),
            "{both}"
        );
        let missing = problems(&[("DATABASE_URL_FILE", "/no/such/file")]);
        assert!(
            missing.contains("DATABASE_URL_FILE: /no/such/file cannot be read"),
            "{missing}"
        );
        std::fs::write(&file, "\n").expect("a file");
        assert!(problems(&[("AUTH_SECRET_FILE", path)]).contains("is empty"));
    }

    #[test]
    fn all_problems_are_told_at_once_also_those_that_cannot_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("secret");
        std::fs::write(&file, "short").expect("a file");
        let (settings, found) = read(&[
            ("PORT", "many"),
            ("HOST", "example.com"),
            ("PAGEROOM_DEMO", "maybe"),
            ("PAGEROOM_LOG_FORMAT", "xml"),
            ("JWT_SECRET_FILE", file.to_str().expect("a path")),
        ]);
        let said = found.join(settings.expect("settings").check());
        let said = said.expect_err("problems").to_string();
        assert!(said.starts_with("the configuration has 5 problem(s)"), "{said}");
        for name in [
            "PORT:",
            "HOST:",
            "PAGEROOM_DEMO:",
            "PAGEROOM_LOG_FORMAT:",
            "JWT_SECRET has",
        ] {
            assert!(said.contains(name), "{name}: {said}");
        }
    }

    #[test]
    fn yes_and_no_are_said_in_many_ways() {
        let flag = |value: &str| {
            let config = Settings::augment_args(Command::new("pageroom"))
                .try_get_matches_from(["pageroom", "--demo", value, "--host", "localhost"])
                .and_then(|matches| Settings::from_arg_matches(&matches));
            config
                .ok()
                .map(|settings| settings.check().expect("good settings").demo)
        };
        for yes in ["true", "TRUE", "1", "yes", "on"] {
            assert_eq!(flag(yes), Some(true), "{yes}");
        }
        for no in ["false", "False", "0", "no", "off"] {
            assert_eq!(flag(no), Some(false), "{no}");
        }
        assert_eq!(flag("maybe"), None);
    }
}
