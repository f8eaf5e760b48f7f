//! Who is at a page, who types there and where the cursors are, as sockets in the namespace of events hear it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hyper::Method;
use serde_json::{Value, json};

use crate::support::{
    client::Client,
    database::Database,
    http::send,
    server::{ADMIN_TOKEN, TestServer, empty_store},
    socket_io::{Session, Told},
    token::{SECRET, token},
    until,
};

const LOCKED: [&str; 4] = ["--jwt-secret", SECRET, "--admin-token", ADMIN_TOKEN];

/// A change counts within this time.
const AT_ONCE: Duration = Duration::from_secs(1);

#[expect(
    clippy::disallowed_methods,
    reason = "how soon a change counts is what is promised"
)]
fn now() -> Instant {
    Instant::now()
}

async fn user(server: &TestServer, name: &str) -> Session {
    let auth = json!({ "token": token(name, &json!({ "*": "edit" })) });
    Session::connect(server.address, &auth).await.0
}

async fn ask(session: &mut Session, event: &str, body: Value) -> Value {
    session.send(event, Some(7), &body, &[]).await;
    session.until_told("7").await.body
}

async fn done(session: &mut Session, event: &str, body: Value) -> Value {
    let answer = ask(session, event, body).await;
    assert_eq!(answer["ok"], true, "{event}: {answer}");
    answer
}

fn of_page() -> Value {
    json!({ "pageId": "p" })
}

/// Waits until a list of viewers has these users.
async fn until_viewers(session: &mut Session, users: &[&str]) {
    loop {
        let told = session.until_told("viewers_updated").await.body;
        if told["viewers"] == json!(users) {
            return;
        }
    }
}

/// Everything that a session is told until something that it asks now is answered.
async fn told_until_now(session: &mut Session) -> Vec<Told> {
    session.send("join", Some(99), &json!("x"), &[]).await;
    let mut told = Vec::new();
    loop {
        let next = session.told().await;
        if next.what == "99" {
            return told;
        }
        told.push(next);
    }
}

#[tokio::test]
async fn viewers_are_users_of_every_protocol_with_a_grace_for_those_who_lose_their_connection() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada").await;
    let answer = done(&mut ada, "join_page", json!("p")).await;
    assert_eq!(answer["viewers"], json!(["ada"]));
    until_viewers(&mut ada, &["ada"]).await;
    let token = token("cleo", &json!({ "*": "edit" }));
    let editor = Client::join_at(server.address, &format!("/ws/p?token={token}"), 1).await;
    until_viewers(&mut ada, &["ada", "cleo"]).await;
    let mut ben = user(&server, "ben").await;
    let answer = done(&mut ben, "join_page", of_page()).await;
    assert_eq!(
        answer["viewers"],
        json!(["ada", "cleo", "ben"]),
        "in the answer itself"
    );
    until_viewers(&mut ada, &["ada", "cleo", "ben"]).await;
    let introduced = ben.until_told("viewers_changed").await.body;
    assert_eq!(introduced["count"], 3);
    let names: Vec<_> = introduced["joined"].as_array().expect("a list").iter().collect();
    assert!(names.iter().any(|one| one["userId"] == "cleo") && names.len() == 3);
    // A second window of a user is no second user.
    let mut other = user(&server, "ben").await;
    done(&mut other, "presence:join_page", of_page()).await;
    let people = other.until_told("presence:page_viewers").await.body;
    assert_eq!(people["viewers"].as_array().map(Vec::len), Some(3));
    done(&mut other, "presence:leave_page", of_page()).await;
    // A leave counts at once, a lost connection after its grace.
    let since = now();
    done(&mut ben, "leave_page", json!("p")).await;
    until_viewers(&mut ada, &["ada", "cleo"]).await;
    assert!(since.elapsed() < AT_ONCE);
    let since = now();
    drop(editor);
    until_viewers(&mut ada, &["ada"]).await;
    let waited = since.elapsed();
    assert!(
        waited >= Duration::from_secs(3) && waited < Duration::from_secs(4),
        "{waited:?}"
    );
}

