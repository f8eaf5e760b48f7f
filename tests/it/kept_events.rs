//! Events that are kept: told to who joins later, listed to who asks, stored before they are acknowledged; and events that clients tell each
//! other by rules.

use std::net::SocketAddr;

use hyper::Method;
use serde_json::{Value, json};

use crate::support::{
    http::send,
    process::{Process, run, text},
    server::{ADMIN_TOKEN, TestServer, empty_store},
    socket_io::Session,
    store::{SwitchedStore, Weather},
    token::{SECRET, token},
};

const LOCKED: [&str; 4] = ["--jwt-secret", SECRET, "--admin-token", ADMIN_TOKEN];

async fn user(address: SocketAddr, name: &str, pages: Value) -> Session {
    Session::connect(address, &json!({ "token": token(name, &pages) }))
        .await
        .0
}

async fn ask(session: &mut Session, event: &str, body: Value) -> Value {
    session.send(event, Some(7), &body, &[]).await;
    session.until_told("7").await.body
}

async fn post(address: SocketAddr, body: Value) -> (u16, Value) {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    let body = body.to_string().into();
    let answer = send(address, Method::POST, "/api/broadcast", &headers, body).await;
    (answer.status.as_u16(), answer.json())
}

async fn tell(address: SocketAddr, room: &str, event: &str, number: u64) {
    let body = json!({ "channelId": room, "event": event, "payload": { "n": number } });
    let (status, answer) = post(address, body).await;
    assert_eq!(status, 200, "{answer}");
}

/// Joins a workspace having heard up to there. Gives the answer, and the numbers of the events before it.
async fn join_since(session: &mut Session, since: Value) -> (Value, Vec<u64>) {
    let body = json!({ "workspaceId": "w", "since": since });
    session.send("workspace:join", Some(9), &body, &[]).await;
    let mut numbers = Vec::new();
    loop {
        let told = session.word().await;
        match told.what.as_str() {
            "9" => return (told.body, numbers),
            "workspace:joined" => {}
            _ => numbers.push(told.body["n"].as_u64().expect("a number")),
        }
    }
}

#[tokio::test]
async fn who_joins_says_since_when_and_hears_what_was_kept() {
    let server = TestServer::start(&LOCKED).await;
    let address = server.address;
    let all = json!({ "*": "view" });
    let mut ada = user(address, "ada", all.clone()).await;
    let begin = ask(&mut ada, "workspace:join", json!({ "workspaceId": "w" })).await;
    let since = json!({ "epoch": begin["epoch"], "offset": begin["offset"] });
    assert!(begin.get("missed").is_none(), "{begin}");
    for number in 1..=3 {
        tell(address, "workspace:w", "new_message", number).await;
        tell(address, "workspace:w", "not_kept", 99).await;
        tell(address, "workspace:other", "new_message", 99).await;
    }
    let heard = ada.until_told("new_message").await;
    assert_eq!(heard.body["n"], 1);
    let mut ben = user(address, "ben", all.clone()).await;
    let (answer, numbers) = join_since(&mut ben, since.clone()).await;
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(
        (&answer["missed"], &answer["complete"]),
        (&json!(3), &json!(true)),
        "{answer}"
    );
    // The offset that stands behind an event says it as well.
    let (epoch, offset) = heard
        .offset
        .as_deref()
        .and_then(|offset| offset.split_once('-'))
        .expect("an offset");
    let offset: u64 = offset.parse().expect("a number");
    let mut cleo = user(address, "cleo", all.clone()).await;
    let (answer, numbers) = join_since(&mut cleo, json!({ "epoch": epoch, "offset": offset })).await;
    assert_eq!((numbers, &answer["missed"]), (vec![2, 3], &json!(2)));
    for since in [
        json!({ "epoch": "another", "offset": offset }),
        json!({ "epoch": epoch, "offset": offset + 3_600_000_000 }),
        json!({ "epoch": epoch, "offset": 0 }),
    ] {
        let mut eve = user(address, "eve", all.clone()).await;
        let (answer, numbers) = join_since(&mut eve, since.clone()).await;
        assert_eq!(
            (answer["ok"].clone(), numbers),
            (json!(true), Vec::new()),
            "{since}"
        );
        assert_eq!(
            (&answer["missed"], &answer["complete"]),
            (&json!(0), &json!(false)),
            "{since}"
        );
    }
    let wrong = ask(
        &mut ada,
        "workspace:join",
        json!({ "workspaceId": "w", "since": 5 }),
    )
    .await;
    assert_eq!(wrong["error"]["code"], "malformed");
    let mut eve = user(address, "eve", json!({})).await;
    let refused = ask(
        &mut eve,
        "workspace:join",
        json!({ "workspaceId": "w", "since": since }),
    )
    .await;
    assert_eq!(refused["error"]["code"], "forbidden");
    tell(address, "user:eve", "n", 5).await;
    assert_eq!(eve.word().await.body["n"], 5, "nothing is held back");
}

