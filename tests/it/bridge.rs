//! The bridge of backends: what is wrong with a request in its words, what a list of events tells, and payloads byte for byte.

use std::collections::BTreeSet;

use hyper::Method;
use serde_json::{Value, json};

use crate::{
    event_rooms::{LOCKED, ask, enter, post, signed, tell},
    support::{http::send, server::TestServer, socket_io::Session, token::token},
};

async fn user(server: &TestServer, name: &str) -> Session {
    let auth = json!({ "token": token(name, &json!({ "*": "edit" })) });
    Session::connect(server.address, &auth).await.0
}

fn event(room: &str, number: u64) -> Value {
    json!({ "channelId": room, "event": "n", "payload": { "n": number } })
}

fn with_id(mut event: Value, id: &str) -> Value {
    event["id"] = id.into();
    event
}

/// The numbers that a session hears before a last word that is told now.
async fn numbers(server: &TestServer, session: &mut Session, room: &str) -> Vec<u64> {
    tell(server, room, "last", json!({})).await;
    let mut numbers = Vec::new();
    loop {
        let told = session.told().await;
        match told.what.as_str() {
            "last" => return numbers,
            "n" => numbers.push(told.body["n"].as_u64().expect("a number")),
            _ => {}
        }
    }
}

/// Payloads that change when they are read and written again.
const PAYLOADS: [&str; 12] = [
    r#"{"n":1.0,"e":1e3,"E":-2E+07,"tenth":0.10,"minus":-0.0}"#,
    r#"{"big":123456789012345678901234567890,"max":18446744073709551616,"tiny":1e-400,"huge":1e400}"#,
    r#"{"z":1,"a":2,"m":{"z":1,"a":2},"10":0,"9":0}"#,
    r#"{"twice":1,"other":2,"twice":3}"#,
    r#"{"é":"\u00e9","slash":"\/","upper":"\u00E9","pair":"\ud83d\ude00","plain":"😀","control":"\u001f\b\f"}"#,
    "{ \"spaces\" :\t[ 1 , 2 ],\n\r\"end\": { } }",
    r#"{"lone":"\ud800"}"#,
    r#"[1.0,[],{},"x"]"#,
    r#""a text""#,
    "1.50",
    "true",
    r#"{"":null,"nested":[[[[1.0]]]]}"#,
];

