//! PatioAI's vocabulary: shared rooms with participants, threads, messages and answers of an AI.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State, http::HeaderMap, routing::post as on_post};
use hyper::Method;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, time::Instant};

use crate::{
    event_rooms::{BRIDGE, LOCKED, ask, enter, post, put_grant, tell},
    support::{
        database::Database,
        http::{Answer, send},
        server::{ADMIN_TOKEN, TestServer},
        socket_io::{Session, Told},
        token::{SECRET, claims, seconds_from_now, sign, token},
        within,
    },
};

async fn rest(server: &TestServer, method: Method, path: &str, body: Value) -> Answer {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let body = match body.is_null() {
        true => String::new(),
        false => body.to_string(),
    };
    send(server.address, method, path, &headers, body.into()).await
}

async fn put_room(server: &TestServer, code: &str, room: Value) {
    let path = format!("/api/rooms/room:{code}");
    let answer = rest(server, Method::PUT, &path, room).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
}

/// A user whose token grants a role in every shared room.
async fn member(server: &TestServer, user: &str, role: &str) -> Session {
    let mut claims = claims(user, &json!({ "room:*": role }));
    claims["name"] = format!("{user} of the tests").into();
    let token = sign(&claims, SECRET, jsonwebtoken::Algorithm::HS256);
    let auth = json!({ "token": token });
    Session::connect(server.address, &auth).await.0
}

async fn joined(server: &TestServer, user: &str, code: &str) -> Session {
    let mut session = member(server, user, "edit").await;
    enter(&mut session, "join-room", json!(code)).await;
    session
}

/// Sends an event and gives all that is told up to its answer, and the answer.
async fn exchange(session: &mut Session, event: &str, body: Value) -> (Vec<Told>, Value) {
    session.send(event, Some(9), &body, &[]).await;
    let mut events = Vec::new();
    loop {
        let told = session.told().await;
        match told.what.as_str() {
            "9" => return (events, told.body),
            _ => events.push(told),
        }
    }
}

/// What is told up to an event of this name, which is the last.
async fn up_to(session: &mut Session, event: &str) -> Vec<Told> {
    let mut all = Vec::new();
    loop {
        all.push(session.told().await);
        if all.last().is_some_and(|told| told.what == event) {
            return all;
        }
    }
}

/// Sends an event, and gives who types when that is told next, be it before the answer or behind it.
async fn typing_after(session: &mut Session, event: &str, body: Value) -> Value {
    let (told, answer) = exchange(session, event, body).await;
    assert_eq!(answer["ok"], true, "{event}: {answer}");
    match told.into_iter().find(|told| told.what == "user-typing") {
        Some(told) => told.body,
        None => session.until_told("user-typing").await.body,
    }
}

fn names(told: &[Told]) -> Vec<&str> {
    told.iter().map(|told| told.what.as_str()).collect()
}

