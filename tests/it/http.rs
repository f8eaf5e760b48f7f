//! REST for backends: pages listed, described and read merged, from memory when they are open and from the store when they are not.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use storage::{
    NewUpdate, PageCommit, PageId,
    testing::{Fault, Faults, disk::FaultyStore},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    client::Client,
    http::{Answer, get, get_with, post, send},
    replica::{Replica, insertion, text_of},
    server::{ADMIN_TOKEN, TestServer, empty_store},
    socket::Socket,
    socket_io::Session,
    store::{SwitchedStore, Weather},
    token::seconds_from_now,
    until,
};

fn ids(listing: &Value) -> Vec<&str> {
    let pages = listing["pages"].as_array().expect("a list");
    pages
        .iter()
        .map(|page| page["pageId"].as_str().expect("an id"))
        .collect()
}

#[tokio::test]
async fn pages_are_listed_in_the_order_of_their_ids() {
    let server = TestServer::start(&[]).await;
    for page in ["b", "a%2F2", "a%2F1", "%C3%A4", "B"] {
        let posted = post(
            server.address,
            &format!("/api/pages/{page}/updates"),
            insertion(1, 0, "x"),
        )
        .await;
        assert_eq!(posted.status, 200, "{posted:?}");
    }
    let list = async |query: &str| get(server.address, &format!("/api/pages{query}")).await.json();
    let all = list("").await;
    assert_eq!(ids(&all), ["B", "a/1", "a/2", "b", "ä"], "bytewise");
    assert_eq!(all["next"], Value::Null);
    let first = &all["pages"][0];
    assert_eq!(first["seq"], 1);
    assert!(
        first["generation"]
            .as_str()
            .is_some_and(|generation| !generation.is_empty())
    );
    assert!(
        first["sizeBytes"].as_u64().is_some_and(|size| size > 0),
        "{first}"
    );
    for time in ["createdAt", "updatedAt"] {
        let time = first[time].as_str().expect("a time");
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    }
    assert_eq!(ids(&list("?prefix=a/").await), ["a/1", "a/2"]);
    assert_eq!(ids(&list("?prefix=a%2F&after=a%2F1").await), ["a/2"]);
    assert_eq!(ids(&list("?after=b").await), ["ä"]);
    assert_eq!(ids(&list("?prefix=none").await), [""; 0]);
    let bad = get(server.address, "/api/pages?limit=many").await;
    assert_eq!(
        (bad.status, bad.error().as_str()),
        (StatusCode::UNPROCESSABLE_ENTITY, "malformed")
    );
}

#[tokio::test]
async fn a_long_listing_is_read_in_parts() {
    let server = TestServer::start(&[]).await;
    for page in 0..7 {
        post(
            server.address,
            &format!("/api/pages/p{page}/updates"),
            insertion(1, 0, "x"),
        )
        .await;
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let part = get(server.address, &format!("/api/pages?limit=3{after}"))
            .await
            .json();
        seen.extend(ids(&part).into_iter().map(str::to_owned));
        match part["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
        assert!(seen.len() < 10, "a listing that ends: {seen:?}");
    }
    assert_eq!(seen, ["p0", "p1", "p2", "p3", "p4", "p5", "p6"]);
}

#[tokio::test]
async fn a_listing_looks_at_so_many_pages_and_says_where_it_goes_on() {
    let store = empty_store().await;
    let stored = |number: usize| PageCommit {
        page: PageId::new(&format!("p{number:05}")).expect("a page id"),
        updates: vec![NewUpdate {
            data: insertion(1, 0, "x"),
            user: None,
        }],
        size_bytes: None,
        generation: None,
    };
    let pages: Vec<_> = (0..6000).map(stored).collect();
    store.commit(&pages).await.expect("memory");
    let last = PageId::new("p05999").expect("a page id");
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds_from_now(0));
    assert!(store.set_deleted(&last, Some(at)).await.expect("memory"));
    let server = TestServer::start_on(store, &["--admin-token", ADMIN_TOKEN]).await;
    let listed = async |after: &str| {
        let path = format!("/api/pages?deleted=true&limit=1{after}");
        let token = format!("Bearer {ADMIN_TOKEN}");
        let from = [("authorization", token.as_str())];
        get_with(server.address, &path, &from).await.json()
    };
    let first = listed("").await;
    assert_eq!(
        (ids(&first), &first["next"]),
        (Vec::new(), &json!("p04999")),
        "the first 5,000 are in no trash"
    );
    let second = listed("&after=p04999").await;
    assert_eq!(
        (ids(&second), &second["next"]),
        (vec!["p05999"], &json!("p05999"))
    );
    let third = listed("&after=p05999").await;
    assert_eq!((ids(&third), &third["next"]), (Vec::new(), &Value::Null));
}

