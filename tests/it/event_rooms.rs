//! Rooms without a document: who is let in, what backends tell there, and how a right that ends takes a member out.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use crate::support::{
    http::send,
    server::{ADMIN_TOKEN, TestServer},
    socket_io::Session,
    token::{SECRET, seconds_from_now, token},
};

pub(crate) const BRIDGE: &str = "a secret of the backends, 32 bytes or more";
const INDEXER: &str = "a token of the indexer, 32 bytes or more";
pub(crate) const LOCKED: [&str; 8] = [
    "--jwt-secret",
    SECRET,
    "--admin-token",
    ADMIN_TOKEN,
    "--broadcast-secret",
    BRIDGE,
    "--indexer-token",
    INDEXER,
];

async fn user(server: &TestServer, name: &str, pages: Value) -> Session {
    let auth = json!({ "token": token(name, &pages) });
    Session::connect(server.address, &auth).await.0
}

pub(crate) async fn ask(session: &mut Session, event: &str, body: Value) -> Value {
    session.send(event, Some(7), &body, &[]).await;
    session.until_told("7").await.body
}

pub(crate) async fn enter(session: &mut Session, event: &str, body: Value) {
    let answer = ask(session, event, body).await;
    assert_eq!(answer["ok"], true, "{event}: {answer}");
}

pub(crate) fn signed(body: &str) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_secs(seconds_from_now(0));
    pageroom::auth::signature::sign(&pageroom::auth::Secret::new(BRIDGE), at, body.as_bytes())
}

pub(crate) async fn post(server: &TestServer, path: &str, body: &str) -> (u16, Value) {
    let signature = signed(body);
    let headers = [("x-broadcast-signature", signature.as_str())];
    let answer = send(
        server.address,
        Method::POST,
        path,
        &headers,
        body.to_owned().into(),
    )
    .await;
    (answer.status.as_u16(), answer.json())
}

pub(crate) async fn tell(server: &TestServer, room: &str, event: &str, payload: Value) -> Value {
    let body = json!({ "channelId": room, "event": event, "payload": payload }).to_string();
    let (status, answer) = post(server, "/api/broadcast", &body).await;
    assert_eq!(status, 200, "{answer}");
    answer["delivered"].clone()
}

pub(crate) async fn put_grant(server: &TestServer, method: Method, page: &str, user: &str, role: &str) {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let path = format!("/api/pages/{page}/permissions/{user}");
    let body = json!({ "role": role }).to_string();
    let answer = send(server.address, method, &path, &headers, body.into()).await;
    assert!(answer.status.is_success(), "{}", answer.text());
}

#[tokio::test]
async fn every_room_is_joined_told_in_and_left() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada", json!({ "*": "view" })).await;
    for (join, leave, rooms) in [
        ("join_channel", "leave_channel", vec!["x", "page:x"]),
        ("join_drive", "leave_drive", vec!["drive:x", "drive:x:calendar"]),
        ("join_dm_conversation", "leave_dm_conversation", vec!["dm:x"]),
        ("join_conversation", "leave_conversation", vec!["conv:x"]),
        ("join_session", "leave_session", vec!["session:x"]),
        (
            "join_activity_drive",
            "leave_activity_drive",
            vec!["activity:drive:x"],
        ),
        (
            "join_activity_page",
            "leave_activity_page",
            vec!["activity:page:x"],
        ),
    ] {
        for room in &rooms {
            assert_eq!(
                tell(&server, room, "new_message", json!({ "n": 0 })).await,
                0,
                "{room}"
            );
        }
        enter(&mut ada, join, json!("x")).await;
        enter(&mut ada, join, json!("x")).await;
        for room in &rooms {
            let payload = json!({ "n": 1, "room": room });
            assert_eq!(
                tell(&server, room, "new_message", payload.clone()).await,
                1,
                "{room}"
            );
            let told = ada.told().await;
            assert_eq!((told.what.as_str(), told.body), ("new_message", payload));
        }
        enter(&mut ada, leave, json!("x")).await;
        for room in &rooms {
            assert_eq!(tell(&server, room, "new_message", json!({})).await, 0, "{room}");
        }
    }
    enter(&mut ada, "presence:join_page", json!({ "pageId": "x" })).await;
    assert_eq!(tell(&server, "x", "e", json!({})).await, 1);
    enter(&mut ada, "presence:leave_page", json!({ "pageId": "x" })).await;
    assert_eq!(tell(&server, "x", "e", json!({})).await, 0);
}

