//! `GET /openapi.json` describes every route that there is, and nothing else; and what it says of conventions holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use bytes::Bytes;
use hyper::Method;
use serde_json::Value;

use crate::{
    support::{
        http::{Answer, get, get_with, send},
        server::{ADMIN_TOKEN, TestServer},
    },
    tidy::rust,
};

/// Methods of operations, as a description has them.
const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// Routes that are no REST: protocols of WebSockets, pages for people, and what proxies ask. Those of Socket.IO are in no table.
const BESIDE: [(&str, &str); 9] = [
    ("get", "/ws/{*page}"),
    ("get", "/hocuspocus"),
    ("get", "/hocuspocus/{*rest}"),
    ("get", "/hocuspocus/"),
    ("get", "/"),
    ("options", "/"),
    ("get", "/assets/{*file}"),
    ("get", "/admin"),
    ("get", "/admin/"),
];

/// Routes behind which `src/http/y_sweet.rs` reads the path itself.
const READ_BY_Y_SWEET: [(&str, &str); 2] = [("any", "/d/{*rest}"), ("any", "/doc/{*rest}")];

pub(crate) type Route = (String, String);

/// The piece of code up to the bracket that closes it.
fn up_to_bracket(code: &str) -> &str {
    let mut depth = 0_usize;
    let end = code.char_indices().find_map(|(at, letter)| match letter {
        '(' => {
            depth += 1;
            None
        }
        ')' if depth == 0 => Some(at),
        ')' => {
            depth -= 1;
            None
        }
        _ => None,
    });
    &code[..end.expect("a closing bracket")]
}

/// The methods and paths of a table of routes.
fn routes_in(code: &str) -> BTreeSet<Route> {
    let mut routes = BTreeSet::new();
    for (_, rest) in code
        .match_indices(".route(")
        .map(|(at, call)| code.split_at(at + call.len()))
    {
        let arguments = up_to_bracket(rest);
        let path = arguments.split('"').nth(1).expect("a path");
        let handlers = &arguments[arguments.find(path).expect("the path") + path.len()..];
        let words = handlers.split('(').map(|before| {
            let word = before.rsplit(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
            word.into_iter().next().unwrap_or_default()
        });
        let methods: Vec<_> = words
            .filter(|word| METHODS.contains(word) || ["any", "options", "head"].contains(word))
            .collect();
        assert!(
            !methods.is_empty(),
            "{path} has no method that is understood: {arguments}"
        );
        for method in methods {
            routes.insert((method.to_owned(), path.to_owned()));
        }
    }
    routes
}

fn owned(routes: &[(&str, &str)]) -> BTreeSet<Route> {
    let owned = |(method, path): &(&str, &str)| ((*method).to_owned(), (*path).to_owned());
    routes.iter().map(owned).collect()
}

/// The routes of the server that are REST.
fn rest_routes() -> BTreeSet<Route> {
    let code = rust("src/http").into_iter().map(|source| {
        let lines: Vec<&str> = source.code().map(|(_, line)| line).collect();
        lines.join("\n")
    });
    let code: String = code.collect();
    // Those of Socket.IO have an address that is an argument, with and without a slash in the end.
    assert_eq!(code.matches(".route(path").count(), 2, "a route has an address");
    let all = routes_in(&code.replace(".route(path", ""));
    let beside = owned(&BESIDE);
    assert!(all.is_superset(&beside), "what is no REST is there");
    all.difference(&beside).cloned().collect()
}

pub(crate) async fn described() -> Value {
    let server = TestServer::start(&[]).await;
    let answer = get(server.address, "/openapi.json").await;
    assert_eq!(answer.status, 200);
    answer.json()
}

/// The operations of a description, by method and path.
pub(crate) fn operations(document: &Value) -> BTreeMap<Route, &Value> {
    let paths = document["paths"].as_object().expect("paths");
    let operations = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().expect("operations");
        item.iter()
            .filter(|(method, _)| METHODS.contains(&method.as_str()))
            .map(move |(method, operation)| ((method.clone(), path.clone()), operation))
    });
    operations.collect()
}

