//! Good frames of every protocol with a few bytes changed: whatever comes of it comes to their sender alone.

use bytes::Bytes;
use crdt::{encoding::Write, message};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::json;

use crate::support::{
    client::{Client, presence_update},
    http::get,
    provider::framed,
    replica::Replica,
    server::TestServer,
    socket::Socket,
};

/// Sessions that are spoilt in each protocol.
const SESSIONS: u64 = 120;

#[derive(Clone)]
enum Said {
    Binary(Vec<u8>),
    Text(String),
}

/// What a client says to a page, in y-protocols' messages: a question, an edit, its presence, a question about presence, an answer.
fn messages(author: u64) -> Vec<Bytes> {
    let mut replica = Replica::new(author);
    let edit = replica.write("a word");
    let presence = presence_update(author, 1, &json!({ "user": { "name": "Ada" } }));
    vec![
        message::sync_step_1(&[0]),
        message::update(&edit),
        message::awareness(&presence),
        message::query_awareness(),
        message::sync_step_2(&replica.write("another")),
    ]
}

fn hocuspocus(author: u64) -> Vec<Said> {
    let mut token = vec![2, 0];
    token.put_string("");
    let mut stateless = vec![5];
    stateless.put_string("hello");
    let messages = messages(author).into_iter().map(|message| message.to_vec());
    let bodies = [token].into_iter().chain(messages).chain([stateless]);
    bodies.map(|body| Said::Binary(framed("page", &body))).collect()
}

/// Texts, each with what is attached to it.
fn socket_io(packets: &[(&str, Option<&[u8]>)]) -> Vec<Said> {
    let said = |(text, attached): &(&str, Option<&[u8]>)| {
        let attached = attached.map(|bytes| Said::Binary(bytes.to_vec()));
        [Some(Said::Text((*text).to_owned())), attached]
    };
    packets.iter().flat_map(said).flatten().collect()
}

fn y_socket_io(author: u64) -> Vec<Said> {
    let edit = Replica::new(author).write("a word");
    let presence = presence_update(author, 1, &json!({ "at": 1 }));
    socket_io(&[
        ("40/yjs|page,", None),
        (
            r#"451-/yjs|page,1["sync-step-1",{"_placeholder":true,"num":0}]"#,
            Some(&[0]),
        ),
        (
            r#"451-/yjs|page,2["sync-update",{"_placeholder":true,"num":0}]"#,
            Some(&edit),
        ),
        (
            r#"451-/yjs|page,["awareness-update",{"_placeholder":true,"num":0}]"#,
            Some(&presence),
        ),
        ("3", None),
    ])
}

fn events(author: u64) -> Vec<Said> {
    let edit = Replica::new(author).write("a word");
    socket_io(&[
        ("40", None),
        (
            r#"451-1["join_page",{"pageId":"page","stateVector":{"_placeholder":true,"num":0}}]"#,
            Some(&[0]),
        ),
        (
            r#"451-2["page_delta",{"pageId":"page","update":{"_placeholder":true,"num":0}}]"#,
            Some(&edit),
        ),
        (
            r#"423["page_updated",{"pageId":"whole","content":"a word"}]"#,
            None,
        ),
        (
            r#"424["cursor_move",{"pageId":"page","cursor":{"anchor":1,"head":2}}]"#,
            None,
        ),
        (r#"425["typing_start",{"pageId":"page"}]"#, None),
        (r#"426["component:subscribe",{"componentId":"c"}]"#, None),
        (
            r#"427["component:update",{"componentId":"c","updates":{"title":"a word"}}]"#,
            None,
        ),
        (
            r#"428["workspace:join",{"workspaceId":"w","since":{"epoch":"e","offset":1}}]"#,
            None,
        ),
        (r#"429["inbox:get",{"after":1,"limit":2}]"#, None),
        (r#"42["join_drive","d"]"#, None),
        ("3", None),
    ])
}

/// A frame with a few bytes changed, put in, left out, or cut off.
fn spoilt(said: &Said, random: &mut SmallRng) -> Said {
    let mut bytes = match said {
        Said::Binary(bytes) => bytes.clone(),
        Said::Text(text) => text.clone().into_bytes(),
    };
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..bytes.len().max(1)).min(bytes.len());
        match random.random_range(0..5) {
            0 if at < bytes.len() => bytes[at] = random.random(),
            1 => bytes.insert(at, random.random()),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => bytes.truncate(at.max(1)),
            _ => {
                let again = bytes.get(at..).unwrap_or_default().to_vec();
                bytes.extend(again);
            }
        }
    }
    match said {
        Said::Binary(_) => Said::Binary(bytes),
        Said::Text(_) => Said::Text(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// Says everything, from some frame on spoilt or out of turn.
async fn spoil(server: &TestServer, path: &str, good: &[Said], random: &mut SmallRng) {
    let mut socket = Socket::open(server.address, path).await;
    let from = random.random_range(0..good.len());
    for (at, said) in good.iter().enumerate() {
        let said = match random.random_range(0..4) {
            _ if at < from => said.clone(),
            0 => said.clone(),
            1 => good[random.random_range(0..good.len())].clone(),
            _ => spoilt(said, random),
        };
        match said {
            Said::Binary(bytes) => socket.say(bytes).await,
            Said::Text(text) => socket.try_text(&text).await,
        }
    }
}

#[tokio::test]
async fn frames_that_are_spoilt_harm_nobody_else() {
    let server = TestServer::start(&[]).await;
    let mut witness = Client::join(&server, "elsewhere", 1).await;
    let mut member = Client::join(&server, "page", 2).await;
    type Session = fn(u64) -> Vec<Said>;
    let binary: Session = |author| {
        let messages = messages(author).into_iter();
        messages.map(|message| Said::Binary(message.to_vec())).collect()
    };
    let over_socket_io = "/socket.io/?EIO=4&transport=websocket";
    let protocols: [(&str, Session); 5] = [
        ("/ws/page", binary),
        ("/d/page/ws/page", binary),
        ("/hocuspocus", hocuspocus),
        (over_socket_io, y_socket_io),
        (over_socket_io, events),
    ];
    for seed in 0..SESSIONS {
        for (place, (path, session)) in protocols.iter().enumerate() {
            let mut random = SmallRng::seed_from_u64(seed * 16 + place as u64);
            let good = session(1000 + seed * 16 + place as u64);
            spoil(&server, path, &good, &mut random).await;
        }
        // Others write at the same page and at another one.
        witness.write_durably("w").await;
        member.write_durably("m").await;
    }
    assert_eq!(get(server.address, "/healthz").await.status, 200);
    let panics = server.metric("pageroom_errors_total{kind=\"room_panic\"}").await;
    assert_eq!(panics.unwrap_or(0.0), 0.0);
    // Whoever comes now gets all of the page.
    let mut late = Client::join(&server, "page", 3).await;
    member.write_durably("last words").await;
    late.until("the last words", |client| {
        client.replica.text().contains("last words")
    })
    .await;
    assert!(server.stop().await, "every task has ended as it should");
}
