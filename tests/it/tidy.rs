//! Tidy: what the architecture says of the sources, read from the sources.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::support::process::{run, text};

/// Longest file, in lines of code before its tests. Past 400 it is worth looking for the second idea in it.
const MAX_LINES: usize = 400;

/// Folders that are not ours to read.
const FOREIGN: &[&str] = &[
    "target",
    "node_modules",
    ".git",
    "dist",
    "corpus",
    "artifacts",
    "coverage",
];

/// A file of the project.
pub(crate) struct Source {
    /// Its path from the top of the project.
    path: String,
    pub(crate) text: String,
}

impl Source {
    /// Its lines up to its tests, with their numbers.
    fn before_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let opens_tests = |pair: &[&str]| pair == ["#[cfg(test)]", "mod tests {"];
        let end = lines.windows(2).position(opens_tests).unwrap_or(lines.len());
        lines
            .into_iter()
            .take(end)
            .enumerate()
            .map(|(number, line)| (number + 1, line))
    }

    /// Those that are no comments.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.before_tests()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Lines of code in which one of `words` is.
    fn naming<'a>(&'a self, words: &'a [&str]) -> impl Iterator<Item = String> + 'a {
        self.code().flat_map(move |(number, line)| {
            let named = words.iter().filter(move |word| has_word(line, word));
            named.map(move |word| format!("{}:{number} names {word}: {}", self.path, line.trim()))
        })
    }
}

/// Whether `word` is in a line, and not as a part of another word.
fn has_word(line: &str, word: &str) -> bool {
    let is_part =
        |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    line.match_indices(word).any(|(start, _)| {
        let (before, after) = (
            line[..start].chars().next_back(),
            line[start + word.len()..].chars().next(),
        );
        !is_part(before) && !is_part(after)
    })
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The project's files under a folder whose names end like this, in order.
pub(crate) fn files(folder: &str, endings: &[&str]) -> Vec<Source> {
    let mut folders = vec![top().join(folder)];
    let mut found: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project") {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if path.is_dir() && !FOREIGN.contains(&name) {
                folders.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) && path.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "files in {folder}");
    let read = |path: PathBuf| {
        let text = String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned();
        let path = path.strip_prefix(top()).expect("a file of the project");
        Source {
            path: path.to_str().expect("a path").to_owned(),
            text,
        }
    };
    found.into_iter().map(read).collect()
}

pub(crate) fn rust(folder: &str) -> Vec<Source> {
    files(folder, &[".rs"])
}

pub(crate) fn is_test(source: &Source) -> bool {
    source.path.starts_with("tests/") || source.path.contains("/tests/") || source.path.ends_with("/tests.rs")
}

/// Modules that know no clock, task or entropy: machines and codecs.
fn pure_modules() -> Vec<Source> {
    let is_pure = |source: &Source| {
        let path = source.path.as_str();
        let machine = [
            "room/",
            "batch",
            "effect",
            "input",
            "member",
            "message",
            "persistence",
            "receipts",
            "refusal",
        ];
        let is_machine = path
            .strip_prefix("src/rooms/")
            .is_some_and(|rest| machine.iter().any(|name| rest.starts_with(name)));
        is_machine
            || path.starts_with("src/protocols/")
            || path == "src/access/enforcement.rs"
            || path == "src/connections/session.rs"
            || path == "src/connections/hocuspocus/pending_auth.rs"
            || path == "src/connections/overlong.rs"
            || path == "src/connections/rotation.rs"
            || (path.starts_with("crdt/src/") && !path.starts_with("crdt/src/testing/"))
    };
    let pure: Vec<_> = [rust("src"), rust("crdt/src")]
        .into_iter()
        .flatten()
        .filter(|source| is_pure(source) && !is_test(source))
        .collect();
    assert!(pure.len() > 20, "the pure modules are where they were");
    pure
}