#[tokio::test]
async fn whoever_comes_back_within_the_grace_has_never_been_away() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada").await;
    done(&mut ada, "join_page", of_page()).await;
    let mut ben = user(&server, "ben").await;
    done(&mut ben, "join_page", of_page()).await;
    let came = ada.until_told("viewers_changed").await.body;
    assert_eq!(came["joined"][0]["userId"], "ada");
    assert_eq!(
        ada.until_told("viewers_changed").await.body["joined"][0]["userId"],
        "ben"
    );
    drop(ben);
    let mut ben = user(&server, "ben").await;
    done(&mut ben, "join_page", of_page()).await;
    // Somebody who goes for good after that is the next thing to be heard of.
    let mut cleo = user(&server, "cleo").await;
    done(&mut cleo, "presence:join_page", of_page()).await;
    let told = ada.until_told("viewers_changed").await.body;
    assert_eq!(
        (&told["joined"][0]["userId"], &told["left"]),
        (&json!("cleo"), &json!([]))
    );
    assert_eq!(told["count"], 3);
}

/// Lists that are this long are told a second apart at least; who joins in between is answered before the next.
#[tokio::test]
async fn whoever_joins_is_answered_without_waiting_for_the_next_list() {
    let server = TestServer::start(&LOCKED).await;
    let mut viewers = Vec::new();
    for number in 0..100 {
        let mut viewer = user(&server, &format!("{number:0>250}")).await;
        let body = match number % 2 {
            0 => json!("p"),
            _ => of_page(),
        };
        let answer = done(&mut viewer, "join_page", body).await;
        assert_eq!(answer["viewers"].as_array().map(Vec::len), Some(number + 1));
        viewers.push(viewer);
    }
    let mut last = user(&server, "last").await;
    last.send("join_page", Some(7), &json!("p"), &[]).await;
    let mut heard = Vec::new();
    let answer = loop {
        let told = last.told().await;
        match told.what.as_str() {
            "7" => break told.body,
            what => heard.push(what.to_owned()),
        }
    };
    assert_eq!(heard, ["joined_page"], "no list comes before the answer");
    assert_eq!(answer["viewers"].as_array().map(Vec::len), Some(101));
    let told = last.until_told("viewers_updated").await.body;
    assert_eq!(told["viewers"].as_array().map(Vec::len), Some(101));
}

#[tokio::test]
async fn typing_is_told_in_both_forms_and_ends_with_the_connection() {
    let server = TestServer::start(&LOCKED).await;
    let (mut each, mut sets) = (user(&server, "each").await, user(&server, "sets").await);
    done(&mut each, "join_channel", json!("p")).await;
    done(&mut sets, "join_page", of_page()).await;
    let mut ada = user(&server, "ada").await;
    for event in ["typing_start", "typing_stop", "cursor_move"] {
        let refused = ask(&mut ada, event, of_page()).await;
        assert_eq!(refused["error"]["code"], "conflict", "{event}: {refused}");
        let refused = ask(&mut ada, event, Value::Null).await;
        assert_eq!(refused["error"]["code"], "malformed", "{event}: {refused}");
        ada.send(event, None, &Value::Null, &[]).await;
        assert_eq!(ada.told().await.what, "validation_error");
    }
    done(&mut ada, "presence:join_page", of_page()).await;
    done(
        &mut ada,
        "typing_start",
        json!({ "pageId": "p", "userId": "eve" }),
    )
    .await;
    let typing = json!({ "pageId": "p", "userId": "ada" });
    assert_eq!(each.until_told("user_typing").await.body, typing);
    assert_eq!(
        sets.until_told("typing_updated").await.body,
        json!({ "pageId": "p", "users": [{ "userId": "ada", "name": null }], "count": 1 })
    );
    done(&mut ada, "typing_stop", of_page()).await;
    assert_eq!(each.until_told("user_stopped_typing").await.body, typing);
    assert_eq!(sets.until_told("typing_updated").await.body["count"], 0);
    // The author hears nothing of itself.
    let own = told_until_now(&mut ada).await;
    assert!(own.iter().all(|told| !told.what.contains("typing")), "{own:?}");
    done(&mut ada, "typing_start", of_page()).await;
    each.until_told("user_typing").await;
    let since = now();
    drop(ada);
    each.until_told("user_stopped_typing").await;
    assert!(since.elapsed() < AT_ONCE);
}

#[tokio::test]
async fn typing_ends_by_itself_and_newcomers_hear_who_types() {
    let server = TestServer::start(&LOCKED).await;
    let (mut ada, mut ben) = (user(&server, "ada").await, user(&server, "ben").await);
    done(&mut ada, "join_page", json!("p")).await;
    let since = now();
    done(&mut ada, "typing_start", of_page()).await;
    ben.send("join_channel", None, &json!("p"), &[]).await;
    ben.until_told("user_typing").await;
    ben.until_told("user_stopped_typing").await;
    let waited = since.elapsed();
    assert!(
        waited >= Duration::from_secs(5) && waited < Duration::from_secs(6),
        "{waited:?}"
    );
}

