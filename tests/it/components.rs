//! Components: who may change them, who hears of it, and that changes that cross are all there.

use serde_json::{Value, json};

use crate::{
    event_rooms::{LOCKED, ask, enter, post, put_grant, tell},
    support::{
        http::send,
        server::{ADMIN_TOKEN, TestServer},
        socket_io::Session,
        token::token,
    },
};
use hyper::Method;

async fn user(server: &TestServer, name: &str, role: &str) -> Session {
    let auth = json!({ "token": token(name, &json!({ "*": role })) });
    Session::connect(server.address, &auth).await.0
}

fn at(id: &str) -> Value {
    json!({ "componentId": id })
}

/// The payload of a change of a component.
fn change(id: &str, rest: Value) -> Value {
    let mut payload = at(id);
    for (key, value) in rest.as_object().expect("an object") {
        payload[key] = value.clone();
    }
    payload
}

/// Subscribes, and takes in that the subscriber itself has joined.
async fn subscribe(session: &mut Session, payload: Value) -> Value {
    let answer = ask(session, "component:subscribe", payload).await;
    assert_eq!(answer["ok"], true, "{answer}");
    answer
}

async fn update(session: &mut Session, id: &str, updates: Value) -> Value {
    let answer = ask(
        session,
        "component:update",
        change(id, json!({ "updates": updates })),
    )
    .await;
    assert_eq!(answer["ok"], true, "{answer}");
    answer
}

async fn hears(session: &mut Session, event: &str) -> Value {
    session.until_told(event).await.body
}

async fn data(server: &TestServer, id: &str) -> Value {
    let mut session = user(server, "reader", "view").await;
    subscribe(&mut session, at(id)).await["data"].clone()
}