#[tokio::test]
async fn a_shared_room_is_what_the_backend_says() {
    let server = TestServer::start(&LOCKED).await;
    for path in ["/api/rooms/room:A", "/api/rooms/A"] {
        assert_eq!(rest(&server, Method::GET, path, Value::Null).await.status, 404);
    }
    let room = json!({ "name": "Kitchen", "maxMembers": 5, "expiresAt": "2100-01-31T12:00:00Z" });
    put_room(&server, "A", room).await;
    let expected = json!({
        "room": "room:A", "name": "Kitchen", "maxMembers": 5, "expiresAt": "2100-01-31T12:00:00.000Z",
    });
    assert_eq!(
        rest(&server, Method::GET, "/api/rooms/A", Value::Null)
            .await
            .json(),
        expected
    );
    put_room(&server, "A", json!({})).await;
    let expected = json!({ "room": "room:A", "name": null, "maxMembers": null, "expiresAt": null });
    assert_eq!(
        rest(&server, Method::GET, "/api/rooms/room%3AA", Value::Null)
            .await
            .json(),
        expected
    );
    for (path, body) in [
        ("/api/rooms/room:A", json!({ "maxMembers": 0 })),
        ("/api/rooms/room:A", json!({ "maxMembers": -1 })),
        ("/api/rooms/room:A", json!({ "name": "" })),
        ("/api/rooms/room:A", json!({ "expiresAt": "soon" })),
        ("/api/rooms/room:A", json!({ "color": "red" })),
        ("/api/rooms/room:A", json!([])),
        ("/api/rooms/drive:A", json!({})),
        ("/api/rooms/room:", json!({})),
        ("/api/rooms/nothing:A", json!({})),
    ] {
        let answer = rest(&server, Method::PUT, path, body.clone()).await;
        assert!(
            answer.status.is_client_error(),
            "{path} {body}: {}",
            answer.status
        );
    }
    for (method, auth) in [
        (Method::GET, String::new()),
        (
            Method::PUT,
            format!("Bearer {}", token("ada", &json!({ "*": "admin" }))),
        ),
        (
            Method::DELETE,
            format!("Bearer {}", token("ada", &json!({ "*": "admin" }))),
        ),
    ] {
        let headers = [("authorization", auth.as_str())];
        let headers = match auth.is_empty() {
            true => &headers[..0],
            false => &headers[..],
        };
        let answer = send(
            server.address,
            method.clone(),
            "/api/rooms/A",
            headers,
            "{}".into(),
        )
        .await;
        assert!(
            matches!(answer.status.as_u16(), 401 | 403),
            "{method}: {}",
            answer.status
        );
    }
    assert_eq!(
        rest(&server, Method::DELETE, "/api/rooms/A", Value::Null)
            .await
            .status,
        204
    );
    assert_eq!(
        rest(&server, Method::DELETE, "/api/rooms/A", Value::Null)
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn participants_are_users_who_come_once_and_fill_a_room() {
    let server = TestServer::start(&LOCKED).await;
    put_room(&server, "A", json!({ "name": "Kitchen", "maxMembers": 2 })).await;
    let mut ada = member(&server, "ada", "edit").await;
    let (told, answer) = exchange(&mut ada, "join-room", json!("A")).await;
    assert_eq!(names(&told), ["room-joined"]);
    let expected =
        json!({ "shareCode": "A", "roomName": "Kitchen", "participantCount": 1, "maxParticipants": 2 });
    assert_eq!(told.first().map(|told| &told.body), Some(&expected));
    assert_eq!((&answer["ok"], &answer["success"]), (&json!(true), &json!(true)));
    assert_eq!(answer["participantCount"], 1);
    // Sent again because no answer has come, it is the same again; in another tab, the same user.
    let (told, answer) = exchange(&mut ada, "join-room", json!("A")).await;
    assert_eq!(
        (names(&told), &answer["participantCount"]),
        (vec!["room-joined"], &json!(1))
    );
    let mut tab = joined(&server, "ada", "A").await;
    let mut bob = member(&server, "bob", "view").await;
    let (told, _) = exchange(&mut bob, "join-room", json!("A")).await;
    assert_eq!(
        told.first().map(|told| &told.body["participantCount"]),
        Some(&json!(2))
    );
    for session in [&mut ada, &mut tab] {
        let told = session.told().await;
        assert_eq!(told.what, "user-joined-room", "and nothing of the other tab");
        assert_eq!(
            (
                &told.body["userId"],
                &told.body["shareCode"],
                &told.body["roomName"]
            ),
            (&json!("bob"), &json!("A"), &json!("Kitchen"))
        );
        assert!(told.body["timestamp"].is_string());
    }
    let mut eve = member(&server, "eve", "edit").await;
    let (told, answer) = exchange(&mut eve, "join-room", json!("A")).await;
    assert_eq!(names(&told), ["room-error"]);
    assert_eq!(
        told.first().map(|told| &told.body["error"]),
        Some(&json!("Room is full"))
    );
    assert_eq!(
        (&answer["ok"], &answer["error"]["code"]),
        (&json!(false), &json!("room_full"))
    );
    assert_eq!(
        tell(&server, "room:A", "n", json!({})).await,
        3,
        "eve is not in it"
    );
    let mut owner = member(&server, "owner", "admin").await;
    enter(&mut owner, "join-room", json!("A")).await;
    let (told, answer) = exchange(&mut owner, "get-room-participants", json!("A")).await;
    assert_eq!(names(&told), ["room-participants"]);
    let participants = answer["participants"].as_array().expect("a list");
    let users: Vec<_> = participants
        .iter()
        .map(|one| (one["user_id"].as_str(), one["display_name"].as_str()))
        .collect();
    assert_eq!(
        users,
        [
            (Some("ada"), Some("ada of the tests")),
            (Some("bob"), Some("bob of the tests")),
            (Some("owner"), Some("owner of the tests")),
        ]
    );
    let (told, _) = exchange(&mut eve, "get-room-participants", json!("A")).await;
    assert_eq!(names(&told), ["room-error"], "only those who take part may know");
    // With one tab less the user still takes part; with the last one gone the others are told.
    let (told, _) = exchange(&mut tab, "leave-room", json!("A")).await;
    assert_eq!(told.last().map(|told| told.what.as_str()), Some("room-left"));
    exchange(&mut ada, "leave-room", json!("A")).await;
    let told = up_to(&mut bob, "user-left-room").await;
    assert_eq!(names(&told), ["n", "user-joined-room", "user-left-room"]);
    assert_eq!(told.last().map(|told| &told.body["userId"]), Some(&json!("ada")));
}

#[tokio::test]
async fn rooms_that_are_not_there_are_over_or_closed_are_refused_alike() {
    let server = TestServer::start(&LOCKED).await;
    put_room(&server, "A", json!({ "name": "Kitchen" })).await;
    let mut stranger = Session::connect(
        server.address,
        &json!({ "token": token("eve", &json!({ "room:B": "edit" })) }),
    )
    .await
    .0;
    for (code, told_code) in [("A", "forbidden"), ("nowhere", "forbidden"), ("B", "not_found")] {
        let (told, answer) = exchange(&mut stranger, "join-room", json!(code)).await;
        assert_eq!(names(&told), ["room-error"], "{code}");
        assert_eq!(
            told.first().map(|told| &told.body),
            Some(&json!({ "error": "Room not found" }))
        );
        assert_eq!(
            (&answer["error"]["code"], &answer["success"]),
            (&json!(told_code), &json!(false))
        );
    }
    // Without an answer it is told as well.
    stranger.send("join-room", None, &json!("A"), &[]).await;
    assert_eq!(stranger.told().await.body["error"], "Room not found");
    // One that ends while somebody is there.
    let soon = std::time::UNIX_EPOCH + Duration::from_secs(seconds_from_now(4));
    let soon = humantime::format_rfc3339(soon).to_string();
    put_room(&server, "short", json!({ "name": "Short", "expiresAt": soon })).await;
    let mut ada = joined(&server, "ada", "short").await;
    let told = ada.until_told("room-error").await;
    assert_eq!(
        told.body,
        json!({ "error": "Room has expired", "roomName": "Short" })
    );
    assert_eq!(ada.told().await.what, "access_revoked");
    assert_eq!(tell(&server, "room:short", "n", json!({})).await, 0);
    let (told, _) = exchange(&mut ada, "join-room", json!("short")).await;
    assert_eq!(
        told.first().map(|told| &told.body["error"]),
        Some(&json!("Room has expired"))
    );
    // One that is deleted.
    enter(&mut ada, "join-room", json!("A")).await;
    assert_eq!(
        rest(&server, Method::DELETE, "/api/rooms/A", Value::Null)
            .await
            .status,
        204
    );
    let told = ada.until_told("room-error").await;
    assert_eq!(told.body["error"], "Room not found");
    assert_eq!(tell(&server, "room:A", "n", json!({})).await, 0);
}

#[tokio::test]
async fn codes_cannot_be_guessed() {
    let mut arguments = LOCKED.to_vec();
    arguments.extend(["--max-wrong-codes-per-minute", "3"]);
    let server = TestServer::start(&arguments).await;
    put_room(&server, "A", json!({})).await;
    let mut eve = member(&server, "eve", "edit").await;
    for code in ["1", "2", "3"] {
        assert_eq!(
            ask(&mut eve, "join-room", json!(code)).await["error"]["code"],
            "not_found"
        );
    }
    for code in ["4", "A"] {
        let (told, answer) = exchange(&mut eve, "join-room", json!(code)).await;
        assert_eq!(answer["error"]["code"], "rate_limited", "{code}");
        assert_eq!(names(&told), ["room-error"]);
    }
    let mut again = member(&server, "eve", "edit").await;
    let refused = ask(&mut again, "join-room", json!("A")).await;
    assert_eq!(
        refused["error"]["code"], "rate_limited",
        "another connection helps nobody"
    );
    joined(&server, "ada", "A").await;
}

#[tokio::test]
async fn who_is_removed_is_told_and_stays_out_until_granted_again() {
    let server = TestServer::start(&LOCKED).await;
    put_room(&server, "A", json!({ "name": "Kitchen" })).await;
    let mut bob = joined(&server, "bob", "A").await;
    let kick = json!({ "userId": "ada", "roomPattern": "room:A", "reason": "member_removed" }).to_string();
    let event = json!({
        "channelId": "room:A",
        "event": "user-removed-from-room",
        "payload": { "removedUser": { "userId": "auth_ada", "displayName": "Ada" }, "shareCode": "A" },
    });
    for (path, body, told_first) in [
        ("/api/broadcast", event.to_string(), "user-removed-from-room"),
        ("/api/kick", kick, "user-left-room"),
    ] {
        let mut ada = joined(&server, "ada", "A").await;
        assert_eq!(bob.told().await.what, "user-joined-room");
        assert_eq!(post(&server, path, &body).await.0, 200, "{path}");
        let told = ada.until_told("room-error").await;
        assert_eq!(
            told.body,
            json!({ "error": "REMOVED_FROM_ROOM", "roomName": "Kitchen" })
        );
        assert_eq!(ada.told().await.what, "access_revoked");
        assert_eq!(bob.told().await.what, told_first, "{path}");
        assert_eq!(
            tell(&server, "room:A", "n", json!({})).await,
            1,
            "only bob is there"
        );
        assert_eq!(bob.told().await.what, "n");
        let mut again = member(&server, "ada", "admin").await;
        for _ in 0..2 {
            let (told, answer) = exchange(&mut again, "join-room", json!("A")).await;
            assert_eq!(
                told.first().map(|told| &told.body),
                Some(&json!({ "error": "REMOVED_FROM_ROOM", "roomName": "Kitchen" }))
            );
            assert_eq!(answer["error"]["code"], "forbidden");
        }
        put_grant(&server, Method::PUT, "room%3AA", "ada", "edit").await;
        enter(&mut again, "join-room", json!("A")).await;
        enter(&mut again, "leave-room", json!("A")).await;
        let told = up_to(&mut bob, "user-left-room").await;
        assert_eq!(names(&told), ["user-joined-room", "user-left-room"]);
    }
    // A sign-out, or another role, keeps nobody out.
    let mut ada = joined(&server, "ada", "A").await;
    let kick = json!({ "userId": "ada", "roomPattern": "room:A", "reason": "role_changed" }).to_string();
    assert_eq!(post(&server, "/api/kick", &kick).await.0, 200);
    ada.until_told("access_revoked").await;
    enter(&mut ada, "join-room", json!("A")).await;
}

#[tokio::test]
async fn a_room_that_is_deleted_is_left_by_all() {
    let server = TestServer::start(&LOCKED).await;
    put_room(&server, "A", json!({ "name": "Kitchen" })).await;
    let mut ada = joined(&server, "ada", "A").await;
    let mut bob = joined(&server, "bob", "A").await;
    let payload = json!({ "shareCode": "A", "roomName": "Kitchen" });
    assert_eq!(tell(&server, "room:A", "room-deleted", payload).await, 2);
    for session in [&mut ada, &mut bob] {
        let told = up_to(session, "access_revoked").await;
        let told: Vec<_> = names(&told)
            .into_iter()
            .filter(|name| *name != "user-joined-room")
            .collect();
        assert_eq!(told, ["room-deleted", "room-error", "access_revoked"]);
    }
    let (told, _) = exchange(&mut ada, "join-room", json!("A")).await;
    assert_eq!(
        told.first().map(|told| &told.body["error"]),
        Some(&json!("Room not found"))
    );
}

#[tokio::test]
async fn a_lost_connection_is_waited_for_and_a_goodbye_is_not() {
    let server = TestServer::start(&LOCKED).await;
    put_room(&server, "A", json!({})).await;
    let mut bob = joined(&server, "bob", "A").await;
    // It comes back in time: nobody is told anything.
    let ada = joined(&server, "ada", "A").await;
    assert_eq!(bob.told().await.what, "user-joined-room");
    drop(ada);
    let ada = joined(&server, "ada", "A").await;
    let from = Instant::now();
    drop(ada);
    let told = bob.told().await;
    assert_eq!(
        (told.what.as_str(), &told.body["userId"]),
        ("user-disconnected", &json!("ada"))
    );
    assert_eq!(told.body["shareCode"], "A");
    let after = from.elapsed();
    assert!(after >= Duration::from_millis(2_900), "{after:?}");
    // A goodbye counts at once.
    let mut ada = joined(&server, "ada", "A").await;
    assert_eq!(bob.told().await.what, "user-joined-room", "it was told once");
    let from = Instant::now();
    ada.say("41").await;
    let told = bob.told().await;
    assert_eq!(
        (told.what.as_str(), &told.body["reason"]),
        ("user-disconnected", &json!("client namespace disconnect"))
    );
    assert!(from.elapsed() < Duration::from_millis(2_900));
}

#[tokio::test]
async fn who_types_in_which_thread_is_told_whole_and_ends_by_itself() {
    let server = TestServer::start(&LOCKED).await;
    put_room(&server, "A", json!({})).await;
    let mut ada = joined(&server, "ada", "A").await;
    let mut bob = joined(&server, "bob", "A").await;
    let (told, answer) = exchange(
        &mut bob,
        "switch-thread",
        json!({ "roomId": "A", "threadId": "t", "displayName": "Eve" }),
    )
    .await;
    assert_eq!(
        (&answer["toThread"], &answer["fromThread"]),
        (&json!("t"), &Value::Null)
    );
    assert_eq!(names(&told), ["cross-thread-activity"]);
    let told = up_to(&mut ada, "user-thread-switch").await;
    let switch = &told.last().expect("one").body;
    assert_eq!(
        (&switch["displayName"], &switch["toThread"], &switch["roomId"]),
        (&json!("bob of the tests"), &json!("t"), &json!("A"))
    );
    let typing = json!({ "roomId": "A", "threadId": "t", "displayName": "Somebody else" });
    enter(&mut bob, "typing-start", typing.clone()).await;
    let told = up_to(&mut ada, "user-typing").await;
    let told = &told.last().expect("one").body;
    assert_eq!(
        (&told["users"], &told["roomId"], &told["threadId"]),
        (&json!(["bob of the tests"]), &json!("A"), &json!("t"))
    );
    let told = ada.told().await;
    assert_eq!(told.what, "cross-thread-activity");
    let expected = json!([{
        "threadId": "t", "threadName": "t", "activeUsers": ["bob of the tests"], "typingUsers": ["bob of the tests"],
    }]);
    assert_eq!(told.body["activities"], expected);
    let told = typing_after(&mut ada, "typing-start", typing.clone()).await;
    assert_eq!(told["users"], json!(["ada of the tests", "bob of the tests"]));
    // One stops; the other's connection ends.
    let told = typing_after(&mut ada, "typing-stop", typing.clone()).await;
    assert_eq!(
        told["users"],
        json!(["bob of the tests"]),
        "one does not stop the other"
    );
    drop(bob);
    let told = ada.until_told("user-typing").await;
    assert_eq!(told.body["users"], json!([]), "at once with the connection");
    // Nobody says that it stops.
    let told = typing_after(&mut ada, "typing-start", json!({ "roomId": "A" })).await;
    assert_eq!(
        (&told["users"], &told["threadId"]),
        (&json!(["ada of the tests"]), &Value::Null)
    );
    let told = within(
        Duration::from_secs(20),
        "the end of typing",
        ada.until_told("user-typing"),
    )
    .await;
    assert_eq!(told.body["users"], json!([]));
}

#[tokio::test]
async fn a_message_reaches_everybody_in_its_envelope_and_too_many_are_refused() {
    let mut arguments = LOCKED.to_vec();
    arguments.extend(["--max-messages-per-minute", "2"]);
    let server = TestServer::start(&arguments).await;
    put_room(&server, "A", json!({})).await;
    let mut ada = joined(&server, "ada", "A").await;
    let mut bob = joined(&server, "bob", "A").await;
    let message = json!({ "shareCode": "A", "threadId": "t", "content": "Hello", "senderName": "Eve" });
    let (_, answer) = exchange(&mut bob, "send-message", message).await;
    assert_eq!(
        (&answer["success"], &answer["message"]["content"]),
        (&json!(true), &json!("Hello"))
    );
    let told = ada.until_told("room-message-created").await.body;
    assert_eq!(told["new"], answer["message"]);
    let expected = json!(["INSERT", "room_messages", "public"]);
    assert_eq!(
        json!([told["eventType"], told["table"], told["schema"]]),
        expected
    );
    assert!(told["timestamp"].is_string());
    let new = &told["new"];
    assert_eq!(
        json!([
            new["room_id"],
            new["thread_id"],
            new["sender_name"],
            new["is_ai_response"]
        ]),
        json!(["A", "t", "bob of the tests", false])
    );
    for (body, field) in [
        (json!({ "shareCode": "A", "content": "" }), "content"),
        (
            json!({ "shareCode": "A", "content": "x".repeat(16 * 1024 + 1) }),
            "content",
        ),
        (json!({ "shareCode": "A", "content": 7 }), "content"),
        (
            json!({ "shareCode": "A", "threadId": 7, "content": "x" }),
            "threadId",
        ),
        (json!({ "content": "x" }), "shareCode"),
    ] {
        let (told, answer) = exchange(&mut bob, "send-message", body).await;
        let errors = told.iter().find(|told| told.what == "validation-error");
        assert_eq!(
            errors.map(|told| &told.body["errors"][0]["field"]),
            Some(&json!(field))
        );
        assert_eq!(
            (&answer["success"], &answer["errors"][0]["field"]),
            (&json!(false), &json!(field))
        );
    }
    enter(
        &mut bob,
        "send-message",
        json!({ "roomId": "A", "message": "in older words" }),
    )
    .await;
    let (told, answer) = exchange(
        &mut bob,
        "send-message",
        json!({ "shareCode": "A", "content": "3" }),
    )
    .await;
    assert_eq!(answer["error"]["code"], "rate_limited");
    let limited = told.iter().find(|told| told.what == "rate-limited");
    assert_eq!(
        limited.map(|told| &told.body),
        Some(&json!({ "message": "Too many messages" }))
    );
    // Who may only look says nothing, and who is not there neither.
    let mut viewer = member(&server, "viewer", "view").await;
    for code in ["forbidden", "read_only"] {
        let answer = ask(
            &mut viewer,
            "send-message",
            json!({ "shareCode": "A", "content": "x" }),
        )
        .await;
        assert_eq!(answer["error"]["code"], code);
        enter(&mut viewer, "join-room", json!("A")).await;
    }
    let (told, missed) = exchange(
        &mut ada,
        "request-missed-messages",
        json!({ "timestamp": 1, "lastActiveTime": 1 }),
    )
    .await;
    let response = told.iter().find(|told| told.what == "missed-messages-response");
    let response = response.map(|told| &told.body).expect("the event");
    let messages = response["messages"].as_array().expect("a list");
    let contents: Vec<_> = messages
        .iter()
        .map(|event| &event["payload"]["new"]["content"])
        .collect();
    assert_eq!(contents, ["Hello", "in older words"], "what was sent is kept");
    assert_eq!(
        json!([response["success"], response["complete"]]),
        json!([true, true])
    );
    assert!(
        response["cursor"].is_string() && response["timestamp"].is_string(),
        "{response}"
    );
    assert_eq!(
        missed["messages"], response["messages"],
        "the answer has them too"
    );
    let bad = ask(
        &mut ada,
        "request-missed-messages",
        json!({ "lastActiveTime": "then" }),
    )
    .await;
    assert_eq!(bad["errors"][0]["field"], "lastActiveTime");
}

/// Who takes part in the room `A`, as a member is told.
async fn participants(session: &mut Session) -> Vec<Value> {
    let answer = ask(session, "get-room-participants", json!("A")).await;
    let all = answer["participants"].as_array().expect("a list").iter();
    all.map(|participant| participant["user_id"].clone()).collect()
}

#[tokio::test]
async fn who_comes_back_after_a_loss_takes_part_again() {
    let server = TestServer::start(&LOCKED).await;
    put_room(&server, "A", json!({})).await;
    let mut bob = joined(&server, "bob", "A").await;
    let auth = json!({ "token": token("ada", &json!({ "room:*": "edit" })) });
    let (mut ada, hello) = Session::greet(server.address, &auth).await;
    enter(&mut ada, "join-room", json!("A")).await;
    assert_eq!(bob.told().await.what, "user-joined-room");
    ada.cut();
    assert_eq!(bob.until_told("user-disconnected").await.body["userId"], "ada");
    assert_eq!(participants(&mut bob).await, ["bob"]);
    let mut auth = auth;
    auth["pid"] = hello["pid"].clone();
    let (mut ada, again) = Session::greet(server.address, &auth).await;
    assert_eq!(again["pid"], hello["pid"], "its session goes on");
    assert_eq!(bob.until_told("user-joined-room").await.body["userId"], "ada");
    assert_eq!(participants(&mut bob).await, ["bob", "ada"]);
    enter(
        &mut ada,
        "send-message",
        json!({ "shareCode": "A", "content": "I am back" }),
    )
    .await;
    bob.until_told("room-message-created").await;
}

#[tokio::test]
async fn an_account_is_removed_in_either_spelling() {
    let server = TestServer::start(&LOCKED).await;
    put_room(&server, "A", json!({})).await;
    for (identity, removed) in [("auth_ada", "auth_ada"), ("auth_eve", "eve"), ("ben", "auth_ben")] {
        let mut session = joined(&server, identity, "A").await;
        let payload = json!({ "removedUser": { "userId": removed }, "shareCode": "A" });
        tell(&server, "room:A", "user-removed-from-room", payload).await;
        session.until_told("access_revoked").await;
        let mut again = member(&server, identity, "admin").await;
        let answer = ask(&mut again, "join-room", json!("A")).await;
        assert_eq!(answer["error"]["message"], "REMOVED_FROM_ROOM", "{identity}");
    }
}

#[tokio::test]
async fn envelopes_get_the_time_and_alerts_reach_everybody() {
    let server = TestServer::start(&LOCKED).await;
    put_room(&server, "A", json!({})).await;
    let mut ada = joined(&server, "ada", "A").await;
    let envelope =
        json!({ "new": { "id": 1 }, "eventType": "INSERT", "table": "room_messages", "schema": "public" });
    assert_eq!(
        tell(&server, "room:A", "room-message-created", envelope.clone()).await,
        1
    );
    let told = ada.told().await.body;
    assert!(
        told["timestamp"].is_string() && told["new"] == envelope["new"],
        "{told}"
    );
    assert_eq!(
        tell(
            &server,
            "user:auth_ada",
            "thread-created",
            json!({ "threadId": "t" })
        )
        .await,
        1
    );
    assert_eq!(ada.told().await.body, json!({ "threadId": "t" }), "byte for byte");
    for event in ["system-alert", "system-notification"] {
        let alert = json!({ "type": "info", "message": "soon", "timestamp": "now" });
        assert_eq!(tell(&server, "global", event, alert.clone()).await, 1);
        let told = ada.told().await;
        assert_eq!((told.what.as_str(), told.body), (event, alert));
    }
    let reserved = json!({ "channelId": "room:A", "event": "user-typing", "payload": {} }).to_string();
    assert_eq!(post(&server, "/api/broadcast", &reserved).await.0, 403);
}

#[tokio::test]
async fn an_answer_of_the_ai_is_told_in_order_and_whoever_comes_gets_it_so_far() {
    let server = TestServer::start(&LOCKED).await;
    put_room(&server, "A", json!({})).await;
    let mut ada = joined(&server, "ada", "A").await;
    let start = json!({ "threadId": "t", "timestamp": "then", "modelId": "m" });
    assert_eq!(tell(&server, "room:A", "ai-stream-start", start.clone()).await, 1);
    for chunk in ["Hel", "lo"] {
        let body = json!({ "threadId": "t", "chunk": chunk });
        assert_eq!(tell(&server, "room:A", "ai-stream-chunk", body).await, 1);
    }
    let mut bob = member(&server, "bob", "edit").await;
    let (told, _) = exchange(&mut bob, "join-room", json!("A")).await;
    assert_eq!(
        names(&told),
        ["room-joined", "ai-stream-start", "ai-stream-chunk"]
    );
    assert_eq!(told.get(1).map(|told| &told.body), Some(&start));
    let so_far = told
        .get(2)
        .map(|told| json!([told.body["chunk"], told.body["replayed"], told.body["truncated"]]));
    assert_eq!(so_far, Some(json!(["Hello", true, false])));
    assert_eq!(
        tell(
            &server,
            "room:A",
            "ai-stream-chunk",
            json!({ "threadId": "t", "chunk": "!" })
        )
        .await,
        2
    );
    let end = json!({ "threadId": "t", "text": "Hello!" });
    assert_eq!(tell(&server, "room:A", "ai-stream-end", end).await, 2);
    let told = up_to(&mut bob, "ai-stream-end").await;
    assert_eq!(names(&told), ["ai-stream-chunk", "ai-stream-end"]);
    let told = up_to(&mut ada, "ai-stream-end").await;
    assert_eq!(
        names(&told),
        [
            "ai-stream-start",
            "ai-stream-chunk",
            "ai-stream-chunk",
            "user-joined-room",
            "ai-stream-chunk",
            "ai-stream-end"
        ]
    );
    let (told, _) = exchange(&mut bob, "join-room", json!("A")).await;
    assert_eq!(names(&told), ["room-joined"], "it is over");
}

/// What ends while a connection is lost is heard of when it goes on, and what is still being told is told so far.
#[tokio::test]
async fn who_comes_back_after_a_loss_hears_that_answers_have_ended() {
    let server = TestServer::start(&LOCKED).await;
    put_room(&server, "A", json!({})).await;
    let auth = json!({ "token": token("ada", &json!({ "room:*": "edit" })) });
    let (mut ada, hello) = Session::greet(server.address, &auth).await;
    enter(&mut ada, "join-room", json!("A")).await;
    let of = |thread: &str| json!({ "threadId": thread });
    tell(&server, "room:A", "ai-stream-start", of("t")).await;
    ada.until_told("ai-stream-start").await;
    ada.cut();
    let chunk = |thread: &str, chunk: &str| json!({ "threadId": thread, "chunk": chunk });
    tell(&server, "room:A", "ai-stream-chunk", chunk("t", "Hello")).await;
    let end = json!({ "threadId": "t", "text": "Hello", "usage": { "tokens": 1 } });
    tell(&server, "room:A", "ai-stream-end", end.clone()).await;
    tell(&server, "room:A", "ai-stream-start", of("u")).await;
    tell(&server, "room:A", "ai-stream-chunk", chunk("u", "so")).await;
    tell(
        &server,
        "room:A",
        "ai-error",
        json!({ "threadId": "v", "error": "full" }),
    )
    .await;
    tell(&server, "room:A", "room-settings-updated", json!({ "n": 1 })).await;
    let mut auth = auth;
    auth["pid"] = hello["pid"].clone();
    let (mut ada, again) = Session::greet(server.address, &auth).await;
    assert_eq!(again["pid"], hello["pid"], "its session goes on");
    tell(&server, "room:A", "ai-stream-chunk", chunk("u", " far")).await;
    tell(&server, "room:A", "last", json!({})).await;
    let told = up_to(&mut ada, "last").await;
    let told: Vec<_> = told
        .into_iter()
        .filter(|told| told.what.starts_with("ai-") || told.what == "room-settings-updated")
        .collect();
    assert_eq!(
        names(&told),
        [
            "ai-stream-end",
            "ai-error",
            "room-settings-updated",
            "ai-stream-start",
            "ai-stream-chunk",
            "ai-stream-chunk"
        ]
    );
    assert_eq!(told.first().map(|told| &told.body), Some(&end));
    let chunks: Vec<_> = told
        .iter()
        .filter_map(|told| told.body["chunk"].as_str())
        .collect();
    assert_eq!(chunks, ["so", " far"]);
}

type Wishes = mpsc::Sender<(Option<String>, String)>;

/// An application that takes wishes: gives its address and what it was posted.
async fn application(status: u16) -> (String, mpsc::Receiver<(Option<String>, String)>) {
    async fn take(
        State((wishes, status)): State<(Arc<Wishes>, u16)>,
        headers: HeaderMap,
        body: String,
    ) -> hyper::StatusCode {
        let signature = headers
            .get("x-broadcast-signature")
            .and_then(|value| value.to_str().ok());
        let _ = wishes.send((signature.map(str::to_owned), body)).await;
        hyper::StatusCode::from_u16(status).expect("a status")
    }
    let (wishes, taken) = mpsc::channel(16);
    let router = Router::new()
        .route("/ai", on_post(take))
        .with_state((Arc::new(wishes), status));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}/ai"), taken)
}

#[tokio::test]
async fn wishes_for_an_answer_go_to_the_application_signed() {
    let (address, mut taken) = application(202).await;
    let mut arguments = LOCKED.to_vec();
    arguments.extend(["--ai-webhook-url", &address]);
    let server = TestServer::start(&arguments).await;
    put_room(&server, "A", json!({})).await;
    let mut ada = joined(&server, "ada", "A").await;
    for (event, wish) in [
        (
            "invoke-ai",
            json!({ "shareCode": "A", "threadId": "t", "prompt": "Why?", "userId": "eve" }),
        ),
        ("stop-ai", json!({ "shareCode": "A", "threadId": "t" })),
    ] {
        let answer = ask(&mut ada, event, wish.clone()).await;
        assert_eq!(
            json!([answer["success"], answer["message"].is_string()]),
            json!([true, true])
        );
        let (signature, body) = within(Duration::from_secs(10), "a wish", taken.recv())
            .await
            .expect("a wish");
        let secret = pageroom::auth::Secret::new(BRIDGE);
        let now = std::time::UNIX_EPOCH + Duration::from_secs(seconds_from_now(0));
        let is_right =
            pageroom::auth::signature::verify(&secret, now, &signature.expect("one"), body.as_bytes());
        assert!(is_right, "signed as backends sign");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(
            json!([
                body["event"],
                body["userId"],
                body["displayName"],
                body["room"],
                body["payload"]
            ]),
            json!([event, "ada", "ada of the tests", "room:A", wish])
        );
    }
    for event in ["toggle-ai", "update-ai-config"] {
        let (told, answer) = exchange(&mut ada, event, json!(true)).await;
        assert_eq!(
            (names(&told), &answer["error"]["code"]),
            (vec!["ai-error"], &json!("forbidden"))
        );
    }
    let (told, answer) = exchange(
        &mut ada,
        "invoke-ai",
        json!({ "shareCode": "A", "threadId": "t" }),
    )
    .await;
    assert_eq!(
        (names(&told), &answer["success"]),
        (vec!["validation-error"], &json!(false))
    );
    let mut stranger = member(&server, "eve", "edit").await;
    let wish = json!({ "shareCode": "A", "threadId": "t", "prompt": "Why?" });
    assert_eq!(
        ask(&mut stranger, "invoke-ai", wish.clone()).await["error"]["code"],
        "forbidden"
    );
    assert!(taken.try_recv().is_err(), "nothing that was refused went out");
    // An application that refuses, and none at all.
    let (address, mut taken) = application(500).await;
    let mut arguments = LOCKED.to_vec();
    arguments.extend(["--ai-webhook-url", &address]);
    for (arguments, code) in [(&arguments[..], "unavailable"), (&LOCKED[..], "not_found")] {
        let server = TestServer::start(arguments).await;
        put_room(&server, "A", json!({})).await;
        let mut ada = joined(&server, "ada", "A").await;
        let answer = ask(&mut ada, "invoke-ai", wish.clone()).await;
        assert_eq!(
            json!([answer["success"], answer["error"]["code"]]),
            json!([false, code])
        );
    }
    assert!(taken.recv().await.is_some());
}

#[tokio::test]
async fn tabs_of_one_user_hear_of_each_other_and_nobody_else_does() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = member(&server, "ada", "edit").await;
    let mut tab = member(&server, "ada", "edit").await;
    let mut bob = member(&server, "bob", "edit").await;
    for (event, body, told_event, expected) in [
        (
            "notify-sidebar-change",
            json!({ "changeType": "room_joined", "entityId": "r", "metadata": { "n": 1 } }),
            "sidebar-change-notification",
            json!({ "changeType": "room_joined", "entityId": "r", "metadata": { "n": 1 }, "userId": "ada" }),
        ),
        (
            "chat-session-created",
            json!({ "sessionId": "s", "title": "Tea" }),
            "chat-session-created",
            json!({ "table": "chat_sessions", "eventType": "INSERT" }),
        ),
        (
            "chat-message-sent",
            json!({ "sessionId": "s", "content": "Hi", "isUserMessage": true }),
            "chat-message-created",
            json!({ "table": "chat_messages", "eventType": "INSERT" }),
        ),
        (
            "document-uploaded",
            json!({ "documentId": "d", "title": "Tea", "totalPages": 3, "filterTags": "x" }),
            "document-uploaded",
            json!({ "table": "user_documents", "eventType": "INSERT" }),
        ),
    ] {
        enter(&mut ada, event, body).await;
        let told = tab.told().await;
        assert_eq!(told.what, told_event);
        for (field, value) in expected.as_object().expect("an object") {
            assert_eq!(&told.body[field], value, "{event}: {field}");
        }
        assert!(told.body["timestamp"].is_string());
        let answer = ask(&mut ada, event, json!({})).await;
        assert_eq!(answer["error"]["code"], "malformed", "{event}");
    }
    // Many wishes at once are told at once and, together, a little later.
    let from = Instant::now();
    for _ in 0..50 {
        enter(&mut ada, "request-sidebar-refresh", Value::Null).await;
    }
    for _ in 0..2 {
        let told = tab.until_told("sidebar-refresh-requested").await;
        assert_eq!(told.body["userId"], "ada");
    }
    let took = from.elapsed();
    assert!(took >= Duration::from_millis(480), "{took:?}");
    for (event, told_event) in [
        ("join-user-channel", "user-channel-joined"),
        ("leave-user-channel", "user-channel-left"),
    ] {
        let (told, _) = exchange(&mut bob, event, json!("ada")).await;
        assert_eq!(names(&told), [told_event], "and nothing of another user");
        assert_eq!(told.first().map(|told| &told.body["userId"]), Some(&json!("bob")));
    }
    put_room(&server, "A", json!({ "name": "Kitchen" })).await;
    enter(&mut bob, "join-room", json!("A")).await;
    let data = ask(&mut bob, "get-sidebar-data", Value::Null).await;
    assert_eq!(
        data["rooms"],
        json!([{ "shareCode": "A", "roomName": "Kitchen", "participantCount": 1 }])
    );
    let pong = ask(&mut bob, "health-ping", json!({ "id": "p", "timestamp": 1000 })).await;
    assert_eq!(json!([pong["id"], pong["clientTimestamp"]]), json!(["p", 1000]));
    assert!(
        pong["roundTripTime"].is_i64() && pong["serverTimestamp"].is_i64(),
        "{pong}"
    );
    for event in ["user-background", "user-foreground"] {
        enter(&mut bob, event, json!({ "timestamp": 1 })).await;
    }
}