#[tokio::test]
async fn a_user_is_in_its_own_rooms_from_the_start_and_in_nobody_elses() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada", json!({})).await;
    let _bob = user(&server, "bob", json!({})).await;
    for room in [
        "user:ada",
        "user:auth_ada",
        "user:ada:tasks",
        "user:ada:calendar",
        "user:ada:drives",
        "user:ada:global",
        "user:ada:sessions",
        "notifications:ada",
    ] {
        assert_eq!(
            tell(&server, room, "n", json!({ "room": room })).await,
            1,
            "{room}"
        );
        assert_eq!(ada.told().await.body["room"], room);
    }
    assert_eq!(tell(&server, "global", "n", json!({})).await, 2);
    // A client can neither name nor leave them.
    for event in ["join", "leave"] {
        enter(&mut ada, event, json!("user:ada:drives")).await;
    }
    assert_eq!(tell(&server, "user:ada:drives", "n", json!({})).await, 1);
    for event in ["join_channel", "join_drive"] {
        let answer = ask(&mut ada, event, json!("user:bob")).await;
        assert_eq!(answer["ok"], false, "{event}");
    }
    assert_eq!(tell(&server, "user:bob", "n", json!({})).await, 1);
}

#[tokio::test]
async fn bad_payloads_are_answered_in_the_applications_words_and_keep_the_connection() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada", json!({ "*": "view" })).await;
    for (event, body, error) in [
        ("join_channel", json!({ "id": "x" }), "Page ID must be a string"),
        ("join_channel", json!(""), "invalid Page ID format"),
        ("join_drive", json!(7), "Drive ID must be a string"),
        ("join_drive", json!("a\nb"), "Drive ID must be a valid ID"),
        ("join_session", json!([]), "Session ID must be a string"),
        (
            "presence:join_page",
            json!("x"),
            "Invalid payload: pageId required",
        ),
    ] {
        ada.send(event, None, &body, &[]).await;
        let told = ada.told().await;
        assert_eq!(told.what, "validation_error", "{event}");
        assert_eq!(told.body, json!({ "event": event, "error": error }));
        let answer = ask(&mut ada, event, body).await;
        assert_eq!(answer["error"]["code"], "malformed", "{event}");
        assert_eq!(answer["error"]["message"], error);
    }
    let deep = (0..65).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(
        ask(&mut ada, "join_drive", deep).await["error"]["code"],
        "malformed"
    );
    let long = json!("x".repeat(65 * 1024));
    assert_eq!(
        ask(&mut ada, "join_drive", long).await["error"]["code"],
        "too_large"
    );
    let shell = json!({ "shellId": "s", "cols": 80, "rows": 24, "connectionId": "c" });
    ada.send("shell:connect", None, &shell, &[]).await;
    let told = ada.told().await;
    assert_eq!(
        (told.what.as_str(), &told.body["connectionId"]),
        ("shell:error", &json!("c"))
    );
    // Events of nobody are nothing to anybody, unless an answer is waited for.
    ada.send("no_such_event", None, &json!({}), &[]).await;
    let answer = ask(&mut ada, "no_such_event", json!({})).await;
    assert_eq!(answer["error"]["code"], "not_found");
    enter(&mut ada, "join_drive", json!("x")).await;
}