#[tokio::test]
async fn cursors_are_told_in_both_forms_with_the_last_place_and_leave_with_the_connection() {
    let server = TestServer::start(&LOCKED).await;
    let (mut each, mut sets) = (user(&server, "each").await, user(&server, "sets").await);
    done(&mut each, "join_page", json!("p")).await;
    done(&mut sets, "join_page", of_page()).await;
    let auth = json!({ "token": token("ada", &json!({ "*": "view" })) });
    let (mut ada, sid) = Session::connect(server.address, &auth).await;
    done(&mut ada, "join_channel", json!("p")).await;
    let large = json!({ "pageId": "p", "cursor": "x".repeat(5000) });
    assert_eq!(
        ask(&mut ada, "cursor_move", large).await["error"]["code"],
        "too_large"
    );
    // More than any rate would let through, and none is refused.
    for anchor in 0..1000 {
        let body = json!({ "pageId": "p", "cursor": { "anchor": anchor }, "name": "Eve", "userId": "eve" });
        ada.send("cursor_move", None, &body, &[]).await;
    }
    let mut count = 0;
    let last = loop {
        let moved = each.until_told("cursor_moved").await.body;
        count += 1;
        if moved["cursor"]["anchor"] == 999 {
            break moved;
        }
    };
    assert!(count < 500, "{count} of 1000 are told");
    let color = last["color"].clone();
    assert_eq!(
        last,
        json!({
            "pageId": "p", "userId": "ada", "name": null, "avatarUrl": null, "color": color,
            "cursor": { "anchor": 999 }, "connectionId": sid,
        })
    );
    let last = loop {
        let moved = sets.until_told("cursors_moved").await.body;
        if moved["cursors"][0]["cursor"]["anchor"] == 999 {
            break moved;
        }
    };
    assert_eq!(
        last,
        json!({ "pageId": "p", "cursors": [{
            "userId": "ada", "name": null, "color": color, "cursor": { "anchor": 999 }, "connectionId": sid,
        }] })
    );
    let left = json!({ "pageId": "p", "userId": "ada", "connectionId": sid });
    let since = now();
    drop(ada);
    assert_eq!(each.until_told("cursor_left").await.body, left);
    assert_eq!(sets.until_told("cursor_left").await.body, left);
    assert!(since.elapsed() < AT_ONCE);
}

#[tokio::test]
async fn whoever_is_sent_away_is_gone_from_all_of_it_at_once() {
    let server = TestServer::start(&LOCKED).await;
    let grant = async |method: Method| {
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = json!({ "role": "edit" }).to_string();
        let path = "/api/pages/p/permissions/eve";
        let answer = send(server.address, method, path, &headers, body.into()).await;
        assert!(answer.status.is_success(), "{}", answer.text());
    };
    grant(Method::PUT).await;
    let mut ada = user(&server, "ada").await;
    done(&mut ada, "join_page", json!("p")).await;
    let auth = json!({ "token": token("eve", &json!({})) });
    let (mut eve, _) = Session::connect(server.address, &auth).await;
    done(&mut eve, "join_page", json!("p")).await;
    until_viewers(&mut ada, &["ada", "eve"]).await;
    done(&mut eve, "presence:join_page", of_page()).await;
    done(&mut eve, "typing_start", of_page()).await;
    done(&mut eve, "cursor_move", json!({ "pageId": "p", "cursor": 1 })).await;
    ada.until_told("cursor_moved").await;
    let since = now();
    grant(Method::DELETE).await;
    let (mut stopped, mut left, mut gone) = (false, false, false);
    while !(stopped && left && gone) {
        let told = ada.told().await;
        stopped |= told.what == "user_stopped_typing";
        left |= told.what == "cursor_left";
        gone |= told.what == "viewers_updated" && told.body["viewers"] == json!(["ada"]);
    }
    assert!(since.elapsed() < AT_ONCE);
    eve.until_told("access_revoked").await;
    for event in ["typing_start", "cursor_move"] {
        let refused = ask(&mut eve, event, of_page()).await;
        assert_eq!(refused["error"]["code"], "conflict", "{event}");
    }
    done(&mut ada, "typing_start", of_page()).await;
    let heard = told_until_now(&mut eve).await;
    assert!(
        heard.iter().all(|told| told.what == "access_revoked"),
        "{heard:?}"
    );
}

/// The next list or change of a drive that a session hears: users with their statuses.
async fn members(session: &mut Session, event: &str) -> Vec<(String, String)> {
    let body = session.until_told(event).await.body;
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let members = body["members"].as_array().expect("a list").iter();
    members
        .map(|member| {
            assert!(text(&member["lastSeen"]).ends_with('Z'), "{member}");
            (text(&member["userId"]), text(&member["status"]))
        })
        .collect()
}

