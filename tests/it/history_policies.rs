//! How long the past of which pages is kept, over REST.

use hyper::Method;
use serde_json::{Value, json};

use crate::{
    access::{LOCKED, backend, locked},
    support::{
        database::Database,
        http::{Answer, get_with, post, send},
        replica::insertion,
        server::{ADMIN_TOKEN, TestServer},
        token::token,
        until,
    },
};

fn code(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.error())
}

async fn policy(server: &TestServer, method: Method, pages: &str, body: Value) -> Answer {
    let path = format!("/api/pages/{pages}/history-policy");
    backend(server, method, &path, body).await
}

/// Writes rows, so that all but the last one are in the history.
async fn write(server: &TestServer, page: &str, rows: u32) {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    for row in 0..rows {
        let path = format!("/api/pages/{page}/updates");
        let update = insertion(1, row, "x");
        let posted = send(server.address, Method::POST, &path, &headers, update).await;
        assert_eq!(posted.status, 200, "{posted:?}");
    }
}

async fn described(server: &TestServer, page: &str) -> Value {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    let path = format!("/api/pages/{page}");
    get_with(server.address, &path, &headers).await.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_policy_does_not_keep_is_forgotten_and_the_rest_stays() {
    for database in Database::each() {
        let settings = [&LOCKED[..], &["--snapshot-interval-seconds", "1"]].concat();
        let server = TestServer::start_on(database.open().await, &settings).await;
        for page in ["team%2Fa", "team%2Fb", "other"] {
            write(&server, page, 3).await;
            until("the past is in the history", async || {
                described(&server, page).await["historyBytes"].as_u64() > Some(0)
            })
            .await;
        }
        let answer = policy(&server, Method::PUT, "team%2Fb", json!({ "keep": "7d" })).await;
        assert_eq!(answer.json(), json!({ "pages": "team/b", "keep": "7 days" }));
        let answer = policy(&server, Method::PUT, "team%2F*", json!({ "keep": "off" })).await;
        assert_eq!(answer.json(), json!({ "pages": "team/*", "keep": "off" }));
        until("what is not kept any more is gone", async || {
            described(&server, "team%2Fa").await["historyBytes"] == json!(0)
        })
        .await;
        for page in ["team%2Fb", "other"] {
            assert_ne!(described(&server, page).await["historyBytes"], json!(0), "{page}");
        }
        // Nor is there a version of it.
        let version = backend(&server, Method::POST, "/api/pages/team%2Fa/versions", json!({})).await;
        assert_eq!(code(&version), (409, "conflict".to_owned()));
        for (page, expected) in [
            ("team%2Fa", json!({ "keep": "off", "from": "team/*" })),
            ("team%2F*", json!({ "keep": "off", "from": "team/*" })),
            ("team%2Fb", json!({ "keep": "7 days", "from": "team/b" })),
            ("other", json!({ "keep": "30 days", "from": null })),
        ] {
            let answer = policy(&server, Method::GET, page, Value::Null).await;
            assert_eq!(answer.json(), expected, "{page}");
        }
        let listed = async |query: &str| {
            let path = format!("/api/history-policies?{query}");
            backend(&server, Method::GET, &path, Value::Null).await.json()
        };
        let first = listed("limit=1").await;
        assert_eq!(
            first,
            json!({ "policies": [{ "pages": "team/*", "keep": "off" }], "next": "team/*" })
        );
        let second = listed("after=team/*").await;
        assert_eq!(
            second,
            json!({ "policies": [{ "pages": "team/b", "keep": "7 days" }], "next": null })
        );
        for expected in [204, 404] {
            let answer = policy(&server, Method::DELETE, "team%2F*", Value::Null).await;
            assert_eq!(answer.status, expected);
        }
        let answer = policy(&server, Method::GET, "team%2Fa", Value::Null).await;
        assert_eq!(answer.json(), json!({ "keep": "30 days", "from": null }));
        assert!(server.stop().await, "everything stored in time");
    }
}

#[tokio::test]
async fn only_who_manages_a_page_says_how_long_its_past_is_kept() {
    let server = locked(&[]).await;
    let ask = async |method: Method, pages: &str, role: &str| {
        let bearer = format!("Bearer {}", token("ada", &json!({ "*": role })));
        let path = format!("/api/pages/{pages}/history-policy");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = bytes::Bytes::from_static(br#"{"keep":"off"}"#);
        send(server.address, method, &path, &headers, body).await
    };
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        for role in ["view", "comment", "edit"] {
            let answer = ask(method.clone(), "p", role).await;
            assert_eq!(code(&answer), (403, "forbidden".to_owned()), "{method} {role}");
        }
        // What may be a prefix covers pages that the asker does not manage.
        let answer = ask(method.clone(), "p*", "admin").await;
        assert_eq!(code(&answer), (403, "forbidden".to_owned()), "{method}");
    }
    assert_eq!(ask(Method::PUT, "p", "admin").await.status, 200);
    assert_eq!(ask(Method::DELETE, "p", "admin").await.status, 204);
    let nobody = post(server.address, "/api/pages/p/history-policy", bytes::Bytes::new()).await;
    assert_eq!(nobody.status, 405);
    let bearer = format!("Bearer {}", token("ada", &json!({ "*": "admin" })));
    let listed = get_with(
        server.address,
        "/api/history-policies",
        &[("authorization", bearer.as_str())],
    )
    .await;
    assert_eq!(code(&listed), (403, "forbidden".to_owned()));
    for body in [
        json!({ "keep": "30 weeks" }),
        json!({ "keep": "" }),
        json!({ "keep": 30 }),
        json!({ "keep": "all", "until": "x" }),
        json!({}),
    ] {
        let answer = policy(&server, Method::PUT, "p", body.clone()).await;
        assert_eq!(answer.error(), "malformed", "{body}");
    }
}