#[tokio::test]
async fn a_page_reads_the_same_from_memory_and_from_the_store() {
    let store = empty_store().await;
    let live = TestServer::start_on(store.clone(), &[]).await;
    let mut ada = Client::join(&live, "page", 1).await;
    ada.write_durably("hello").await;
    let mut bob = Client::join(&live, "page", 2).await;
    bob.write_durably(" you").await;
    let cold = TestServer::start_on(store, &[]).await;

    let mut etags = Vec::new();
    for server in [&live, &cold] {
        let snapshot = get(server.address, "/api/pages/page/snapshot").await;
        assert_eq!(snapshot.status, 200);
        assert_eq!(snapshot.header("content-type"), "application/octet-stream");
        assert_eq!(snapshot.header("x-pageroom-seq"), "2");
        assert_eq!(text_of(&snapshot.body), "hello you");
        let known = URL_SAFE_NO_PAD
            .decode(snapshot.header("x-pageroom-state-vector"))
            .expect("base64url");
        assert_eq!(known, ada_and_bob().state_vector());

        let json = get(server.address, "/api/pages/page/content").await;
        assert_eq!(json.header("content-type"), "application/json");
        assert_eq!(json.json(), json!({ "text": "hello you" }));
        let text = get(server.address, "/api/pages/page/content?format=text").await;
        assert!(text.header("content-type").starts_with("text/plain"));
        assert_eq!(text.text(), "hello you");

        let described = get(server.address, "/api/pages/page").await.json();
        assert_eq!(described["pageId"], "page");
        assert_eq!(described["seq"], 2);
        assert_eq!(described["fields"], json!([{ "name": "text", "type": "text" }]));
        etags.push([snapshot, json, text].map(|answer| answer.header("etag").to_owned()));
    }
    let all = etags.concat();
    assert!(
        all.iter().all(|etag| *etag == all[0]),
        "one state, one tag: {all:?}"
    );
    assert!(all[0].ends_with("-2\"") && all[0].starts_with('"'), "{all:?}");
    assert_eq!(
        get(live.address, "/api/pages/page").await.json()["connections"],
        2
    );
    assert_eq!(
        get(cold.address, "/api/pages/page").await.json()["connections"],
        0
    );
    assert_eq!(
        cold.metric("pageroom_rooms_open").await.unwrap_or(0.0),
        0.0,
        "reading opens no room"
    );
}

fn ada_and_bob() -> Replica {
    let mut replica = Replica::new(1);
    replica.receive(&insertion(1, 0, "hello"));
    replica.receive(&insertion(2, 0, " you"));
    replica
}

#[tokio::test]
async fn only_what_a_state_vector_lacks_is_sent() {
    let store = empty_store().await;
    let live = TestServer::start_on(store.clone(), &[]).await;
    let mut ada = Client::join(&live, "page", 1).await;
    ada.write_durably("hello").await;
    let before = ada.replica.state_vector();
    ada.write_durably(" you").await;
    let cold = TestServer::start_on(store, &[]).await;
    for server in [&live, &cold] {
        for padding in ["", "="] {
            let query = format!("?sv={}{padding}", URL_SAFE_NO_PAD.encode(&before));
            let rest = get(server.address, &format!("/api/pages/page/snapshot{query}")).await;
            assert_eq!(rest.status, 200, "{rest:?}");
            assert!(
                !rest.body.windows(5).any(|part| part == b"hello"),
                "what is known is not repeated"
            );
            let mut replica = Replica::new(2);
            replica.receive(&insertion(1, 0, "hello"));
            replica.receive(&rest.body);
            assert!(replica.is_whole());
            assert_eq!(replica.text(), "hello you");
        }
        for bad in ["!", "_w", "AQ"] {
            let refused = get(server.address, &format!("/api/pages/page/snapshot?sv={bad}")).await;
            assert_eq!(
                (refused.status, refused.error().as_str()),
                (StatusCode::UNPROCESSABLE_ENTITY, "malformed")
            );
        }
    }
}

