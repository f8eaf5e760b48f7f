//! A connection that comes back after a loss goes on where it was: its name, its rooms, and what was told there meanwhile.

use hyper::Method;
use serde_json::{Value, json};

use crate::support::{
    http::send,
    server::{ADMIN_TOKEN, TestServer},
    socket_io::Session,
    token::{SECRET, token},
};

const LOCKED: [&str; 6] = [
    "--jwt-secret",
    SECRET,
    "--admin-token",
    ADMIN_TOKEN,
    // Without the vocabulary that greets everybody.
    "--profiles",
    "pagespace,indexer",
];

/// A client that remembers what clients of Socket.IO remember.
struct Client {
    session: Session,
    user: String,
    pages: Value,
    sid: String,
    pid: String,
    offset: Option<String>,
}

impl Client {
    async fn connect(server: &TestServer, user: &str, pages: Value) -> Self {
        let auth = json!({ "token": token(user, &pages) });
        let (session, hello) = Session::greet(server.address, &auth).await;
        let text = |field: &str| hello[field].as_str().expect("a text").to_owned();
        Self {
            session,
            user: user.to_owned(),
            pages,
            sid: text("sid"),
            pid: text("pid"),
            offset: None,
        }
    }

    /// Connects again, without an end of the connection before. Whether the server has gone on with it, and that connection.
    async fn again(&mut self, server: &TestServer) -> (bool, Session) {
        let mut auth = json!({ "token": token(&self.user, &self.pages), "pid": self.pid });
        if let Some(offset) = &self.offset {
            auth["offset"] = offset.as_str().into();
        }
        let (session, hello) = Session::greet(server.address, &auth).await;
        let before = std::mem::replace(&mut self.session, session);
        let recovered = hello["pid"] == self.pid.as_str();
        assert_eq!(hello["sid"] == self.sid.as_str(), recovered, "{hello}");
        self.pid = hello["pid"].as_str().expect("a secret").to_owned();
        self.sid = hello["sid"].as_str().expect("a name").to_owned();
        (recovered, before)
    }

    async fn enter(&mut self, event: &str, body: Value) {
        self.session.send(event, Some(7), &body, &[]).await;
        let answer = self.session.until_told("7").await.body;
        assert_eq!(answer["ok"], true, "{event}: {answer}");
    }

    /// Hears events with these numbers, one after the other.
    async fn hear(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let told = self.session.word().await;
            assert_eq!((told.what.as_str(), &told.body["n"]), ("n", &json!(number)));
            self.offset = told.offset;
        }
    }
}

async fn tell(server: &TestServer, room: &str, number: u64) -> Value {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    let body = json!({ "channelId": room, "event": "n", "payload": { "n": number } });
    let body = body.to_string().into();
    let answer = send(server.address, Method::POST, "/api/broadcast", &headers, body).await;
    answer.json()["delivered"].clone()
}

async fn lost(server: &TestServer, room: &str) {
    crate::support::until("the server to notice the loss", async || {
        tell(server, room, 0).await == 0
    })
    .await;
}

#[tokio::test]
async fn what_was_missed_comes_once_and_in_order_and_the_rooms_are_back() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = Client::connect(&server, "ada", json!({ "*": "view" })).await;
    ada.enter("join_dm_conversation", json!("d")).await;
    ada.enter("join_drive", json!("x")).await;
    assert_eq!(tell(&server, "dm:d", 1).await, 1);
    assert_eq!(tell(&server, "user:ada", 2).await, 1);
    ada.hear([1, 2]).await;
    // The server has told something that has not arrived.
    assert_eq!(tell(&server, "drive:x", 3).await, 1);
    let other = Client::connect(&server, "ben", json!({ "*": "view" })).await;
    let (session, again) = (std::mem::replace(&mut ada.session, other.session), &server);
    session.cut();
    lost(again, "drive:x:calendar").await;
    for (room, number) in [
        ("dm:d", 4),
        ("drive:x", 5),
        ("dm:other", 99),
        ("user:ada:tasks", 6),
    ] {
        assert_eq!(tell(&server, room, number).await, 0, "{room}");
    }
    let (recovered, _) = ada.again(&server).await;
    assert!(recovered);
    ada.hear([3]).await;
    // Those with which the loss was noticed.
    loop {
        let told = ada.session.word().await;
        match told.body["n"].as_u64() {
            Some(0) => {}
            Some(4) => break,
            other => panic!("not in order: {other:?}"),
        }
    }
    ada.hear([5, 6]).await;
    assert_eq!(tell(&server, "drive:x", 7).await, 1, "it is in its rooms");
    assert_eq!(tell(&server, "dm:d", 8).await, 1);
    assert_eq!(tell(&server, "user:ada", 9).await, 1);
    ada.hear([7, 8, 9]).await;
    let (recovered, _) = ada.again(&server).await;
    assert!(recovered, "and may be lost once more");
    assert_eq!(tell(&server, "dm:d", 10).await, 1);
    ada.hear([10]).await;
}