#[tokio::test]
async fn an_inbox_lists_what_was_kept_of_ones_own_rooms_and_is_never_told_unasked() {
    let server = TestServer::start(&LOCKED).await;
    let address = server.address;
    for (room, number) in [
        ("user:ada", 1),
        ("notifications:ada", 2),
        ("user:ben", 99),
        ("user:ada:tasks", 3),
    ] {
        tell(address, room, "notification:new", number).await;
    }
    let mut ada = user(address, "ada", json!({})).await;
    let answer = ask(&mut ada, "inbox:get", json!({ "limit": 2 })).await;
    let numbers = |answer: &Value| {
        let events = answer["events"].as_array().expect("events").iter();
        events
            .map(|event| event["payload"]["n"].as_u64().expect("a number"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (numbers(&answer), &answer["complete"]),
        (vec![1, 2], &json!(false)),
        "{answer}"
    );
    let last = &answer["events"][1];
    assert_eq!(last["event"], "notification:new");
    assert!(last["at"].as_u64().is_some_and(|at| at > 1_600_000_000_000));
    let answer = ask(&mut ada, "inbox:get", json!({ "after": last["id"] })).await;
    assert_eq!(
        (numbers(&answer), &answer["complete"]),
        (vec![3], &json!(true)),
        "{answer}"
    );
    let answer = ask(&mut ada, "inbox:get", json!({ "after": "another-1" })).await;
    assert_eq!(
        (numbers(&answer), &answer["complete"]),
        (vec![1, 2, 3], &json!(false)),
        "{answer}"
    );
    let answer = ask(&mut ada, "inbox:get", Value::Null).await;
    assert_eq!(numbers(&answer), [1, 2, 3]);
    let answer = ask(&mut ada, "inbox:get", json!({ "after": 5 })).await;
    assert_eq!(answer["error"]["code"], "malformed");
}

#[tokio::test]
async fn what_a_bridge_was_told_is_kept_is_there_after_a_kill_and_so_is_its_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = format!("sqlite://{}", folder.path().join("pages.db").display());
    let environment = [
        ("JWT_SECRET", SECRET),
        ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN),
        ("DATABASE_URL", database.as_str()),
    ];
    let server = Process::start(&environment);
    let address = server.address().await;
    let mut ada = user(address, "ada", json!({ "workspace:w": "view" })).await;
    let begin = ask(&mut ada, "workspace:join", json!({ "workspaceId": "w" })).await;
    let since = json!({ "epoch": begin["epoch"], "offset": begin["offset"] });
    let order = |number: u64| json!({ "channelId": "workspace:w", "event": "new_message", "payload": { "n": number }, "id": format!("order-{number}") });
    for number in 1..=20 {
        assert_eq!(post(address, order(number)).await.1["delivered"], 1);
    }
    // The last answer has come, and nothing else has had time.
    drop(server);
    let server = Process::start(&environment);
    let address = server.address().await;
    let mut ada = user(address, "ada", json!({ "workspace:w": "view" })).await;
    let (answer, numbers) = join_since(&mut ada, since).await;
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    assert_eq!(answer["complete"], true);
    let again = post(address, order(7)).await;
    assert_eq!(
        (again.0, &again.1["delivered"]),
        (200, &json!(1)),
        "as it was the first time"
    );
    let other =
        json!({ "channelId": "workspace:w", "event": "new_message", "payload": { "n": 8 }, "id": "order-7" });
    assert_eq!(post(address, other).await.0, 409);
    assert_eq!(post(address, order(21)).await.1["delivered"], 1);
    assert_eq!(ada.word().await.body["n"], 21, "what was told is not told again");
}

