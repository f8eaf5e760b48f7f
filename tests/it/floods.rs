//! What one person who says very much, or one page that is very busy, does to everybody else: nothing.

use std::sync::mpsc;

use crdt::message;
use futures_util::{FutureExt, future::join_all};
use hyper::Method;
use serde_json::{Value, json};
use storage::PageId;

use crate::{
    access::{backend, bare, grant, locked},
    support::{
        client::{Client, presence_update},
        provider::{Provider, Word},
        replica::Replica,
        server::TestServer,
        socket::Socket,
        soon, until,
    },
};

#[tokio::test]
async fn questions_that_come_together_are_one() {
    const COUNT: usize = 5000;
    let questions = message::sync_step_1(&[1, 9, 1]).repeat(COUNT);
    for (path, question) in [
        ("/ws/page", &questions),
        ("/ws/page", &[3].repeat(COUNT)),
        ("/d/page/ws/page", &questions),
    ] {
        let server = TestServer::start(&[]).await;
        let mut ada = Client::join(&server, "page", 1).await;
        ada.write_durably("hello").await;
        let mut curious = Socket::open(server.address, path).await;
        let mut frame = question.clone();
        frame.extend_from_slice(&message::awareness(&presence_update(
            2,
            1,
            &json!({ "done": true }),
        )));
        curious.say(frame).await;
        ada.until_shown(2, Some(&json!({ "done": true }))).await;
        let heard = server.metric("pageroom_messages_received_total").await;
        assert!(
            heard < Some(COUNT as f64 / 20.0),
            "{path}: the room heard {heard:?} messages"
        );
    }
}

#[tokio::test]
async fn the_last_of_many_questions_is_answered() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    for round in 0..20 {
        ada.write_durably("x").await;
        let mut reader = Client::new(
            Socket::open(server.address, "/ws/page").await,
            Replica::new(100 + round),
        );
        for _ in 0..50 {
            reader.ask().await;
        }
        reader.until_text(&"x".repeat(round as usize + 1)).await;
    }
}