#[tokio::test]
async fn payloads_come_byte_for_byte() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada").await;
    let rooms = [
        ("join_channel", json!("p"), "p"),
        ("join_drive", json!("d"), "drive:d"),
        ("join_drive", json!("d"), "drive:d:calendar"),
        ("join_dm_conversation", json!("m"), "dm:m"),
        ("join_conversation", json!("c"), "conv:c"),
        ("join_session", json!("s"), "session:s"),
        ("join_activity_page", json!("a"), "activity:page:a"),
        ("workspace:join", json!({ "workspaceId": "w" }), "workspace:w"),
        ("join", json!("x"), "user:ada"),
        ("join", json!("x"), "notifications:ada"),
        ("join", json!("x"), "global"),
    ];
    for (event, body, room) in rooms {
        enter(&mut ada, event, body).await;
        for payload in PAYLOADS {
            // One that is kept, one that is not, and one that is an edit only where it has a content.
            for event in ["new_message", "drive:updated", "page_updated"] {
                let body = format!(r#"{{"channelId":"{room}","event":"{event}","payload":{payload}}}"#);
                for (path, body) in [
                    ("/api/broadcast", body.clone()),
                    ("/api/broadcast/batch", format!("[ {body} ]")),
                ] {
                    let (status, answer) = post(&server, path, &body).await;
                    assert_eq!(status, 200, "{room} {event} {payload}: {answer}");
                    let heard = ada.until_text(&format!("42[\"{event}\",")).await;
                    let rest = heard.strip_prefix(&format!("42[\"{event}\",{payload},\""));
                    let offset = rest.and_then(|rest| rest.strip_suffix("\"]"));
                    assert!(
                        offset.is_some_and(|offset| !offset.contains('"')),
                        "{room} {path}: {payload} came as {heard}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_told_again_is_byte_for_byte_what_was_told() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada").await;
    let begin = ask(&mut ada, "workspace:join", json!({ "workspaceId": "w" })).await;
    let since = json!({ "epoch": begin["epoch"], "offset": begin["offset"] });
    for payload in PAYLOADS {
        for room in ["workspace:w", "user:ada"] {
            let body = format!(r#"{{"channelId":"{room}","event":"new_message","payload":{payload}}}"#);
            assert_eq!(post(&server, "/api/broadcast", &body).await.0, 200);
        }
    }
    let mut ben = user(&server, "ben").await;
    let body = json!({ "workspaceId": "w", "since": since });
    ben.send("workspace:join", Some(9), &body, &[]).await;
    for payload in PAYLOADS {
        let heard = ben.until_text("42[\"new_message\",").await;
        assert!(
            heard.starts_with(&format!("42[\"new_message\",{payload},\"")),
            "{payload} came as {heard}"
        );
    }
    let mut tab = user(&server, "ada").await;
    tab.send("inbox:get", Some(5), &json!({ "limit": 100 }), &[])
        .await;
    let listed = tab.until_text("435[").await;
    for payload in PAYLOADS {
        assert!(
            listed.contains(&format!("\"payload\":{payload}")),
            "{payload} is listed in {listed}"
        );
    }
}

#[tokio::test]
async fn whoever_proves_nothing_hears_nothing_of_a_body_that_is_too_large() {
    let server = TestServer::start(&LOCKED).await;
    let large = "x".repeat((1 << 20) + 1);
    for path in ["/api/broadcast", "/api/broadcast/batch", "/api/kick"] {
        let answer = send(server.address, Method::POST, path, &[], large.clone().into()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()),
            (401, json!({ "error": "Authentication failed" })),
            "{path}"
        );
        assert_eq!(
            post(&server, path, &large).await,
            (413, json!({ "error": "Body too large" })),
            "{path}"
        );
        // As large as may be: it is read, and is no JSON.
        let most = "x".repeat(1 << 20);
        assert_eq!(
            post(&server, path, &most).await,
            (400, json!({ "error": "Invalid JSON" })),
            "{path}"
        );
        // A signature of something else, and one of too long ago.
        let old = "t=1,v1=00".to_owned();
        for signature in [signed("something else"), old] {
            let headers = [("x-broadcast-signature", signature.as_str())];
            let answer = send(server.address, Method::POST, path, &headers, "{}".into()).await;
            assert_eq!(
                (answer.status.as_u16(), answer.json()),
                (401, json!({ "error": "Authentication failed" })),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn an_id_belongs_to_one_event() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada").await;
    enter(&mut ada, "join_drive", json!("d")).await;
    enter(&mut ada, "join_drive", json!("e")).await;
    let first = with_id(event("drive:d", 1), "one");
    let told = (200, json!({ "success": true, "delivered": 1 }));
    for _ in 0..3 {
        assert_eq!(post(&server, "/api/broadcast", &first.to_string()).await, told);
    }
    assert_eq!(numbers(&server, &mut ada, "drive:d").await, [1], "once");
    // It is answered as the first time, whoever has come or gone since.
    enter(&mut ada, "leave_drive", json!("d")).await;
    assert_eq!(post(&server, "/api/broadcast", &first.to_string()).await, told);
    enter(&mut ada, "join_drive", json!("d")).await;
    let mut named_otherwise = first.clone();
    named_otherwise["event"] = "m".into();
    for other in [event("drive:d", 2), event("drive:e", 1), named_otherwise] {
        assert_eq!(
            post(&server, "/api/broadcast", &with_id(other, "one").to_string()).await,
            (409, json!({ "error": "The id was used for another event" }))
        );
    }
    assert_eq!(numbers(&server, &mut ada, "drive:d").await, [0_u64; 0]);
}

#[tokio::test]
async fn a_list_of_events_is_checked_before_the_first_is_told() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada").await;
    enter(&mut ada, "join_drive", json!("d")).await;
    let used = with_id(event("drive:d", 1), "used");
    assert_eq!(post(&server, "/api/broadcast", &used.to_string()).await.0, 200);
    let kept = json!({ "channelId": "drive:d", "event": "new_message", "payload": { "n": 1 }, "id": "kept" });
    assert_eq!(post(&server, "/api/broadcast", &kept.to_string()).await.0, 200);
    let good = event("drive:d", 99);
    let change =
        |event: &str, payload: Value| json!({ "channelId": "p", "event": event, "payload": payload });
    for (wrong, status, error) in [
        (json!(7), 400, "Invalid broadcast payload"),
        (event("", 2), 400, "Invalid broadcast payload"),
        (
            event("global:drives", 2),
            403,
            "Broadcast audience not authorized",
        ),
        (
            json!({ "channelId": "p", "event": "error", "payload": {} }),
            403,
            "Reserved event name",
        ),
        (
            with_id(event("drive:d", 2), "used"),
            409,
            "The id was used for another event",
        ),
        (
            with_id(event("drive:d", 2), "kept"),
            409,
            "The id was used for another event",
        ),
        (
            change("page_updated", json!({ "content": "x", "userId": "" })),
            400,
            "",
        ),
        (
            change("page_updated", json!({ "content": "x", "format": "x" })),
            400,
            "",
        ),
        (change("component:update", json!({ "componentId": "c" })), 400, ""),
    ] {
        let batch = json!([good, wrong, good]).to_string();
        let (told, answer) = post(&server, "/api/broadcast/batch", &batch).await;
        assert_eq!((told, &answer["index"]), (status, &json!(1)), "{wrong}: {answer}");
        assert!(error.is_empty() || answer["error"] == error, "{wrong}: {answer}");
    }
    // One id for two events of a list.
    let twice = json!([
        with_id(event("drive:d", 99), "twice"),
        with_id(event("drive:d", 99), "twice"),
        with_id(event("drive:d", 98), "twice"),
    ]);
    assert_eq!(
        post(&server, "/api/broadcast/batch", &twice.to_string()).await,
        (
            409,
            json!({ "error": "The id was used for another event", "index": 2 })
        )
    );
    assert_eq!(
        numbers(&server, &mut ada, "drive:d").await,
        [1],
        "nothing of any list was told"
    );
    // Nor does an id belong to what was not told.
    let twice = json!([
        with_id(event("drive:d", 2), "twice"),
        with_id(event("drive:d", 2), "twice")
    ]);
    let (status, answer) = post(&server, "/api/broadcast/batch", &twice.to_string()).await;
    assert_eq!(
        (status, answer),
        (
            200,
            json!({ "success": true, "results": [{ "delivered": 1 }, { "delivered": 1 }] })
        )
    );
    assert_eq!(numbers(&server, &mut ada, "drive:d").await, [2], "once");
}

#[tokio::test]
async fn a_list_has_a_thousand_events_at_most() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada").await;
    enter(&mut ada, "join_drive", json!("d")).await;
    let list = |count: u64| {
        let events: Vec<_> = (0..count).map(|number| event("drive:d", number)).collect();
        json!(events).to_string()
    };
    let (status, answer) = post(&server, "/api/broadcast/batch", &list(1001)).await;
    assert_eq!(
        (status, answer),
        (400, json!({ "error": "Invalid broadcast payload" }))
    );
    for no_list in ["{}", "7", "null"] {
        let (status, answer) = post(&server, "/api/broadcast/batch", no_list).await;
        assert_eq!(
            (status, answer),
            (400, json!({ "error": "Invalid broadcast payload" })),
            "{no_list}"
        );
    }
    let (status, answer) = post(&server, "/api/broadcast/batch", &list(1000)).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["results"].as_array().map(Vec::len), Some(1000));
    assert_eq!(
        numbers(&server, &mut ada, "drive:d").await,
        (0..1000).collect::<Vec<_>>(),
        "in their order"
    );
    assert_eq!(
        post(&server, "/api/broadcast/batch", "[]").await,
        (200, json!({ "success": true, "results": [] }))
    );
}

#[tokio::test]
async fn everybody_in_a_room_hears_one_order() {
    let server = TestServer::start(&LOCKED).await;
    let mut sessions = Vec::new();
    for number in 0..4 {
        let mut session = user(&server, &format!("user{number}")).await;
        enter(&mut session, "join_drive", json!("d")).await;
        sessions.push(session);
    }
    let backend = async |from: u64| {
        for number in from..from + 100 {
            let body = event("drive:d", number).to_string();
            assert_eq!(post(&server, "/api/broadcast", &body).await.1["delivered"], 4);
        }
    };
    tokio::join!(backend(0), backend(1000), backend(2000));
    tell(&server, "drive:d", "last", json!({})).await;
    let mut orders = BTreeSet::new();
    for session in &mut sessions {
        let mut heard = Vec::new();
        loop {
            let told = session.told().await;
            match told.what.as_str() {
                "last" => break,
                "n" => heard.push(told.body["n"].as_u64().expect("a number")),
                _ => {}
            }
        }
        assert_eq!(heard.len(), 300);
        orders.insert(heard);
    }
    assert_eq!(orders.len(), 1, "all have heard the same order");
}