#[tokio::test]
async fn a_component_is_followed_changed_and_left() {
    let server = TestServer::start(&LOCKED).await;
    let (mut ada, mut ben) = (
        user(&server, "ada", "edit").await,
        user(&server, "ben", "edit").await,
    );
    let answer = subscribe(&mut ada, at("c")).await;
    assert_eq!(
        (&answer["data"], &answer["seq"], &answer["role"]),
        (&json!({}), &json!(0), &json!("edit"))
    );
    subscribe(&mut ben, at("c")).await;
    let joined = hears(&mut ada, "component:user-joined").await;
    assert_eq!(
        (&joined["userId"], &joined["componentId"]),
        (&json!("ben"), &json!("c"))
    );
    let answer = update(
        &mut ada,
        "c",
        json!({ "title": "Hello", "rows": [{ "id": "r", "components": [] }] }),
    )
    .await;
    assert!(answer["seq"].as_u64() > Some(0));
    let told = hears(&mut ben, "component:updated").await;
    assert_eq!(
        (&told["updates"]["title"], &told["updatedBy"]),
        (&json!("Hello"), &json!("ada"))
    );
    assert!(told["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')));
    // A nested one, without an id: both hear of it.
    let nested = change(
        "c",
        json!({ "rowId": "r", "nestedComponent": { "data": { "content": "x" } }, "clientOpId": "op1" }),
    );
    let answer = ask(&mut ada, "component:nested-create", nested).await;
    let id = answer["nestedComponentId"].clone();
    assert!(
        id.is_string() && answer["ok"] == true && answer["clientOpId"] == "op1",
        "{answer}"
    );
    let told = hears(&mut ben, "component:nested-created").await;
    assert_eq!(
        told["nestedComponent"],
        json!({ "id": id, "data": { "content": "x" } })
    );
    assert_eq!(
        (&told["createdBy"], &told["clientOpId"]),
        (&json!("ada"), &json!("op1"))
    );
    let nested = change(
        "c",
        json!({ "rowId": "r", "nestedComponentId": id, "updates": { "data": { "content": "y" } } }),
    );
    assert_eq!(ask(&mut ben, "component:nested-update", nested).await["ok"], true);
    let told = hears(&mut ada, "component:nested-updated").await;
    assert_eq!(
        (&told["updates"], &told["nestedComponentId"]),
        (&json!({ "data": { "content": "y" } }), &id)
    );
    let nested = change("c", json!({ "rowId": "r", "nestedComponentId": id }));
    for expected in [1, 0] {
        assert_eq!(
            ask(&mut ben, "component:nested-delete", nested.clone()).await["ok"],
            true
        );
        update(&mut ben, "c", json!({ "n": expected })).await;
        if expected == 1 {
            let told = hears(&mut ada, "component:nested-deleted").await;
            assert_eq!(
                (&told["nestedComponentId"], &told["deletedBy"]),
                (&id, &json!("ben"))
            );
        }
        let told = ada.told().await;
        assert_eq!(told.what, "component:updated", "deleting twice is told once");
    }
    assert_eq!(
        data(&server, "c").await,
        json!({ "title": "Hello", "n": 0, "rows": [{ "id": "r", "components": [] }] })
    );
    assert_eq!(ask(&mut ben, "component:unsubscribe", at("c")).await["ok"], true);
    assert_eq!(hears(&mut ada, "component:user-left").await["userId"], "ben");
    assert_eq!(
        hears(&mut ada, "component:user-left").await["userId"],
        "reader",
        "whose connection was lost"
    );
}

#[tokio::test]
async fn changes_that_cross_are_all_there_and_everybody_has_the_same() {
    let server = TestServer::start(&LOCKED).await;
    let (mut ada, mut ben) = (
        user(&server, "ada", "edit").await,
        user(&server, "ben", "edit").await,
    );
    let row = |id: &str| json!({ "id": id, "components": [] });
    let begin = json!({ "title": "one two", "n": 0, "meta": { "a": 1 }, "rows": [row("r1"), row("r2")] });
    update(&mut ada, "c", begin).await;
    subscribe(&mut ada, at("c")).await;
    subscribe(&mut ben, at("c")).await;
    // Neither hears the other before it has written: what one sends is on its way when the other one writes.
    let ours = json!({ "title": "one two ada", "n": 1, "meta": { "a": 1, "ada": 1 }, "rows": [row("r2"), row("r1"), row("ada")] });
    let theirs = json!({ "title": "ben one two", "n": 2, "meta": { "a": 2 }, "rows": [row("r1"), row("r2"), row("ben")] });
    for (session, updates) in [(&mut ada, ours), (&mut ben, theirs)] {
        session
            .send(
                "component:update",
                Some(1),
                &change("c", json!({ "updates": updates })),
                &[],
            )
            .await;
    }
    assert_eq!(ada.until_told("1").await.body["ok"], true);
    assert_eq!(ben.until_told("1").await.body["ok"], true);
    let end = data(&server, "c").await;
    assert_eq!(end["title"], "ben one two ada");
    assert_eq!(end["meta"], json!({ "a": 2, "ada": 1 }));
    let ids: Vec<&str> = end["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| row["id"].as_str())
        .collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["ada", "ben", "r1", "r2"]);
    assert!(
        ids.iter().position(|id| *id == "r2") < ids.iter().position(|id| *id == "r1"),
        "moved by one: {ids:?}"
    );
}

#[tokio::test]
async fn who_may_not_change_a_component_changes_nothing_and_stays() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada", "edit").await;
    subscribe(&mut ada, at("c")).await;
    update(
        &mut ada,
        "c",
        json!({ "rows": [{ "id": "r", "components": [] }] }),
    )
    .await;
    let mut eve = user(&server, "eve", "view").await;
    let changes = [
        ("component:update", json!({ "updates": { "a": 1 } })),
        (
            "component:nested-update",
            json!({ "rowId": "r", "nestedComponentId": "n", "updates": {} }),
        ),
        (
            "component:nested-create",
            json!({ "rowId": "r", "nestedComponent": {} }),
        ),
        (
            "component:nested-delete",
            json!({ "rowId": "r", "nestedComponentId": "n" }),
        ),
    ];
    for is_member in [false, true] {
        if is_member {
            subscribe(&mut eve, at("c")).await;
        }
        for (event, rest) in &changes {
            let answer = ask(&mut eve, event, change("c", rest.clone())).await;
            assert_eq!(answer["error"]["code"], "read_only", "{event}");
        }
    }
    let auth = json!({ "token": token("stranger", &json!({})) });
    let mut stranger = Session::connect(server.address, &auth).await.0;
    for (event, rest) in &changes {
        let answer = ask(&mut stranger, event, change("c", rest.clone())).await;
        assert_eq!(answer["error"]["code"], "forbidden", "{event}");
    }
    for event in ["component:subscribe", "component:typing", "component:cursor"] {
        let answer = ask(&mut stranger, event, at("c")).await;
        assert_eq!(answer["ok"], false, "{event}");
    }
    // What is unknown is not found, for who may change it.
    for (event, rest) in [
        (
            "component:nested-update",
            json!({ "rowId": "r", "nestedComponentId": "none", "updates": { "a": 1 } }),
        ),
        (
            "component:nested-update",
            json!({ "rowId": "none", "nestedComponentId": "n", "updates": { "a": 1 } }),
        ),
        (
            "component:nested-create",
            json!({ "rowId": "none", "nestedComponent": {} }),
        ),
        (
            "component:nested-delete",
            json!({ "rowId": "none", "nestedComponentId": "n" }),
        ),
    ] {
        let answer = ask(&mut ada, event, change("c", rest)).await;
        assert_eq!(answer["error"]["code"], "not_found", "{event}");
    }
    // Without an acknowledgement the refusal is told; nothing ends the connection.
    for payload in [
        json!(null),
        json!("c"),
        json!({ "componentId": 1 }),
        json!({ "componentId": "c" }),
    ] {
        ada.send("component:update", None, &payload, &[]).await;
        let told = hears(&mut ada, "error").await;
        assert_eq!(
            (&told["event"], &told["code"]),
            (&json!("component:update"), &json!("malformed"))
        );
    }
    assert_eq!(
        data(&server, "c").await,
        json!({ "rows": [{ "id": "r", "components": [] }] })
    );
}

#[tokio::test]
async fn a_right_that_ends_takes_a_member_out_and_the_others_are_told() {
    let server = TestServer::start(&LOCKED).await;
    for user in ["ada", "ben"] {
        put_grant(&server, Method::PUT, "component:c", user, "edit").await;
    }
    let connect = async |name: &str| {
        let auth = json!({ "token": token(name, &json!({})) });
        Session::connect(server.address, &auth).await.0
    };
    let (mut ada, mut ben) = (connect("ada").await, connect("ben").await);
    subscribe(&mut ada, at("c")).await;
    subscribe(&mut ben, at("c")).await;
    enter(
        &mut ben,
        "component:cursor",
        change("c", json!({ "position": { "x": 1 } })),
    )
    .await;
    assert_eq!(
        hears(&mut ada, "component:cursor").await["position"],
        json!({ "x": 1 })
    );
    put_grant(&server, Method::PUT, "component:c", "ben", "view").await;
    // Within a second; each change is judged by what holds then.
    loop {
        let answer = ask(
            &mut ben,
            "component:update",
            change("c", json!({ "updates": { "a": 1 } })),
        )
        .await;
        if answer["ok"] == false {
            assert_eq!(answer["error"]["code"], "read_only");
            break;
        }
    }
    put_grant(&server, Method::DELETE, "component:c", "ben", "view").await;
    let revoked = hears(&mut ben, "access_revoked").await;
    assert_eq!(revoked["room"], "component:c");
    assert_eq!(hears(&mut ada, "component:cursor-left").await["userId"], "ben");
    assert_eq!(hears(&mut ada, "component:user-left").await["userId"], "ben");
    update(&mut ada, "c", json!({ "secret": 1 })).await;
    let answer = ask(&mut ben, "component:typing", at("c")).await;
    assert_eq!(
        answer["error"]["code"], "conflict",
        "and it has heard nothing since: {answer}"
    );
}

#[tokio::test]
async fn both_rooms_hear_of_a_change_once_and_gestures_go_to_both() {
    let server = TestServer::start(&LOCKED).await;
    let both = json!({ "componentId": "c", "entityType": "page", "entityId": "p" });
    let entity = json!({ "entityType": "page", "entityId": "p" });
    let (mut ada, mut ben, mut cleo) = (
        user(&server, "ada", "edit").await,
        user(&server, "ben", "edit").await,
        user(&server, "cleo", "view").await,
    );
    subscribe(&mut ben, both.clone()).await;
    subscribe(&mut cleo, entity.clone()).await;
    assert_eq!(hears(&mut ben, "component:user-joined").await["entityId"], "p");
    subscribe(&mut ada, both.clone()).await;
    for session in [&mut ben, &mut cleo] {
        let told = session.told().await;
        assert_eq!(
            (told.what.as_str(), &told.body["userId"]),
            ("component:user-joined", &json!("ada")),
            "{told:?}"
        );
    }
    // As clients of before: the cursor names both, an update the component alone.
    enter(
        &mut ada,
        "component:cursor",
        change(
            "c",
            json!({ "entityType": "page", "entityId": "p", "position": [1, 2] }),
        ),
    )
    .await;
    enter(&mut ada, "component:typing", at("c")).await;
    update(&mut ada, "c", json!({ "a": 1 })).await;
    for session in [&mut ben, &mut cleo] {
        let told = session.told().await;
        assert_eq!(
            (told.what.as_str(), &told.body["position"]),
            ("component:cursor", &json!([1, 2]))
        );
        assert_eq!(
            (&told.body["componentId"], &told.body["userId"]),
            (&json!("c"), &json!("ada"))
        );
        assert_eq!(session.told().await.what, "component:typing");
        let told = session.told().await;
        assert_eq!(
            (told.what.as_str(), &told.body["updates"]),
            ("component:updated", &json!({ "a": 1 }))
        );
    }
    // The same place again is not told, and typing not before two seconds.
    enter(
        &mut ada,
        "component:cursor",
        change("c", json!({ "position": [1, 2] })),
    )
    .await;
    enter(&mut ada, "component:typing", at("c")).await;
    ada.cut();
    let mut told: Vec<String> = Vec::new();
    while told.len() < 3 {
        told.push(cleo.told().await.what);
    }
    assert_eq!(
        told,
        [
            "component:typing-ended",
            "component:cursor-left",
            "component:user-left"
        ]
    );
}

#[tokio::test]
async fn a_backend_changes_components_and_creates_and_deletes_are_only_told() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada", "edit").await;
    subscribe(
        &mut ada,
        json!({ "componentId": "c", "entityType": "page", "entityId": "p" }),
    )
    .await;
    let entity = "entity:page:p";
    let payload = json!({ "componentId": "c", "updates": { "rows": [{ "id": "r" }] }, "userId": "ben" });
    assert_eq!(tell(&server, entity, "component:update", payload).await, 1);
    let told = hears(&mut ada, "component:updated").await;
    assert_eq!(
        (&told["updatedBy"], &told["updates"]["rows"][0]["id"]),
        (&json!("ben"), &json!("r"))
    );
    let payload = json!({ "rowId": "r", "nestedComponent": { "id": "n" }, "updatedBy": "ben" });
    assert_eq!(
        tell(&server, "component:c", "component:nested-create", payload).await,
        1
    );
    assert_eq!(
        hears(&mut ada, "component:nested-created").await["createdBy"],
        "ben"
    );
    for event in ["component:created", "component:deleted", "component:updated"] {
        let payload = json!({ "componentId": "d", "anything": 1 });
        assert_eq!(tell(&server, entity, event, payload.clone()).await, 1);
        assert_eq!(hears(&mut ada, event).await, payload);
    }
    for (room, payload, status) in [
        ("component:c", json!({ "updates": [] }), 400),
        (entity, json!({ "updates": {} }), 400),
        (
            "component:c",
            json!({ "updates": { "a": "x".repeat(64 * 1024) } }),
            413,
        ),
    ] {
        let body = json!({ "channelId": room, "event": "component:update", "payload": payload }).to_string();
        assert_eq!(post(&server, "/api/broadcast", &body).await.0, status);
    }
    let body = json!({ "channelId": "component:c", "event": "component:nested-delete", "payload": { "rowId": "none", "nestedComponentId": "n" } });
    assert_eq!(post(&server, "/api/broadcast", &body.to_string()).await.0, 404);
    assert_eq!(
        data(&server, "c").await,
        json!({ "rows": [{ "id": "r", "components": [{ "id": "n" }] }] })
    );
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let path = "/api/pages/component%3Ac/content?format=json&field=data";
    let answer = send(
        server.address,
        Method::GET,
        path,
        &[("authorization", &bearer)],
        "".into(),
    )
    .await;
    assert_eq!(
        answer.json(),
        data(&server, "c").await,
        "for who asks from time to time"
    );
}

