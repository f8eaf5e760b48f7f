//! Whole contents that older clients save: each becomes edits of the live page, and none overwrites another.

use hyper::Method;
use serde_json::{Value, json};

use crate::support::{
    client::Client,
    database::Database,
    http::send,
    server::{ADMIN_TOKEN, TestServer, empty_store},
    socket_io::{Session, Told},
    token::{SECRET, token},
};

const LOCKED: [&str; 2] = ["--jwt-secret", SECRET];

async fn user(server: &TestServer, name: &str, role: &str) -> Session {
    let auth = json!({ "token": token(name, &json!({ "*": role })) });
    Session::connect(server.address, &auth).await.0
}

async fn ask(session: &mut Session, event: &str, body: Value) -> Value {
    session.send(event, Some(7), &body, &[]).await;
    session.until_told("7").await.body
}

async fn join(session: &mut Session, page: &str) {
    let answer = ask(session, "join_page", json!(page)).await;
    assert_eq!(answer["ok"], true, "{answer}");
}

/// Saves without waiting for the answer.
async fn begin_to_save(session: &mut Session, page: &str, content: &str) {
    let body = json!({ "pageId": page, "content": content });
    session.send("page_updated", Some(9), &body, &[]).await;
}

async fn save(session: &mut Session, page: &str, content: &str) {
    begin_to_save(session, page, content).await;
    saved(session).await;
}

async fn saved(session: &mut Session) {
    let answer = session.until_told("9").await.body;
    assert_eq!(answer["ok"], true, "{answer}");
    assert!(answer["seq"].as_u64() > Some(0), "{answer}");
}

/// Waits until a client has been sent a content, and gives how it was told.
async fn until_content(session: &mut Session, content: &str) -> Told {
    loop {
        let told = session.told().await;
        if ["page_updated", "document_update"].contains(&told.what.as_str())
            && told.body["content"] == content
        {
            return told;
        }
    }
}

/// Asks something that is answered at once, and gives the contents that were sent until then.
async fn contents_until_now(session: &mut Session) -> Vec<String> {
    session.send("join", Some(8), &json!("x"), &[]).await;
    let mut contents = Vec::new();
    loop {
        let told = session.told().await;
        match told.what.as_str() {
            "8" => return contents,
            "page_updated" => contents.push(told.body["content"].as_str().unwrap_or_default().to_owned()),
            _ => {}
        }
    }
}

#[tokio::test]
async fn who_joins_is_sent_what_the_page_has_and_nothing_of_an_empty_page() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = user(&server, "ada", "edit").await;
    join(&mut ada, "p").await;
    save(&mut ada, "p", "one two").await;
    let mut ben = user(&server, "ben", "view").await;
    join(&mut ben, "p").await;
    let told = until_content(&mut ben, "one two").await;
    assert_eq!(told.what, "page_updated");
    assert_eq!(told.body["userId"], Value::Null);
    assert_eq!(told.body["pageId"], "p");
    assert!(told.body["version"].as_u64() > Some(0));
    assert_eq!(
        contents_until_now(&mut ada).await,
        [""; 0],
        "what it has saved came out as it is"
    );
}

#[tokio::test]
async fn a_save_becomes_edits_that_yjs_clients_get_and_their_edits_become_contents() {
    let server = TestServer::start(&[]).await;
    let mut yjs = Client::join(&server, "p", 1).await;
    yjs.write_durably("hello world").await;
    let mut ada = Session::connect(server.address, &Value::Null).await.0;
    join(&mut ada, "p").await;
    let of = |content: &str| json!({ "pageId": "p", "content": content, "format": "text", "field": "text" });
    assert_eq!(ask(&mut ada, "page_updated", of("hello world")).await["ok"], true);
    assert_eq!(
        ask(&mut ada, "page_updated", of("hello brave world")).await["ok"],
        true
    );
    yjs.until_text("hello brave world").await;
    yjs.write_durably("!").await;
    let told = until_content(&mut ada, "hello brave world!").await;
    assert_eq!(told.body["field"], "text");
    // What another client deleted and this one did not see goes.
    assert_eq!(
        ask(&mut ada, "page_updated", of("hello world!")).await["ok"],
        true
    );
    yjs.until_text("hello world!").await;
}