#[tokio::test]
async fn an_unchanged_page_is_not_sent_again() {
    let store = empty_store().await;
    let live = TestServer::start_on(store.clone(), &[]).await;
    let mut ada = Client::join(&live, "page", 1).await;
    ada.write_durably("hello").await;
    let cold = TestServer::start_on(store, &[]).await;
    for path in ["snapshot", "content", "content?format=text"] {
        let path = format!("/api/pages/page/{path}");
        let etag = get(live.address, &path).await.header("etag").to_owned();
        for server in [&live, &cold] {
            for known in [etag.clone(), format!("\"other\", {etag}"), "*".to_owned()] {
                let answer = get_with(server.address, &path, &[("if-none-match", &known)]).await;
                assert_eq!(answer.status, 304, "{path} {known}");
                assert!(answer.body.is_empty());
                assert_eq!(answer.header("etag"), etag);
            }
            let answer = get_with(server.address, &path, &[("if-none-match", "\"other\"")]).await;
            assert_eq!(answer.status, 200);
        }
    }
    let path = "/api/pages/page/content";
    let etag = get(live.address, path).await.header("etag").to_owned();
    ada.write_durably("!").await;
    let changed = get_with(live.address, path, &[("if-none-match", &etag)]).await;
    assert_eq!(changed.json(), json!({ "text": "hello!" }));
    assert_ne!(changed.header("etag"), etag);
}

#[tokio::test]
async fn a_state_that_is_not_stored_yet_has_a_tag_that_never_matches() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    ada.write_durably("hello").await;
    let stored = get(server.address, "/api/pages/page/content")
        .await
        .header("etag")
        .to_owned();
    store.writing(Weather::Hanging);
    ada.write(" you").await;
    bob.until_text("hello you").await;
    let ahead = get(server.address, "/api/pages/page/content").await;
    assert_eq!(ahead.json(), json!({ "text": "hello you" }));
    assert_ne!(ahead.header("etag"), stored);
    for known in [ahead.header("etag"), &stored] {
        let again = get_with(
            server.address,
            "/api/pages/page/content",
            &[("if-none-match", known)],
        )
        .await;
        assert_eq!(again.status, 200, "{known}");
    }
    store.writing(Weather::Fine);
    ada.until_acknowledged().await;
    let stored = get(server.address, "/api/pages/page/content")
        .await
        .header("etag")
        .to_owned();
    let again = get_with(
        server.address,
        "/api/pages/page/content",
        &[("if-none-match", &stored)],
    )
    .await;
    assert_eq!(again.status, 304);
}

#[tokio::test]
async fn one_field_and_other_forms_can_be_asked_for() {
    let server = TestServer::start(&[]).await;
    post(
        server.address,
        "/api/pages/page/updates",
        insertion(1, 0, "hello"),
    )
    .await;
    let content = async |query: &str, accept: &str| {
        get_with(
            server.address,
            &format!("/api/pages/page/content{query}"),
            &[("accept", accept)],
        )
        .await
    };
    assert_eq!(content("?field=text", "*/*").await.json(), json!("hello"));
    assert_eq!(content("?field=text&format=text", "*/*").await.text(), "hello");
    assert_eq!(content("", "text/plain").await.text(), "hello");
    assert_eq!(
        content("?format=json", "text/plain").await.json(),
        json!({ "text": "hello" })
    );
    let missing = content("?field=none", "*/*").await;
    assert_eq!(
        (missing.status, missing.error().as_str()),
        (StatusCode::NOT_FOUND, "not_found")
    );
    let unknown = content("?format=pdf", "*/*").await;
    assert_eq!(
        (unknown.status, unknown.error().as_str()),
        (StatusCode::UNPROCESSABLE_ENTITY, "malformed")
    );
}

