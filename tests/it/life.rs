//! The life of a page over REST: into the trash, out of it for good, and as the beginning of another one.

use std::sync::Arc;

use hyper::Method;
use serde_json::{Value, json};
use storage::{MemoryStore, PageId, SharedStore};

use crate::{
    access::{LOCKED, backend, locked},
    support::{
        client::Client,
        http::{Answer, get_with, send},
        replica::{Replica, insertion, text_of},
        server::{ADMIN_TOKEN, TestServer},
        socket::Socket,
        token::token,
        until,
    },
};

fn code(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.error())
}

async fn post(server: &TestServer, path: &str, bearer: &str, body: impl Into<bytes::Bytes>) -> Answer {
    let bearer = format!("Bearer {bearer}");
    let headers = [("authorization", bearer.as_str())];
    send(server.address, Method::POST, path, &headers, body.into()).await
}

async fn text(server: &TestServer, page: &str) -> String {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    let path = format!("/api/pages/{page}/content?format=text");
    let read = get_with(server.address, &path, &headers).await;
    assert_eq!(read.status, 200, "{}", read.text());
    read.text().to_owned()
}

#[tokio::test]
async fn an_id_that_stands_for_many_pages_is_not_given_to_one() {
    let server = locked(&[]).await;
    for page in ["p", "team*"] {
        let path = format!("/api/pages/{page}/content?format=text");
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let headers = [("authorization", bearer.as_str())];
        let put = send(server.address, Method::PUT, &path, &headers, "x".into()).await;
        assert!(put.status.is_success(), "{put:?}");
    }
    for (page, target) in [("p", "team*"), ("p", "q*"), ("team*", "q")] {
        let body = json!({ "pageId": target });
        let path = format!("/api/pages/{page}/rename");
        let renamed = backend(&server, Method::POST, &path, body).await;
        assert_eq!(code(&renamed), (422, "malformed".to_owned()), "{page} {target}");
    }
}

#[tokio::test]
async fn a_page_is_purged_from_the_trash_while_its_room_is_still_in_memory() {
    let server = locked(&[]).await;
    let ada = token("ada", &json!({ "p": "edit" }));
    let path = format!("/ws/p?token={ada}");
    let mut client = Client::join_at(server.address, &path, 7).await;
    client.write_durably("old").await;
    let granted = backend(
        &server,
        Method::PUT,
        "/api/pages/p/permissions/bob",
        json!({ "role": "view" }),
    )
    .await;
    assert_eq!(granted.status, 200);
    // Only from the trash, and only by who manages it.
    let early = post(&server, "/api/pages/p/purge", ADMIN_TOKEN, "").await;
    assert_eq!(code(&early), (409, "conflict".to_owned()));
    let never = post(&server, "/api/pages/never/purge", ADMIN_TOKEN, "").await;
    assert_eq!(code(&never), (409, "conflict".to_owned()));
    let deleted = backend(&server, Method::DELETE, "/api/pages/p", Value::Null).await;
    assert_eq!(deleted.status, 204);
    let refused = post(&server, "/api/pages/p/purge", &ada, "").await;
    assert_eq!(code(&refused), (403, "forbidden".to_owned()));
    let purged = post(&server, "/api/pages/p/purge", ADMIN_TOKEN, "").await;
    assert_eq!(purged.status, 204);
    assert_eq!(
        code(&post(&server, "/api/pages/p/purge", ADMIN_TOKEN, "").await).0,
        409
    );
    let restored = post(&server, "/api/pages/p/restore", ADMIN_TOKEN, "").await;
    assert_eq!(restored.status, 409);
    let described = backend(&server, Method::GET, "/api/pages/p", Value::Null).await;
    assert_eq!(code(&described), (404, "not_found".to_owned()));
    let permissions = backend(&server, Method::GET, "/api/pages/p/permissions", Value::Null).await;
    assert_eq!(permissions.json()["permissions"], json!([]));
    let audit = backend(&server, Method::GET, "/api/audit?action=purge", Value::Null).await;
    assert!(audit.text().contains("\"purge\""), "{}", audit.text());
    // The id is free, and what was there is not in the next page.
    let posted = post(
        &server,
        "/api/pages/p/updates",
        ADMIN_TOKEN,
        insertion(9, 0, "new"),
    )
    .await;
    assert_eq!(posted.json()["seq"], 1);
    assert_eq!(text(&server, "p").await, "new");
    server.stop().await;
}

