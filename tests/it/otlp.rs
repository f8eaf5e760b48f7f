//! Spans and numbers over OTLP, as a collector takes them; and the ids by which a line of the log is found.

use bytes::Bytes;
use hyper::Method;
use opentelemetry_proto::tonic::trace::v1::Span;
use pageroom::telemetry::METRICS;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};

use crate::support::{
    client::Client,
    collector::{Collector, attribute, body, hex},
    http::{get, get_with, send},
    process::{Process, run, text},
    replica::Replica,
    server::ADMIN_TOKEN,
    socket::Socket,
    socket_io::{Session, place},
    soon,
    token::{SECRET, token},
    until,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A `traceparent` in a trace of its own.
fn traceparent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{PARENT}-{flags}")
}

/// A trace with this number.
fn trace(number: u32) -> String {
    format!("{number:032x}")
}

/// Joins a page with a `traceparent` in the handshake.
async fn join_traced(address: std::net::SocketAddr, page: &str, author: u64, parent: &str) -> Client {
    let headers = [("traceparent", parent)];
    let socket = Socket::open_with(address, &format!("/ws/{page}"), &headers).await;
    Client::join_as(socket, Replica::new(author)).await
}

fn of_trace<'a>(spans: &'a [Span], trace: &str) -> Vec<&'a Span> {
    let is_its = |span: &&Span| hex(&span.trace_id) == trace;
    spans.iter().filter(is_its).collect()
}

fn only<'a>(spans: &[&'a Span], name: &str) -> &'a Span {
    let mut named = spans.iter().filter(|span| span.name == name);
    let first = named.next().unwrap_or_else(|| panic!("{name} in {spans:?}"));
    assert!(named.next().is_none(), "one {name} in {spans:?}");
    first
}

fn links_to(span: &Span, other: &Span) -> bool {
    let mut links = span.links.iter();
    links.any(|link| link.span_id == other.span_id && link.trace_id == other.trace_id)
}

/// The life of one edit: its spans under a parent of a client, and links between it and its transaction.
fn assert_life(spans: &[&Span], parent: &str, page: &str, message: &str) {
    let edit = only(spans, "edit");
    assert_eq!(hex(&edit.parent_span_id), parent);
    assert_eq!(attribute(&edit.attributes, "pageroom.page"), page);
    assert_eq!(attribute(&edit.attributes, "pageroom.message"), message);
    assert_eq!(attribute(&edit.attributes, "pageroom.outcome"), "stored");
    let (take_in, commit, deliver) = (
        only(spans, "take in"),
        only(spans, "commit"),
        only(spans, "deliver"),
    );
    for child in [take_in, commit, deliver] {
        assert_eq!(child.parent_span_id, edit.span_id, "{child:?} under {edit:?}");
        assert!(child.start_time_unix_nano >= edit.start_time_unix_nano);
        assert!(child.end_time_unix_nano >= child.start_time_unix_nano);
    }
    assert!(links_to(commit, edit) && links_to(edit, commit));
    assert!(commit.end_time_unix_nano <= edit.end_time_unix_nano);
    assert_eq!(attribute(&deliver.attributes, "pageroom.connection_id").len(), 16);
    assert_ne!(
        attribute(&deliver.attributes, "pageroom.connection_id"),
        attribute(&edit.attributes, "pageroom.connection_id"),
        "it was delivered to somebody else"
    );
}