#[tokio::test]
async fn the_old_connection_ends_if_the_server_had_not_noticed_the_loss() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = Client::connect(&server, "ada", json!({ "*": "view" })).await;
    ada.enter("join_dm_conversation", json!("d")).await;
    for number in 1..=3 {
        assert_eq!(tell(&server, "dm:d", number).await, 1);
    }
    ada.hear([1]).await;
    let (recovered, mut before) = ada.again(&server).await;
    assert!(recovered);
    before.closed().await;
    ada.hear([2, 3]).await;
    assert_eq!(tell(&server, "dm:d", 4).await, 1, "once, on one connection");
    ada.hear([4]).await;
}

#[tokio::test]
async fn who_has_heard_nothing_hears_all_since_it_entered() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = Client::connect(&server, "ada", json!({ "*": "view" })).await;
    let mut ben = Client::connect(&server, "ben", json!({ "*": "view" })).await;
    ben.enter("join_dm_conversation", json!("d")).await;
    assert_eq!(tell(&server, "dm:d", 1).await, 1);
    ada.enter("join_dm_conversation", json!("d")).await;
    assert_eq!(tell(&server, "dm:d", 2).await, 2);
    let (recovered, _) = ada.again(&server).await;
    assert!(recovered);
    ada.hear([2]).await;
}

#[tokio::test]
async fn nothing_is_told_of_a_room_whose_right_is_gone() {
    let server = TestServer::start(&LOCKED).await;
    let grant = async |method: Method| {
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = json!({ "role": "view" }).to_string().into();
        let path = "/api/pages/dm%3Asecret/permissions/ada";
        let answer = send(server.address, method, path, &headers, body).await;
        assert!(answer.status.is_success(), "{}", answer.text());
    };
    grant(Method::PUT).await;
    let mut ada = Client::connect(&server, "ada", json!({ "dm:d": "view" })).await;
    ada.enter("join_dm_conversation", json!("d")).await;
    ada.enter("join_dm_conversation", json!("secret")).await;
    tell(&server, "dm:secret", 1).await;
    ada.hear([1]).await;
    let ben = Client::connect(&server, "ben", json!({})).await;
    std::mem::replace(&mut ada.session, ben.session).cut();
    lost(&server, "dm:secret").await;
    tell(&server, "dm:secret", 2).await;
    grant(Method::DELETE).await;
    tell(&server, "dm:d", 3).await;
    let (recovered, _) = ada.again(&server).await;
    assert!(recovered);
    let told = ada.session.word().await;
    assert_eq!(
        (told.what.as_str(), &told.body["pageId"]),
        ("permission_revoked", &json!("dm:secret"))
    );
    ada.hear([3]).await;
    let told = ada.session.word().await;
    assert_eq!(
        (told.what.as_str(), &told.body["room"]),
        ("access_revoked", &json!("dm:secret"))
    );
    assert_eq!(tell(&server, "dm:secret", 4).await, 0);
    assert_eq!(tell(&server, "dm:d", 5).await, 1);
    ada.hear([5]).await;
}

#[tokio::test]
async fn a_session_is_its_users_and_ends_with_a_goodbye() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = Client::connect(&server, "ada", json!({ "*": "view" })).await;
    ada.enter("join_dm_conversation", json!("d")).await;
    let mut eve = Client::connect(&server, "eve", json!({ "*": "view" })).await;
    eve.pid.clone_from(&ada.pid);
    assert!(!eve.again(&server).await.0);
    assert_eq!(
        tell(&server, "dm:d", 1).await,
        1,
        "ada is still there, and eve is not"
    );
    ada.hear([1]).await;
    ada.offset = Some("another-5".to_owned());
    assert!(!ada.again(&server).await.0, "of another database");
    ada.enter("join_dm_conversation", json!("d")).await;
    ada.offset = None;
    ada.session.say("41").await;
    lost(&server, "dm:d").await;
    assert!(!ada.again(&server).await.0, "it has said goodbye");
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let flags = [&LOCKED[..], &["--recovery-seconds", "0"]].concat();
    let server = TestServer::start(&flags).await;
    let auth = json!({ "token": token("ada", &json!({})) });
    let (_session, hello) = Session::greet(server.address, &auth).await;
    assert!(hello.get("pid").is_none(), "{hello}");
}