#[tokio::test]
async fn who_joins_a_page_in_an_object_hears_what_was_kept_of_its_room() {
    let server = TestServer::start(&LOCKED).await;
    let address = server.address;
    let mut ada = user(address, "ada", json!({ "*": "edit" })).await;
    let begin = ask(&mut ada, "join_page", json!({ "pageId": "p" })).await;
    assert!(
        begin["offset"].is_u64() && begin.get("missed").is_none(),
        "{begin}"
    );
    let since = json!({ "epoch": begin["epoch"], "offset": begin["offset"] });
    for number in 1..=3 {
        tell(address, "p", "new_message", number).await;
    }
    let mut ben = user(address, "ben", json!({ "*": "edit" })).await;
    let body = json!({ "pageId": "p", "since": since });
    ben.send("join_page", Some(9), &body, &[]).await;
    tell(address, "p", "new_message", 4).await;
    let (mut heard, mut answer) = (Vec::new(), Value::Null);
    while heard.last() != Some(&4) || answer.is_null() {
        let told = ben.word().await;
        match told.what.as_str() {
            "9" => answer = told.body,
            "new_message" => heard.push(told.body["n"].as_u64().expect("a number")),
            _ => {}
        }
    }
    assert_eq!(
        heard,
        [1, 2, 3, 4],
        "once, in order, before anything newer: {answer}"
    );
    // The last one was told before it came, or behind that.
    assert!(answer["missed"] == 3 || answer["missed"] == 4, "{answer}");
    assert_eq!(answer["complete"], true);
    assert_eq!(answer["viewers"], json!(["ada", "ben"]));
    let mut eve = user(address, "eve", json!({ "*": "edit" })).await;
    let other = json!({ "pageId": "p", "since": { "epoch": "another", "offset": begin["offset"] } });
    let answer = ask(&mut eve, "join_page", other).await;
    assert_eq!(
        (&answer["missed"], &answer["complete"]),
        (&json!(0), &json!(false))
    );
    tell(address, "p", "new_message", 5).await;
    assert_eq!(eve.until_told("new_message").await.body["n"], 5, "nothing old");
    // Many at once are done one after the other, and all are answered.
    for ack in 20..40 {
        let body = json!({ "pageId": "p", "since": since });
        eve.send("join_page", Some(ack), &body, &[]).await;
    }
    for ack in 20..40 {
        let answer = eve.until_told(&ack.to_string()).await.body;
        assert_eq!((&answer["ok"], &answer["complete"]), (&json!(true), &json!(true)));
    }
    let mut fay = user(address, "fay", json!({ "*": "edit" })).await;
    let bad = ask(&mut fay, "join_page", json!({ "pageId": "p", "since": 7 })).await;
    assert_eq!(bad["error"]["code"], "malformed");
}

