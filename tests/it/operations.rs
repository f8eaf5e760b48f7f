//! What operators meet: starts that cannot succeed, files that go away, probes of proxies.

use std::time::Duration;

use hyper::Method;

use crate::{
    access::{AT_ONCE, now},
    support::{
        client::Client,
        http::{get, get_with, send},
        process::{Process, run, text},
        server::{ADMIN_TOKEN, TestServer},
        token::SECRET,
        until,
    },
};

#[tokio::test]
async fn a_file_that_is_removed_or_replaced_is_noticed_before_anything_is_acknowledged() {
    for replaced in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pages.db");
        let url = format!("sqlite://{}", file.display());
        let server = Process::start(&[("DATABASE_URL", &url)]);
        let address = server.address().await;
        let mut ada = Client::join_at(address, "/ws/page", 1).await;
        ada.write_durably("kept").await;
        // What has just been found counts for a while.
        assert_eq!(get(address, "/readyz").await.status.as_u16(), 200);
        std::fs::remove_file(&file).expect("a file");
        if replaced {
            std::fs::write(&file, "").expect("a file");
        }
        let removed = now();
        // What a request takes here and now, which may be much.
        let mut slowest = Duration::ZERO;
        until("the server to notice", async || {
            let asked = now();
            let is_noticed = get(address, "/readyz").await.status.as_u16() == 503;
            slowest = slowest.max(asked.elapsed());
            is_noticed
        })
        .await;
        let noticed = removed.elapsed();
        assert!(
            noticed <= AT_ONCE + 3 * slowest,
            "noticed after {noticed:?}, where a request takes up to {slowest:?}"
        );
        ada.write("lost").await;
        until("the log to say what happened", async || {
            let log = server.log();
            log.contains("was removed while") || log.contains("was replaced while")
        })
        .await;
        assert!(
            ada.acknowledged < ada.replica.clock(),
            "what went nowhere is not acknowledged"
        );
    }
}

#[tokio::test]
async fn a_second_server_on_one_file_is_refused_unless_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("pages.db").display());
    let first = Process::start(&[("DATABASE_URL", &url)]);
    first.address().await;
    let second = run(&["serve", "--port", "0"], &[("DATABASE_URL", &url)]);
    assert_eq!(second.status.code(), Some(1));
    let said = text(&second.stderr);
    assert!(
        said.contains("another server") && said.contains("PAGEROOM_SHARED_FILE"),
        "{said}"
    );
    // By another name it is the same file.
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(folder.path().join("pages.db"), &link).expect("a link");
    let linked = format!("sqlite://{}", link.display());
    let third = run(&["serve", "--port", "0"], &[("DATABASE_URL", &linked)]);
    assert_eq!(third.status.code(), Some(1));
    drop(first);
    let again = Process::start(&[("DATABASE_URL", &url)]);
    again.address().await;
    let shared = [("DATABASE_URL", url.as_str()), ("PAGEROOM_SHARED_FILE", "yes")];
    Process::start(&shared).address().await;
}

#[test]
fn export_makes_no_file_where_there_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = crate::support::process::program()
        .args(["export", "page"])
        .current_dir(folder.path())
        .output()
        .expect("a program that starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("there is no pageroom.db"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[tokio::test]
async fn proxies_may_ask_in_their_own_ways_whether_there_is_a_server() {
    for flags in [&[][..], &["--demo", "false"]] {
        let server = TestServer::start(flags).await;
        let answer = send(server.address, Method::OPTIONS, "/", &[], "".into()).await;
        assert_eq!(answer.status.as_u16(), 204);
        for path in ["/healthz", "/readyz"] {
            let answer = send(server.address, Method::HEAD, path, &[], "".into()).await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0), "{path}");
        }
    }
}

#[tokio::test]
async fn a_cookie_of_another_application_hides_nothing() {
    let server = TestServer::start(&["--jwt-secret", SECRET]).await;
    let ada = crate::support::token::token("ada", &serde_json::json!({ "*": "edit" }));
    let origin = format!("http://{}", server.address);
    for (cookie, allowed) in [
        (format!("name=José; accessToken={ada}"), true),
        (format!("accessToken=foreign; accessToken={ada}"), true),
        (format!("accessToken={ada}; authjs.session-token=foreign"), true),
        ("accessToken=foreign".to_owned(), false),
    ] {
        let headers = [("origin", origin.as_str()), ("cookie", &cookie)];
        let answer = get_with(server.address, "/api/pages", &headers).await;
        assert_eq!(answer.status.is_success(), allowed, "{cookie}: {}", answer.status);
    }
}