fn status(user: &str, status: &str) -> (String, String) {
    (user.to_owned(), status.to_owned())
}

#[tokio::test]
async fn members_of_drives_and_workspaces_are_online_idle_or_offline_and_remembered() {
    let store = empty_store().await;
    let server = TestServer::start_on(store.clone(), &LOCKED).await;
    for (event, told, body, stored) in [
        ("join_drive", "presence:drive", json!("d"), "drive:d"),
        (
            "workspace:join",
            "presence:workspace",
            json!({ "workspaceId": "d" }),
            "workspace:d",
        ),
    ] {
        members_come_and_go(&server, (event, body), told).await;
        let seen = || async { store.seen(stored, 10).await.expect("a store").len() };
        until("both are stored", async || seen().await == 2).await;
    }
    drop(server);
    let server = TestServer::start_on(store.clone(), &LOCKED).await;
    let mut cleo = user(&server, "cleo").await;
    cleo.send("join_drive", None, &json!("d"), &[]).await;
    assert_eq!(
        members(&mut cleo, "presence:drive").await,
        [
            status("ada", "offline"),
            status("ben", "offline"),
            status("cleo", "online")
        ]
    );
}

async fn members_come_and_go(server: &TestServer, (event, body): (&str, Value), told: &str) {
    let (mut ada, mut ben) = (user(server, "ada").await, user(server, "ben").await);
    ada.send(event, None, &body, &[]).await;
    assert_eq!(members(&mut ada, told).await, [status("ada", "online")]);
    ben.send(event, None, &body, &[]).await;
    assert_eq!(
        members(&mut ben, told).await,
        [status("ada", "online"), status("ben", "online")]
    );
    assert_eq!(members(&mut ada, told).await, [status("ben", "online")]);
    done(&mut ben, "presence:activity", json!({ "idle": true })).await;
    assert_eq!(members(&mut ada, told).await, [status("ben", "idle")]);
    let refused = ask(&mut ben, "presence:activity", json!({ "idle": 1 })).await;
    assert_eq!(refused["error"]["code"], "malformed");
    done(&mut ben, "presence:activity", json!({ "idle": false })).await;
    assert_eq!(members(&mut ada, told).await, [status("ben", "online")]);
    let since = now();
    drop(ben);
    assert_eq!(members(&mut ada, told).await, [status("ben", "offline")]);
    let waited = since.elapsed();
    assert!(
        waited >= Duration::from_secs(3),
        "a connection may come back: {waited:?}"
    );
}

/// The drives of pages, as an application's tables have them.
const DRIVES: &str = "SELECT drive FROM (
        SELECT 'p' AS page, 'd' AS drive
        UNION ALL SELECT 'q', 'd'
        UNION ALL SELECT 'elsewhere', 'e'
        UNION ALL SELECT 'none', NULL) AS pages
    WHERE page = $1 OR page = substr($1, 1, 1)";

/// A server that can ask an application for the drives of pages.
async fn server_with_drives(database: &Database) -> TestServer {
    drop(database.open().await);
    let url = database.url();
    let mut arguments = LOCKED.to_vec();
    arguments.extend(["--page-drive-query", DRIVES, "--access-database-url", &url]);
    TestServer::start(&arguments).await
}

/// A user with these rights, in the room of drive `d`.
async fn member_of_drive(server: &TestServer, name: &str, rights: Value) -> Session {
    let auth = json!({ "token": token(name, &rights) });
    let (mut session, _) = Session::connect(server.address, &auth).await;
    done(&mut session, "join_drive", json!("d")).await;
    session
}

/// The next list of people that a session hears: of which page, and their ids.
async fn people(session: &mut Session) -> (String, Vec<String>) {
    let told = session.until_told("presence:page_viewers").await;
    page_and_people(&told)
}

fn page_and_people(told: &Told) -> (String, Vec<String>) {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let viewers = told.body["viewers"].as_array().expect("a list").iter();
    (
        text(&told.body["pageId"]),
        viewers.map(|viewer| text(&viewer["userId"])).collect(),
    )
}

fn at(page: &str, users: &[&str]) -> (String, Vec<String>) {
    let users = users.iter().map(|user| (*user).to_owned());
    (page.to_owned(), users.collect())
}