#[tokio::test]
async fn an_edit_is_followed_from_its_frame_to_its_commit_and_to_who_hears_it() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let variables = Collector::variables(
        &endpoint,
        &[
            ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
            ("OTEL_SERVICE_NAME", "pages-of-ours"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=tests"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20sesame"),
        ],
    );
    let server = Process::start(&variables);
    let address = server.address().await;
    let mut ben = Client::join_at(address, "/ws/page", 2).await;
    let mut ada = join_traced(address, "page", 1, &traceparent(TRACE, "01")).await;
    // Nobody asked for this to be followed. Were it all the same, its spans would come before those that are waited for.
    ben.write_durably("another").await;
    ada.until_text("another").await;
    ada.write_durably("one word").await;
    ben.until("the word", |ben| ben.replica.text().contains("one word"))
        .await;
    collector.until_spans("edit", 1).await;
    collector.until_spans("deliver", 1).await;
    let spans = collector.spans();
    assert_life(&of_trace(&spans, TRACE), PARENT, "page", "update");
    assert!(
        spans.iter().all(|span| hex(&span.trace_id) == TRACE),
        "what is not sampled is not told: {spans:?}"
    );
    let resource = collector.resources().remove(0);
    for (name, expected) in [
        ("service.name", "pages-of-ours"),
        ("deployment.environment.name", "tests"),
        ("service.version", env!("CARGO_PKG_VERSION")),
    ] {
        assert_eq!(attribute(&resource.attributes, name), expected);
    }
    for received in collector.received() {
        assert_eq!(received.header("authorization"), "Bearer sesame");
    }
    assert!(!server.log().contains("sesame"), "{}", server.log());
}

#[tokio::test]
async fn a_client_of_socket_io_says_in_which_trace_it_is() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let variables = Collector::variables(&endpoint, &[("OTEL_TRACES_SAMPLER", "parentbased_always_off")]);
    let server = Process::start(&variables);
    let address = server.address().await;
    let mut reader = Client::join_at(address, "/ws/page", 2).await;

    // In the namespace of a page.
    let auth = json!({ "token": "any", "traceparent": traceparent(TRACE, "01") });
    let mut ada = Session::open(address).await;
    ada.say(&format!("40/yjs|page,{auth}")).await;
    assert!(ada.text().await.starts_with("40/yjs|page,{\"sid\":\""));
    let mut replica = Replica::new(1);
    let update = replica.write("by Ada");
    ada.emit("page", "sync-update", Some(1), &update).await;
    reader.until_text("by Ada").await;
    collector.until_spans("edit", 1).await;
    collector.until_spans("deliver", 1).await;
    assert_life(&of_trace(&collector.spans(), TRACE), PARENT, "page", "post");

    // In the namespace of events.
    let other = trace(7);
    let auth = json!({ "traceparent": traceparent(&other, "01") });
    let (mut ben, _) = Session::connect(address, &auth).await;
    ben.send("join_page", Some(1), &json!("notes"), &[]).await;
    ben.until_told("1").await;
    let mut hearer = Client::join_at(address, "/ws/notes", 4).await;
    let update = Replica::new(3).write("by Ben");
    let delta = json!({ "pageId": "notes", "update": place(0) });
    ben.send("page_delta", Some(2), &delta, &[&update]).await;
    let told = ben.until_told("2").await;
    assert!(told.body.to_string().contains("\"ok\":true"), "{told:?}");
    hearer.until_text("by Ben").await;
    collector.until_spans("edit", 2).await;
    collector.until_spans("deliver", 2).await;
    assert_life(&of_trace(&collector.spans(), &other), PARENT, "notes", "post");

    // What is no trace keeps nobody out, and leads nowhere.
    let auth = json!({ "traceparent": "00-nonsense", "tracestate": 7 });
    let (mut eve, _) = Session::connect(address, &auth).await;
    eve.send("join_page", Some(1), &json!("quiet"), &[]).await;
    eve.until_told("1").await;
    let update = Replica::new(5).write("by Eve");
    let delta = json!({ "pageId": "quiet", "update": place(0) });
    eve.send("page_delta", Some(2), &delta, &[&update]).await;
    eve.until_told("2").await;
    // What comes later is told later.
    let update = replica.write(" again");
    ada.emit("page", "sync-update", Some(2), &update).await;
    for edit in collector.until_spans("edit", 3).await {
        assert!([TRACE, &other].contains(&&*hex(&edit.trace_id)), "{edit:?}");
    }
}

