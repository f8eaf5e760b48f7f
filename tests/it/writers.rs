//! Who writes over REST is seen by the members of the page while it writes: in every protocol, with a cursor where it has come to.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    access::{AT_ONCE, backend, locked, revoke},
    support::{
        client::{Client, Presence},
        http::{get, get_with, send},
        provider::{Provider, Word},
        server::{ADMIN_TOKEN, TestServer, empty_store},
        socket_io::Session,
        soon,
        store::{SwitchedStore, Weather},
        token::{SECRET, claims, sign, token},
        until, within,
    },
};

/// A request that appends to the text of a page as it comes.
struct Appending(TcpStream);

impl Appending {
    async fn begin(server: &TestServer, token: &str, query: &str) -> Self {
        let address = server.address;
        let mut stream = TcpStream::connect(address).await.expect("a server");
        let head = format!(
            "POST /api/pages/page/append?format=text&field=text&{query} HTTP/1.1\r\nhost: {address}\r\n\
             authorization: Bearer {token}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("a request");
        Self(stream)
    }

    async fn say(&mut self, text: &str) {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.0.write_all(chunk.as_bytes()).await.expect("a chunk");
    }

    async fn end(&mut self) {
        self.0.write_all(b"0\r\n\r\n").await.expect("the end");
    }

    async fn answer(mut self) -> String {
        let mut answer = String::new();
        let reading = self.0.read_to_string(&mut answer);
        soon("an answer", reading).await.expect("an answer");
        answer
    }
}

/// The client that shows a user of this name, with what it shows.
fn shown(presence: &Presence, name: &str) -> Option<(u64, Value)> {
    let states = presence.shown().into_iter();
    let mut states = states.filter_map(|client| Some((client, presence.state(client)?.clone())));
    states.find(|(_, state)| state["user"]["name"] == name)
}

/// Waits until somebody is shown behind all that it has written, which is so many units.
async fn until_behind(member: &mut Client, name: &str, units: u32) -> (u64, Value) {
    let found = |member: &Client| {
        let (client, state) = shown(&member.presence, name)?;
        let item = &state["cursor"]["head"]["item"];
        let author = item["client"].as_u64()?;
        let is_there = item["clock"] == json!(units - 1) && member.replica.knows(author) >= units;
        is_there.then_some((client, state))
    };
    member
        .until(&format!("{name} behind {units} units"), |member| {
            found(member).is_some()
        })
        .await;
    found(member).expect("it was there just now")
}

async fn until_gone(member: &mut Client, client: u64) {
    member
        .until_within(AT_ONCE, "the cursor to go", |member| {
            member.presence.state(client).is_none()
        })
        .await;
}

#[tokio::test]
async fn everybody_sees_who_appends_and_where_until_it_has_ended() {
    let server = locked(&[]).await;
    let mut claims = claims("bot", &json!({ "*": "edit" }));
    claims["name"] = json!("The Bot");
    claims["picture"] = json!("https://example.com/bot.png");
    let bot = sign(&claims, SECRET, jsonwebtoken::Algorithm::HS256);
    let ada = token("ada", &json!({ "*": "edit" }));
    let mut member = Client::join_at(server.address, &format!("/ws/page?token={ada}"), 1).await;
    member.write_durably("A😀").await;
    let mut provider = Provider::open(&server).await;
    provider.enter("page", &ada).await;
    let mut session = Session::connect(server.address, &json!({ "token": ada })).await.0;
    session.send("join_page", Some(7), &json!("page"), &[]).await;
    assert_eq!(session.until_told("7").await.body["ok"], true);

    let mut appending = Appending::begin(&server, &bot, "").await;
    // Before anything has come it is there, and nowhere in the text.
    member
        .until("the bot", |member| shown(&member.presence, "The Bot").is_some())
        .await;
    let (client, state) = shown(&member.presence, "The Bot").expect("it is there");
    assert_eq!(state["user"]["id"], "bot");
    assert_eq!(state["user"]["avatarUrl"], "https://example.com/bot.png");
    assert!(
        state["user"]["color"]
            .as_str()
            .is_some_and(|color| color.starts_with('#'))
    );
    assert_eq!(state.get("cursor"), None);
    let mut written = String::new();
    for piece in ["one", " two", " 😀"] {
        appending.say(piece).await;
        written.push_str(piece);
        let units = u32::try_from(written.encode_utf16().count()).expect("few");
        let (same, state) = until_behind(&mut member, "The Bot", units).await;
        assert_eq!(same, client, "one request is one client");
        let place = &state["cursor"]["anchor"];
        assert_eq!((place, &place["assoc"]), (&state["cursor"]["head"], &json!(-1)));
        // What knows no Yjs is told a number.
        let at = 3 + units;
        let moved = soon("the cursor", async {
            loop {
                let moved = session.until_told("cursor_moved").await.body;
                if moved["cursor"] == json!({ "anchor": at, "head": at }) {
                    return moved;
                }
            }
        });
        let moved = moved.await;
        assert_eq!(
            (&moved["userId"], &moved["name"]),
            (&json!("bot"), &json!("The Bot"))
        );
        assert_eq!(moved["color"], state["user"]["color"]);
    }
    let mut seen = Presence::default();
    soon("the provider to see it", async {
        while shown(&seen, "The Bot").is_none_or(|(_, state)| state["cursor"]["head"]["item"]["clock"] != 9) {
            if let Word::Awareness(update) = provider
                .until("page", |word| matches!(word, Word::Awareness(_)))
                .await
            {
                seen.apply(&update);
            }
        }
    })
    .await;
    // Others who write behind it leave the cursor where it is.
    member.write_durably("!").await;
    let headers = [("authorization", &*format!("Bearer {ada}"))];
    let answer = get_with(server.address, "/api/pages/page/presence", &headers)
        .await
        .json();
    let listed = answer["users"].as_array().expect("a list").iter();
    let listed: Vec<_> = listed.filter(|user| user["userId"] == "bot").collect();
    assert_eq!(listed.len(), 1, "{answer}");
    assert_eq!(
        (&listed[0]["name"], &listed[0]["connections"]),
        (&json!("The Bot"), &json!(1))
    );
    assert_eq!(listed[0]["cursor"], json!({ "anchor": 13, "head": 13 }));

    appending.end().await;
    until_gone(&mut member, client).await;
    let left = session.until_told("cursor_left").await.body;
    assert_eq!(
        (&left["pageId"], &left["userId"]),
        (&json!("page"), &json!("bot"))
    );
    let answer = appending.answer().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    until("the bot to be listed no more", async || {
        let answer = get_with(server.address, "/api/pages/page/presence", &headers)
            .await
            .json();
        !answer.to_string().contains("bot")
    })
    .await;
}

#[tokio::test]
async fn a_cursor_goes_with_the_client_that_hangs_up() {
    let server = TestServer::start(&[]).await;
    let mut member = Client::join(&server, "page", 1).await;
    let mut appending = Appending::begin(&server, "", "author=Scribe").await;
    appending.say("half of").await;
    let (client, _) = until_behind(&mut member, "Scribe", 7).await;
    drop(appending);
    // A connection that breaks would be shown for three seconds more.
    until_gone(&mut member, client).await;
    assert_eq!(member.replica.text(), "half of");
}

#[tokio::test]
async fn who_may_not_write_any_more_is_gone_at_once_and_so_is_its_request() {
    for role in [None, Some("view")] {
        let server = locked(&[]).await;
        let grant = async |role: &str| {
            let path = "/api/pages/page/permissions/bot";
            let answer = backend(&server, Method::PUT, path, json!({ "role": role })).await;
            assert!(answer.status.is_success(), "{}", answer.text());
        };
        grant("edit").await;
        let ada = token("ada", &json!({ "*": "edit" }));
        let mut member = Client::join_at(server.address, &format!("/ws/page?token={ada}"), 1).await;
        let bot = token("bot", &json!({}));
        let mut appending = Appending::begin(&server, &bot, "").await;
        appending.say("so far").await;
        // Without a name it is shown under its id.
        let (client, _) = until_behind(&mut member, "bot", 6).await;
        match role {
            None => revoke(&server, "page", "bot").await,
            Some(role) => grant(role).await,
        }
        until_gone(&mut member, client).await;
        // Nothing more has come: the request does not wait for that.
        let answer = within(AT_ONCE, "the answer", appending.answer()).await;
        let code = role.map_or("forbidden", |_| "read_only");
        assert!(
            answer.starts_with("HTTP/1.1 403") && answer.contains(code),
            "{answer}"
        );
        assert_eq!(member.replica.text(), "so far");
    }
}

#[tokio::test]
async fn a_server_that_stops_ends_what_is_appended() {
    let server = TestServer::start(&[]).await;
    let address = server.address;
    let mut member = Client::join(&server, "page", 1).await;
    let mut appending = Appending::begin(&server, "", "author=Scribe").await;
    appending.say("some").await;
    until_behind(&mut member, "Scribe", 4).await;
    let stopping = tokio::spawn(server.stop());
    let answer = appending.answer().await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("draining"),
        "{answer}"
    );
    assert_eq!(member.closed().await.code, 1012);
    assert!(stopping.await.expect("a task"), "{address} ends in time");
}

