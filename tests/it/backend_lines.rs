//! The page for backends: its lines are run as they are printed, in their order.

use std::process::{Command, Output};

use hyper::Method;
use serde_json::json;

use crate::{
    access::{backend, locked},
    support::{process::text, server::ADMIN_TOKEN, until},
};

/// What the page says that its lines suppose.
const SUPPOSED: &str = r#"curl() { command curl --silent --show-error --fail-with-body -H "Authorization: Bearer $TOKEN" "$@"; }
"#;

/// The blocks of lines of the page, with the heading that each stands under.
fn blocks() -> Vec<(String, String)> {
    let page = include_str!("../../src/backends.md");
    assert!(page.contains(
        r#"alias curl='curl --silent --show-error --fail-with-body -H "Authorization: Bearer $TOKEN"'"#
    ));
    let (mut blocks, mut heading, mut block) = (Vec::new(), String::new(), None::<String>);
    for line in page.lines() {
        match (&mut block, line) {
            (None, "```sh") => block = Some(String::new()),
            (Some(lines), "```") => {
                blocks.push((heading.clone(), std::mem::take(lines)));
                block = None;
            }
            (Some(lines), line) => *lines += &format!("{line}\n"),
            (None, line) => {
                if let Some(said) = line.strip_prefix("# ") {
                    said.clone_into(&mut heading);
                }
            }
        }
    }
    blocks
}

#[tokio::test]
async fn the_lines_for_backends_do_what_they_say() {
    // Version 7.82 and newer know `--json`.
    let curl = Command::new("curl").args(["--json", "{}", "--version"]).output();
    if !curl.is_ok_and(|curl| curl.status.success()) {
        eprintln!("SKIPPED: there is no curl of version 7.82 or newer");
        return;
    }
    let server = locked(&["--snapshot-interval-seconds", "1"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut said = Vec::new();
    for (heading, block) in blocks() {
        if heading == "Find" {
            // Words are those of the snapshot.
            until("the page is found by its words", async || {
                let search = json!({ "search": "printer \"all of us\"" });
                let found = backend(&server, Method::POST, "/api/pages/query", search).await;
                found.text().contains("snippet")
            })
            .await;
        }
        let mut shell = Command::new("sh");
        shell
            .args(["-e", "-c", &format!("{SUPPOSED}{block}")])
            .env("PAGEROOM", format!("http://{}", server.address))
            .env("TOKEN", ADMIN_TOKEN)
            .current_dir(folder.path());
        let run = tokio::task::spawn_blocking(move || shell.output()).await;
        let Output {
            status,
            stdout,
            stderr,
        } = run.expect("a shell").expect("a shell");
        let (output, errors) = (text(&stdout), text(&stderr));
        assert!(status.success(), "{heading}: {block}\n{output}\n{errors}");
        said.push((heading, output));
    }
    let says = |heading: &str, what: &str| {
        let of = said.iter().filter(|(said, _)| said == heading);
        let all: String = of.map(|(_, output)| output.as_str()).collect();
        assert!(all.contains(what), "{heading} says {what}: {all}");
    };
    says("Read", "Until Friday.");
    says("Read", "Call the printer");
    says("Read", "<p>Written by an assistant, word by word.</p>");
    says("Read", r#"["a","b","c"]"#);
    says("Find", r#""snippet":"#);
    says("Find", "Tell all of us");
    says("What was", "Call teh printer");
    says("What was", r#""name":"agreed""#);
    says("Be told", "event: change");
    says("Be told", r#"{"deliveries":[],"next":null}"#);
    says(
        "Another document, another id, and the end of a page",
        r#""formerIds":["archive/plan"]"#,
    );
    says(
        "Another document, another id, and the end of a page",
        r#"{"pageId":"team/plan-2","seq":1}"#,
    );
    says(
        "Another document, another id, and the end of a page",
        r#""after":{"clients":1,"#,
    );
    server.stop().await;
}