#[tokio::test]
async fn a_request_has_a_span_named_after_its_route_and_so_has_the_edit_that_it_brings() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let server = Process::start(&Collector::variables(
        &endpoint,
        &[("OTEL_TRACES_SAMPLER", "parentbased_always_off")],
    ));
    let address = server.address().await;
    let update = Replica::new(1).write("from a backend");
    let parent = traceparent(TRACE, "01");
    let headers = [("traceparent", &*parent), ("x-request-id", "req-7")];
    let path = "/api/pages/team%2Fnotes/updates";
    let answer = send(address, Method::POST, path, &headers, update).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-request-id"), "req-7");
    collector.until_spans("edit", 1).await;
    let request = collector
        .until_spans("POST /api/pages/{id}/updates", 1)
        .await
        .remove(0);
    assert_eq!(hex(&request.trace_id), TRACE);
    assert_eq!(hex(&request.parent_span_id), PARENT);
    for (name, expected) in [
        ("http.request.method", "POST"),
        ("http.route", "/api/pages/{id}/updates"),
        ("http.response.status_code", "200"),
        ("pageroom.page", "team/notes"),
        ("pageroom.request_id", "req-7"),
    ] {
        assert_eq!(attribute(&request.attributes, name), expected);
    }
    let spans = collector.spans();
    let edit = only(&of_trace(&spans, TRACE), "edit");
    assert_eq!(edit.parent_span_id, request.span_id);
    // Probes are not worth a span, whoever asks for one, and of what is not sampled there is none.
    get_with(address, "/readyz", &headers).await;
    let unsampled = traceparent(&trace(9), "00");
    get_with(address, "/api/pages", &[("traceparent", &unsampled)]).await;
    let last = traceparent(&trace(10), "01");
    get_with(address, "/api/pages", &[("traceparent", &last)]).await;
    collector.until_spans("GET /api/pages", 1).await;
    let spans = collector.spans();
    assert!(of_trace(&spans, &trace(9)).is_empty());
    assert!(
        !spans.iter().any(|span| span.name.contains("readyz")),
        "{spans:?}"
    );
}

#[tokio::test]
async fn a_transaction_is_linked_with_every_edit_in_it() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    // Whatever follows the first within this time is stored together.
    let interval = ("PAGEROOM_COMMIT_INTERVAL_MILLISECONDS", "3000");
    let server = Process::start(&Collector::variables(&endpoint, &[interval]));
    let address = server.address().await;
    let mut ada = join_traced(address, "one", 1, &traceparent(&trace(1), "01")).await;
    let mut ben = join_traced(address, "two", 2, &traceparent(&trace(2), "01")).await;
    let mut first = join_traced(address, "three", 3, &traceparent(&trace(3), "01")).await;
    first.write_durably("first").await;
    ada.write("a").await;
    ben.write("b").await;
    ada.until_acknowledged().await;
    ben.until_acknowledged().await;
    collector.until_spans("edit", 3).await;
    let spans = collector.spans();
    let edit = |number| only(&of_trace(&spans, &trace(number)), "edit").clone();
    let edits = [edit(1), edit(2)];
    let commits: Vec<_> = spans.iter().filter(|span| span.name == "commit").collect();
    let shared = commits
        .iter()
        .find(|commit| edits.iter().all(|edit| links_to(commit, edit)))
        .unwrap_or_else(|| panic!("one commit for both in {commits:?}"));
    assert_eq!(attribute(&shared.attributes, "pageroom.pages"), "2");
    for edit in &edits {
        assert!(links_to(edit, shared), "{edit:?}");
    }
    assert!(!links_to(shared, &edit(3)));
}

#[tokio::test]
async fn a_refused_edit_says_so() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let server = Process::start(&Collector::variables(&endpoint, &[("JWT_SECRET", SECRET)]));
    let address = server.address().await;
    let viewer = token("ada", &json!({ "page": "view" }));
    let mut ada = Client::join_at(address, &format!("/ws/page?token={viewer}"), 1).await;
    ada.write("may not").await;
    ada.until("the refusal", |ada| !ada.refusals.is_empty()).await;
    let edit = collector.until_spans("edit", 1).await.remove(0);
    assert_eq!(attribute(&edit.attributes, "pageroom.outcome"), "read_only");
    assert_eq!(edit.status.expect("a status").message, "read_only");
}