#[test]
fn routes_are_found_however_they_are_written() {
    let code = r#"
        .route("/a", get(a::list).put(b::put))
        .route(
            "/a/{id}",
            post(a::post),
        )
        .route("/b", any(serve))
    "#;
    let expected = [("get", "/a"), ("put", "/a"), ("post", "/a/{id}"), ("any", "/b")];
    assert_eq!(routes_in(code), owned(&expected));
}

#[tokio::test]
async fn every_route_is_described_and_nothing_else() {
    let document = described().await;
    let (of_y_sweet, described): (BTreeSet<_>, BTreeSet<_>) = operations(&document)
        .into_keys()
        .partition(|(_, path)| path.starts_with("/d/") || path.starts_with("/doc/"));
    let routes = rest_routes();
    let read_by_y_sweet = owned(&READ_BY_Y_SWEET);
    assert!(routes.is_superset(&read_by_y_sweet));
    let routes: BTreeSet<_> = routes.difference(&read_by_y_sweet).cloned().collect();
    let missing: Vec<_> = routes.difference(&described).collect();
    assert!(
        missing.is_empty(),
        "not in /openapi.json: {missing:?}. Describe the handler with #[utoipa::path(…)] and name it in src/http/openapi/mod.rs"
    );
    let gone: Vec<_> = described.difference(&routes).collect();
    assert!(gone.is_empty(), "in /openapi.json, and no route: {gone:?}");
    let source = include_str!("../../src/http/y_sweet.rs");
    let (_, wanted) = source.split_once("enum Wanted {").expect("what is wanted");
    let (wanted, _) = wanted.split_once('}').expect("its end");
    // One of them is the WebSocket.
    assert_eq!(
        of_y_sweet.len(),
        wanted.matches(',').count() - 1,
        "{of_y_sweet:?}"
    );
}

#[tokio::test]
async fn an_address_has_the_methods_that_are_described() {
    let document = described().await;
    let server = TestServer::start(&[]).await;
    let known = operations(&document);
    let paths: BTreeSet<&String> = known.keys().map(|(_, path)| path).collect();
    for path in paths {
        let here: BTreeSet<&str> = known
            .keys()
            .filter(|(_, of)| of == path)
            .map(|(method, _)| method.as_str())
            .collect();
        let address = path
            .replace("{id}", "a")
            .replace("{former}", "b")
            .replace("{version}", "1")
            .replace("{user}", "ada")
            .replace("{room}", "kitchen");
        assert!(
            !address.contains('{'),
            "{path} has a parameter without an example"
        );
        for method in METHODS {
            let name = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).expect("a method");
            let answer = send(server.address, name, &address, &[], Bytes::new()).await;
            if here.contains(method) {
                let is_there = answer.status != 405
                    && !String::from_utf8_lossy(&answer.body).contains("nothing at this address");
                assert!(is_there, "{method} {path}: {answer:?}");
                let status = answer.status.as_u16().to_string();
                let statuses = &known[&(method.to_owned(), path.clone())]["responses"];
                assert!(statuses[&status].is_object(), "{method} {path} answers {status}");
                continue;
            }
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.error(), "not_found");
            let allowed: BTreeSet<String> = answer
                .header("allow")
                .split(',')
                .map(|method| method.trim().to_ascii_lowercase())
                .filter(|method| method != "head")
                .collect();
            let here: BTreeSet<String> = here.iter().map(|method| (*method).to_owned()).collect();
            assert_eq!(allowed, here, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn an_operation_says_what_it_is() {
    let document = described().await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let tags: Vec<_> = document["tags"]
        .as_array()
        .expect("tags")
        .iter()
        .map(|tag| &tag["name"])
        .collect();
    let mut ids = BTreeSet::new();
    for ((method, path), operation) in operations(&document) {
        let place = format!("{method} {path}");
        let summary = operation["summary"].as_str().expect("a sentence");
        assert!(
            summary.ends_with('.') && !summary.contains('`'),
            "{place}: {summary}"
        );
        let id = operation["operationId"].as_str().expect("a name");
        assert!(ids.insert(id), "{id} is there twice");
        assert!(
            tags.contains(&&operation["tags"][0]),
            "{place}: {}",
            operation["tags"]
        );
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for parameter in &parameters {
            let name = parameter["name"].as_str().expect("a name");
            let is_said = parameter["description"].is_string()
                || referred(&document, &parameter["schema"])["description"].is_string();
            assert!(is_said, "{place}: {name} is not described");
        }
        let in_path: BTreeSet<_> = path
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split_once('}'))
            .map(|(name, _)| name)
            .collect();
        let listed = parameters.iter().filter(|parameter| parameter["in"] == "path");
        let listed: BTreeSet<_> = listed
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        assert_eq!(in_path, listed, "{place}");
    }
}

/// What a schema refers to, or itself.
fn referred<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"]
        .as_str()
        .and_then(|reference| reference.strip_prefix('#'))
    {
        Some(pointer) => document
            .pointer(pointer)
            .unwrap_or_else(|| panic!("there is no {pointer}")),
        None => schema,
    }
}