#[tokio::test]
async fn saves_that_cross_are_both_in_the_page_once() {
    let server = TestServer::start(&LOCKED).await;
    let (mut ada, mut ben) = (
        user(&server, "ada", "edit").await,
        user(&server, "ben", "edit").await,
    );
    join(&mut ada, "p").await;
    save(&mut ada, "p", "one two three").await;
    join(&mut ben, "p").await;
    until_content(&mut ben, "one two three").await;
    begin_to_save(&mut ada, "p", "ONE two three").await;
    begin_to_save(&mut ben, "p", "one two three four").await;
    saved(&mut ada).await;
    saved(&mut ben).await;
    until_content(&mut ada, "ONE two three four").await;
    let told = until_content(&mut ben, "ONE two three four").await;
    assert!(["ada", "ben"].contains(&told.body["userId"].as_str().expect("a user")));
    // A client that has not looked goes on from its own copy, for as long as it likes.
    for words in ["one two three four five", "one two three four five six"] {
        save(&mut ben, "p", words).await;
    }
    until_content(&mut ada, "ONE two three four five six").await;
    // One save sent three times is one save.
    for _ in 0..3 {
        save(&mut ada, "p", "ONE two three four five six seven").await;
    }
    until_content(&mut ben, "ONE two three four five six seven").await;
    assert_eq!(contents_until_now(&mut ada).await, [""; 0]);
}

#[tokio::test]
async fn two_clients_with_the_applications_copy_of_an_empty_page_do_not_double_it() {
    let server = TestServer::start(&LOCKED).await;
    let (mut ada, mut ben) = (
        user(&server, "ada", "edit").await,
        user(&server, "ben", "edit").await,
    );
    join(&mut ada, "p").await;
    join(&mut ben, "p").await;
    begin_to_save(&mut ada, "p", "the copy of the application, by Ada").await;
    begin_to_save(&mut ben, "p", "now the copy of the application").await;
    saved(&mut ada).await;
    saved(&mut ben).await;
    let expected = "now the copy of the application, by Ada";
    until_content(&mut ada, expected).await;
    until_content(&mut ben, expected).await;
}

#[tokio::test]
async fn who_names_the_format_with_its_first_save_had_what_it_was_sent() {
    let server = TestServer::start(&LOCKED).await;
    let of = |page: &str, content: &str| json!({ "pageId": page, "content": content, "format": "text" });
    let (mut ada, mut ben) = (
        user(&server, "ada", "edit").await,
        user(&server, "ben", "edit").await,
    );
    // Both have the application's copy of a page that is empty here.
    join(&mut ada, "p").await;
    join(&mut ben, "p").await;
    ada.send("page_updated", Some(9), &of("p", "a copy, by Ada"), &[])
        .await;
    ben.send("page_updated", Some(9), &of("p", "now a copy"), &[])
        .await;
    saved(&mut ada).await;
    saved(&mut ben).await;
    until_content(&mut ada, "now a copy, by Ada").await;
    until_content(&mut ben, "now a copy, by Ada").await;
    // A save that crosses another one deletes nothing of that, and what its author has taken away is gone.
    join(&mut ada, "q").await;
    save(&mut ada, "q", "one two three").await;
    join(&mut ben, "q").await;
    until_content(&mut ben, "one two three").await;
    begin_to_save(&mut ada, "q", "zero one two three").await;
    ben.send("page_updated", Some(9), &of("q", "one three four"), &[])
        .await;
    saved(&mut ada).await;
    saved(&mut ben).await;
    until_content(&mut ada, "zero one three four").await;
    until_content(&mut ben, "zero one three four").await;
}

