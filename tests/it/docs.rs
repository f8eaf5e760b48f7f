//! What the documents say of settings, numbers and files is what there is.

use std::{collections::BTreeSet, env, fs, path::Path};

use clap::{Arg, CommandFactory, Parser};
use pageroom::{config::Settings, telemetry::METRICS};
use serde_json::Value;

use crate::{
    support::{http::get, server::TestServer},
    tidy::files,
};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    _settings: Settings,
}

pub(crate) fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap_or_default()
}

/// Compares a document that is made from the code with what is there, or writes it with `INSTA_UPDATE=always`.
pub(crate) fn assert_made(file: &str, made: &str) {
    if read(file) == made {
        return;
    }
    let update = env::var("INSTA_UPDATE").is_ok_and(|update| update == "always");
    assert!(
        update,
        "{file} is not what the code gives: run this test with INSTA_UPDATE=always"
    );
    fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), made).expect("a file of the project");
}

/// One row of a table; a bar would end a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn setting(arg: &Arg) -> Option<String> {
    let name = arg.get_env()?.to_str()?;
    let flag = arg.get_long()?;
    let defaults: Vec<_> = arg
        .get_default_values()
        .iter()
        .filter_map(|value| value.to_str())
        .collect();
    let default = match defaults.is_empty() {
        true => "–".to_owned(),
        false => format!("`{}`", defaults.join(",")),
    };
    let secret = match arg.is_hide_env_values_set() {
        true => format!(" May stand in a file that `{name}_FILE` names."),
        false => String::new(),
    };
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string)?;
    let stop = if help.ends_with('.') { "" } else { "." };
    Some(format!(
        "| `{name}` | `--{flag}` | {} | {}{stop}{secret} |\n",
        cell(&default),
        cell(&help)
    ))
}

#[test]
fn every_setting_is_in_its_document() {
    let command = Flags::command();
    let mut headings: Vec<&str> = Vec::new();
    for heading in command.get_arguments().filter_map(|arg| arg.get_help_heading()) {
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    let mut made = "# Settings\n\nMade from the code. Each setting is a variable and a flag of `pageroom serve`; a variable that is empty is not \
                    set. `pageroom check-config` says what is wrong with those that are set. The variables of OpenTelemetry are in [otlp.md](otlp.md).\n"
        .to_owned();
    for heading in headings {
        made += &format!("\n## {heading}\n\n| variable | flag | default | |\n|---|---|---|---|\n");
        let of = command
            .get_arguments()
            .filter(|arg| arg.get_help_heading() == Some(heading));
        made.extend(of.filter_map(setting));
    }
    assert!(
        made.matches("\n| `").count() > 80,
        "the settings are where they were"
    );
    assert_made("docs/settings.md", &made);
}

/// Names of numbers in a query.
fn numbers_in(query: &str) -> BTreeSet<String> {
    let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words
        .filter(|word| word.starts_with("pageroom_"))
        .map(|word| {
            let parts = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|part| word.strip_suffix(part));
            parts.unwrap_or(word).to_owned()
        })
        .collect()
}

fn alerts() -> Vec<Value> {
    let rules: Value = serde_saphyr::from_str(&read("deploy/prometheus.rules.yaml")).expect("YAML");
    let groups = rules["groups"].as_array().expect("groups");
    groups
        .iter()
        .flat_map(|group| group["rules"].as_array().expect("rules").clone())
        .collect()
}