#[tokio::test]
async fn a_backend_and_a_guest_are_shown_under_the_name_that_they_give() {
    let server = locked(&[]).await;
    let user = token("ada", &json!({ "*": "edit" }));
    let mut member = Client::join_at(server.address, &format!("/ws/page?token={user}"), 1).await;
    let mut appending = Appending::begin(&server, ADMIN_TOKEN, "author=Zo%C3%AB%20AI").await;
    appending.say("a").await;
    let (_, state) = until_behind(&mut member, "Zoë AI", 1).await;
    assert_eq!(state["user"].get("id"), None, "a backend is no user");
    appending.end().await;
    assert!(appending.answer().await.starts_with("HTTP/1.1 200"));
    let admin = format!("Bearer {ADMIN_TOKEN}");
    let user = format!("Bearer {user}");
    let long = "a".repeat(256);
    for (method, what, body) in [
        (Method::POST, "append?", "x"),
        (Method::PUT, "content?format=text&field=text&", "x"),
        (Method::POST, "edits?", "[]"),
    ] {
        for (token, author, part) in [
            (&user, "Somebody", "in its token"),
            (&admin, "", "1 to 255"),
            (&admin, &*long, "1 to 255"),
            (&admin, "a%0Ab", "control"),
        ] {
            let path = format!("/api/pages/page/{what}author={author}");
            let headers = [("authorization", token.as_str())];
            let answer = send(server.address, method.clone(), &path, &headers, Bytes::from(body)).await;
            assert_eq!(answer.status, 422, "{path}: {}", answer.text());
            assert!(answer.text().contains(part), "{path}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn what_is_over_at_once_shows_nobody_and_what_waits_for_the_store_does() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    let mut member = Client::join(&server, "page", 1).await;
    let path = "/api/pages/page/content?format=text&field=text&author=Scribe";
    let put = async |content: &'static str| {
        send(
            server.address,
            Method::PUT,
            path,
            &[],
            Bytes::from_static(content.as_bytes()),
        )
        .await
    };
    assert_eq!(put("first").await.status, 200);
    let append = "/api/pages/page/append?format=text&field=text&author=Scribe";
    let answer = send(
        server.address,
        Method::POST,
        append,
        &[],
        Bytes::from_static(b" second"),
    )
    .await;
    assert_eq!(answer.status, 200);
    member.until_text("first second").await;
    assert_eq!(member.presence.heard, 0, "nobody came and went");
    store.writing(Weather::Hanging);
    let address = server.address;
    let waiting =
        tokio::spawn(
            async move { send(address, Method::PUT, path, &[], Bytes::from_static(b"third")).await },
        );
    member
        .until("the scribe", |member| shown(&member.presence, "Scribe").is_some())
        .await;
    let (client, _) = shown(&member.presence, "Scribe").expect("it is there");
    store.writing(Weather::Fine);
    assert_eq!(waiting.await.expect("a task").status, 200);
    until_gone(&mut member, client).await;
}

#[tokio::test]
async fn a_page_that_is_full_is_written_by_somebody_who_is_not_seen() {
    let server = TestServer::start(&["--max-connections-per-room", "1"]).await;
    let mut member = Client::join(&server, "page", 1).await;
    let mut appending = Appending::begin(&server, "", "author=Scribe").await;
    for (piece, text) in [("one", "one"), (" two", "one two")] {
        appending.say(piece).await;
        member.until_text(text).await;
    }
    appending.end().await;
    assert!(appending.answer().await.starts_with("HTTP/1.1 200"));
    assert_eq!(member.presence.heard, 0);
    let record = get(server.address, "/api/pages/page").await.json();
    assert_eq!(record["connections"], 1);
}

#[tokio::test]
async fn appending_goes_on_in_a_page_that_is_compacted_and_ends_where_it_is_renamed() {
    let server = locked(&[]).await;
    let said = async |page: &str| {
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let path = format!("/api/pages/{page}/content?format=text&field=text");
        let read = get_with(server.address, &path, &[("authorization", &bearer)]).await;
        read.text().to_owned()
    };
    let mut appending = Appending::begin(&server, ADMIN_TOKEN, "author=Bot").await;
    appending.say("zero ").await;
    until("the first words", async || said("page").await == "zero ").await;
    let mut other = Appending::begin(&server, ADMIN_TOKEN, "").await;
    other.say("other ").await;
    until("the other's words", async || said("page").await == "zero other ").await;

    let compacted = backend(&server, Method::POST, "/api/pages/page/compact", Value::Null).await;
    assert_eq!(compacted.status, 200, "{}", compacted.text());
    assert_eq!(compacted.json()["before"]["clients"], 2);
    assert_eq!(compacted.json()["after"]["clients"], 1);
    appending.say("one ").await;
    until("the next words", async || said("page").await.contains("one ")).await;
    let words = said("page").await;
    for word in ["zero ", "other ", "one "] {
        assert_eq!(words.matches(word).count(), 1, "{words}");
    }

    let to = json!({ "pageId": "elsewhere" });
    let renamed = backend(&server, Method::POST, "/api/pages/page/rename", to).await;
    assert_eq!(renamed.status, 200, "{}", renamed.text());
    appending.say("two").await;
    appending.end().await;
    // Followed, a redirect would write once more what is there.
    let answer = appending.answer().await;
    assert!(answer.starts_with("HTTP/1.1 409"), "{answer}");
    assert_eq!(said("elsewhere").await, words);
    server.stop().await;
}