#[tokio::test]
async fn what_is_referred_to_is_there_and_nothing_is_there_for_nobody() {
    let document = described().await;
    let (mut values, mut named) = (vec![&document], BTreeSet::new());
    while let Some(value) = values.pop() {
        if value["$ref"].is_string() {
            referred(&document, value);
            named.insert(value["$ref"].as_str().expect("a reference").to_owned());
        }
        match value {
            Value::Object(fields) => values.extend(fields.values()),
            Value::Array(items) => values.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    for kind in ["schemas", "responses"] {
        for name in document["components"][kind]
            .as_object()
            .expect("components")
            .keys()
        {
            let reference = format!("#/components/{kind}/{name}");
            assert!(named.contains(&reference), "nothing refers to {reference}");
        }
    }
}

#[tokio::test]
async fn words_that_are_listed_are_those_that_are_written() {
    let document = described().await;
    let words = |schema: &str| -> BTreeSet<String> {
        let words = document["components"]["schemas"][schema]["enum"]
            .as_array()
            .expect("words");
        words
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let texts = |source: &str, start: &str, end: &str| -> BTreeSet<String> {
        let (_, code) = source.split_once(start).expect("the start");
        let (code, _) = code.split_once(end).expect("the end");
        code.split('"').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let refusals = include_str!("../../src/rooms/refusal.rs");
    assert_eq!(
        words("RefusalCode"),
        texts(refusals, "fn as_str", "fn is_retryable")
    );
    let roles = include_str!("../../src/rooms/role.rs");
    assert_eq!(words("Role"), texts(roles, "fn as_str", "fn from_name"));
    let forms = include_str!("../../src/http/content/mod.rs");
    assert_eq!(words("ContentFormat"), texts(forms, "fn named", "_ =>"));
    let reasons = include_str!("../../src/http/bridge/kick.rs");
    assert_eq!(words("KickReason"), texts(reasons, "const REASONS", "];"));
}

#[tokio::test]
async fn operations_and_their_statuses_are_as_they_were() {
    let document = described().await;
    let mut lines = String::new();
    for ((method, path), operation) in operations(&document) {
        let responses = operation["responses"].as_object().expect("responses");
        let statuses: Vec<_> = responses.keys().map(String::as_str).collect();
        let id = operation["operationId"].as_str().expect("a name");
        let _ = writeln!(lines, "{path} {method} {id}: {}", statuses.join(" "));
    }
    let mut lines: Vec<_> = lines.lines().collect();
    lines.sort_unstable();
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn the_description_is_for_everybody_and_sent_once() {
    let server = TestServer::start(&["--jwt-secret", "a-secret-of-at-least-32-bytes-0123"]).await;
    let first = get(server.address, "/openapi.json").await;
    assert_eq!(
        (first.status.as_u16(), first.header("content-type")),
        (200, "application/json")
    );
    let tag = first.header("etag").to_owned();
    assert!(tag.len() > 30, "{tag}");
    let again = get_with(server.address, "/openapi.json", &[("if-none-match", &tag)]).await;
    assert_eq!(
        (again.status.as_u16(), again.body.len(), again.header("etag")),
        (304, 0, &*tag)
    );
    let other = get_with(server.address, "/openapi.json", &[("if-none-match", "\"other\"")]).await;
    assert_eq!(other.body, first.body);
}

async fn write(server: &TestServer, headers: &[(&str, &str)], body: &'static str) -> Answer {
    let mut all = vec![("content-type", "text/markdown")];
    all.extend(headers);
    send(
        server.address,
        Method::PUT,
        "/api/pages/a/content",
        &all,
        Bytes::from_static(body.as_bytes()),
    )
    .await
}

#[tokio::test]
async fn a_change_is_answered_briefly_where_that_is_preferred() {
    let server = TestServer::start(&[]).await;
    let whole = write(&server, &[], "one").await;
    assert_eq!(whole.status, 200);
    assert_eq!(whole.header("x-pageroom-seq"), whole.json()["seq"].to_string());
    assert_eq!(whole.header("preference-applied"), "");
    let brief = write(&server, &[("prefer", "return=minimal")], "one two").await;
    assert_eq!((brief.status.as_u16(), brief.body.len()), (204, 0), "{brief:?}");
    assert_eq!(brief.header("preference-applied"), "return=minimal");
    assert_eq!(brief.header("content-type"), "");
    assert_ne!(brief.header("x-pageroom-seq"), whole.header("x-pageroom-seq"));
    assert_eq!(
        brief.header("etag"),
        format!(
            "{}-{}\"",
            whole.header("etag").rsplit_once('-').expect("a tag").0,
            brief.header("x-pageroom-seq")
        )
    );
    // What is read and what is refused have their bodies.
    let read = get_with(server.address, "/api/pages/a", &[("prefer", "return=minimal")]).await;
    assert_eq!(
        (read.status.as_u16(), read.json()["pageId"].as_str()),
        (200, Some("a"))
    );
    let refused = write(
        &server,
        &[("prefer", "return=minimal"), ("if-match", "\"other-1\"")],
        "three",
    )
    .await;
    assert_eq!(
        (refused.status.as_u16(), refused.error().as_str()),
        (412, "conflict")
    );
}

#[tokio::test]
async fn a_path_that_makes_no_sense_is_refused_as_everything_is() {
    let server = TestServer::start(&[]).await;
    for (method, path) in [
        (Method::POST, "/api/users/%FF/sign-out"),
        (Method::PUT, "/api/users/%FF/block"),
        (Method::DELETE, "/api/users/%FF/block"),
        (Method::GET, "/api/pages/%FF"),
        (Method::GET, "/api/pages/a/versions/one"),
        (Method::GET, "/api/rooms/%FF"),
        (Method::PUT, "/api/pages/a/permissions/%FF"),
    ] {
        let answer = send(server.address, method.clone(), path, &[], Bytes::new()).await;
        let found = (answer.status.as_u16(), answer.error());
        assert_eq!(found, (422, "malformed".to_owned()), "{method} {path}");
    }
}

#[tokio::test]
async fn a_new_version_says_where_it_is() {
    let server = TestServer::start(&[]).await;
    let named = "/api/pages/a%2F%C3%A4/versions";
    let written = send(
        server.address,
        Method::PUT,
        "/api/pages/a%2F%C3%A4/content?format=text",
        &[],
        Bytes::from_static(b"x"),
    )
    .await;
    assert_eq!(written.status, 200);
    let json = [("content-type", "application/json")];
    let made = send(
        server.address,
        Method::POST,
        named,
        &json,
        Bytes::from_static(b"{}"),
    )
    .await;
    assert_eq!(made.status, 201, "{made:?}");
    let found = get(server.address, made.header("location")).await;
    assert_eq!(found.json()["version"], made.json()["version"]);
}

#[tokio::test]
async fn a_number_of_the_last_event_that_is_none_is_refused_for_a_list_too() {
    let server = TestServer::start(&[]).await;
    assert_eq!(write(&server, &[], "one").await.status, 200);
    for accept in ["application/json", "text/event-stream"] {
        let headers = [("accept", accept), ("last-event-id", "X")];
        let answer = get_with(server.address, "/api/pages/a/changes", &headers).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().as_str()),
            (422, "malformed"),
            "{accept}"
        );
    }
}

async fn answer_to(server: &TestServer, method: Method, path: &str, body: &'static str) -> (u16, Value) {
    let headers = [
        ("content-type", "application/json"),
        ("authorization", &*format!("Bearer {ADMIN_TOKEN}")),
    ];
    let answer = send(
        server.address,
        method,
        path,
        &headers,
        Bytes::from_static(body.as_bytes()),
    )
    .await;
    (answer.status.as_u16(), answer.json())
}

#[tokio::test]
async fn a_body_is_an_object_and_no_list_of_its_fields() {
    let server = TestServer::start(&["--admin-token", ADMIN_TOKEN]).await;
    for (path, body, status) in [
        ("/api/access/refresh", "[null,null]", 422),
        ("/api/access/refresh", "{}", 200),
        ("/doc/new", "[\"a\"]", 422),
        ("/doc/new", "null", 200),
        ("/api/broadcast", "[\"user:ada\",\"hello\",1,null]", 400),
        ("/api/broadcast", "[", 400),
        (
            "/api/broadcast",
            "{\"channelId\":\"user:ada\",\"event\":\"hello\",\"payload\":1}",
            200,
        ),
    ] {
        let found = answer_to(&server, Method::POST, path, body).await;
        assert_eq!(found.0, status, "{path} {body}: {found:?}");
    }
}

#[tokio::test]
async fn a_kick_is_refused_when_it_does_not_say_clearly_who_stays() {
    let server = TestServer::start(&["--admin-token", ADMIN_TOKEN]).await;
    let invalid = |what: &str| {
        (
            400,
            serde_json::json!({ "error": format!("Missing or invalid {what}") }),
        )
    };
    let kick = async |body| answer_to(&server, Method::POST, "/api/kick", body).await;
    let except = r#"{"userId":"*","roomPattern":"page:a","reason":"page_private","exceptUserId":7}"#;
    assert_eq!(kick(except).await, invalid("exceptUserId"));
    let metadata = r#"{"userId":"*","roomPattern":"page:a","reason":"page_private","metadata":[]}"#;
    assert_eq!(kick(metadata).await, invalid("metadata"));
    let none = r#"{"userId":"*","roomPattern":"page:a","reason":"page_private","exceptUserId":null,"metadata":null}"#;
    assert_eq!(kick(none).await.0, 200);
}

#[tokio::test]
async fn times_and_numbers_are_read_however_they_are_written() {
    let server = TestServer::start(&["--admin-token", ADMIN_TOKEN]).await;
    let body = r#"{"maxMembers":5.0,"expiresAt":"2999-01-01T02:00:00.5+02:00"}"#;
    let (status, room) = answer_to(&server, Method::PUT, "/api/rooms/kitchen", body).await;
    assert_eq!((status, &room["maxMembers"]), (200, &serde_json::json!(5)));
    assert_eq!(room["expiresAt"], "2999-01-01T00:00:00.500Z");
    let (status, _) = answer_to(&server, Method::GET, "/api/audit?from=1602-02-14T01:07:34Z", "").await;
    assert_eq!(status, 200);
    let (status, _) = answer_to(&server, Method::GET, "/api/audit?from=yesterday", "").await;
    assert_eq!(status, 422);
    let body = r#"{"maxMembers":5.5}"#;
    assert_eq!(
        answer_to(&server, Method::PUT, "/api/rooms/kitchen", body)
            .await
            .0,
        422
    );
}
