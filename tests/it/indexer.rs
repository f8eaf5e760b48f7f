//! The vocabulary of an indexer: who joins a workspace, and what members hear of a worker's job.

use hyper::Method;
use serde_json::{Value, json};

use crate::support::{
    http::{get, send},
    process::Process,
    server::TestServer,
    socket_io::Session,
    token::{SECRET, token},
};

const INDEXER: &str = "a token of the indexer, 32 bytes or more";
const LOCKED: [&str; 6] = [
    "--jwt-secret",
    SECRET,
    "--indexer-token",
    INDEXER,
    "--progress-seconds",
    "1",
];

async fn user(address: std::net::SocketAddr, name: &str, pages: Value) -> Session {
    Session::connect(address, &json!({ "token": token(name, &pages) }))
        .await
        .0
}

async fn say(address: std::net::SocketAddr, workspace: &str, event: &str, payload: Value) -> (u16, Value) {
    let bearer = format!("Bearer {INDEXER}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let body = json!({ "channelId": format!("workspace:{workspace}"), "event": event, "payload": payload });
    let body = body.to_string().into();
    let answer = send(address, Method::POST, "/api/broadcast", &headers, body).await;
    (answer.status.as_u16(), answer.json())
}

fn progress(phase: &str, pages: u64) -> Value {
    json!({ "phase": phase, "docsDone": 0, "docsTotal": 3, "pagesDone": pages, "pagesTotal": 50 })
}

#[tokio::test]
async fn members_hear_a_job_from_start_to_end_in_both_vocabularies() {
    let server = TestServer::start(&LOCKED).await;
    let address = server.address;
    let mut owner = user(address, "ada", json!({ "workspace:w": "admin" })).await;
    let mut viewer = user(address, "ben", json!({ "workspace:w": "edit" })).await;
    for (session, role) in [(&mut owner, "owner"), (&mut viewer, "viewer")] {
        session
            .send("workspace:join", Some(1), &json!({ "workspaceId": "w" }), &[])
            .await;
        let joined = session.word().await;
        assert_eq!(joined.what, "workspace:joined");
        assert_eq!(joined.body, json!({ "workspaceId": "w", "role": role }));
        let answer = session.word().await.body;
        assert_eq!((&answer["ok"], &answer["role"]), (&json!(true), &json!(role)));
    }
    let (status, answer) = say(address, "w", "index:started", json!({})).await;
    assert_eq!((status, &answer["delivered"]), (200, &json!(2)), "{answer}");
    assert_eq!(
        say(address, "w", "index:progress", progress("render", 1)).await.1["delivered"],
        2
    );
    assert_eq!(
        say(address, "w", "index:progress", progress("render", 2)).await.1["delivered"],
        0
    );
    for session in [&mut owner, &mut viewer] {
        let started = session.word().await;
        assert_eq!(
            (started.what.as_str(), &started.body),
            ("index:started", &json!({ "workspaceId": "w" }))
        );
        let told = session.word().await.body;
        assert_eq!(
            (&told["pagesDone"], &told["processedPages"]),
            (&json!(1), &json!(1))
        );
        let held = session.word().await.body;
        assert_eq!(held["pagesDone"], 2, "what was held back comes after a second");
    }
    assert_eq!(
        say(address, "w", "index:progress", progress("render", 3)).await.1["delivered"],
        0
    );
    let mut late = user(address, "cleo", json!({ "workspace:w": "view" })).await;
    late.send("workspace:join", None, &json!({ "workspaceId": "w" }), &[])
        .await;
    assert_eq!(late.word().await.what, "workspace:joined");
    let replayed = late.word().await;
    assert_eq!(replayed.what, "index:progress");
    assert_eq!(
        (&replayed.body["replayed"], &replayed.body["pagesDone"]),
        (&json!(true), &json!(2))
    );
    say(address, "w", "index:ready", json!({ "pageCount": 50 })).await;
    for session in [&mut owner, &mut viewer, &mut late] {
        assert_eq!(session.until_told("index:progress").await.body["pagesDone"], 3);
        for name in ["index:ready", "index:complete"] {
            let told = session.word().await;
            assert_eq!(
                (told.what.as_str(), &told.body),
                (name, &json!({ "workspaceId": "w", "pageCount": 50 }))
            );
        }
    }
    late.send("workspace:leave", None, &json!({ "workspaceId": "w" }), &[])
        .await;
    let left = late.word().await;
    assert_eq!(
        (left.what.as_str(), left.body),
        ("workspace:left", json!({ "workspaceId": "w" }))
    );
    assert_eq!(
        say(address, "w", "index:started", json!({})).await.1["delivered"],
        2
    );
}

#[tokio::test]
async fn others_are_refused_in_the_words_that_clients_compare() {
    let server = TestServer::start(&LOCKED).await;
    let mut eve = user(server.address, "eve", json!({ "workspace:other": "admin" })).await;
    eve.send("workspace:join", None, &json!({ "workspaceId": "w" }), &[])
        .await;
    let told = eve.word().await;
    assert_eq!(told.what, "error");
    assert_eq!(
        told.body,
        json!({ "message": "Access denied", "code": "forbidden" })
    );
    eve.send("workspace:join", Some(1), &json!({ "workspaceId": "w" }), &[])
        .await;
    let answer = eve.word().await.body;
    assert_eq!(
        (&answer["ok"], &answer["error"]["message"]),
        (&json!(false), &json!("Access denied"))
    );
    for payload in [
        json!({}),
        json!(null),
        json!("w"),
        json!({ "workspaceId": 7 }),
        json!({ "workspaceId": "" }),
    ] {
        eve.send("workspace:join", None, &payload, &[]).await;
        let told = eve.word().await;
        assert_eq!(
            (told.what.as_str(), &told.body["code"]),
            ("error", &json!("malformed")),
            "{payload}"
        );
    }
    assert_eq!(
        say(server.address, "w", "index:started", json!({})).await.1["delivered"],
        0
    );
    assert_eq!(say(server.address, "w", "index:started", json!([])).await.0, 400);
    assert_eq!(
        say(server.address, "other", "index:custom", json!(1)).await.0,
        200,
        "other events are told"
    );
}

#[tokio::test]
async fn health_counts_what_there_is() {
    let server = TestServer::start(&LOCKED).await;
    let health = async || get(server.address, "/health").await.json();
    let before = health().await;
    assert_eq!(before["status"], "healthy");
    assert_eq!(
        (&before["activeJobs"], &before["queuedJobs"]),
        (&json!(0), &json!(0))
    );
    let _ada = user(server.address, "ada", json!({})).await;
    say(server.address, "a", "index:started", json!({})).await;
    say(server.address, "b", "index:queued", json!({})).await;
    say(server.address, "c", "index:started", json!({})).await;
    say(server.address, "c", "index:failed", json!({ "error": "e" })).await;
    let after = health().await;
    let counts = ["activeJobs", "queuedJobs", "socketConnections"].map(|field| after[field].clone());
    assert_eq!(counts, [json!(1), json!(1), json!(1)]);
    assert!(after["uptime"].as_f64() > before["uptime"].as_f64());
}

#[tokio::test]
async fn the_last_state_of_a_workspace_is_there_after_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = format!("sqlite://{}", folder.path().join("pages.db").display());
    let environment = [
        ("JWT_SECRET", SECRET),
        ("INDEXER_SERVICE_TOKEN", INDEXER),
        ("DATABASE_URL", database.as_str()),
    ];
    let server = Process::start(&environment);
    let address = server.address().await;
    assert_eq!(say(address, "w", "index:started", json!({})).await.0, 200);
    assert_eq!(
        say(address, "w", "index:ready", json!({ "pageCount": 7 }))
            .await
            .0,
        200
    );
    drop(server);
    let server = Process::start(&environment);
    let mut ada = user(server.address().await, "ada", json!({ "workspace:w": "view" })).await;
    ada.send("workspace:join", None, &json!({ "workspaceId": "w" }), &[])
        .await;
    assert_eq!(ada.word().await.what, "workspace:joined");
    for name in ["index:ready", "index:complete"] {
        let told = ada.word().await;
        let expected = json!({ "workspaceId": "w", "pageCount": 7, "replayed": true });
        assert_eq!((told.what.as_str(), told.body), (name, expected));
    }
}
