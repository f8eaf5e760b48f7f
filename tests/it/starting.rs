//! How a server starts: what its first lines say, and what becomes of it when its store is not there, or not yet.

use std::{net::TcpListener, time::Duration};

use crate::{
    access::now,
    support::{
        client::Client,
        cluster::{Cluster, free_port, run as run_program},
        http::get,
        process::{Process, run, text},
        token::SECRET,
        until,
    },
};

/// A start that cannot succeed, and one that is called off, end within this time.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Starts a server that cannot; gives what it says of that.
fn failed(url: &str) -> String {
    let began = now();
    let output = run(&["serve", "--port", "0"], &[("DATABASE_URL", url)]);
    let took = began.elapsed();
    assert_eq!(output.status.code(), Some(1), "{url}");
    assert!(took < AT_ONCE, "{url}: it took {took:?}");
    let said = text(&output.stderr);
    assert!(!said.contains("trying again"), "{said}");
    assert!(!said.contains("a-secret"), "no secrets: {said}");
    assert!(!said.contains('\u{1b}'), "no colours in a pipe: {said}");
    assert_eq!(text(&output.stdout), "");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("pageroom: "), "{said}");
    said
}

#[test]
fn a_start_without_its_folder_ends_at_once_and_says_what_to_do() {
    let said = failed("sqlite:///no/such/folder/pages.db");
    assert!(said.contains("create /no/such/folder"), "{said}");
}

#[test]
fn a_start_that_its_database_refuses_ends_at_once_and_says_what_to_do() {
    let Some(cluster) = Cluster::start_new() else {
        return;
    };
    let make = |statement: &str| {
        run_program(cluster.program("psql").args([
            "--no-psqlrc",
            "--dbname",
            &cluster.url("pageroom"),
            "--command",
            statement,
        ]));
    };
    make("CREATE ROLE locked LOGIN PASSWORD 'the right one'");
    make("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    cluster.demand_password_of("locked");
    let missing = cluster.url("pageroom").replace("/postgres", "/missing");
    let latin = cluster.url("pageroom").replace("/postgres", "/latin");
    for (url, told) in [
        (cluster.url("locked"), "check user and password"),
        (cluster.url("nobody"), "check user and password"),
        (missing, "createdb"),
        (latin, "ENCODING 'UTF8'"),
        // It may not make its tables.
        (
            cluster.url("locked").replace("a-secret", "the%20right%20one"),
            "pageroom migrate",
        ),
    ] {
        let said = failed(&url);
        assert!(
            said.contains("DATABASE_URL") || said.contains("pageroom migrate"),
            "{said}"
        );
        assert!(said.contains(told), "{told}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_there_before_its_database_serves_when_that_is_there() {
    let Some(cluster) = Cluster::start_new() else {
        return;
    };
    cluster.crash();
    let server = Process::start(&[("DATABASE_URL", &cluster.url("pageroom"))]);
    until("a try", async || server.log().contains("cannot be reached yet")).await;
    assert!(!server.log().contains("listening"), "{}", server.log());
    cluster.start();
    let address = server.address().await;
    assert_eq!(get(address, "/readyz").await.status.as_u16(), 200);
    let mut ada = Client::join_at(address, "/ws/page", 1).await;
    ada.write_durably("at last").await;
    // What the secret of the database is stands nowhere.
    assert!(!server.log().contains("a-secret"), "{}", server.log());
}

#[tokio::test]
async fn a_signal_ends_a_server_that_waits_for_its_store() {
    // Nobody is there, or somebody who says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().expect("an address").port();
    for (port, signal, waits) in [
        (free_port(), "TERM", "cannot be reached yet"),
        (free_port(), "INT", "cannot be reached yet"),
        (silent, "TERM", "pageroom starts"),
    ] {
        let url = format!("postgres://127.0.0.1:{port}/pages");
        let mut server = Process::start(&[("DATABASE_URL", &url)]);
        until("a try", async || server.log().contains(waits)).await;
        let asked = now();
        server.signal(signal);
        assert!(server.ended().await.success(), "{}", server.log());
        let took = asked.elapsed();
        assert!(took < AT_ONCE, "it took {took:?}");
        until("the last line", async || {
            server.log().contains("stopped before it could start")
        })
        .await;
    }
}

#[tokio::test]
async fn the_first_lines_say_version_store_address_and_mode() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pages.db");
    let url = format!("sqlite://{}", file.display());
    let long = [("DATABASE_URL", url.as_str())];
    let locked = [("DATABASE_URL", "memory:"), ("JWT_SECRET", SECRET)];
    let store = file.display().to_string();
    for (environment, store, mode, line) in [
        (&long[..], store.as_str(), "open", 1),
        (&locked[..], "memory", "tokens", 0),
    ] {
        let server = Process::start(environment);
        let address = server.address().await;
        let log = server.log();
        assert!(!log.contains('\u{1b}'), "no colours in a pipe: {log}");
        // Behind the warning that everybody may come in, where that is so.
        let first = log.lines().nth(line).unwrap_or_default();
        for told in [
            "INFO",
            "pageroom starts",
            &format!("version=\"{}\"", env!("CARGO_PKG_VERSION")),
            store,
            "store=",
            "address=127.0.0.1:0",
            &format!("mode=\"{mode}\""),
        ] {
            assert!(first.contains(told), "{told}: {log}");
        }
        if line == 1 {
            let warning = log.lines().next().unwrap_or_default();
            assert!(
                warning.contains("WARN") && warning.contains("running open"),
                "{log}"
            );
        }
        let listening = format!("http://{address}/");
        let second = log.lines().nth(line + 1).unwrap_or_default();
        assert!(second.contains("listening") || log.contains(&listening), "{log}");
    }
}