#[tokio::test]
async fn the_numbers_come_under_the_names_of_the_docs_and_agree_with_those_that_are_scraped() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let more = [
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
    ];
    let server = Process::start(&Collector::variables(&endpoint, &more));
    let address = server.address().await;
    let mut ada = Client::join_at(address, "/ws/page", 1).await;
    ada.write_durably("a word").await;
    let named = |name: &str| {
        let metrics = collector.metrics();
        metrics.into_iter().find(|metric| metric.name == name)
    };
    until("an open connection to be told", async || {
        named("pageroom_connections_open")
            .is_some_and(|metric| format!("{metric:?}").contains("AsDouble(1.0)"))
    })
    .await;
    let scraped = get(address, "/metrics").await;
    let names = METRICS.map(|(name, ..)| name);
    let metrics = collector.metrics();
    assert!(metrics.len() > 15, "{metrics:?}");
    for metric in &metrics {
        assert!(names.contains(&&*metric.name), "{} is in no docs", metric.name);
        assert!(scraped.text().contains(&format!("# TYPE {} ", metric.name)));
    }
    // Of those that are scraped, none is missing.
    let typed = scraped
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    for name in typed.filter_map(|line| line.split(' ').next()) {
        assert!(named(name).is_some(), "{name} was not sent");
    }
    assert!(collector.spans().is_empty());
}

#[tokio::test]
async fn nothing_of_tokens_or_content_is_sent_or_logged() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let variables = Collector::variables(
        &endpoint,
        &[
            ("JWT_SECRET", SECRET),
            ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN),
            ("PAGEROOM_LOG_FORMAT", "json"),
        ],
    );
    let mut server = Process::start(&variables);
    let address = server.address().await;
    let writer = token("ada", &json!({ "*": "edit" }));
    let mut ada = Client::join_at(address, &format!("/ws/page?token={writer}"), 1).await;
    let mut ben = Client::join_at(address, &format!("/ws/page?token={writer}"), 2).await;
    ada.write_durably("xylophone").await;
    ben.until_text("xylophone").await;
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let content = "/api/pages/page/content?format=text&note=marimba";
    let read = get_with(address, content, &[("authorization", &bearer)]).await;
    assert_eq!(read.text(), "xylophone");
    get_with(
        address,
        "/no/such/celesta",
        &[("authorization", "Bearer glockenspiel")],
    )
    .await;
    collector.until_spans("deliver", 1).await;
    collector.until_spans("GET /api/pages/{id}/content", 1).await;
    server.signal("TERM");
    assert!(server.ended().await.success(), "{}", server.log());
    let mut told: Vec<_> = collector.received().iter().map(body).collect();
    told.push(server.log().into_bytes());
    assert!(told.len() > 2, "something was sent");
    for secret in [
        "xylophone",
        "marimba",
        "celesta",
        "glockenspiel",
        ADMIN_TOKEN,
        SECRET,
        &writer,
    ] {
        let is_in = |bytes: &Vec<u8>| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!told.iter().any(is_in), "{secret} was told");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_delays_nothing_and_is_told_of_once() {
    // One that refuses connections (and keeps its port from others), and one that takes them and says nothing.
    let closed = TcpSocket::new_v4().expect("a socket");
    closed.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let closed_at = format!("http://{}", closed.local_addr().expect("an address"));
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent_at = format!("http://{}", silent.local_addr().expect("an address"));
    for endpoint in [closed_at, silent_at] {
        // A queue of few, so that it is full soon.
        let more = [
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "700"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "16"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4"),
        ];
        let mut server = Process::start(&Collector::variables(&endpoint, &more));
        let address = server.address().await;
        let mut ada = Client::join_at(address, "/ws/page", 1).await;
        for _ in 0..100 {
            ada.write_durably("x").await;
        }
        until("the log to say so", async || {
            server.log().matches("the collector does not take").count() >= 2
        })
        .await;
        for _ in 0..20 {
            ada.write_durably("x").await;
        }
        let log = server.log();
        let told = |what: &str| log.matches(&format!("does not take {what}")).count();
        assert_eq!((told("spans"), told("numbers")), (1, 1), "{log}");
        server.signal("TERM");
        assert!(server.ended().await.success(), "{}", server.log());
    }
}