#[tokio::test]
async fn a_page_nobody_wrote_is_not_there() {
    let server = TestServer::start(&[]).await;
    let _joined = Client::join(&server, "open", 1).await;
    for page in ["closed", "open"] {
        for path in ["", "/snapshot", "/content"] {
            let answer = get(server.address, &format!("/api/pages/{page}{path}")).await;
            assert_eq!(
                (answer.status, answer.error().as_str()),
                (StatusCode::NOT_FOUND, "not_found"),
                "{page}{path}"
            );
        }
    }
    assert_eq!(
        ids(&get(server.address, "/api/pages").await.json()),
        [""; 0],
        "opening a page writes nothing"
    );
}

#[tokio::test]
async fn a_posted_update_is_stored_when_it_is_answered_and_reaches_members() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    store.writing(Weather::Hanging);
    let address = server.address;
    let posting =
        tokio::spawn(
            async move { post(address, "/api/pages/page/updates", insertion(7, 0, "posted")).await },
        );
    ada.until_text("posted").await;
    assert!(!posting.is_finished(), "not before it is stored");
    store.writing(Weather::Fine);
    let answer = posting.await.expect("an answer");
    assert_eq!(
        (answer.status, answer.json()),
        (StatusCode::OK, json!({ "seq": 1 }))
    );
    let again = post(address, "/api/pages/page/updates", insertion(7, 0, "posted")).await;
    assert_eq!(again.json(), json!({ "seq": 1 }), "nothing new, nothing stored");
    let next = post(address, "/api/pages/page/updates", insertion(7, 6, "!")).await;
    assert_eq!(next.json(), json!({ "seq": 2 }));
    ada.until_text("posted!").await;
}

#[tokio::test]
async fn a_posted_update_that_does_not_fit_is_refused() {
    let server = TestServer::start(&[]).await;
    let path = "/api/pages/page/updates";
    for malformed in [&[][..], b"hello", &[1, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
        let answer = post(server.address, path, malformed.to_vec()).await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (StatusCode::UNPROCESSABLE_ENTITY, "malformed")
        );
    }
    assert_eq!(
        get(server.address, "/api/pages/page").await.status,
        404,
        "nothing was stored"
    );
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let server = TestServer::start(&["--max-body-bytes", "100"]).await;
    let path = "/api/pages/page/updates";
    assert_eq!(
        post(server.address, path, insertion(1, 0, &"x".repeat(60)))
            .await
            .status,
        200
    );
    let answer = post(server.address, path, insertion(1, 60, &"x".repeat(200))).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
    );
}

#[tokio::test]
async fn ids_that_are_none_are_refused() {
    let server = TestServer::start(&[]).await;
    let long = "x".repeat(256);
    for id in ["a%00b", "a%2F..%2Fb", "%2e", "%2e%2e", &long] {
        for path in ["", "/snapshot", "/content"] {
            let answer = get(server.address, &format!("/api/pages/{id}{path}")).await;
            assert_eq!(
                (answer.status, answer.error().as_str()),
                (StatusCode::UNPROCESSABLE_ENTITY, "malformed"),
                "{id}{path}"
            );
        }
    }
}

#[tokio::test]
async fn every_error_is_json() {
    let server = TestServer::start(&[]).await;
    let is_error = |answer: &Answer, status: u16, code: &str| {
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (status, code));
        assert_eq!(answer.header("content-type"), "application/json");
    };
    is_error(&get(server.address, "/nothing/here").await, 404, "not_found");
    is_error(&get(server.address, "/api/nothing").await, 404, "not_found");
    is_error(
        &get(server.address, "/api/pages/page/nothing").await,
        404,
        "not_found",
    );
    is_error(&get(server.address, "/api/pages/%ff").await, 422, "malformed");
    let wrong = send(server.address, Method::DELETE, "/healthz", &[], "".into()).await;
    is_error(&wrong, 405, "not_found");
}

