//! What the former ids of a page are to others: to webhooks, to whoever had permissions, to another page that gets one of them, and to
//! a purge.

use hyper::Method;
use serde_json::{Value, json};
use storage::{KeptQuery, SharedStore};
use tempfile::NamedTempFile;

use crate::{
    access::{LOCKED, backend},
    support::{
        client::Client,
        database::Database,
        http::{Answer, get_with, send},
        receiver::{Receiver, webhook_flags},
        replica::insertion,
        server::{ADMIN_TOKEN, TestServer},
        token::token,
        until,
    },
};

/// Rules by which events of pages are kept.
const RULES: &str = r#"{ "keep": [{ "event": "said", "room": "page:*", "count": 10, "seconds": 3600 }] }"#;

/// A server that keeps events and tells a backend what happens.
struct Place {
    database: Database,
    server: TestServer,
    receiver: Receiver,
    _rules: NamedTempFile,
}

impl Place {
    async fn each() -> Vec<Self> {
        let mut places = Vec::new();
        for database in Database::each() {
            let receiver = Receiver::start().await;
            let rules = NamedTempFile::new().expect("a file");
            std::fs::write(rules.path(), RULES).expect("a file");
            let (url, rules_path) = (receiver.url(), rules.path().display().to_string());
            let flags = [
                "--events-file",
                &rules_path,
                "--webhook-events",
                "page.changed,page.created,page.deleted,page.restored,version.created",
            ];
            let flags = [&LOCKED[..], &webhook_flags(&url), &flags].concat();
            let server = TestServer::start_on(database.open().await, &flags).await;
            places.push(Self {
                database,
                server,
                receiver,
                _rules: rules,
            });
        }
        places
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Answer {
        backend(&self.server, method, path, body).await
    }

    /// Does something that has to succeed.
    async fn does(&self, method: Method, path: &str, body: Value) -> Answer {
        let answer = self.ask(method.clone(), path, body).await;
        assert!(answer.status.is_success(), "{method} {path}: {}", answer.text());
        answer
    }

    async fn write(&self, page: &str, author: u64, words: &str) {
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let headers = [("authorization", bearer.as_str())];
        let path = format!("/api/pages/{page}/updates");
        let update = insertion(author, 0, words);
        let posted = send(self.server.address, Method::POST, &path, &headers, update).await;
        assert_eq!(posted.status, 200, "{}", posted.text());
    }

    async fn rename(&self, from: &str, to: &str) {
        let path = format!("/api/pages/{from}/rename");
        self.does(Method::POST, &path, json!({ "pageId": to })).await;
    }

    /// A page with all that one can have: words, roles, a version, a policy, kept events.
    async fn furnish(&self, page: &str) {
        self.write(page, 9, "xylophone").await;
        for (path, body) in [
            (
                format!("/api/pages/{page}/permissions/ada"),
                json!({ "role": "edit" }),
            ),
            (
                format!("/api/pages/{page}/permissions/*"),
                json!({ "role": "view" }),
            ),
            (
                format!("/api/pages/{page}/history-policy"),
                json!({ "keep": "all" }),
            ),
        ] {
            self.does(Method::PUT, &path, body).await;
        }
        let versions = format!("/api/pages/{page}/versions");
        self.does(Method::POST, &versions, json!({ "name": "kept" }))
            .await;
        let said = json!({ "channelId": format!("page:{page}"), "event": "said", "payload": { "n": 1 } });
        self.does(Method::POST, "/api/broadcast", said).await;
        until("the words to be found", async || {
            self.found("xylophone").await.contains(&page.to_owned())
        })
        .await;
    }

    /// Pages in which a word is found.
    async fn found(&self, word: &str) -> Vec<String> {
        let answer = self
            .does(Method::POST, "/api/pages/query", json!({ "search": word }))
            .await;
        let lines = answer
            .text()
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines
            .filter_map(|line| Some(line["pageId"].as_str()?.to_owned()))
            .collect()
    }

    /// Whether somebody without any grant of a token may read a page.
    async fn may_read(&self, user: &str, page: &str) -> bool {
        let bearer = format!("Bearer {}", token(user, &json!({})));
        let path = format!("/api/pages/{page}/content?format=text");
        let read = get_with(self.server.address, &path, &[("authorization", &bearer)]).await;
        match read.status.as_u16() {
            200 => true,
            403 | 404 => false,
            other => panic!("{other}: {}", read.text()),
        }
    }

    async fn kept_events(&self, page: &str) -> usize {
        let store: SharedStore = self.database.open().await;
        let query = KeptQuery {
            rooms: vec![format!("page:{page}")],
            after: 0,
            up_to: u64::MAX >> 1,
            limit: 10,
            max_bytes: 10_000,
        };
        store.kept_events(&query).await.expect("a store").len()
    }

    /// What is listed of a page under a path.
    async fn listed(&self, page: &str, what: &str) -> usize {
        let answer = self
            .does(Method::GET, &format!("/api/pages/{page}/{what}"), Value::Null)
            .await;
        answer.json()[what].as_array().expect("a list").len()
    }

    /// Nothing of another page is in this one, which has been written to once.
    async fn is_new(&self, page: &str) {
        assert_eq!(self.listed(page, "permissions").await, 0);
        assert_eq!(self.listed(page, "versions").await, 0);
        assert_eq!(self.kept_events(page).await, 0);
        let described = self
            .does(Method::GET, &format!("/api/pages/{page}"), Value::Null)
            .await
            .json();
        assert_eq!(described["seq"], 1);
        assert!(!self.may_read("ada", page).await);
        let policy = self
            .ask(
                Method::GET,
                &format!("/api/pages/{page}/history-policy"),
                Value::Null,
            )
            .await;
        assert!(!policy.text().contains("\"all\""), "{}", policy.text());
        let read = self
            .does(
                Method::GET,
                &format!("/api/pages/{page}/content?format=text"),
                Value::Null,
            )
            .await;
        assert_eq!(read.text(), "new");
    }
}

#[tokio::test]
async fn webhooks_tell_of_a_page_under_the_id_that_it_has() {
    for place in Place::each().await {
        let receiver = &place.receiver;
        place.write("a", 1, "one").await;
        receiver
            .until_events("a", &["page.created", "page.changed"])
            .await;
        place.rename("a", "b").await;
        place.write("b", 2, "two").await;
        receiver.until_events("b", &["page.changed"]).await;
        let (first, second) = (receiver.taken("a").remove(0), receiver.taken("b").remove(0));
        assert_eq!(
            first.text("generation"),
            second.text("generation"),
            "it is the same page"
        );
        // What is written by the former id is of the page, too.
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let posted = send(
            place.server.address,
            Method::POST,
            "/api/pages/a/updates",
            &[("authorization", &bearer)],
            insertion(3, 0, "three"),
        )
        .await;
        assert_eq!(posted.status, 308);
        // Another page that gets the former id is another page.
        place
            .does(Method::DELETE, "/api/pages/b/former-ids/a", Value::Null)
            .await;
        place.write("a", 4, "new").await;
        until("the new page to be told of", async || {
            receiver.events("a").len() == 4
        })
        .await;
        assert_eq!(
            receiver.events("a"),
            ["page.created", "page.changed", "page.created", "page.changed"]
        );
        assert_ne!(
            receiver.taken("a")[2].text("generation"),
            first.text("generation")
        );
        place.does(Method::DELETE, "/api/pages/b", Value::Null).await;
        receiver
            .until_events("b", &["page.changed", "page.deleted"])
            .await;
        assert_eq!(
            receiver.events("a").len(),
            4,
            "nothing of that is told of the former id"
        );
    }
}

#[tokio::test]
async fn permissions_go_with_the_page_and_another_one_with_its_former_id_has_none() {
    for place in Place::each().await {
        place.furnish("a").await;
        assert!(place.may_read("ada", "a").await && place.may_read("bob", "a").await);
        place.rename("a", "b").await;
        assert!(place.may_read("ada", "b").await && place.may_read("bob", "b").await);
        assert_eq!(place.listed("b", "permissions").await, 2);
        // By the former id, the page is found by those who may read it.
        let ada = token("ada", &json!({}));
        let mut ada = Client::join_at(place.server.address, &format!("/ws/a?token={ada}"), 7).await;
        ada.until_text("xylophone").await;
        // A token that names the former id opens nothing.
        let eve = format!("Bearer {}", token("eve", &json!({ "a": "admin", "b": "view" })));
        let path = "/api/pages/b/permissions/eve";
        let headers = [
            ("authorization", eve.as_str()),
            ("content-type", "application/json"),
        ];
        let granted = send(
            place.server.address,
            Method::PUT,
            path,
            &headers,
            r#"{"role":"edit"}"#.into(),
        )
        .await;
        assert_eq!(granted.status, 403, "{}", granted.text());
        place
            .does(Method::DELETE, "/api/pages/b/former-ids/a", Value::Null)
            .await;
        place.write("a", 4, "new").await;
        place.is_new("a").await;
        assert_eq!(place.found("xylophone").await, ["b"]);
        assert_eq!(place.kept_events("b").await, 1);
        assert!(place.may_read("ada", "b").await);
        // What is done to the one is not done to the other.
        place.does(Method::DELETE, "/api/pages/a", Value::Null).await;
        assert!(place.may_read("ada", "b").await);
    }
}

#[tokio::test]
async fn a_purge_leaves_nothing_of_a_page_under_any_of_its_ids() {
    for place in Place::each().await {
        place.furnish("former-one").await;
        place.rename("former-one", "former-two").await;
        place.rename("former-two", "last-one").await;
        place
            .does(Method::DELETE, "/api/pages/last-one", Value::Null)
            .await;
        place.receiver.until_events("last-one", &["page.deleted"]).await;
        place
            .does(Method::POST, "/api/pages/last-one/purge", Value::Null)
            .await;
        assert_eq!(place.found("xylophone").await, [""; 0]);
        for page in ["former-one", "former-two", "last-one"] {
            assert_eq!(place.kept_events(page).await, 0, "{page}");
            let gone = place
                .ask(Method::GET, &format!("/api/pages/{page}"), Value::Null)
                .await;
            assert_eq!(gone.status, 404, "{page}: {}", gone.text());
        }
        if place.database.url().starts_with("postgres") {
            assert_eq!(left(&place.database), "");
        }
        for page in ["former-one", "former-two", "last-one"] {
            place.write(page, 4, "new").await;
            place.is_new(page).await;
        }
    }
}

/// Where one of the ids still is, in any column of any table, but for the audit, which tells what was done.
fn left(database: &Database) -> String {
    let columns = database.query(
        "SELECT table_name || ' ' || column_name FROM information_schema.columns
         WHERE table_schema = current_schema() AND table_name <> 'access_audit' ORDER BY 1",
    );
    assert!(columns.lines().count() > 50, "{columns}");
    let places = columns.lines().filter_map(|line| line.split_once(' '));
    let found = places.filter(|(table, column)| {
        let statement = format!(
            "SELECT count(*) FROM \"{table}\" WHERE \"{column}\"::text ~ '(former-one|former-two|last-one|xylophone)'"
        );
        database.query(&statement) != "0"
    });
    found
        .map(|(table, column)| format!("{table}.{column} "))
        .collect()
}