#[tokio::test]
async fn values_come_out_as_they_went_in() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada", "edit").await;
    let mut ben = user(&server, "ben", "view").await;
    subscribe(&mut ben, at("c")).await;
    let deep = (0..60).fold(json!(1), |inner, depth| {
        if depth % 2 == 0 {
            json!([inner])
        } else {
            json!({ "k": inner })
        }
    });
    let values = json!({
        "text": "two words \u{1F600} and\nlines", "empty": "", "space": "  ", "null": null, "true": true, "int": -7,
        "big": 9_007_199_254_740_993_u64, "float": 0.1, "small": 5e-324, "list": [1, [2], { "a": 3 }], "things": [{ "id": 7, "a": [] }],
        "object": { "": {}, "a": { "b": [] } }, "deep": deep, "key with spaces": 1, "__proto__": 2, "id": "x", "position": 1,
    });
    update(&mut ada, "c", values.clone()).await;
    assert_eq!(hears(&mut ben, "component:updated").await["updates"], values);
    assert_eq!(data(&server, "c").await, values);
    let long = "x".repeat(60_000);
    update(&mut ada, "c", json!({ "long": long })).await;
    let deeper = (0..70).fold(json!(1), |inner, _| json!([inner]));
    let answer = ask(
        &mut ada,
        "component:update",
        change("c", json!({ "updates": { "deeper": deeper } })),
    )
    .await;
    assert_eq!(answer["error"]["code"], "malformed");
    let answer = ask(
        &mut ada,
        "component:update",
        change("c", json!({ "updates": { "long": "x".repeat(66_000) } })),
    )
    .await;
    assert_eq!(answer["error"]["code"], "too_large");
}