#[tokio::test]
async fn no_payload_ends_a_connection() {
    let server = TestServer::start(&LOCKED).await;
    put_room(&server, "A", json!({})).await;
    let mut ada = joined(&server, "ada", "A").await;
    let payloads = [
        Value::Null,
        json!({}),
        json!([]),
        json!(7),
        json!("x".repeat(300)),
        json!({ "roomId": {}, "shareCode": [], "threadId": {}, "content": null }),
        json!({ "roomId": "A", "shareCode": "A", "threadId": "x".repeat(256), "content": "y", "prompt": {} }),
        json!("a\u{0}b"),
    ];
    for event in [
        "health-ping",
        "join-room",
        "leave-room",
        "get-room-participants",
        "switch-thread",
        "typing-start",
        "typing-stop",
        "send-message",
        "join-user-channel",
        "leave-user-channel",
        "request-sidebar-refresh",
        "notify-sidebar-change",
        "get-sidebar-data",
        "document-uploaded",
        "chat-session-created",
        "chat-message-sent",
        "user-background",
        "user-foreground",
        "request-missed-messages",
        "invoke-ai",
        "stop-ai",
        "toggle-ai",
        "update-ai-config",
    ] {
        for payload in &payloads {
            ada.send(event, None, payload, &[]).await;
        }
        ada.say(&format!("42[\"{event}\"]")).await;
    }
    enter(&mut ada, "user-foreground", Value::Null).await;
}