#[tokio::test]
async fn rooms_are_asked_of_the_sources_under_their_own_names_and_closed_when_the_right_ends() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada", json!({})).await;
    for (event, asked) in [
        ("join_channel", "x"),
        ("join_drive", "drive%3Ax"),
        ("join_dm_conversation", "dm%3Ax"),
        ("join_activity_drive", "drive%3Ax"),
        ("join_activity_page", "x"),
    ] {
        let refused = ask(&mut ada, event, json!("x")).await;
        assert_eq!(refused["error"]["code"], "forbidden", "{event}");
        // Without an acknowledgement it is quiet, and the connection stays.
        ada.send(event, None, &json!("x"), &[]).await;
        put_grant(&server, Method::PUT, asked, "ada", "view").await;
        enter(&mut ada, event, json!("x")).await;
        put_grant(&server, Method::DELETE, asked, "ada", "view").await;
        let told = ada.until_told("access_revoked").await;
        assert_eq!(told.body["reason"], "forbidden", "{event}: {}", told.body);
        if event == "join_drive" {
            assert_eq!(ada.told().await.what, "access_revoked", "the calendar, too");
        }
        let refused = ask(&mut ada, event, json!("x")).await;
        assert_eq!(refused["error"]["code"], "forbidden", "{event}");
    }
    assert_eq!(tell(&server, "drive:x", "n", json!({})).await, 0);
    assert_eq!(tell(&server, "x", "n", json!({})).await, 0);
}

#[tokio::test]
async fn a_kick_reaches_every_room_with_its_own_words() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada", json!({ "*": "edit" })).await;
    let mut bob = user(&server, "bob", json!({ "*": "edit" })).await;
    for session in [&mut ada, &mut bob] {
        enter(session, "join_drive", json!("d")).await;
        enter(session, "join_conversation", json!("c")).await;
        enter(session, "join_channel", json!("p")).await;
    }
    session_in_page(&mut ada, "p").await;
    let kick = json!({
        "userId": "ada",
        "roomPattern": ["drive:d", "drive:d:calendar", "conv:c", "nowhere", "global:drives"],
        "reason": "member_removed",
        "metadata": { "driveName": "Drive" },
    });
    let (status, answer) = post(&server, "/api/kick", &kick.to_string()).await;
    assert_eq!(status, 200);
    assert_eq!(
        answer,
        json!({ "success": true, "kickedCount": 3, "rooms": ["conv:c", "drive:d", "drive:d:calendar"] })
    );
    for room in ["drive:d", "drive:d:calendar", "conv:c"] {
        let told = ada.until_told("access_revoked").await;
        assert_eq!(told.body["room"], room);
        assert_eq!(told.body["reason"], "member_removed");
        assert_eq!(told.body["metadata"], json!({ "driveName": "Drive" }));
    }
    assert_eq!(
        tell(&server, "drive:d", "n", json!({})).await,
        1,
        "only bob is left"
    );
    // A page that is open and listened to is one room, and is closed once.
    let kick =
        json!({ "userId": "*", "exceptUserId": "bob", "roomPattern": "page:p", "reason": "page_private" });
    let (_, answer) = post(&server, "/api/kick", &kick.to_string()).await;
    assert_eq!(
        answer["kickedCount"], 2,
        "the seat and the place among the listeners"
    );
    let told = ada.until_told("access_revoked").await;
    assert_eq!(
        (&told.body["room"], &told.body["reason"]),
        (&json!("page:p"), &json!("page_private"))
    );
    assert_eq!(tell(&server, "p", "n", json!({})).await, 1);
    enter(&mut ada, "join", json!("x")).await;
    for reason in ["", "because"] {
        let kick = json!({ "userId": "ada", "roomPattern": "p", "reason": reason }).to_string();
        let (status, answer) = post(&server, "/api/kick", &kick).await;
        assert_eq!(
            (status, &answer["error"]),
            (400, &json!("Missing or invalid reason"))
        );
    }
    for pattern in [json!([]), json!([1]), json!({})] {
        let kick = json!({ "userId": "ada", "roomPattern": pattern, "reason": "page_private" }).to_string();
        let (status, answer) = post(&server, "/api/kick", &kick).await;
        assert_eq!(
            (status, &answer["error"]),
            (400, &json!("Missing or invalid roomPattern"))
        );
    }
}