#[tokio::test]
async fn errors_are_problem_details_with_a_code() {
    let server = TestServer::start(&[]).await;
    let accept = "application/problem+json;q=0.9, text/plain";
    let asked = get_with(server.address, "/api/pages/none", &[("accept", accept)]).await;
    assert_eq!(asked.header("content-type"), "application/problem+json");
    assert_eq!(
        asked.json(),
        json!({
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "there is no such page",
            "error": { "code": "not_found", "message": "there is no such page", "retryable": false },
        })
    );
    let unasked = get(server.address, "/api/pages/none").await;
    assert_eq!(unasked.header("content-type"), "application/json");
    assert_eq!(unasked.json(), asked.json());
}

#[tokio::test]
async fn a_large_answer_is_compressed_for_those_who_want_it() {
    let server = TestServer::start(&[]).await;
    let text = "all work and no play ".repeat(500);
    post(server.address, "/api/pages/page/updates", insertion(1, 0, &text)).await;
    let path = "/api/pages/page/content?format=text";
    let packed = get_with(server.address, path, &[("accept-encoding", "gzip")]).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.body.len() < text.len() / 10, "{} bytes", packed.body.len());
    let mut unpacked = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed.body[..]), &mut unpacked)
        .expect("gzip");
    assert_eq!(unpacked, text);
    let packed = get_with(server.address, path, &[("accept-encoding", "gzip, zstd")]).await;
    assert_eq!(packed.header("content-encoding"), "zstd");
    let unpacked = zstd::decode_all(&packed.body[..]).expect("zstd");
    assert_eq!(unpacked, text.as_bytes());
    assert_eq!(get(server.address, path).await.text(), text);
}

#[tokio::test]
async fn the_numbers_say_what_happened() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    ada.write_durably("hello").await;
    bob.until_text("hello").await;
    bob.socket.say(vec![0, 7, 0]).await;
    bob.closed().await;
    store.writing(Weather::Failing(Fault::Unavailable));
    ada.write("more").await;
    until("the store to have failed", async || {
        server
            .metric("pageroom_store_errors_total{kind=\"unavailable\"}")
            .await
            .is_some()
    })
    .await;

    let metrics = get(server.address, "/metrics").await;
    assert!(
        metrics
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    for (name, at_least) in [
        ("pageroom_connections_open", 1.0),
        ("pageroom_rooms_open", 1.0),
        ("pageroom_messages_received_total", 5.0),
        ("pageroom_received_bytes_total", 10.0),
        ("pageroom_sent_bytes_total", 20.0),
        ("pageroom_frames_sent_total", 6.0),
        ("pageroom_deltas_sent_total", 1.0),
        ("pageroom_resyncs_total", 0.0),
        ("pageroom_refusals_total{kind=\"malformed\"}", 1.0),
        ("pageroom_room_open_seconds_count", 1.0),
        ("pageroom_store_commit_seconds_count", 2.0),
        ("pageroom_store_commit_pages_count", 2.0),
        ("pageroom_unstored_bytes", 1.0),
        ("pageroom_store_queue_depth", 0.0),
        ("pageroom_store_up", 0.0),
    ] {
        let value = server
            .metric(name)
            .await
            .unwrap_or_else(|| panic!("{name} is missing:\n{}", metrics.text()));
        assert!(value >= at_least, "{name} is {value}");
    }
    for line in metrics
        .text()
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        assert!(line.starts_with("pageroom_"), "{line}");
        assert!(
            !line.contains("page=") && !line.contains("user="),
            "no label grows with the users: {line}"
        );
    }
    assert_eq!(server.metric("pageroom_store_up").await, Some(0.0));
    store.writing(Weather::Fine);
    ada.until_acknowledged().await;
    assert_eq!(server.metric("pageroom_store_up").await, Some(1.0));
    assert_eq!(server.metric("pageroom_connections_open").await, Some(1.0));
}