#[tokio::test]
async fn what_has_arrived_at_who_came_to_an_empty_page_is_what_it_changes() {
    let mut arguments = LOCKED.to_vec();
    arguments.extend(["--ping-interval-seconds", "1"]);
    let server = TestServer::start(&arguments).await;
    let (mut ada, mut ben) = (
        user(&server, "ada", "edit").await,
        user(&server, "ben", "edit").await,
    );
    join(&mut ada, "p").await;
    join(&mut ben, "p").await;
    save(&mut ada, "p", "hello brave world").await;
    until_content(&mut ben, "hello brave world").await;
    // Until a ping has been answered, what it lacks may be what it never had.
    save(&mut ben, "p", "hello world").await;
    let (mut cleo, mut dora) = (
        user(&server, "cleo", "edit").await,
        user(&server, "dora", "edit").await,
    );
    join(&mut cleo, "q").await;
    join(&mut dora, "q").await;
    save(&mut cleo, "q", "hello brave world").await;
    until_content(&mut dora, "hello brave world").await;
    // Of two answers at least one is to a ping behind that.
    for _ in 0..2 {
        dora.answer_ping().await;
    }
    save(&mut dora, "q", "hello world").await;
    until_content(&mut cleo, "hello world").await;
    assert_eq!(content_on_joining(&mut dora, "p").await, "hello brave world");
}

#[tokio::test]
async fn who_may_not_edit_saves_nothing_and_hears_why() {
    let server = TestServer::start(&LOCKED).await;
    let mut eve = user(&server, "eve", "view").await;
    let refused = ask(&mut eve, "page_updated", json!({ "pageId": "p", "content": "x" })).await;
    assert_eq!(refused["error"]["code"], "conflict", "it has not joined");
    join(&mut eve, "p").await;
    let refused = ask(&mut eve, "page_updated", json!({ "pageId": "p", "content": "x" })).await;
    assert_eq!(refused["error"]["code"], "read_only");
    for content in [json!(null), json!(7), json!(["x"])] {
        let body = json!({ "pageId": "p", "content": content });
        let refused = ask(&mut eve, "page_updated", body).await;
        assert_eq!(refused["error"]["code"], "malformed");
    }
    eve.send(
        "document_update",
        None,
        &json!({ "pageId": "p", "content": "x" }),
        &[],
    )
    .await;
    let told = eve.until_told("error").await;
    assert_eq!(
        told.body,
        json!({ "event": "document_update", "message": "Access denied: Requires edit permission" })
    );
}

#[tokio::test]
async fn a_version_that_a_client_names_is_the_base_and_an_unknown_one_changes_nothing() {
    let server = TestServer::start(&LOCKED).await;
    let (mut ada, mut ben) = (
        user(&server, "ada", "edit").await,
        user(&server, "ben", "edit").await,
    );
    join(&mut ada, "p").await;
    save(&mut ada, "p", "one two").await;
    join(&mut ben, "p").await;
    let version = until_content(&mut ben, "one two").await.body["version"].clone();
    save(&mut ada, "p", "one two three").await;
    let body = json!({ "pageId": "p", "content": "two", "baseVersion": version });
    assert_eq!(ask(&mut ben, "page_updated", body).await["ok"], true);
    until_content(&mut ada, "two three").await;
    let body = json!({ "pageId": "p", "content": "", "baseVersion": 12345 });
    assert_eq!(
        ask(&mut ben, "page_updated", body).await["error"]["code"],
        "conflict"
    );
    // A counter of the client's own is none.
    let body = json!({ "pageId": "p", "content": "two three four", "version": 12345 });
    assert_eq!(ask(&mut ada, "page_updated", body).await["ok"], true);
    until_content(&mut ben, "two three four").await;
}

#[tokio::test]
async fn who_listens_to_the_channel_of_a_page_saves_it_and_hears_what_others_save() {
    let server = TestServer::start(&LOCKED).await;
    let (mut ada, mut ben) = (
        user(&server, "ada", "edit").await,
        user(&server, "ben", "edit").await,
    );
    for session in [&mut ada, &mut ben] {
        assert_eq!(ask(session, "join_channel", json!("p")).await["ok"], true);
    }
    let body = json!({ "pageId": "p", "content": "by Ada" });
    assert_eq!(ask(&mut ada, "document_update", body).await["ok"], true);
    let told = until_content(&mut ben, "by Ada").await;
    assert_eq!(
        (told.what.as_str(), &told.body["userId"]),
        ("document_update", &json!("ada"))
    );
}