fn assert_none(found: impl IntoIterator<Item = String>, why: &str) {
    let found: Vec<_> = found.into_iter().collect();
    assert!(found.is_empty(), "{why}:\n{}", found.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent = rust(".").into_iter().filter(|source| {
        let first = source.text.lines().next().unwrap_or_default();
        first
            .strip_prefix("//! ")
            .is_none_or(|sentence| sentence.trim().is_empty())
    });
    assert_none(
        silent.map(|source| source.path),
        "a file opens with `//!` and one sentence",
    );
}

#[test]
fn no_file_is_too_long_to_read() {
    let long = rust(".")
        .into_iter()
        .filter(|source| !is_test(source))
        .filter_map(|source| {
            let lines = source.code().filter(|(_, line)| !line.trim().is_empty()).count();
            (lines > MAX_LINES).then(|| format!("{} has {lines} lines", source.path))
        });
    assert_none(long, "a file has one idea");
}

#[test]
fn no_file_is_named_after_nothing() {
    let vague = [
        "util", "utils", "helper", "helpers", "common", "manager", "handler", "handlers", "misc",
    ];
    let named = rust(".").into_iter().map(|source| source.path);
    let vague = named.filter(|path| {
        path.trim_end_matches(".rs")
            .split(['/', '_'])
            .any(|part| vague.contains(&part))
    });
    assert_none(vague, "a name says what is inside");
}

#[test]
fn only_crdt_names_the_engine_and_only_storage_the_driver() {
    for (name, home) in [("yrs", "crdt/"), ("sqlx", "storage/")] {
        let elsewhere = rust(".")
            .into_iter()
            .filter(|source| !source.path.starts_with(home));
        // This file has to name them.
        let elsewhere = elsewhere.filter(|source| source.path != "tests/it/tidy.rs");
        let found: Vec<_> = elsewhere
            .flat_map(|source| source.naming(&[name]).collect::<Vec<_>>())
            .collect();
        assert_none(found, "one place knows the library");
        let manifests = files(".", &["Cargo.toml"])
            .into_iter()
            .filter(|source| !source.path.starts_with(home));
        let depending = manifests.filter(|source| {
            let depends = |line: &str| {
                line.split(['=', '.'])
                    .next()
                    .is_some_and(|key| key.trim() == name)
            };
            // How fast a package is made for the tests says nothing of who depends on it.
            source
                .text
                .lines()
                .filter(|line| !line.contains("opt-level"))
                .any(depends)
        });
        assert_none(
            depending.map(|source| source.path),
            "one place depends on the library",
        );
    }
}

#[test]
fn leaf_crates_do_not_know_the_server_or_each_other() {
    let crdt = rust("crdt").into_iter().flat_map(|source| {
        source
            .naming(&["storage", "pageroom_storage", "tokio"])
            .collect::<Vec<_>>()
    });
    assert_none(crdt, "crdt is a leaf");
    let storage = rust("storage").into_iter().flat_map(|source| {
        source
            .naming(&["crdt", "pageroom_crdt", "yrs"])
            .collect::<Vec<_>>()
    });
    assert_none(
        storage,
        "storage is a leaf and never looks into the bytes it keeps",
    );
}

#[test]
fn pure_modules_ask_for_nothing() {
    let impure = [
        "async",
        "await",
        "tokio",
        "Instant::now",
        "SystemTime::now",
        "rand",
        "HashMap",
        "HashSet",
        "thread_rng",
        "std::fs",
        "std::net",
        "std::env",
        "File",
        "TcpStream",
        "axum",
        "tungstenite",
    ];
    let found = pure_modules()
        .into_iter()
        .flat_map(|source| source.naming(&impure).collect::<Vec<_>>());
    assert_none(
        found,
        "time and randomness are arguments, and what is iterated over has an order",
    );
}

#[test]
fn rooms_do_not_know_dialects_and_dialects_know_only_messages() {
    let knowing = rust("src/rooms").into_iter().flat_map(|source| {
        source
            .naming(&[
                "protocols",
                "connections",
                "http",
                "auth",
                "access",
                "y_websocket",
            ])
            .collect::<Vec<_>>()
    });
    assert_none(knowing, "rooms know nothing of what is spoken outside");
    let allowed = ["ClientMessage", "ServerMessage", "Refusal", "RefusalCode"];
    let mut imports = 0;
    for source in rust("src/protocols").iter().filter(|source| !is_test(source)) {
        for (number, line) in source.code().filter(|(_, line)| line.contains("rooms")) {
            let names = line
                .trim()
                .strip_prefix("use crate::rooms::")
                .map(|rest| rest.trim_end_matches(';'));
            let names = names.unwrap_or_else(|| panic!("{}:{number}: {line}", source.path));
            for name in names.trim_matches(['{', '}']).split(',').map(str::trim) {
                assert!(
                    allowed.contains(&name),
                    "{}:{number} names {name} of rooms",
                    source.path
                );
                imports += 1;
            }
        }
    }
    assert!(imports > 0, "dialects import the messages on a line of their own");
}

/// The parts of the server. Each knows those before it and none after it.
const PARTS: &[&str] = &[
    "supervision",
    "web_client",
    "drain",
    "tally",
    "log_filter",
    "telemetry",
    "rooms",
    "reader",
    "protocols",
    "auth",
    "webhooks",
    "history",
    "access",
    "trash",
    "events",
    "connections",
    "config",
    "http",
    "server",
    "cli",
];

#[test]
fn a_room_is_few_things() {
    let room = fs::read_to_string(top().join("src/rooms/room/mod.rs")).expect("the room");
    let (_, fields) = room.split_once("\npub struct Room {\n").expect("the room");
    let (fields, _) = fields.split_once("\n}\n").expect("its end");
    let names: Vec<_> = (fields.lines().map(str::trim))
        .filter(|line| !line.starts_with("//"))
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    assert!((6..=12).contains(&names.len()), "{names:?}");
}

/// The parts that a file names with `crate::…`, with the lines.
fn parts_named(source: &Source) -> Vec<(usize, String)> {
    let first_word = |text: &str| -> String {
        let is_letter = |letter: &char| letter.is_alphanumeric() || *letter == '_';
        text.trim_start().chars().take_while(is_letter).collect()
    };
    let (mut named, mut depth) = (Vec::new(), 0_usize);
    for (number, line) in source.code() {
        let mut rest = line;
        while !rest.is_empty() {
            // Inside `crate::{…}` each word of the outermost braces is a part.
            let (names, after) = match (depth, rest.split_once("crate::")) {
                (0, None) => break,
                (0, Some((_, after))) if !after.starts_with('{') => {
                    named.push((number, first_word(after)));
                    rest = after;
                    continue;
                }
                (0, Some((_, after))) => {
                    depth = 1;
                    (true, &after[1..])
                }
                (depth, _) => (depth == 1, rest),
            };
            if names && !first_word(after).is_empty() {
                named.push((number, first_word(after)));
            }
            let mut end = after.len();
            for (at, letter) in after.char_indices() {
                match letter {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 || (depth == 1 && letter == ',') {
                    end = at + 1;
                    break;
                }
            }
            rest = &after[end..];
        }
    }
    named
}

#[test]
fn no_part_knows_one_that_stands_above_it() {
    let place = |part: &str| PARTS.iter().position(|known| *known == part);
    let mut arrows = 0;
    for source in rust("src").into_iter().filter(|source| !is_test(source)) {
        let part = source.path.split('/').nth(1).unwrap_or_default();
        let part = part.trim_end_matches(".rs");
        if ["lib", "main"].contains(&part) {
            continue;
        }
        let at = place(part).unwrap_or_else(|| panic!("{part} has no place in the order of the parts"));
        for (number, named) in parts_named(&source) {
            let below = place(&named).is_some_and(|below| below <= at);
            assert!(
                below,
                "{}:{number} names {named}, which stands above {part}",
                source.path
            );
            arrows += usize::from(named != part);
        }
    }
    assert!(arrows > 100, "{arrows} arrows were found");
}

#[test]
fn parts_are_found_however_they_are_named() {
    let source = Source {
        path: "src/a.rs".to_owned(),
        text:
            "use crate::{\n    auth::{Kind, now},\n    rooms::Role,\n};\nuse crate::{http, reader::Text};\n\
               fn a(role: crate::cli::Role) -> crate::server::Server {\n    crate::config::of(role)\n}\n"
                .to_owned(),
    };
    let named: Vec<_> = parts_named(&source).into_iter().map(|(_, part)| part).collect();
    assert_eq!(
        named,
        ["auth", "rooms", "http", "reader", "cli", "server", "config"]
    );
}

#[test]
fn nobody_is_let_into_a_room_past_the_one_who_decides() {
    let elsewhere = rust("src")
        .into_iter()
        .filter(|source| !source.path.starts_with("src/access/") && !source.path.starts_with("src/rooms/"));
    let past = elsewhere.filter(|source| {
        let code: String = source.code().map(|(_, line)| line.trim()).collect();
        [
            "registry.join(",
            "authenticator.identify(",
            "authenticator().identify(",
        ]
        .iter()
        .any(|call| code.contains(call))
    });
    assert_none(
        past.map(|source| source.path),
        "a seat that is not taken through `Access::join` follows no change, and a token that `Access::identify` has not seen may \
         have been withdrawn",
    );
}

/// Names of variables in a text.
fn variables(text: &str) -> BTreeSet<String> {
    let words =
        text.split(|letter: char| !(letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_'));
    let words = words.filter(|word| {
        word.strip_prefix("PAGEROOM_")
            .is_some_and(|rest| !rest.is_empty())
    });
    words.map(str::to_owned).collect()
}

#[test]
fn every_variable_is_in_the_help_and_every_one_that_is_spoken_of_exists() {
    let help = text(&run(&["--help"], &[]).stdout);
    let known = variables(&help);
    assert!(known.len() > 20, "{known:?}");
    for source in rust("src")
        .into_iter()
        .filter(|source| !source.path.starts_with("src/cli/"))
    {
        let missing: Vec<_> = variables(&source.text).difference(&known).cloned().collect();
        assert!(
            missing.is_empty(),
            "{} speaks of {missing:?}, which is not in --help",
            source.path
        );
    }
    let readme = fs::read_to_string(top().join("README.md")).expect("the README");
    let missing: Vec<_> = variables(&readme).difference(&known).cloned().collect();
    assert!(missing.is_empty(), "the README speaks of {missing:?}");
}

#[test]
fn the_map_names_every_part() {
    let map = fs::read_to_string(top().join("src/lib.rs")).expect("the map");
    let (words, declarations): (Vec<_>, Vec<_>) = map.lines().partition(|line| line.starts_with("//!"));
    let words = words.join("\n");
    let parts = declarations
        .iter()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    for part in parts.filter(|part| !["cli", "server", "telemetry"].contains(part)) {
        assert!(
            words.contains(&format!("[`{part}")) || words.contains(&format!("{part}::")),
            "{part} is not on the map"
        );
    }
    let named = words.split(|letter: char| letter.is_whitespace() || matches!(letter, '`' | ',' | ')' | '('));
    for path in named.filter(|word| word.starts_with("tests/")) {
        assert!(
            top().join(path).exists(),
            "the map shows {path}, which is not there"
        );
    }
}

/// What a row of the table of bounds names: settings, and words of files.
fn names_of_bounds() -> (BTreeSet<String>, BTreeSet<(String, String)>) {
    let table = fs::read_to_string(top().join("src/bounds.md")).expect("the table of bounds");
    let (mut settings, mut words) = (BTreeSet::new(), BTreeSet::new());
    let rows = table
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'));
    for row in rows {
        let names = row.split('|').nth(3).expect("a column of names");
        let mut quoted = names.split('`').skip(1).step_by(2);
        while let Some(name) = quoted.next() {
            match name.starts_with("PAGEROOM_") {
                true => settings.insert(name.to_owned()),
                false => {
                    let file = quoted.next().unwrap_or_else(|| panic!("{name} is in no file"));
                    words.insert((file.to_owned(), name.to_owned()))
                }
            };
        }
    }
    (settings, words)
}

/// The constants of a file that say how much there may be of something. Times are no bounds on memory.
fn bounds_of(source: &Source) -> impl Iterator<Item = String> {
    source.code().filter_map(|(_, line)| {
        let (_, rest) = line.split_once("const MAX_")?;
        let (name, kind) = rest.split_once(':')?;
        (!kind.trim_start().starts_with("Duration")).then(|| format!("MAX_{name}"))
    })
}

#[test]
fn every_bound_is_in_the_table_and_the_table_names_nothing_else() {
    let (settings, words) = names_of_bounds();
    let sources: Vec<_> = [rust("src"), rust("crdt/src"), rust("storage/src")]
        .into_iter()
        .flatten()
        .filter(|source| !is_test(source) && !source.path.contains("/testing/"))
        .collect();
    let mut bounds = 0;
    for source in &sources {
        let is_named = |name: &str| words.contains(&(source.path.clone(), name.to_owned()));
        for name in bounds_of(source) {
            assert!(is_named(&name), "src/bounds.md lacks {name} of {}", source.path);
            bounds += 1;
        }
        // A queue takes its bound from a constant, or from a configuration that has a setting.
        for (number, line) in source.code() {
            let made = [
                "mpsc::channel(",
                "Semaphore::new(",
                "Cache::new(",
                "max_capacity(",
                "sync_channel(",
            ];
            for (call, bound) in made
                .iter()
                .filter_map(|call| Some((call, line.split_once(call)?.1)))
            {
                let constant: String = bound
                    .chars()
                    .take_while(|letter| letter.is_ascii_uppercase() || *letter == '_')
                    .collect();
                let of_config = bound.starts_with("self.0.config.");
                let word = call.split([':', '(']).next().unwrap_or_default();
                assert!(
                    constant.starts_with("MAX_") || of_config || bound.starts_with(')') || is_named(word),
                    "{}:{number} makes a queue whose bound has no name: {}",
                    source.path,
                    line.trim()
                );
            }
        }
    }
    assert!(bounds > 50, "{bounds} bounds were found");
    for (file, word) in &words {
        let source = sources.iter().find(|source| source.path == *file);
        let is_there = source.is_some_and(|source| source.code().any(|(_, line)| has_word(line, word)));
        assert!(
            is_there,
            "src/bounds.md names {word} in {file}, which is not there"
        );
    }
    let help = variables(&text(&run(&["--help"], &[]).stdout));
    let gone: Vec<_> = settings.difference(&help).collect();
    assert!(
        gone.is_empty(),
        "src/bounds.md names {gone:?}, which is not in --help"
    );
    // A time and a window are settings of another kind.
    let is_bound = |name: &&String| {
        name.starts_with("PAGEROOM_MAX_") && !name.ends_with("_SECONDS") && !name.ends_with("_MILLISECONDS")
    };
    let missing: Vec<_> = help.difference(&settings).filter(is_bound).collect();
    assert!(missing.is_empty(), "src/bounds.md lacks {missing:?}");
}

/// FNV-1a, 64 bits: enough to notice a change nobody wanted.
fn fingerprint(text: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// Migrations as they were when a database may have seen them.
const MIGRATIONS: &[(&str, u64)] = &[
    (
        "storage/migrations/postgres/0001_pages.sql",
        13_162_647_244_586_380_813,
    ),
    (
        "storage/migrations/postgres/0002_access.sql",
        18_429_151_199_815_099_590,
    ),
    (
        "storage/migrations/postgres/0003_trash.sql",
        15_335_907_168_231_098_684,
    ),
    (
        "storage/migrations/postgres/0004_last_seen.sql",
        5_046_366_000_671_534_377,
    ),
    (
        "storage/migrations/postgres/0005_events.sql",
        15_761_490_521_604_363_595,
    ),
    (
        "storage/migrations/postgres/0006_rooms.sql",
        5_871_212_796_898_837_532,
    ),
    (
        "storage/migrations/postgres/0007_history.sql",
        12_987_400_763_787_221_248,
    ),
    (
        "storage/migrations/postgres/0008_webhooks.sql",
        16_758_413_524_198_371_058,
    ),
    (
        "storage/migrations/postgres/0009_permissions_by_user.sql",
        5_323_593_449_497_966_489,
    ),
    (
        "storage/migrations/postgres/0010_search.sql",
        16_738_882_197_830_891_077,
    ),
    (
        "storage/migrations/postgres/0011_trash_by_age.sql",
        11_733_895_876_859_119_847,
    ),
    (
        "storage/migrations/postgres/0013_aliases.sql",
        2_924_995_470_020_719_909,
    ),
    (
        "storage/migrations/postgres/0014_rebuilt_pages.sql",
        12_645_071_231_249_609_882,
    ),
    (
        "storage/migrations/postgres/0015_history_policies.sql",
        3_179_492_823_376_578_249,
    ),
    (
        "storage/migrations/sqlite/0001_pages.sql",
        10_533_148_709_189_093_894,
    ),
    (
        "storage/migrations/sqlite/0002_access.sql",
        8_803_384_987_619_770_330,
    ),
    (
        "storage/migrations/sqlite/0003_trash.sql",
        16_693_021_049_191_104_674,
    ),
    (
        "storage/migrations/sqlite/0004_last_seen.sql",
        12_251_088_937_986_700_043,
    ),
    (
        "storage/migrations/sqlite/0005_events.sql",
        16_613_548_415_885_720_323,
    ),
    (
        "storage/migrations/sqlite/0006_rooms.sql",
        4_166_755_120_223_794_880,
    ),
    (
        "storage/migrations/sqlite/0007_history.sql",
        3_637_358_818_919_231_948,
    ),
    (
        "storage/migrations/sqlite/0008_webhooks.sql",
        14_193_855_396_102_836_485,
    ),
    (
        "storage/migrations/sqlite/0009_permissions_by_user.sql",
        5_323_593_449_497_966_489,
    ),
    (
        "storage/migrations/sqlite/0010_search.sql",
        8_132_192_748_110_842_604,
    ),
    (
        "storage/migrations/sqlite/0011_trash_by_age.sql",
        11_733_895_876_859_119_847,
    ),
    (
        "storage/migrations/sqlite/0013_aliases.sql",
        9_206_755_470_495_644_086,
    ),
    (
        "storage/migrations/sqlite/0014_rebuilt_pages.sql",
        13_566_468_847_546_489_756,
    ),
    (
        "storage/migrations/sqlite/0015_history_policies.sql",
        10_394_743_859_099_156_662,
    ),
    (
        "storage/migrations/sqlite/0016_large_values.sql",
        16_462_517_205_862_028_120,
    ),
];

#[test]
fn migrations_are_added_and_never_changed() {
    let files = files("storage/migrations", &[".sql"]);
    let found: Vec<_> = files
        .iter()
        .map(|file| (file.path.as_str(), fingerprint(&file.text)))
        .collect();
    let kept: Vec<_> = found
        .iter()
        .filter(|found| MIGRATIONS.iter().any(|(path, _)| *path == found.0))
        .copied()
        .collect();
    assert_eq!(
        kept, MIGRATIONS,
        "a database that has run a migration never runs it again: add another one"
    );
    assert_eq!(
        found.len(),
        MIGRATIONS.len(),
        "a new migration is noted here: {found:#?}"
    );
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The folder that it lies in too, unless that is a word that stands in addresses and imports anyway.
    let parent = here.parent().filter(|parent| parent.components().count() > 2);
    let of_machine: Vec<String> = [Some(here), parent]
        .into_iter()
        .flatten()
        .map(|path| format!("{}/", path.display()))
        .collect();
    let endings = [
        ".rs", ".toml", ".md", ".js", ".mjs", ".json", ".html", ".css", ".sql", ".sh", ".yml", ".yaml",
        ".lock", ".snap", "run", ".npmrc", ".jsonl",
    ];
    let found = files(".", &endings).into_iter().flat_map(|source| {
        let lines = source.text.lines().enumerate();
        let found = lines.filter(|(_, line)| of_machine.iter().any(|path| line.contains(path.as_str())));
        found
            .map(|(number, _)| format!("{}:{}", source.path, number + 1))
            .collect::<Vec<_>>()
    });
    assert_none(found, "paths of one machine mean nothing on another");
    let locks = files(".", &["package-lock.json"]).into_iter();
    let hosts = locks.filter(|source| source.text.contains("\"resolved\": \"http"));
    assert_none(
        hosts.map(|source| source.path),
        "packages come from wherever the reader's registry is",
    );
}

#[test]
fn every_defence_names_tests_that_there_are() {
    let page = fs::read_to_string(top().join(".github/SECURITY.md")).expect("a page about security");
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let defences: Vec<&str> = rows.skip(1).collect();
    assert!(defences.len() > 10, "{defences:?}");
    for defence in defences {
        let named: Vec<&str> = defence.split('`').skip(1).step_by(2).collect();
        let (mut tests, mut file) = (0, String::new());
        for name in named {
            let path = top().join(name);
            if name.contains('/') && name.starts_with(|first: char| first.is_ascii_lowercase()) {
                assert!(path.exists(), "there is no {name}");
                tests += 1;
                file = fs::read_to_string(path).unwrap_or_default();
            } else if name.matches('_').count() > 1 && name.chars().all(|letter| !letter.is_uppercase()) {
                assert!(file.contains(&format!("fn {name}(")), "there is no {name}");
            }
        }
        assert!(tests > 0, "nothing shows it: {defence}");
    }
}
