//! `pageroom bench` ends at the first refusal, and leaves no page behind where it may remove them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use hyper::Method;
use serde_json::{Value, json};

use crate::{
    access::{backend_at, now},
    support::{
        process::{Process, program, run, text},
        server::ADMIN_TOKEN,
        token::{SECRET, token},
        until,
    },
};

fn server() -> Process {
    Process::start(&[
        ("DATABASE_URL", "memory:"),
        ("JWT_SECRET", SECRET),
        ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN),
    ])
}

/// Runs the command; gives whether it succeeded and what it said to people.
fn bench(server: SocketAddr, token: &str, line: &str) -> (bool, String) {
    let url = format!("ws://{server}/ws");
    let mut arguments = vec!["bench", "--url", &url];
    arguments.extend(line.split(' '));
    let output = run(&arguments, &[("PAGEROOM_BENCH_TOKEN", token)]);
    let said = text(&output.stderr) + &text(&output.stdout);
    (output.status.success(), said)
}

/// The pages that a server has, in use and in the trash.
async fn pages(server: SocketAddr) -> Vec<String> {
    let mut ids = Vec::new();
    for path in ["/api/pages", "/api/pages?deleted=true"] {
        let listed = backend_at(server, Method::GET, path, Value::Null).await.json();
        let listed = listed["pages"].as_array().expect("a list").clone();
        ids.extend(
            listed
                .iter()
                .map(|page| page["pageId"].as_str().expect("an id").to_owned()),
        );
    }
    ids
}

const SHORT: &str = "--rooms 3 --clients 2 --warmup 0s --duration 300ms --verify";

#[tokio::test]
async fn a_run_removes_its_pages() {
    let server = server();
    let address = server.address().await;
    for line in [
        SHORT,
        "idle --rooms 3 --clients 2 --settle 0s",
        "pages --pages 60 --edits 4 --settle 0s",
        "joins --clients 3 --page-bytes 2000",
    ] {
        let (is_good, said) = bench(address, ADMIN_TOKEN, line);
        assert!(is_good && !said.contains("left on the server"), "{line}: {said}");
        assert_eq!(pages(address).await, [""; 0], "{line}");
    }
}

#[tokio::test]
async fn pages_that_are_wanted_stay() {
    let server = server();
    let address = server.address().await;
    let (is_good, said) = bench(
        address,
        ADMIN_TOKEN,
        "pages --pages 2 --edits 4 --settle 0s --keep",
    );
    assert!(is_good && !said.contains("left on the server"), "{said}");
    // What a writer is not held up by is stored a moment later.
    until("both pages to be stored", async || {
        pages(address).await.len() == 2
    })
    .await;
    let kept = pages(address).await;
    let name = kept
        .first()
        .expect("a page")
        .strip_suffix("-0")
        .expect("the first")
        .to_owned();
    assert_eq!(kept, [format!("{name}-0"), format!("{name}-1")]);
    for line in [
        format!("pages --pages 2 --settle 0s --page {name}"),
        format!("joins --clients 2 --page {name}-0"),
    ] {
        let (is_good, said) = bench(address, ADMIN_TOKEN, &line);
        assert!(is_good, "{line}: {said}");
        assert_eq!(pages(address).await, kept, "{line}");
    }
}

#[tokio::test]
async fn a_token_that_may_not_remove_pages_is_told_of_with_their_names() {
    let server = server();
    let address = server.address().await;
    let (is_good, said) = bench(address, &token("ada", &json!({ "*": "edit" })), SHORT);
    assert!(is_good, "{said}");
    let left = pages(address).await;
    assert_eq!(left.len(), 3, "{left:?}");
    let told: Vec<_> = said
        .lines()
        .filter(|line| line.contains("left on the server"))
        .collect();
    let [told] = told[..] else { panic!("{said}") };
    let prefix = told
        .split("called ")
        .nth(1)
        .and_then(|rest| rest.split('…').next());
    let prefix = prefix.expect("a name");
    assert!(
        left.iter().all(|page| page.starts_with(prefix)),
        "{prefix}: {left:?}"
    );
    assert!(told.contains("403 (forbidden: "), "{told}");
}

#[tokio::test]
async fn a_refusal_ends_it_with_its_code_and_reason() {
    let server = server();
    let address = server.address().await;
    let began: Instant = now();
    let foreign = token("ada", &json!({ "elsewhere": "edit" }));
    for (token, code, reason) in [
        ("nonsense", "4401", "unauthenticated: "),
        (foreign.as_str(), "4403", "forbidden: "),
    ] {
        for line in [SHORT, "idle --settle 0s", "joins"] {
            let (is_good, said) = bench(address, token, line);
            assert!(!is_good, "{line}: {said}");
            assert!(
                said.contains(&format!("with code {code}: {reason}")),
                "{line}: {said}"
            );
        }
    }
    assert!(
        began.elapsed() < Duration::from_secs(25),
        "no run has waited for its deadline"
    );
    assert_eq!(pages(address).await, [""; 0]);
}

#[tokio::test]
async fn a_run_that_is_interrupted_removes_its_pages() {
    let server = server();
    let address = server.address().await;
    for signal in ["INT", "TERM"] {
        let mut command = program();
        let url = format!("ws://{address}/ws");
        command.args(["bench", "--rooms", "3", "--duration", "600s", "--url", &url]);
        let mut run = Process::spawn({
            command.env("PAGEROOM_BENCH_TOKEN", ADMIN_TOKEN);
            command
        });
        until("pages to be there", async || pages(address).await.len() == 3).await;
        run.signal(signal);
        assert!(!run.ended().await.success());
        until("it to say why", async || {
            run.log().contains("pageroom: interrupted")
        })
        .await;
        assert_eq!(pages(address).await, [""; 0], "{signal}: {}", run.log());
    }
}