#[tokio::test]
async fn saves_of_rich_text_keep_each_others_paragraphs() {
    let server = TestServer::start(&LOCKED).await;
    let (mut ada, mut ben) = (
        user(&server, "ada", "edit").await,
        user(&server, "ben", "edit").await,
    );
    join(&mut ada, "p").await;
    let of = |content: Value| json!({ "pageId": "p", "content": content, "format": "html" });
    let begin = ask(&mut ada, "page_updated", of(json!("<h1>title</h1><p>one</p>"))).await;
    assert_eq!(begin["ok"], true, "{begin}");
    join(&mut ben, "p").await;
    until_content(&mut ben, "<h1>title</h1><p>one</p>").await;
    let bold = ask(
        &mut ada,
        "page_updated",
        of(json!("<h1>title</h1><p><strong>one</strong></p>")),
    )
    .await;
    assert_eq!(bold["ok"], true, "{bold}");
    // Made from what Ben was sent first.
    let more = ask(
        &mut ben,
        "page_updated",
        of(json!("<h1>title</h1><p>one</p><p>two</p>")),
    )
    .await;
    assert_eq!(more["ok"], true, "{more}");
    let both = "<h1>title</h1><p><strong>one</strong></p><p>two</p>";
    until_content(&mut ada, both).await;
    until_content(&mut ben, both).await;
    // Plain text is no content of such a page.
    let text = json!({ "pageId": "p", "content": "text", "format": "text" });
    assert_eq!(
        ask(&mut ada, "page_updated", text).await["error"]["code"],
        "conflict"
    );
}

/// A backend saves a content in a page.
async fn save_by_backend(server: &TestServer, body: Value) -> (u16, Value) {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    let answer = send(
        server.address,
        Method::POST,
        "/api/broadcast",
        &headers,
        body.to_string().into(),
    )
    .await;
    (answer.status.as_u16(), answer.json())
}

#[tokio::test]
async fn a_content_that_a_backend_tells_becomes_edits() {
    let mut arguments = LOCKED.to_vec();
    arguments.extend(["--admin-token", ADMIN_TOKEN]);
    let server = TestServer::start(&arguments).await;
    let told = |payload: Value| json!({ "channelId": "p", "event": "page_updated", "payload": payload });
    // A page that nobody has open.
    let first = save_by_backend(&server, told(json!({ "content": "one two", "userId": "worker" }))).await;
    assert_eq!(first, (200, json!({ "success": true, "delivered": 0 })));
    let mut ada = user(&server, "ada", "edit").await;
    assert_eq!(content_on_joining(&mut ada, "p").await, "one two");
    // It crosses what the user saves.
    begin_to_save(&mut ada, "p", "one two three").await;
    let (status, answer) = save_by_backend(
        &server,
        told(json!({ "content": "zero one two", "userId": "worker" })),
    )
    .await;
    assert_eq!((status, &answer["delivered"]), (200, &json!(1)), "{answer}");
    saved(&mut ada).await;
    let outcome = until_content(&mut ada, "zero one two three").await;
    assert!(outcome.body["version"].as_u64() > Some(1));
    // Without a content it is an event like any other, and passes as it is.
    let plain = json!({ "pageId": "p", "title": "New", "version": 1.0 });
    assert_eq!(save_by_backend(&server, told(plain.clone())).await.0, 200);
    assert_eq!(ada.until_told("page_updated").await.body, plain);
    for (payload, status) in [
        (json!({ "content": 7 }), 400),
        (json!({ "content": "x", "pageId": "q" }), 400),
        (json!({ "content": "x", "userId": "" }), 400),
        (json!({ "content": "x", "format": "rtf" }), 400),
        (
            json!({ "content": { "type": "doc" }, "format": "prosemirror", "field": "content" }),
            409,
        ),
        (json!({ "content": "x", "baseVersion": 999 }), 409),
    ] {
        let (found, answer) = save_by_backend(&server, told(payload.clone())).await;
        assert_eq!(found, status, "{payload}: {answer}");
    }
}