#[tokio::test]
async fn every_join_that_takes_an_object_says_since_when() {
    let server = TestServer::start(&LOCKED).await;
    let address = server.address;
    for (event, body, room) in [
        ("workspace:join", json!({ "workspaceId": "o" }), "workspace:o"),
        ("presence:join_page", json!({ "pageId": "o" }), "page:o"),
        ("join_page", json!({ "pageId": "q" }), "page:q"),
        (
            "component:subscribe",
            json!({ "componentId": "o" }),
            "component:o",
        ),
        (
            "component:subscribe",
            json!({ "entityType": "board", "entityId": "o" }),
            "entity:board:o",
        ),
    ] {
        let mut ada = user(address, "ada", json!({ "*": "edit" })).await;
        let begin = ask(&mut ada, event, body.clone()).await;
        assert!(
            begin["epoch"].is_string() && begin["offset"].is_u64(),
            "{event}: {begin}"
        );
        for number in 1..=3 {
            tell(address, room, "new_message", number).await;
        }
        let mut ben = user(address, "ben", json!({ "*": "edit" })).await;
        let mut since = body.clone();
        since["since"] = json!({ "epoch": begin["epoch"], "offset": begin["offset"] });
        ben.send(event, Some(9), &since, &[]).await;
        let (mut numbers, mut answer) = (Vec::new(), Value::Null);
        // Of a page they come behind the answer.
        while answer.is_null() || numbers.len() < 3 {
            let told = ben.word().await;
            match told.what.as_str() {
                "9" => answer = told.body,
                "new_message" => numbers.push(told.body["n"].as_u64().expect("a number")),
                _ => {}
            }
        }
        assert_eq!(
            (numbers, &answer["missed"], &answer["complete"]),
            (vec![1, 2, 3], &json!(3), &json!(true)),
            "{event}: {answer}"
        );
    }
}

#[tokio::test]
async fn an_event_that_a_profile_completes_is_told_once_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = format!("sqlite://{}", folder.path().join("pages.db").display());
    let environment = [
        ("JWT_SECRET", SECRET),
        ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN),
        ("DATABASE_URL", database.as_str()),
    ];
    let envelope = json!({ "new": {}, "eventType": "INSERT", "table": "room_messages", "schema": "public" });
    let order = json!({ "channelId": "workspace:w", "event": "room-message-created", "payload": envelope, "id": "m" });
    let mut since = Value::Null;
    for _ in 0..2 {
        let server = Process::start(&environment);
        let address = server.address().await;
        if since.is_null() {
            let mut ada = user(address, "ada", json!({ "*": "view" })).await;
            let begin = ask(&mut ada, "workspace:join", json!({ "workspaceId": "v" })).await;
            since = json!({ "epoch": begin["epoch"], "offset": begin["offset"] });
        }
        for _ in 0..2 {
            assert_eq!(
                post(address, order.clone()).await,
                (200, json!({ "success": true, "delivered": 0 }))
            );
        }
    }
    let server = Process::start(&environment);
    let address = server.address().await;
    let mut ada = user(address, "ada", json!({ "*": "view" })).await;
    let body = json!({ "workspaceId": "w", "since": since });
    ada.send("workspace:join", Some(9), &body, &[]).await;
    let mut told = 0;
    let answer = loop {
        let heard = ada.word().await;
        match heard.what.as_str() {
            "9" => break heard.body,
            "room-message-created" => told += 1,
            _ => {}
        }
    };
    assert_eq!((told, &answer["missed"]), (1, &json!(1)), "{answer}");
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_acknowledged_and_not_told_twice() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &LOCKED).await;
    let address = server.address;
    let mut ada = user(address, "ada", json!({ "*": "view" })).await;
    ask(&mut ada, "workspace:join", json!({ "workspaceId": "w" })).await;
    store.writing(Weather::Hanging);
    let order =
        json!({ "channelId": "workspace:w", "event": "new_message", "payload": { "n": 1 }, "id": "order" });
    let first = tokio::spawn(post(address, order.clone()));
    assert_eq!(ada.word().await.body["n"], 1, "members do not wait");
    let second = tokio::spawn(post(address, order));
    tell(address, "workspace:w", "not_kept", 2).await;
    assert_eq!(ada.word().await.body["n"], 2);
    assert!(!first.is_finished() && !second.is_finished(), "the backend does");
    store.writing(Weather::Fine);
    for answer in [first, second] {
        let (status, answer) = answer.await.expect("an answer");
        assert_eq!((status, &answer["delivered"]), (200, &json!(1)));
    }
    tell(address, "workspace:w", "not_kept", 3).await;
    assert_eq!(ada.word().await.body["n"], 3, "once");
}