async fn session_in_page(session: &mut Session, page: &str) {
    enter(session, "join_page", json!(page)).await;
}

#[tokio::test]
async fn who_has_a_page_open_hears_what_is_told_in_its_room_once() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada", json!({ "*": "edit" })).await;
    session_in_page(&mut ada, "p").await;
    assert_eq!(tell(&server, "page:p", "new_message", json!({ "n": 1 })).await, 1);
    assert_eq!(ada.until_told("new_message").await.body["n"], 1);
    enter(&mut ada, "join_channel", json!("p")).await;
    assert_eq!(tell(&server, "p", "new_message", json!({ "n": 2 })).await, 1);
    enter(&mut ada, "leave_page", json!("p")).await;
    assert_eq!(
        tell(&server, "p", "new_message", json!({ "n": 3 })).await,
        1,
        "it still listens"
    );
    enter(&mut ada, "leave_channel", json!("p")).await;
    assert_eq!(tell(&server, "p", "new_message", json!({ "n": 4 })).await, 0);
}

#[tokio::test]
async fn a_seat_is_given_up_with_the_last_way_that_needs_it() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada", json!({ "*": "edit" })).await;
    enter(&mut ada, "join_channel", json!("p")).await;
    session_in_page(&mut ada, "p").await;
    let kick = json!({ "userId": "*", "roomPattern": "page:p", "reason": "page_private" }).to_string();
    let nobody =
        json!({ "userId": "*", "exceptUserId": "ada", "roomPattern": "page:p", "reason": "page_private" });
    assert_eq!(
        post(&server, "/api/kick", &nobody.to_string()).await.1["kickedCount"],
        0
    );
    enter(&mut ada, "leave_channel", json!("p")).await;
    enter(&mut ada, "leave_page", json!("p")).await;
    assert_eq!(post(&server, "/api/kick", &kick).await.1["kickedCount"], 0);
    enter(&mut ada, "join_channel", json!("p")).await;
    assert_eq!(post(&server, "/api/kick", &kick).await.1["kickedCount"], 1);
}

#[tokio::test]
async fn a_user_hears_of_permissions_that_change() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada", json!({})).await;
    let mut ben = user(&server, "ben", json!({})).await;
    for (page, method, event, body) in [
        (
            "p",
            Method::PUT,
            "permission_granted",
            json!({ "pageId": "p", "userId": "ada", "role": "view" }),
        ),
        (
            "p",
            Method::DELETE,
            "permission_revoked",
            json!({ "pageId": "p", "userId": "ada" }),
        ),
        (
            "drive%3Ad",
            Method::PUT,
            "member_added",
            json!({ "driveId": "d", "userId": "ada", "role": "view" }),
        ),
        (
            "drive%3Ad",
            Method::DELETE,
            "member_removed",
            json!({ "driveId": "d", "userId": "ada" }),
        ),
    ] {
        put_grant(&server, method, page, "ada", "view").await;
        let told = ada.told().await;
        assert_eq!((told.what.as_str(), &told.body), (event, &body));
    }
    // What concerns everybody, or many pages, is nobody's own.
    put_grant(&server, Method::PUT, "p", "*", "view").await;
    put_grant(&server, Method::PUT, "team*", "ada", "view").await;
    tell(&server, "global", "n", json!({})).await;
    assert_eq!(ada.told().await.what, "n");
    assert_eq!(ben.told().await.what, "n");
}