#[test]
fn every_number_is_in_its_document_with_its_alerts() {
    let mut made = "# Metrics\n\nMade from the code. `/metrics` gives them in Prometheus' text; `PAGEROOM_METRICS_ADDRESS` puts it on an address of its \
                    own. [deploy/prometheus.rules.yaml](../deploy/prometheus.rules.yaml) has the alerts, and \
                    [deploy/grafana.json](../deploy/grafana.json) is a dashboard.\n\n```yaml\n\
                    scrape_configs:\n  - job_name: pageroom # the alert PageroomDown watches it\n    static_configs:\n\
                    \u{20}     - targets: [\"127.0.0.1:3001\"]\nrule_files: [prometheus.rules.yaml]\n```\n\n\
                    | name | kind | | alerts |\n|---|---|---|---|\n"
        .to_owned();
    let alerts = alerts();
    for (name, kind, text) in METRICS {
        let named = |alert: &&Value| numbers_in(alert["expr"].as_str().expect("a query")).contains(name);
        let of: Vec<_> = alerts
            .iter()
            .filter(named)
            .filter_map(|alert| alert["alert"].as_str())
            .collect();
        made += &format!("| `{name}` | {kind} | {text} | {} |\n", of.join(", "));
    }
    made += "\n## Alerts\n\n| alert | when | what it means |\n|---|---|---|\n";
    for alert in &alerts {
        let of = |name: &str| alert[name].as_str().unwrap_or("at once").to_owned();
        let summary = alert["annotations"]["summary"].as_str().expect("a sentence");
        let summary = summary.replace("{{ $labels.kind }}", "`kind`");
        made += &format!(
            "| {} | `{}`, {} | {} |\n",
            of("alert"),
            cell(&of("expr")),
            of("for"),
            cell(&summary)
        );
    }
    assert_made("docs/metrics.md", &made);
}

#[tokio::test]
async fn alerts_and_dashboard_ask_for_numbers_that_are_told() {
    let server = TestServer::start(&[]).await;
    let told = get(server.address, "/metrics").await;
    let known: BTreeSet<_> = METRICS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    // Those with a `kind` are told of from their first time on, and keys only where there is an address.
    let later = |name: &str| {
        name.contains("store_errors") || name.contains("refusals") || name.contains("token_keys")
    };
    for (name, kind, text) in METRICS {
        let is_told = told.text().contains(&format!("# TYPE {name} {kind}")) && told.text().contains(text);
        assert!(is_told || later(name), "{name}: {}", told.text());
    }
    for line in told.text().lines().filter(|line| !line.starts_with('#')) {
        let names = numbers_in(line);
        assert!(names.is_subset(&known), "{line} is in no table");
    }
    let source = files("src", &[".rs"])
        .into_iter()
        .map(|source| source.text)
        .collect::<String>();
    let in_source: BTreeSet<_> = source
        .split('"')
        .filter(|text| text.starts_with("pageroom_") && !text.contains(['=', ' ']))
        .collect();
    for name in in_source
        .iter()
        .filter(|name| name.ends_with("_total") || name.ends_with("_seconds") || name.ends_with("_bytes"))
    {
        assert!(known.contains(*name), "{name} is in no table");
    }
    for alert in alerts() {
        let query = alert["expr"].as_str().expect("a query");
        assert!(numbers_in(query).is_subset(&known), "{query}");
        // The first time is seen only by who has seen it at zero.
        if query.contains("increase(") {
            for name in numbers_in(query) {
                let told = told.text().lines().filter(|line| line.starts_with(&name));
                let zeros: Vec<_> = told.filter(|line| line.ends_with(" 0")).collect();
                assert!(!zeros.is_empty(), "{name} is not told of from the start");
                let is_by_kind = zeros.iter().all(|line| line.contains("{kind=\""));
                assert!(!query.contains("by (kind)") || is_by_kind, "{zeros:?}");
            }
        }
        assert!(
            query.matches('(').count() == query.matches(')').count(),
            "{query}"
        );
    }
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana.json")).expect("JSON");
    let mut shown = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(
            ids.insert(panel["id"].as_u64().expect("a number")),
            "a panel twice"
        );
        for target in panel["targets"].as_array().expect("targets") {
            shown.extend(numbers_in(target["expr"].as_str().expect("a query")));
        }
    }
    assert_eq!(shown, known, "the dashboard shows every number and no other");
}