#[tokio::test]
async fn clients_tell_each_other_what_rules_allow() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events.json");
    let rules = json!({ "relay": [
        { "event": "poll:vote", "room": "page:{pageId}", "role": "comment", "maxBytes": 100, "keep": true },
        { "event": "poll:seen", "room": "page:{pageId}", "role": "view", "perSecond": 1, "burst": 2, "toSender": true },
    ] });
    std::fs::write(&file, rules.to_string()).expect("a file");
    let path = file.to_str().expect("a path");
    let flags = [&LOCKED[..], &["--events-file", path]].concat();
    let server = TestServer::start(&flags).await;
    let mut ada = user(server.address, "ada", json!({ "p": "comment" })).await;
    let mut ben = user(server.address, "ben", json!({ "p": "view" })).await;
    for session in [&mut ada, &mut ben] {
        session.send("join_channel", Some(7), &json!("p"), &[]).await;
        assert_eq!(session.until_told("7").await.body["ok"], true);
    }
    let vote = json!({ "pageId": "p", "choice": 3, "userId": "somebody else" });
    let answer = ask(&mut ada, "poll:vote", vote.clone()).await;
    assert_eq!(
        (&answer["ok"], &answer["delivered"]),
        (&json!(true), &json!(1)),
        "{answer}"
    );
    let told = ben.word().await;
    assert_eq!(told.what, "poll:vote");
    assert_eq!(
        told.body,
        json!({ "pageId": "p", "choice": 3, "userId": "ada" }),
        "the token says who it is"
    );
    let answer = ask(&mut ben, "poll:vote", vote).await;
    assert_eq!(answer["error"]["code"], "forbidden");
    for (event, body, code) in [
        ("poll:vote", json!({ "pageId": "q" }), "forbidden"),
        ("poll:vote", json!({ "page": "p" }), "malformed"),
        ("poll:vote", json!("p"), "malformed"),
        (
            "poll:vote",
            json!({ "pageId": "p", "text": "x".repeat(100) }),
            "too_large",
        ),
        ("poll:unknown", json!({ "pageId": "p" }), "not_found"),
    ] {
        let answer = ask(&mut ada, event, body.clone()).await;
        assert_eq!(answer["error"]["code"], code, "{event} {body}");
    }
    ada.send("poll:vote", None, &json!("p"), &[]).await;
    assert_eq!(ada.word().await.what, "error");
    for _ in 0..2 {
        let answer = ask(&mut ben, "poll:seen", json!({ "pageId": "p" })).await;
        assert_eq!(answer["delivered"], 2);
    }
    let answer = ask(&mut ben, "poll:seen", json!({ "pageId": "p" })).await;
    assert_eq!(answer["error"]["code"], "rate_limited");
}

#[test]
fn rules_that_cannot_be_are_refused_before_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events.json");
    std::fs::write(
        &file,
        r#"{"relay":[{"event":"join_page","room":"page:{pageId}","role":"view"},
            {"event":"inbox:get","room":"page:{pageId}","role":"view"},
            {"event":"access_revoked","room":"page:{pageId}","role":"view"}]}"#,
    )
    .expect("a file");
    let path = file.to_str().expect("a path");
    let output = run(&["check-config"], &[("PAGEROOM_EVENTS_FILE", path)]);
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(!output.status.success(), "{said}");
    for event in ["join_page", "inbox:get", "access_revoked"] {
        assert!(
            said.contains(&format!("relay `{event}`: this name is taken")),
            "{said}"
        );
    }
}