/// Rooms as an application's tables have them.
const ROOM_QUERY: &str = "SELECT name, max_members, expires_at FROM (
        SELECT 'A' AS code, 'Kitchen' AS name, 1 AS max_members, NULL AS expires_at
        UNION ALL SELECT 'B', 'Old', NULL, '2001-01-01 00:00:00') AS rooms
    WHERE code = substr($1, 6);";

#[tokio::test]
async fn what_a_room_is_can_stand_in_the_applications_tables() {
    for database in Database::each() {
        let store = database.open().await;
        let url = database.url();
        let mut arguments = LOCKED.to_vec();
        arguments.extend(["--room-query", ROOM_QUERY, "--access-database-url", &url]);
        let server = TestServer::start_on(store, &arguments).await;
        let mut ada = member(&server, "ada", "edit").await;
        let answer = ask(&mut ada, "join-room", json!("A")).await;
        assert_eq!(
            json!([answer["roomName"], answer["maxParticipants"]]),
            json!(["Kitchen", 1])
        );
        let mut bob = member(&server, "bob", "edit").await;
        for (code, error) in [
            ("A", "Room is full"),
            ("B", "Room has expired"),
            ("C", "Room not found"),
        ] {
            let (told, _) = exchange(&mut bob, "join-room", json!(code)).await;
            assert_eq!(
                told.first().map(|told| &told.body["error"]),
                Some(&json!(error)),
                "{code}"
            );
        }
        let known = rest(&server, Method::GET, "/api/rooms/A", Value::Null)
            .await
            .json();
        assert_eq!(known["name"], "Kitchen");
        // What is set here counts before it.
        put_room(&server, "A", json!({ "name": "Attic" })).await;
        enter(&mut bob, "join-room", json!("A")).await;
        assert!(server.stop().await);
    }
}