#[tokio::test]
async fn a_stop_waits_for_no_collector() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    // Longer than anything here is waited for.
    let more = [("OTEL_EXPORTER_OTLP_TIMEOUT", "600000")];
    let mut server = Process::start(&Collector::variables(&endpoint, &more));
    let address = server.address().await;
    let mut ada = Client::join_at(address, "/ws/page", 1).await;
    ada.write_durably("x").await;
    // One for spans, one for numbers, and both are kept waiting.
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(soon("a message", silent.accept()).await.expect("a connection"));
    }
    ada.write_durably("y").await;
    server.signal("TERM");
    assert!(server.ended().await.success(), "{}", server.log());
    until("the end of the log", async || {
        server.log().contains("everything is stored")
    })
    .await;
}

#[tokio::test]
async fn a_stop_sends_what_waits() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    // Nothing is due before the stop.
    let variables = [
        ("DATABASE_URL", "memory:"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "600000"),
    ];
    let mut server = Process::start(&variables);
    let address = server.address().await;
    let mut ada = Client::join_at(address, "/ws/page", 1).await;
    ada.write_durably("x").await;
    assert!(collector.received().is_empty());
    server.signal("TERM");
    assert!(server.ended().await.success(), "{}", server.log());
    let names: Vec<_> = collector.spans().into_iter().map(|span| span.name).collect();
    for name in ["edit", "take in", "commit", "GET /ws/{*page}"] {
        assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
    }
    assert!(!collector.metrics().is_empty());
}

#[tokio::test]
async fn what_is_not_spoken_is_told_at_the_start_and_keeps_nobody_out() {
    let variables = [
        ("DATABASE_URL", "memory:"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_SOMETHING_NEW", "1"),
    ];
    let server = Process::start(&variables);
    let address = server.address().await;
    assert_eq!(get(address, "/readyz").await.status, 200);
    let log = server.log();
    assert!(
        log.contains("OTEL_EXPORTER_OTLP_PROTOCOL is grpc") && log.contains("http/protobuf"),
        "{log}"
    );
    assert!(!log.contains("OTEL_SOMETHING_NEW"), "{log}");
    let checked = run(&["check-config"], &variables);
    assert!(
        text(&checked.stderr).contains("grpc"),
        "{}",
        text(&checked.stderr)
    );
}

/// The lines of a JSON log with a message.
fn lines(server: &Process, message: &str) -> Vec<Value> {
    let log = server.log();
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines
        .filter(|line| {
            line["message"]
                .as_str()
                .is_some_and(|said| said.contains(message))
        })
        .collect()
}

#[tokio::test]
async fn a_line_of_the_log_names_the_request_the_connection_and_the_trace() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let variables = Collector::variables(
        &endpoint,
        &[("JWT_SECRET", SECRET), ("PAGEROOM_LOG_FORMAT", "json")],
    );
    let server = Process::start(&variables);
    let address = server.address().await;
    let parent = traceparent(TRACE, "01");
    let headers = [("x-request-id", "req-7"), ("traceparent", &*parent)];
    let refused = get_with(address, "/api/pages/page", &headers).await;
    assert_eq!(
        (refused.status.as_u16(), refused.header("x-request-id")),
        (401, "req-7")
    );
    until("the refusal in the log", async || {
        !lines(&server, "a request was refused").is_empty()
    })
    .await;
    let line = lines(&server, "a request was refused").remove(0);
    assert_eq!(line["request_id"], "req-7", "{line}");
    assert_eq!(line["trace_id"], TRACE, "{line}");
    let request = collector.until_spans("GET /api/pages/{id}", 1).await.remove(0);
    assert_eq!(line["span_id"], hex(&request.span_id), "{line}");
    assert!(line.get("connection_id").is_none(), "{line}");

    // A line written for a connection names it, and the request that opened it.
    let mut session = Session::open(address).await;
    session.say("40/yjs|page,{\"token\":\"no token at all\"}").await;
    assert!(session.text().await.starts_with("44/yjs|page"));
    until("the token in the log", async || {
        !lines(&server, "a token proves nothing").is_empty()
    })
    .await;
    let line = lines(&server, "a token proves nothing").remove(0);
    for id in ["request_id", "connection_id"] {
        assert_eq!(line[id].as_str().map(str::len), Some(16), "{id} in {line}");
    }
    // What is no id is not repeated.
    for bad in ["a b", "x\"y", &"a".repeat(65)] {
        let answer = get_with(address, "/healthz", &[("x-request-id", bad)]).await;
        assert_eq!(answer.header("x-request-id").len(), 16, "{bad}");
    }
    assert_ne!(
        get(address, "/healthz").await.header("x-request-id"),
        get(address, "/healthz").await.header("x-request-id")
    );
}