#[test]
fn documents_print_the_files_that_are_tested_and_link_to_what_there_is() {
    for (document, file) in [
        ("docs/proxies.md", "deploy/nginx.conf"),
        ("docs/proxies.md", "deploy/haproxy.cfg"),
        ("docs/proxies.md", "deploy/traefik.yaml"),
        ("docs/proxies.md", "deploy/traefik-pageroom.yaml"),
        ("docs/moving.md", "deploy/export-y-leveldb.mjs"),
        ("README.md", "examples/tiptap/main.js"),
        ("README.md", "examples/tiptap/style.css"),
        ("README.md", "examples/codemirror/main.js"),
        ("README.md", "examples/socketio/sync.js"),
        ("docs/editors.md", "examples/tiptap/main.js"),
        ("docs/editors.md", "examples/tiptap/style.css"),
        ("docs/editors.md", "examples/tiptap/signed-in.js"),
        ("docs/editors.md", "examples/codemirror/main.js"),
        ("docs/editors.md", "examples/codemirror/style.css"),
        ("docs/editors.md", "examples/quill/main.js"),
        ("docs/editors.md", "examples/quill/style.css"),
        ("docs/editors.md", "examples/blocknote/main.jsx"),
        ("docs/editors.md", "examples/blocknote/style.css"),
        ("docs/editors.md", "examples/socketio/sync.js"),
        ("docs/editors.md", "examples/socketio/main.js"),
        ("docs/editors.md", "examples/backend/server.js"),
    ] {
        assert!(!read(file).is_empty(), "there is no {file}");
        assert!(
            read(document).contains(&read(file)),
            "{document} prints another {file}"
        );
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    for document in files("docs", &[".md"])
        .into_iter()
        .map(|source| source.text)
        .chain(["README.md", "CHANGELOG.md", "examples/README.md"].map(read))
    {
        for link in document
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let there = [
                top.join("docs").join(target),
                top.join("examples").join(target),
                top.join(target),
            ];
            assert!(there.iter().any(|path| path.exists()), "{link} leads nowhere");
        }
    }
}

/// The heading of a version's entry in the list of changes, and what stands below it.
fn entries(changes: &str) -> Vec<(&str, &str)> {
    let split = |entry| str::split_once(entry, '\n').expect("something below a heading");
    changes.split("\n### ").skip(1).map(split).collect()
}

#[test]
fn the_version_has_its_entry_and_every_entry_but_the_newest_its_day() {
    let changes = read("CHANGELOG.md");
    let entries = entries(&changes);
    let (newest, text) = entries.first().expect("an entry");
    assert_eq!(newest.split(", ").next(), Some(env!("CARGO_PKG_VERSION")));
    assert!(
        text.contains("\n- "),
        "nothing has changed in {newest}, says CHANGELOG.md"
    );
    let mut versions = BTreeSet::new();
    for (place, (heading, _)) in entries.iter().enumerate() {
        let (version, day) = heading
            .split_once(", ")
            .map_or((*heading, None), |(version, day)| (version, Some(day)));
        assert!(versions.insert(version), "{version} has two entries");
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        assert!(
            version.split('.').count() == 3 && version.split('.').all(is_number),
            "{heading} is no version"
        );
        match day {
            Some(day) => assert!(
                day.split('-').map(str::len).eq([4, 2, 2]) && day.split('-').all(is_number),
                "{heading} has no day"
            ),
            None => assert!(place == 0, "{version} has no day"),
        }
    }
    for document in ["README.md", "docs/README.md", "docs/upgrade.md"] {
        assert!(
            read(document).contains("CHANGELOG.md)"),
            "{document} does not lead to the list of changes"
        );
    }
    let workspace = read("Cargo.toml");
    assert!(
        workspace.contains(&format!("rust-version = \"{}\"", env!("CARGO_PKG_RUST_VERSION")))
            && read("README.md").contains(&format!("Rust ({} or newer)", env!("CARGO_PKG_RUST_VERSION"))),
        "the README names another Rust"
    );
}