#[tokio::test]
async fn alive_is_not_ready() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    assert_eq!(get(server.address, "/healthz").await.status, 200);
    assert_eq!(
        get(server.address, "/readyz").await.json(),
        json!({ "ready": true })
    );
    for weather in [
        Weather::Failing(Fault::Unavailable),
        Weather::Failing(Fault::Full),
        Weather::Hanging,
    ] {
        store.writing(weather);
        let expected = match weather {
            Weather::Failing(Fault::Full) => "free disk space",
            Weather::Hanging => "does not answer",
            Weather::Failing(_) | Weather::Fine | Weather::Panicking => "cannot be reached",
        };
        // The last answer of the store counts for a second.
        until("the problem to be told", async || {
            let ready = get(server.address, "/readyz").await;
            let problem = ready.json()["problem"].as_str().unwrap_or_default().to_owned();
            assert!(
                !problem.contains("on demand"),
                "the words of the store: {problem}"
            );
            ready.status == StatusCode::SERVICE_UNAVAILABLE && problem.contains(expected)
        })
        .await;
        assert_eq!(get(server.address, "/healthz").await.status, 200);
    }
    store.writing(Weather::Fine);
    until("readiness to come back", async || {
        get(server.address, "/readyz").await.status == 200
    })
    .await;
}

/// Anybody may ask for it, and as often as they like.
#[tokio::test]
async fn the_store_is_asked_once_for_all_who_ask_whether_the_server_is_ready() {
    let store = FaultyStore::in_memory();
    let server = TestServer::start_on(store.clone(), &[]).await;
    store.turn(Faults::pause);
    let before = store.counts().succeeded;
    let asking: Vec<_> = (0..50)
        .map(|n| {
            let path = if n % 2 == 0 { "/readyz" } else { "/ready" };
            tokio::spawn(get(server.address, path))
        })
        .collect();
    store.until_waiting(1).await;
    store.turn(Faults::resume);
    for answer in asking {
        assert_eq!(answer.await.expect("an answer").status, 200);
    }
    let asked = store.counts().succeeded - before;
    assert!(asked < 10, "the store was asked {asked} times");
}

#[tokio::test]
async fn the_demo_is_served_unless_it_is_switched_off() {
    let server = TestServer::start(&[]).await;
    let demo = get(server.address, "/?page=notes").await;
    assert_eq!(demo.status, 200);
    assert!(demo.header("content-type").starts_with("text/html"));
    assert!(
        demo.header("content-security-policy")
            .starts_with("default-src 'self'")
    );
    let script = demo
        .text()
        .split('"')
        .find(|part| part.ends_with(".js"))
        .expect("a script")
        .to_owned();
    let script = get(
        server.address,
        &format!("/{}", script.trim_start_matches(['.', '/'])),
    )
    .await;
    assert_eq!(script.status, 200);
    assert!(
        script.header("content-type").contains("javascript"),
        "{}",
        script.header("content-type")
    );
    assert!(script.header("cache-control").contains("immutable"));
    assert_eq!(get(server.address, "/assets/none.js").await.error(), "not_found");
    assert_eq!(get(server.address, "/assets/%ff").await.error(), "malformed");
    let off = TestServer::start(&["--demo", "false"]).await;
    assert_eq!(get(off.address, "/").await.status, 404);
}

#[tokio::test]
async fn a_page_of_which_it_cannot_be_found_out_whether_it_was_deleted_is_not_shown() {
    let kept = empty_store().await;
    let locked = ["--admin-token", ADMIN_TOKEN];
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    {
        let server = TestServer::start_on(kept.clone(), &locked).await;
        let update = Replica::new(1).write("secret");
        let posted = send(
            server.address,
            Method::POST,
            "/api/pages/page/updates",
            &headers,
            update,
        )
        .await;
        assert_eq!(posted.status, 200);
        let deleted = send(
            server.address,
            Method::DELETE,
            "/api/pages/page",
            &headers,
            Bytes::new(),
        )
        .await;
        assert!(deleted.status.is_success(), "{}", deleted.text());
    }
    let store = SwitchedStore::new(kept);
    let server = TestServer::start_on(store.clone(), &locked).await;
    store.asking(Weather::Failing(Fault::Unavailable));
    for path in ["content", "snapshot"] {
        let answer = get_with(server.address, &format!("/api/pages/page/{path}"), &headers).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().as_str()),
            (503, "unavailable"),
            "{path}"
        );
    }
    let update = Replica::new(2).write("more");
    let posted = send(server.address, Method::POST, "/d/page/update", &headers, update).await;
    assert_eq!(posted.status, 503);
    // Whoever is in a page that is open is not sent out of it by that, and others come too.
    store.asking(Weather::Fine);
    let mut ada = Client::join(&server, "open", 3).await;
    ada.write_durably("hello").await;
    store.asking(Weather::Failing(Fault::Unavailable));
    let late = Client::join(&server, "open", 4).await;
    assert_eq!(late.replica.text(), "hello");
}