#[tokio::test]
async fn requests_that_are_refused_are_read_of_by_whoever_runs_the_server() {
    let server = Process::start(&[
        ("JWT_SECRET", SECRET),
        ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN),
        (
            "REALTIME_BROADCAST_SECRET",
            "a secret of two backends, long enough",
        ),
        ("DATABASE_URL", "memory:"),
        ("PAGEROOM_MAX_REQUESTS_PER_SECOND", "1000"),
        ("PAGEROOM_MAX_REQUESTS_BURST", "1000"),
    ]);
    let address = server.address().await;
    let viewer = crate::support::token::token("ada", &serde_json::json!({ "team/notes": "view" }));
    let blocked = crate::support::token::token("bob", &serde_json::json!({ "*": "edit" }));
    let admin = format!("Bearer {ADMIN_TOKEN}");
    let block = [("authorization", admin.as_str())];
    send(address, Method::PUT, "/api/users/bob/block", &block, "".into()).await;
    let refused = async |method: Method, path: &str, token: Option<&str>| {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer
            .iter()
            .map(|bearer| ("authorization", bearer.as_str()))
            .collect();
        let answer = send(address, method, path, &headers, "x".into()).await;
        assert!(
            !answer.text().contains("PAGEROOM"),
            "no more than ever: {}",
            answer.text()
        );
        answer.error()
    };
    for _ in 0..3 {
        assert_eq!(
            refused(Method::GET, "/api/pages/team%2Fnotes", None).await,
            "unauthenticated"
        );
        assert_eq!(
            refused(Method::GET, "/api/pages/secret", Some(&viewer)).await,
            "forbidden"
        );
        assert_eq!(
            refused(Method::POST, "/api/pages/team%2Fnotes/updates", Some(&viewer)).await,
            "read_only"
        );
        assert_eq!(
            refused(Method::GET, "/api/pages/page/content", Some(&blocked)).await,
            "forbidden"
        );
        // On the same route as somebody who has no role there.
        assert_eq!(
            refused(Method::GET, "/api/pages/secret", Some(&blocked)).await,
            "forbidden"
        );
        assert_eq!(
            refused(Method::GET, "/api/audit", Some(&viewer)).await,
            "forbidden"
        );
        assert_eq!(
            refused(Method::GET, "/api/pages/none", Some(ADMIN_TOKEN)).await,
            "not_found"
        );
        let foreign = [("x-broadcast-signature", "t=1,v1=00")];
        let bearer = format!("Bearer {viewer}");
        let user = [("authorization", bearer.as_str())];
        for (path, headers) in [
            ("/api/broadcast", &foreign[..]),
            ("/api/broadcast/batch", &user),
            ("/api/kick", &[]),
        ] {
            let answer = send(address, Method::POST, path, headers, "x".into()).await;
            assert_eq!(answer.text(), r#"{"error":"Authentication failed"}"#, "{path}");
        }
    }
    let log = server.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("a request was refused"))
        .collect();
    assert_eq!(lines.len(), 9, "each cause once: {log}");
    for told in [
        &["unauthenticated", "page=\"team/notes\"", "PAGEROOM_ADMIN_TOKEN"][..],
        &["forbidden", "user=\"ada\"", "page=\"secret\"", "PAGEROOM_ACCESS"],
        &["read_only", "user=\"ada\"", "page=\"team/notes\"", "`edit`"],
        &["forbidden", "user=\"bob\"", "page=\"page\"", "/block` lets"],
        &["forbidden", "user=\"bob\"", "page=\"secret\"", "/block` lets"],
        &["forbidden", "user=\"ada\"", "/api/audit"],
        &["unauthenticated", "/api/broadcast", "REALTIME_BROADCAST_SECRET"],
        &[
            "forbidden",
            "user=\"ada\"",
            "/api/broadcast/batch",
            "only backends",
        ],
        &["unauthenticated", "/api/kick", "REALTIME_BROADCAST_SECRET"],
    ] {
        let found = lines
            .iter()
            .any(|line| line.contains("WARN") && told.iter().all(|word| line.contains(word)));
        assert!(found, "{told:?}: {log}");
    }
    assert!(
        !log.contains(&viewer) && !log.contains(ADMIN_TOKEN),
        "no token in a log"
    );
    let metrics = get(address, "/metrics").await;
    for (kind, count) in [("unauthenticated", 9), ("forbidden", 15), ("read_only", 3)] {
        let line = format!("pageroom_refusals_total{{kind=\"{kind}\"}} {count}");
        assert!(metrics.text().contains(&line), "{line}: {}", metrics.text());
    }
    until("the refusals to be noted", async || {
        let noted = get_with(address, "/api/audit?action=request", &block)
            .await
            .json();
        let noted = noted["entries"].as_array().expect("entries").clone();
        let is_noted = |user: Option<&str>, page: Option<&str>, outcome: &str| {
            noted.iter().any(|entry| {
                entry["userId"].as_str() == user
                    && entry["pageId"].as_str() == page
                    && entry["outcome"] == outcome
            })
        };
        is_noted(None, Some("team/notes"), "unauthenticated")
            && is_noted(Some("ada"), Some("secret"), "forbidden")
            && is_noted(Some("ada"), Some("team/notes"), "read_only")
            && is_noted(Some("bob"), Some("page"), "forbidden")
    })
    .await;
}

#[tokio::test]
async fn numbers_may_be_at_an_address_of_their_own_and_are_nowhere_else_then() {
    let server = Process::start(&[
        ("DATABASE_URL", "memory:"),
        ("PAGEROOM_METRICS_ADDRESS", "127.0.0.1:0"),
    ]);
    let address = server.address().await;
    assert_eq!(get(address, "/metrics").await.status.as_u16(), 404);
    let apart = "metrics are at http://";
    until("the numbers", async || server.log().contains(apart)).await;
    let log = server.log();
    let apart = log
        .split(apart)
        .nth(1)
        .and_then(|rest| rest.split('/').next())
        .expect("an address");
    let apart = apart.parse().expect("an address");
    for (path, status) in [
        ("/metrics", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/api/pages", 404),
        ("/", 404),
    ] {
        assert_eq!(get(apart, path).await.status.as_u16(), status, "{path}");
    }
    assert!(
        get(apart, "/metrics")
            .await
            .text()
            .contains("pageroom_connections_open")
    );
}