#[tokio::test]
async fn members_of_a_drive_hear_who_looks_at_the_pages_there_that_they_may_see() {
    let database = Database::sqlite();
    let server = server_with_drives(&database).await;
    let set = async |method: Method| {
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = json!({ "role": "view" }).to_string();
        let path = "/api/pages/p/permissions/ben";
        let answer = send(server.address, method, path, &headers, body.into()).await;
        assert!(answer.status.is_success(), "{}", answer.text());
    };
    let rights = json!({ "drive:d": "view", "p": "view", "q": "view", "elsewhere": "view" });
    let mut ada = member_of_drive(&server, "ada", rights).await;
    let mut ben = member_of_drive(&server, "ben", json!({ "drive:d": "view" })).await;
    let looks = async |name: &str, page: &str| {
        let mut session = user(&server, name).await;
        done(&mut session, "presence:join_page", json!({ "pageId": page })).await;
        session
    };
    let mut cleo = looks("cleo", "p").await;
    assert_eq!(people(&mut ada).await, at("p", &["cleo"]));
    // What belongs to another drive, or to none, is not told here.
    let _elsewhere = (looks("eve", "elsewhere").await, looks("eve", "none").await);
    let _editor = Client::join_at(
        server.address,
        &format!("/ws/p?token={}", token("dan", &json!({ "*": "edit" }))),
        1,
    )
    .await;
    assert_eq!(people(&mut ada).await, at("p", &["cleo", "dan"]));
    // A socket that hears the list at the page hears it once.
    people(&mut cleo).await;
    done(&mut cleo, "join_drive", json!("d")).await;
    told_until_now(&mut cleo).await;
    set(Method::PUT).await;
    let fay = looks("fay", "p").await;
    assert_eq!(people(&mut ben).await, at("p", &["cleo", "dan", "fay"]));
    assert_eq!(people(&mut ada).await, at("p", &["cleo", "dan", "fay"]));
    set(Method::DELETE).await;
    drop(fay);
    assert_eq!(people(&mut ada).await, at("p", &["cleo", "dan"]));
    let mut gus = looks("gus", "q").await;
    assert_eq!(
        people(&mut ada).await,
        at("q", &["gus"]),
        "behind the list of the other page"
    );
    done(&mut gus, "presence:leave_page", json!({ "pageId": "q" })).await;
    assert_eq!(people(&mut ada).await, at("q", &[]));
    let lists = |told: Vec<Told>| {
        let lists = told
            .into_iter()
            .filter(|told| told.what == "presence:page_viewers");
        lists.map(|told| page_and_people(&told)).collect::<Vec<_>>()
    };
    assert_eq!(lists(told_until_now(&mut ben).await), [], "what ben may not see");
    assert_eq!(
        lists(told_until_now(&mut cleo).await),
        [
            at("p", &["cleo", "dan", "fay"]),
            at("p", &["cleo", "dan"]),
            at("q", &["gus"]),
            at("q", &[])
        ]
    );
    done(&mut ada, "leave_drive", json!("d")).await;
    let _hal = looks("hal", "p").await;
    while people(&mut cleo).await != at("p", &["cleo", "dan", "hal"]) {}
    let _ida = looks("ida", "q").await;
    assert_eq!(people(&mut cleo).await, at("q", &["ida"]));
    assert_eq!(lists(told_until_now(&mut ada).await), [], "behind its leave");
    assert!(server.stop().await);
}

#[tokio::test]
async fn lists_in_a_drive_are_told_the_less_often_the_longer_they_are() {
    const MAX_BYTES_PER_SECOND: f64 = 48.0 * 1024.0;
    let database = Database::sqlite();
    let server = server_with_drives(&database).await;
    let mut member = member_of_drive(&server, "member", json!({ "*": "view" })).await;
    let (mut viewers, pages) = (Vec::new(), ["q0", "q1", "q2", "q3", "q4"]);
    let since = now();
    for number in 0..20 {
        let mut viewer = user(&server, &format!("{number:0>200}")).await;
        for page in pages {
            done(&mut viewer, "presence:join_page", json!({ "pageId": page })).await;
        }
        viewers.push(viewer);
    }
    let (mut bytes, mut last) = (0, BTreeMap::new());
    while pages.iter().any(|page| last.get(*page) != Some(&20)) {
        let told = member.until_told("presence:page_viewers").await;
        bytes += told.body.to_string().len();
        let (page, people) = page_and_people(&told);
        last.insert(page, people.len());
    }
    // The last list may be told in full at any time.
    let allowed = MAX_BYTES_PER_SECOND * since.elapsed().as_secs_f64() + 6000.0;
    assert!((bytes as f64) < allowed, "{bytes} bytes in {:?}", since.elapsed());
    assert!(server.stop().await);
}