#[tokio::test]
async fn a_name_of_a_stranger_that_points_here_opens_nothing() {
    let flags = ["--additional-allowed-origins", "https://pages.example.com"];
    let server = TestServer::start(&flags).await;
    Client::join(&server, "page", 1)
        .await
        .write_durably("hello")
        .await;
    let content = async |host: &str| {
        let asked =
            format!("GET /api/pages/page/content HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let mut stream = TcpStream::connect(server.address).await.expect("a connection");
        stream.write_all(asked.as_bytes()).await.expect("a connection");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("a connection");
        answer.get(9..12).expect("a status").to_owned()
    };
    for (host, status) in [
        ("localhost:3001", "200"),
        ("127.0.0.1", "200"),
        ("pages.example.com", "200"),
        ("evil.example.net", "403"),
        ("evil.example.net:3001", "403"),
    ] {
        assert_eq!(content(host).await, status, "{host}");
    }
    for path in ["/ws/page", "/d/page/ws/page", "/hocuspocus"] {
        let mut socket = Socket::open_with(server.address, path, &[("host", "evil.example.net")]).await;
        assert_eq!(socket.closed().await.code, 4403, "{path}");
    }
    let refused = Session::enter(server.address, "", &[("host", "evil.example.net")], "/", "").await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn an_update_for_another_state_of_the_page_changes_nothing() {
    let server = TestServer::start(&[]).await;
    let mut author = Replica::new(1);
    let path = "/api/pages/page/updates";
    let mut post_if = async |name: &str, tag: &str| {
        let update = author.write("x");
        let posted = send(server.address, Method::POST, path, &[(name, tag)], update).await;
        if posted.status == 412 {
            assert_eq!(posted.error(), "conflict");
        }
        posted.status.as_u16()
    };
    let tag = async || {
        get(server.address, "/api/pages/page/snapshot")
            .await
            .header("etag")
            .to_owned()
    };
    assert_eq!(post_if("if-match", "*").await, 412, "there is no page yet");
    assert_eq!(get(server.address, "/api/pages/page").await.status, 404);
    assert_eq!(post_if("if-match", "\"x-1\"").await, 412);
    // What was refused is lacking now, so the author begins anew.
    let update = Replica::new(2).write("first");
    let posted = send(
        server.address,
        Method::POST,
        path,
        &[("if-none-match", "*")],
        update,
    )
    .await;
    assert_eq!(posted.status, 200);
    let first = tag().await;
    for (name, value) in [
        ("if-none-match", "*"),
        ("if-none-match", first.as_str()),
        ("if-match", "\"x-1\""),
    ] {
        assert_eq!(post_if(name, value).await, 412, "{name}: {value}");
    }
    assert_eq!(tag().await, first);
    let update = Replica::new(3).write("second");
    let posted = send(
        server.address,
        Method::POST,
        path,
        &[("if-match", &format!("\"a-1\", {first}"))],
        update,
    )
    .await;
    assert_eq!(posted.status, 200);
    assert_ne!(tag().await, first);
    assert_eq!(post_if("if-match", &first).await, 412, "it has changed");
    // That is found out before anything is made of the body.
    let nonsense = Bytes::from_static(b"no update");
    for (headers, status) in [(&[("if-none-match", "*")][..], 412), (&[], 422)] {
        let posted = send(server.address, Method::POST, path, headers, nonsense.clone()).await;
        assert_eq!(posted.status, status, "{headers:?}");
    }
}

#[tokio::test]
async fn no_answer_is_taken_for_another_kind_of_thing() {
    let server = TestServer::start(&[]).await;
    for path in [
        "/api/pages",
        "/api/pages/none",
        "/api/nothing",
        "/healthz",
        "/d/page/as-update",
        "/",
    ] {
        let answer = get(server.address, path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    }
}