/// Contents as an application's tables have them.
const CONTENT_QUERY: &str = "SELECT content, format FROM (
        SELECT 'p' AS id, 'one two' AS content, NULL AS format
        UNION ALL SELECT 'h', '<p>Hi <strong>you</strong></p>', 'html'
        UNION ALL SELECT 'j', '{\"type\":\"doc\",\"content\":[{\"type\":\"paragraph\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}]}]}', 'prosemirror'
        UNION ALL SELECT 'nothing', NULL, 'text'
        UNION ALL SELECT 'broken', '{', 'prosemirror'
        UNION ALL SELECT 'strange', 'x', 'rtf') AS pages
    WHERE id = $1;";

/// Joins a page and gives the content that it is sent.
async fn content_on_joining(session: &mut Session, page: &str) -> Value {
    join(session, page).await;
    let told = session.until_told("page_updated").await.body;
    assert_eq!((&told["pageId"], &told["userId"]), (&json!(page), &Value::Null));
    told["content"].clone()
}

#[tokio::test]
async fn an_empty_page_begins_with_what_the_application_has_of_it_once() {
    for database in Database::each() {
        let store = database.open().await;
        let url = database.url();
        let mut arguments = LOCKED.to_vec();
        arguments.extend(["--content-query", CONTENT_QUERY, "--access-database-url", &url]);
        let (first, second) = tokio::join!(
            TestServer::start_on(store.clone(), &arguments),
            TestServer::start_on(store.clone(), &arguments)
        );
        let (mut ada, mut ben, mut cleo) = (
            user(&first, "ada", "edit").await,
            user(&first, "ben", "view").await,
            user(&second, "cleo", "view").await,
        );
        for page in ["p", "h", "j"] {
            let (by_ada, by_ben, by_cleo) = tokio::join!(
                content_on_joining(&mut ada, page),
                content_on_joining(&mut ben, page),
                content_on_joining(&mut cleo, page)
            );
            let expected = match page {
                "p" => json!("one two"),
                "h" => json!("<p>Hi <strong>you</strong></p>"),
                // Who has not said in which form it writes is sent a tree as HTML.
                _ => json!("<p>Hi</p>"),
            };
            assert_eq!([&by_ada, &by_ben, &by_cleo], [&expected; 3], "{page}");
        }
        save(&mut ada, "p", "one two three").await;
        join(&mut ada, "nothing").await;
        join(&mut ada, "elsewhere").await;
        assert_eq!(contents_until_now(&mut ada).await, [""; 0]);
        for page in ["broken", "strange"] {
            let refused = ask(&mut ada, "join_page", json!(page)).await;
            assert_eq!(refused["error"]["code"], "internal", "{page}: {refused}");
        }
        assert!(first.stop().await && second.stop().await);
        let again = TestServer::start_on(database.open().await, &arguments).await;
        let mut ada = user(&again, "ada", "edit").await;
        assert_eq!(content_on_joining(&mut ada, "p").await, "one two three");
        assert!(again.stop().await);
    }
}

#[tokio::test]
async fn while_the_application_cannot_say_what_a_page_holds_the_page_stays_closed() {
    let database = Database::sqlite();
    let url = database.url();
    let mut arguments = LOCKED.to_vec();
    let query = "SELECT 'there', NULL WHERE $1 = 'p'";
    arguments.extend(["--content-query", query, "--access-database-url", &url]);
    let server = TestServer::start_on(empty_store().await, &arguments).await;
    let mut ada = user(&server, "ada", "edit").await;
    let refused = ask(&mut ada, "join_page", json!("p")).await;
    assert_eq!(refused["error"]["code"], "unavailable", "{refused}");
    // From now on there is such a file.
    drop(database.open().await);
    assert_eq!(content_on_joining(&mut ada, "p").await, "there");
    assert!(server.stop().await);
}