#[tokio::test]
async fn a_large_frame_of_small_messages_is_taken_in_piece_by_piece() {
    let flags = ["--max-updates-per-second", "1000", "--max-updates-burst", "1000"];
    let server = TestServer::start(&flags).await;
    let mut loud = Socket::open(server.address, "/ws/page").await;
    loud.say(vec![3; (16 << 20) - 64]).await;
    // It is read at the rate of messages, so that the rest of it waits, and others are served meanwhile.
    let mut ada = Client::join(&server, "page", 1).await;
    ada.write_durably("unharmed").await;
    let heard = server.metric("pageroom_messages_received_total").await;
    assert!(heard < Some(1000.0), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_room_does_not_keep_permissions_from_ending() {
    let server = locked(&["--room-mailbox", "1"]).await;
    for page in ["busy", "quiet"] {
        grant(&server, page, "ann", "edit").await;
    }
    let join = async |page: &str, author| {
        let path = format!("/ws/{page}?token={}", bare("ann"));
        Client::join_at(server.address, &path, author).await
    };
    let (mut there, mut here) = (join("busy", 1).await, join("quiet", 2).await);
    let busy = PageId::new("busy").expect("a page id");
    let (release, blocked) = mpsc::channel::<()>();
    let (begun, begins) = mpsc::channel();
    let reading = tokio::spawn({
        let (registry, page) = (server.registry.clone(), busy.clone());
        async move {
            let block = move |_: &mut pageroom::rooms::Room| {
                let _ = begun.send(());
                let _ = blocked.recv();
            };
            registry.read(&page, block).await
        }
    });
    tokio::task::spawn_blocking(move || begins.recv())
        .await
        .expect("a task")
        .expect("a room that is busy");
    let mut waiting = Box::pin(server.registry.announce(&busy, "one".into()));
    assert!(waiting.as_mut().now_or_never().is_none(), "the mailbox is full");
    there.write("in vain").await;

    for page in ["busy", "quiet"] {
        let path = format!("/api/pages/{page}/permissions/ann");
        let revoked = backend(&server, Method::DELETE, &path, Value::Null).await;
        assert_eq!(revoked.status, 204);
    }
    assert_eq!(here.closed().await.code, 4403);
    // The goodbye does not wait either for what she said to be taken in.
    assert_eq!(there.closed().await.code, 4403);
    drop(release);
    soon("the room to go on", reading).await.expect("a task");
    soon("the room to go on", waiting).await;
    grant(&server, "busy", "bob", "view").await;
    let path = format!("/ws/busy?token={}", bare("bob"));
    let bob = Client::join_at(server.address, &path, 3).await;
    assert_eq!(
        bob.replica.text(),
        "",
        "what was not taken in before counts for nothing"
    );
}

#[tokio::test]
async fn one_reader_does_not_take_the_seats_of_a_page() {
    let flags = [
        "--max-connections-per-room",
        "10",
        "--max-connections-per-user-and-room",
        "4",
        "--editors-share-percent",
        "20",
    ];
    let server = locked(&flags).await;
    grant(&server, "page", "*", "view").await;
    grant(&server, "page", "ed", "edit").await;
    let mut readers = Vec::new();
    let mut denied = Vec::new();
    for user in ["eve", "eva", "evi"] {
        let mut provider = Provider::open(&server).await;
        for session in 0..6 {
            let address = format!("page\0{session}");
            provider.show_token(&address, &bare(user)).await;
            let word = provider
                .until(&address, |word| matches!(word, Word::LetIn(_) | Word::Denied(_)))
                .await;
            if let Word::Denied(reason) = word {
                denied.push(format!("{user} {}", reason.split(':').next().unwrap_or_default()));
            }
        }
        readers.push(provider);
    }
    let eve = vec!["eve rate_limited"; 2];
    let eva = vec!["eva rate_limited"; 2];
    let evi = vec!["evi room_full"; 6];
    assert_eq!(denied, [eve, eva, evi].concat());
    let path = format!("/ws/page?token={}", bare("ed"));
    let mut ed = Client::join_at(server.address, &path, 1).await;
    ed.write_durably("there is place").await;
    // They have left, and somebody else may read.
    drop(readers.pop());
    drop(readers.pop());
    until("a place", async || Box::pin(lets_in(&server, "bob")).await).await;
}

/// Whether a reader is let in.
async fn lets_in(server: &TestServer, user: &str) -> bool {
    let mut provider = Provider::open(server).await;
    provider.show_token("page", &bare(user)).await;
    let word = provider
        .until("page", |word| matches!(word, Word::LetIn(_) | Word::Denied(_)))
        .await;
    matches!(word, Word::LetIn(_))
}

#[tokio::test]
async fn presence_comes_in_frames_that_can_be_borne_and_there_is_only_so_much() {
    let server = TestServer::start(&["--max-room-awareness-bytes", "1000000"]).await;
    let mut loud = Client::join(&server, "page", 1).await;
    let state = json!({ "padding": "x".repeat(60_000) });
    for client in 100..130 {
        loud.show_as(client, 1, &state).await;
    }
    loud.show(&json!({ "name": "small ones are taken in" })).await;
    loud.until("the last", |loud| loud.presence.state(1).is_some())
        .await;
    let mut late = Socket::open(server.address, "/ws/page").await;
    let mut shown = 0;
    while shown < 17 {
        let frame = late.frame().await;
        if frame.first() == Some(&1) {
            assert!(frame.len() < 400_000, "{} bytes at once", frame.len());
            shown += frame.windows(9).filter(|part| *part == b"\"padding\"").count();
            shown += frame.windows(6).filter(|part| *part == b"\"name\"").count();
        }
    }
    assert_eq!(shown, 17, "16 large ones and a small one");
    let refused = server
        .metric("pageroom_refusals_total{kind=\"awareness_too_large\"}")
        .await;
    assert_eq!(refused, Some(14.0));
}

#[tokio::test]
async fn whoever_says_much_beside_the_document_closes_nobody_who_reads() {
    let server = TestServer::start(&[]).await;
    let mut readers = Vec::new();
    for _ in 0..3 {
        readers.push(Provider::join(&server, "page").await);
    }
    let mut loud = Provider::join(&server, "page").await;
    let text = "x".repeat(1 << 20);
    let saying = async {
        for _ in 0..8 {
            loud.say_stateless("page", &text).await;
        }
        loud.say_stateless("page", "done").await;
    };
    let reading = async {
        for reader in &mut readers {
            let done = Word::Stateless("done".to_owned());
            reader.until("page", |word| *word == done).await;
        }
    };
    tokio::join!(saying, reading);
}

#[tokio::test]
async fn whoever_says_much_on_many_sockets_closes_nobody_who_reads() {
    let server = locked(&[]).await;
    let mut readers = Vec::new();
    grant(&server, "page", "reader", "comment").await;
    grant(&server, "page", "loud", "comment").await;
    for _ in 0..4 {
        let mut reader = Provider::open(&server).await;
        reader.enter("page", &bare("reader")).await;
        readers.push(reader);
    }
    // Together more than waits for one reader.
    let text = "x".repeat(3 << 20);
    let mut loud = Vec::new();
    for _ in 0..8 {
        let mut socket = Provider::open(&server).await;
        socket.enter("page", &bare("loud")).await;
        loud.push(socket);
    }
    let saying = join_all(loud.iter_mut().map(|socket| socket.say_stateless("page", &text)));
    let reading = join_all(readers.iter_mut().map(async |reader| {
        for _ in 0..8 {
            let said = Word::Stateless(text.clone());
            reader.until("page", |word| *word == said).await;
        }
    }));
    tokio::join!(saying, reading);
}

#[tokio::test]
async fn what_is_said_too_early_is_heard_in_its_place_also_of_who_has_gone() {
    let server = TestServer::start(&[]).await;
    let mut reader = Provider::join(&server, "page").await;
    let mut loud = Provider::join(&server, "page").await;
    // For a second after this it may say nothing more beside the document.
    loud.say_stateless("page", &"x".repeat(3 << 20)).await;
    loud.say_stateless("page", "late").await;
    loud.edit("page", &Replica::new(1).write("edited")).await;
    loud.say("page", &[7]).await;
    loud.socket.leave().await;
    let late = Word::Stateless("late".to_owned());
    reader.until("page", |word| *word == late).await;
    // One that is behind is brought up to date with an answer.
    let is_edit = |word: &Word| matches!(word, Word::Update(_) | Word::Step2(_));
    reader.until("page", is_edit).await;
}