/// A server that lets in users of one application alone, and logs as JSON.
fn locked() -> Process {
    Process::start(&[
        ("DATABASE_URL", "memory:"),
        ("PAGEROOM_LOG_FORMAT", "json"),
        ("JWT_SECRET", SECRET),
        ("CORS_ORIGIN", "https://app.example"),
    ])
}

#[tokio::test]
async fn strangers_who_make_up_origins_keep_no_other_cause_out_of_the_log() {
    let server = locked();
    let address = server.address().await;
    for number in 0..60 {
        let origin = format!("https://made-up-{number}.example");
        let answer = get_with(address, "/api/pages/page", &[("origin", &origin)]).await;
        assert_eq!(answer.status, 403);
    }
    let bearer = format!("Bearer {}", token("ada", &json!({ "other": "edit" })));
    let refused = get_with(address, "/api/pages/page", &[("authorization", &bearer)]).await;
    assert_eq!(refused.status, 403);
    let mut socket = Socket::open(address, "/ws/page?token=nonsense").await;
    assert_eq!(soon("a goodbye", socket.closed()).await.code, 4401);
    for (message, user) in [
        ("a request was refused", Some("ada")),
        ("a connection was refused", None),
    ] {
        until(message, async || {
            lines(&server, message)
                .iter()
                .any(|line| line["user"].as_str() == user && line.get("origin").is_none())
        })
        .await;
    }
}

#[tokio::test]
async fn the_log_says_why_a_token_a_cookie_an_origin_or_a_connection_was_refused() {
    let server = locked();
    let address = server.address().await;
    let good = token("ada", &json!({ "page": "edit" }));
    let cookie = format!("accessToken={good}");
    let bearer = format!("Bearer {good}");
    let mut socket = Socket::open(address, &format!("/ws/other?token={good}")).await;
    assert_eq!(soon("a goodbye", socket.closed()).await.code, 4403);
    for headers in [
        &[("authorization", "Bearer nonsense")][..],
        &[("cookie", &*cookie)],
        &[("cookie", &*cookie), ("origin", "null")],
        &[
            ("cookie", "accessToken=nonsense"),
            ("origin", "https://app.example"),
        ],
        &[("authorization", &*bearer), ("origin", "https://other.example")],
    ] {
        let answer = send(address, Method::GET, "/api/pages/page", headers, Bytes::new()).await;
        assert!(
            matches!(answer.status.as_u16(), 401 | 403),
            "{headers:?}: {answer:?}"
        );
    }
    for (message, field, word) in [
        ("a connection was refused", "remedy", "PAGEROOM_ACCESS"),
        ("a token proves nothing", "reason", "token"),
        ("a cookie proves nothing", "reason", "token"),
        ("a request was refused", "reason", "Origin header"),
        ("a request was refused", "reason", "without an origin"),
        ("a request was refused", "origin", "https://other.example"),
        ("a request was refused", "remedy", "add the origin to CORS_ORIGIN"),
    ] {
        until(&format!("{message}: {word}"), async || {
            let said = lines(&server, message);
            said.iter()
                .any(|line| line[field].as_str().is_some_and(|text| text.contains(word)))
        })
        .await;
    }
    assert!(!server.log().contains(&good), "no token in a log");
}