#[tokio::test]
async fn a_full_server_says_so_and_hangs_up() {
    let mut arguments = LOCKED.to_vec();
    arguments.extend(["--max-connections", "2"]);
    let server = TestServer::start(&arguments).await;
    let _ada = member(&server, "ada", "edit").await;
    let _bob = member(&server, "bob", "edit").await;
    for _ in 0..3 {
        let mut eve = Session::open(server.address).await;
        eve.say("40").await;
        eve.until_text("40{").await;
        let told = eve.told().await;
        assert_eq!(
            (told.what.as_str(), told.body),
            ("connection-rejected", json!({ "reason": "Server at capacity" }))
        );
        assert_eq!(eve.closed().await.code, 1013);
    }
    let mut page = Session::open(server.address).await;
    page.say("40/yjs|page,").await;
    assert_eq!(page.closed().await.code, 1013, "it comes back by itself");
}

/// A rule may keep what ends an answer of the AI as it keeps anything else.
#[tokio::test]
async fn what_ends_an_answer_of_the_ai_is_kept_where_a_rule_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events.json");
    let rules =
        json!({ "keep": [{ "room": "room:*", "event": "ai-stream-end", "count": 10, "seconds": 60 }] });
    std::fs::write(&file, rules.to_string()).expect("a file");
    let mut arguments = LOCKED.to_vec();
    arguments.extend(["--events-file", file.to_str().expect("a path")]);
    let server = TestServer::start(&arguments).await;
    put_room(&server, "A", json!({})).await;
    let end = json!({ "threadId": "t", "text": "Hello!" });
    let told =
        json!({ "channelId": "room:A", "event": "ai-stream-end", "payload": end, "id": "end" }).to_string();
    for _ in 0..2 {
        assert_eq!(post(&server, "/api/broadcast", &told).await.0, 200);
    }
    tell(&server, "room:A", "ai-error", json!({ "threadId": "t" })).await;
    let mut ada = joined(&server, "ada", "A").await;
    let missed = ask(
        &mut ada,
        "request-missed-messages",
        json!({ "lastActiveTime": 1 }),
    )
    .await;
    let messages = missed["messages"].as_array().expect("a list");
    let messages: Vec<_> = messages
        .iter()
        .map(|event| (&event["event"], &event["payload"]))
        .collect();
    assert_eq!(messages, [(&json!("ai-stream-end"), &end)], "{missed}");
}