#[tokio::test]
async fn whoever_is_sent_out_while_coming_in_is_not_there() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada", json!({ "*": "edit" })).await;
    let kick = json!({ "userId": "ada", "roomPattern": "drive:d", "reason": "member_removed" }).to_string();
    for round in 0..60 {
        let coming = async {
            let answer = ask(&mut ada, "join_drive", json!("d")).await;
            answer["ok"] == true
        };
        let (joined, (status, sent)) = tokio::join!(coming, post(&server, "/api/kick", &kick));
        assert_eq!(status, 200);
        // A second one finds all who are there.
        let (_, rest) = post(&server, "/api/kick", &kick).await;
        let there = tell(&server, "drive:d", "n", json!({})).await;
        assert_eq!(
            there, 0,
            "round {round}: joined {joined}, sent {sent}, then {rest}"
        );
        enter(&mut ada, "leave_drive", json!("d")).await;
    }
}

#[tokio::test]
async fn backends_hear_what_is_wrong_in_their_order_and_words() {
    let server = TestServer::start(&LOCKED).await;
    let good = json!({ "channelId": "p", "event": "e", "payload": { "a": 1 } }).to_string();
    let answer = send(
        server.address,
        Method::POST,
        "/api/broadcast",
        &[],
        good.clone().into(),
    )
    .await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()),
        (401, json!({ "error": "Authentication failed" }))
    );
    let large = "x".repeat((1 << 20) + 1);
    assert_eq!(post(&server, "/api/broadcast", &large).await.0, 413);
    for (body, status, error) in [
        ("{", 400, "Invalid JSON"),
        ("{}", 400, "Invalid broadcast payload"),
        (
            r#"{"channelId":"global:drives","event":"error","payload":{}}"#,
            403,
            "Broadcast audience not authorized",
        ),
        (
            r#"{"channelId":"p","event":"error","payload":{}}"#,
            403,
            "Reserved event name",
        ),
    ] {
        assert_eq!(
            post(&server, "/api/broadcast", body).await,
            (status, json!({ "error": error })),
            "{body}"
        );
    }
    assert_eq!(
        post(&server, "/api/broadcast", &good).await,
        (200, json!({ "success": true, "delivered": 0 }))
    );
    // One with an id is told once, and the id belongs to it.
    let mut ada = user(&server, "ada", json!({ "*": "view" })).await;
    enter(&mut ada, "join_channel", json!("p")).await;
    let of = |n: u32| json!({ "channelId": "p", "event": "e", "payload": { "n": n }, "id": "1" }).to_string();
    for _ in 0..2 {
        assert_eq!(
            post(&server, "/api/broadcast", &of(1)).await,
            (200, json!({ "success": true, "delivered": 1 }))
        );
    }
    assert_eq!(post(&server, "/api/broadcast", &of(2)).await.0, 409);
    let batch = json!([
        { "channelId": "p", "event": "e", "payload": { "n": 3 } },
        { "channelId": "page:p", "event": "e", "payload": { "n": 4 } },
        { "channelId": "drive:none", "event": "e", "payload": { "n": 5 } },
    ]);
    assert_eq!(
        post(&server, "/api/broadcast/batch", &batch.to_string()).await,
        (
            200,
            json!({ "success": true, "results": [{ "delivered": 1 }, { "delivered": 1 }, { "delivered": 0 }] })
        )
    );
    for n in [1, 3, 4] {
        assert_eq!(ada.told().await.body["n"], n);
    }
    // All are checked before the first is told.
    let batch = json!([
        { "channelId": "p", "event": "e", "payload": { "n": 6 } },
        { "channelId": "p", "event": "access_revoked", "payload": {} },
    ]);
    assert_eq!(
        post(&server, "/api/broadcast/batch", &batch.to_string()).await,
        (403, json!({ "error": "Reserved event name", "index": 1 }))
    );
    assert_eq!(tell(&server, "p", "last", json!({})).await, 1);
    assert_eq!(ada.told().await.what, "last", "nothing of the batch was told");
}