#[tokio::test]
async fn what_has_been_in_the_trash_for_long_is_purged_by_itself() {
    let store: SharedStore = Arc::new(MemoryStore::new());
    {
        let server = TestServer::start_on(store.clone(), &LOCKED).await;
        for page in ["old", "new", "kept"] {
            let path = format!("/api/pages/{page}/updates");
            let posted = post(&server, &path, ADMIN_TOKEN, insertion(9, 0, page)).await;
            assert_eq!(posted.status, 200);
        }
        let deleted = backend(&server, Method::DELETE, "/api/pages/new", Value::Null).await;
        assert_eq!(deleted.status, 204);
        server.stop().await;
    }
    let id = |id: &str| PageId::new(id).expect("an id");
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    assert!(
        store
            .set_deleted(&id("old"), Some(long_ago))
            .await
            .expect("a store")
    );
    let server = TestServer::start_on(store.clone(), &[&LOCKED[..], &["--trash-days", "30"]].concat()).await;
    until("the old page is gone", async || {
        store.page(&id("old")).await.expect("a store").is_none()
    })
    .await;
    for page in ["new", "kept"] {
        assert!(store.page(&id(page)).await.expect("a store").is_some(), "{page}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_page_begins_with_what_another_one_holds() {
    let server = locked(&[]).await;
    let posted = post(
        &server,
        "/api/pages/a/updates",
        ADMIN_TOKEN,
        insertion(9, 0, "text"),
    )
    .await;
    assert_eq!(posted.status, 200);
    let ada = token("ada", &json!({ "a": "view", "team/*": "edit", "b": "view" }));
    let to = |page: &str| json!({ "pageId": page }).to_string();
    let duplicated = post(&server, "/api/pages/a/duplicate", &ada, to("team/a")).await;
    assert_eq!(
        (duplicated.status.as_u16(), duplicated.json()),
        (201, json!({ "pageId": "team/a", "seq": 1 }))
    );
    assert_eq!(text(&server, "team%2Fa").await, "text");
    // From then on each goes its way.
    let posted = post(
        &server,
        "/api/pages/a/updates",
        ADMIN_TOKEN,
        insertion(8, 0, "more"),
    )
    .await;
    assert_eq!(posted.status, 200);
    assert_eq!(text(&server, "team%2Fa").await, "text");
    let changes = backend(&server, Method::GET, "/api/pages/team%2Fa/changes", Value::Null).await;
    assert_eq!(changes.json()["changes"][0]["user"], "ada");
    for (path, target, status, error) in [
        ("a", "team/a", 409, "conflict"),
        ("a", "a", 403, "read_only"),
        ("a", "b", 403, "read_only"),
        ("a", "elsewhere", 403, "forbidden"),
        ("secret", "team/b", 403, "forbidden"),
        ("b", "team/b", 404, "not_found"),
        ("a", "", 422, "malformed"),
        ("a", "..", 422, "malformed"),
    ] {
        let answer = post(&server, &format!("/api/pages/{path}/duplicate"), &ada, to(target)).await;
        assert_eq!(code(&answer), (status, error.to_owned()), "{path} to {target}");
    }
    for body in ["", "[]", "{}", "{\"pageId\":1}", "{\"pageId\":\"c\",\"more\":1}"] {
        let answer = post(&server, "/api/pages/a/duplicate", &ada, body).await;
        assert_eq!(code(&answer), (422, "malformed".to_owned()), "{body}");
    }
    let large = post(&server, "/api/pages/a/duplicate", &ada, "x".repeat(1 << 20)).await;
    assert_eq!(code(&large), (413, "too_large".to_owned()));
    // Many at once make one page.
    let tries = (0..8).map(|_| post(&server, "/api/pages/a/duplicate", ADMIN_TOKEN, to("once")));
    let answers = futures_util::future::join_all(tries).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 1);
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    let snapshot = get_with(server.address, "/api/pages/once/snapshot", &headers).await;
    assert_eq!(text_of(&snapshot.body), text(&server, "a").await);
    server.stop().await;
}

#[tokio::test]
async fn a_page_is_renamed_by_who_manages_both_ids_and_its_members_come_back_to_it() {
    let server = locked(&[]).await;
    let grants = json!({ "old": "admin", "new": "admin", "other": "edit", "taken": "admin" });
    let ada = token("ada", &grants);
    let mut client = Client::join_at(server.address, &format!("/ws/old?token={ada}"), 7).await;
    client.write_durably("one").await;
    let posted = post(
        &server,
        "/api/pages/taken/updates",
        ADMIN_TOKEN,
        insertion(9, 0, "x"),
    )
    .await;
    assert_eq!(posted.status, 200);
    let to = |page: &str| json!({ "pageId": page }).to_string();
    for (body, expected) in [
        (to("other"), (403, "forbidden")),
        (to("taken"), (409, "conflict")),
        (to("old"), (409, "conflict")),
        (to("a/../b"), (422, "malformed")),
        ("{}".to_owned(), (422, "malformed")),
    ] {
        let answer = post(&server, "/api/pages/old/rename", &ada, body.clone()).await;
        assert_eq!(code(&answer), (expected.0, expected.1.to_owned()), "{body}");
    }
    let bob = token("bob", &json!({ "old": "edit", "new": "admin" }));
    assert_eq!(
        post(&server, "/api/pages/old/rename", &bob, to("new"))
            .await
            .status,
        403
    );
    let granted = json!({ "role": "view" });
    let path = "/api/pages/old/permissions/eve";
    assert_eq!(backend(&server, Method::PUT, path, granted).await.status, 200);
    // A rename of another id is no rename of this one.
    let never = post(&server, "/api/pages/never/rename", ADMIN_TOKEN, to("new")).await;
    assert_eq!(code(&never), (404, "not_found".to_owned()));

    let mut client = Client::join_at(server.address, &format!("/ws/old?token={ada}"), 8).await;
    let renamed = post(&server, "/api/pages/old/rename", &ada, to("new")).await;
    assert_eq!(
        (renamed.status.as_u16(), renamed.json()),
        (200, json!({ "pageId": "new", "formerIds": ["old"] }))
    );
    assert_eq!(client.closed().await.code, 1012);
    let mut client = Client::join_at(server.address, &format!("/ws/old?token={ada}"), 7).await;
    client.until_text("one").await;
    client.write_durably("two").await;
    let text_now = text(&server, "new").await;
    assert!(text_now.contains("one") && text_now.contains("two"), "{text_now}");

    // Who may see it learns where it is; nobody else does, whatever it may do with the former id.
    let asked = |user: String| {
        let address = server.address;
        async move {
            let bearer = format!("Bearer {user}");
            let answer = get_with(
                address,
                "/api/pages/old/content?format=text",
                &[("authorization", &bearer)],
            )
            .await;
            let place = answer
                .headers
                .get("location")
                .map(|place| place.to_str().expect("text").to_owned());
            (answer.status.as_u16(), place)
        }
    };
    let place = Some("../new/content?format=text".to_owned());
    assert_eq!(asked(token("eve", &json!({}))).await, (308, place.clone()));
    assert_eq!(asked(ada.clone()).await, (308, place));
    assert_eq!(
        asked(token("mallory", &json!({ "old": "admin" }))).await,
        (403, None)
    );
    let mallory = token("mallory", &json!({ "old": "admin" }));
    assert_eq!(
        post(&server, "/api/pages/old/updates", &mallory, insertion(9, 0, "x"))
            .await
            .status,
        403
    );
    let duplicated = post(&server, "/api/pages/taken/duplicate", ADMIN_TOKEN, to("old")).await;
    assert_eq!(code(&duplicated), (409, "conflict".to_owned()));

    // What is taken away under the new id counts on connections that came under the former one.
    let path = "/api/pages/new/permissions/eve";
    let mut eve = Client::join_at(
        server.address,
        &format!("/ws/old?token={}", token("eve", &json!({}))),
        5,
    )
    .await;
    eve.until_text(&text_now).await;
    assert_eq!(
        backend(&server, Method::DELETE, path, Value::Null).await.status,
        204
    );
    assert_eq!(eve.closed().await.code, 4403);
    let audit = backend(&server, Method::GET, "/api/audit?action=rename", Value::Null).await;
    assert!(audit.text().contains("\"new\""), "{}", audit.text());
    server.stop().await;
}

/// Another process renames and purges pages whose rooms are here: what they write is not stored, and their members find what is.
#[tokio::test]
async fn rooms_of_pages_that_another_process_renamed_or_purged_end() {
    let store: SharedStore = Arc::new(MemoryStore::new());
    let here = TestServer::start_on(store.clone(), &LOCKED).await;
    let there = TestServer::start_on(store.clone(), &LOCKED).await;
    let ada = token("ada", &json!({ "*": "admin" }));
    let mut clients = Vec::new();
    for page in ["renamed", "purged"] {
        let mut client = Client::join_at(here.address, &format!("/ws/{page}?token={ada}"), 7).await;
        client.write_durably("one").await;
        clients.push(client);
    }
    let to = json!({ "pageId": "new" }).to_string();
    assert_eq!(
        post(&there, "/api/pages/renamed/rename", ADMIN_TOKEN, to)
            .await
            .status,
        200
    );
    assert_eq!(
        backend(&there, Method::DELETE, "/api/pages/purged", Value::Null)
            .await
            .status,
        204
    );
    assert_eq!(
        post(&there, "/api/pages/purged/purge", ADMIN_TOKEN, "")
            .await
            .status,
        204
    );
    // The store in memory announces nothing: they notice when they write.
    for client in &mut clients {
        client.write("two").await;
        let closed = client.closed().await;
        assert!([1012, 1013].contains(&closed.code), "{closed:?}");
    }
    let id = |id: &str| PageId::new(id).expect("an id");
    for page in ["renamed", "purged"] {
        assert!(store.page(&id(page)).await.expect("a store").is_none(), "{page}");
    }
    assert_eq!(text(&here, "new").await, "one");
    // What was known of the page is forgotten with the first who comes, and is told to come again.
    let path = format!("/ws/renamed?token={ada}");
    assert_eq!(Socket::open(here.address, &path).await.closed().await.code, 1012);
    let mut back = Client::join_at(here.address, &path, 8).await;
    back.until_text("one").await;
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn a_page_is_compacted_and_former_copies_of_it_are_refused() {
    let server = locked(&[]).await;
    let ada = token("ada", &json!({ "p": "edit" }));
    let path = format!("/ws/p?token={ada}");
    let mut client = Client::join_at(server.address, &path, 7).await;
    for n in 0..20 {
        client.write_durably(&format!("{n} ")).await;
    }
    let said = text(&server, "p").await;
    let edit = |key: &'static str| {
        let address = server.address;
        async move {
            let bearer = format!("Bearer {ADMIN_TOKEN}");
            let headers = [("authorization", bearer.as_str()), ("idempotency-key", key)];
            let body = json!([{ "op": "add", "path": "/meta/n", "value": key }]).to_string();
            send(address, Method::POST, "/api/pages/p/edits", &headers, body.into()).await
        }
    };
    assert_eq!(edit("once").await.status, 200);
    let described = async || {
        backend(&server, Method::GET, "/api/pages/p", Value::Null)
            .await
            .json()
    };
    let before = described().await;
    assert_eq!(
        code(&post(&server, "/api/pages/p/compact", &ada, "").await).0,
        403
    );
    let never = post(&server, "/api/pages/never/compact", ADMIN_TOKEN, "").await;
    assert_eq!(code(&never), (404, "not_found".to_owned()));

    let compacted = post(&server, "/api/pages/p/compact", ADMIN_TOKEN, "").await;
    assert_eq!(compacted.status, 200, "{}", compacted.text());
    assert_eq!(client.closed().await.code, 1012);
    let after = described().await;
    assert_ne!(after["generation"], before["generation"]);
    assert_eq!(after["weight"]["clients"], 1);
    assert_eq!(text(&server, "p").await, said);

    // By what it has, by what it writes, and by what it deletes.
    let mut back = Client::join_as(Socket::open(server.address, &path).await, Replica::new(7)).await;
    back.write("x").await;
    assert_eq!(back.closed().await.code, 4410);
    let mut old = Replica::new(7);
    let update = old.write("old ");
    let posted = post(&server, "/api/pages/p/updates", ADMIN_TOKEN, update).await;
    assert_eq!(code(&posted), (410, "page_rebuilt".to_owned()));
    let mut asks = Socket::open(server.address, &path).await;
    asks.say(&[0, 0, 3, 1, 7, 1][..]).await;
    assert_eq!(asks.closed().await.code, 4410);

    // A request that was done before is not done again.
    let value = json!([{ "op": "replace", "path": "/meta/n", "value": "changed" }]);
    let changed = post(&server, "/api/pages/p/edits", ADMIN_TOKEN, value.to_string()).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(edit("once").await.status, 200);
    let content = backend(
        &server,
        Method::GET,
        "/api/pages/p/content?format=json&field=meta",
        Value::Null,
    )
    .await;
    assert_eq!(content.json(), json!({ "n": "changed" }));

    // Who has never had a copy goes on, also after the room was opened anew.
    let mut fresh = Client::join_at(server.address, &path, 8).await;
    fresh.until_text(&said).await;
    fresh.write_durably("new ").await;
    assert_eq!(
        post(&server, "/api/pages/p/compact", ADMIN_TOKEN, "")
            .await
            .status,
        200
    );
    let mut asks = Socket::open(server.address, &path).await;
    asks.say(&[0, 0, 3, 1, 7, 1][..]).await;
    assert_eq!(
        asks.closed().await.code,
        4410,
        "those of all generations are known"
    );
    assert!(text(&server, "p").await.contains("new "));
    server.stop().await;
}

#[tokio::test]
async fn a_page_is_compacted_while_others_write_without_a_pause() {
    let server = locked(&[]).await;
    let address = server.address;
    let first = post(&server, "/api/pages/p/updates", ADMIN_TOKEN, insertion(1, 0, "x")).await;
    assert_eq!(first.status, 200);
    let (is_over, over) = tokio::sync::watch::channel(false);
    let writers = (0..4_u64).map(|writer| {
        let over = over.clone();
        tokio::spawn(async move {
            let mut stored = 0;
            // Each time somebody new, who has nothing of any generation.
            while !*over.borrow() {
                let author = 1_000_000 * (writer + 1) + stored;
                let bearer = format!("Bearer {ADMIN_TOKEN}");
                let headers = [("authorization", bearer.as_str())];
                let update = insertion(author, 0, "x");
                let posted = send(address, Method::POST, "/api/pages/p/updates", &headers, update).await;
                // A room that closes asks to come again, which is done at once.
                assert!(matches!(posted.status.as_u16(), 200 | 503), "{posted:?}");
                stored += u64::from(posted.status == 200);
            }
            stored
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut length = 0;
    for _ in 0..3 {
        // Something that can be left out.
        until("more is written", async || {
            let now = text(&server, "p").await.len();
            let is_more = now > length + 8;
            length = if is_more { now } else { length };
            is_more
        })
        .await;
        let compacted = post(&server, "/api/pages/p/compact", ADMIN_TOKEN, "").await;
        assert_eq!(compacted.status, 200, "{}", compacted.text());
        assert_ne!(compacted.json()["before"], compacted.json()["after"]);
    }
    is_over.send(true).expect("writers");
    let mut stored = 1;
    for writer in writers {
        stored += writer.await.expect("a writer that is answered");
    }
    assert_eq!(text(&server, "p").await.len() as u64, stored, "each once");
    server.stop().await;
}