#[tokio::test]
async fn the_indexer_speaks_to_workspaces_alone() {
    let server = TestServer::start(&LOCKED).await;
    let bearer = format!("Bearer {INDEXER}");
    let headers = [("authorization", bearer.as_str())];
    for (room, status) in [("workspace:w", 200), ("p", 403), ("user:ada", 403)] {
        let body = json!({ "channelId": room, "event": "index:started", "payload": {} }).to_string();
        let answer = send(
            server.address,
            Method::POST,
            "/api/broadcast",
            &headers,
            body.into(),
        )
        .await;
        assert_eq!(answer.status.as_u16(), status, "{room}");
    }
    for path in ["/api/kick", "/api/pages"] {
        let answer = send(
            server.address,
            Method::POST,
            path,
            &headers,
            Value::Null.to_string().into(),
        )
        .await;
        assert!(!answer.status.is_success(), "{path}");
    }
}

#[tokio::test]
async fn rooms_of_one_connection_and_members_of_one_room_are_bounded() {
    let mut arguments = LOCKED.to_vec();
    arguments.extend([
        "--max-rooms-per-connection",
        "2",
        "--max-connections-per-room",
        "1",
    ]);
    let server = TestServer::start(&arguments).await;
    let mut ada = user(&server, "ada", json!({ "*": "view" })).await;
    let mut bob = user(&server, "bob", json!({ "*": "view" })).await;
    enter(&mut ada, "join_session", json!("1")).await;
    enter(&mut ada, "join_session", json!("2")).await;
    let refused = ask(&mut ada, "join_session", json!("3")).await;
    assert_eq!(refused["error"]["code"], "rate_limited");
    let refused = ask(&mut bob, "join_session", json!("1")).await;
    assert_eq!(refused["error"]["code"], "room_full");
    enter(&mut ada, "leave_session", json!("1")).await;
    enter(&mut bob, "join_session", json!("1")).await;
}

#[tokio::test]
async fn a_connection_is_in_a_thousand_rooms_where_nothing_is_said() {
    let mut arguments = LOCKED.to_vec();
    arguments.extend(["--max-events-per-second", "0"]);
    let server = TestServer::start(&arguments).await;
    let mut ada = user(&server, "ada", json!({ "*": "view" })).await;
    for number in 0..1000 {
        enter(&mut ada, "join_session", json!(number.to_string())).await;
    }
    let refused = ask(&mut ada, "join_session", json!("1000")).await;
    assert_eq!(refused["error"]["code"], "rate_limited", "{refused}");
    enter(&mut ada, "join_session", json!("999")).await;
    enter(&mut ada, "leave_session", json!("999")).await;
    enter(&mut ada, "join_session", json!("1000")).await;
    assert_eq!(tell(&server, "session:1000", "n", json!({})).await, 1);
    assert_eq!(
        tell(&server, "user:ada", "n", json!({})).await,
        1,
        "own rooms beside these"
    );
}

#[tokio::test]
async fn rooms_open_no_page_and_store_nothing() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada", json!({ "*": "edit" })).await;
    let names = [
        ("join_channel", "page:x"),
        ("join_drive", "drive:x"),
        ("join_dm_conversation", "dm:x"),
        ("join_conversation", "conv:x"),
        ("join_session", "session:x"),
        ("join_activity_drive", "activity:drive:x"),
        ("join_activity_page", "activity:page:x"),
    ];
    for (event, _) in names {
        enter(&mut ada, event, json!("x")).await;
    }
    enter(&mut ada, "presence:join_page", json!({ "pageId": "x" })).await;
    enter(&mut ada, "workspace:join", json!({ "workspaceId": "x" })).await;
    let entity = json!({ "entityType": "board", "entityId": "x" });
    enter(&mut ada, "component:subscribe", entity).await;
    for (_, room) in names {
        assert_eq!(tell(&server, room, "new_message", json!({ "n": 1 })).await, 1);
    }
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    let get = async |path: &str| send(server.address, Method::GET, path, &headers, "".into()).await;
    let answer = get("/metrics").await;
    let metrics = answer.text();
    let open = metrics
        .lines()
        .find(|line| line.starts_with("pageroom_rooms_open"));
    assert!(open.is_some_and(|line| line.ends_with(" 0")), "{open:?}");
    let pages = get("/api/pages").await.json();
    assert_eq!(pages["pages"], json!([]), "{pages}");
}
