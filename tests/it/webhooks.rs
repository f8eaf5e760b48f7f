//! Webhooks: whatever is stored is told, in order, signed, at least once, and to nobody who is not meant.

use std::time::Duration;

use hyper::Method;
use storage::testing::Fault;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    client::Client,
    database::Database,
    http::{Answer, get_with, send},
    process::{Process, run, text},
    receiver::{Received, Receiver, Reply, WEBHOOK_SECRET, webhook_flags},
    server::{ADMIN_TOKEN, TestServer, configure, empty_store},
    store::{SwitchedStore, Weather},
    until,
};

/// What a server of these tests is told.
fn flags<'a>(urls: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let open = ["--admin-token", ADMIN_TOKEN, "--auth", "open"];
    [&webhook_flags(urls)[..], &open, more].concat()
}

/// Events without those of who comes and goes.
const STORED: &str = "page.changed,page.created,page.deleted,page.restored,version.created";

async fn ask(server: &TestServer, method: Method, path: &str, body: &str) -> Answer {
    let token = format!("Bearer {ADMIN_TOKEN}");
    let headers = [
        ("authorization", token.as_str()),
        ("content-type", "application/json"),
    ];
    send(server.address, method, path, &headers, body.to_owned().into()).await
}

async fn listed(server: &TestServer, state: &str) -> Vec<serde_json::Value> {
    let path = format!("/api/webhooks/deliveries?state={state}");
    let answer = ask(server, Method::GET, &path, "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["deliveries"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn everything_that_happens_to_a_page_is_told_in_order_and_signed() {
    let receiver = Receiver::start().await;
    let url = receiver.url();
    let server = TestServer::start(&flags(&url, &["--webhook-debounce-seconds", "1"])).await;
    let mut ada = Client::join(&server, "p", 1).await;
    receiver.until_events("p", &["page.first_joined"]).await;
    ada.write_durably("a").await;
    receiver
        .until_events("p", &["page.first_joined", "page.created", "page.changed"])
        .await;
    let version = ask(
        &server,
        Method::POST,
        "/api/pages/p/versions",
        r#"{"name":"draft"}"#,
    )
    .await;
    assert!(version.status.is_success(), "{}", version.text());
    until("the version", async || receiver.events("p").len() == 4).await;
    let deleted = ask(&server, Method::DELETE, "/api/pages/p", "").await;
    assert_eq!(deleted.status, 204);
    until("the deletion", async || receiver.events("p").len() == 6).await;
    let restored = ask(&server, Method::POST, "/api/pages/p/restore", "").await;
    assert_eq!(restored.status, 204);
    until("the restoration", async || receiver.events("p").len() == 7).await;
    let mut events = receiver.events("p");
    // The members are sent away while it is told that the page was deleted.
    events[4..6].sort();
    assert_eq!(
        events,
        [
            "page.first_joined",
            "page.created",
            "page.changed",
            "version.created",
            "page.deleted",
            "page.last_left",
            "page.restored",
        ]
    );
    let taken = receiver.taken("p");
    for received in receiver.received() {
        assert!(received.is_signed(), "{received:?}");
        assert_eq!(received.path, "/hook");
        assert_eq!(received.header("content-type"), "application/json");
        assert_eq!(received.header("x-pageroom-delivery"), received.text("id"));
        assert_eq!(received.header("x-pageroom-event"), received.text("event"));
        assert!(
            humantime::parse_rfc3339(&received.text("at")).is_ok(),
            "{received:?}"
        );
    }
    let changed = &taken[2].json();
    assert_eq!(changed["seq"], 1);
    let page = ask(&server, Method::GET, "/api/pages/p", "").await.json();
    assert_eq!(changed["generation"], page["generation"]);
    let version = &taken[3].json();
    assert_eq!(
        (version["name"].as_str(), version["kind"].as_str()),
        (Some("draft"), Some("named"))
    );
    assert!(
        version["versionId"].is_u64() && version["seq"].is_u64(),
        "{version}"
    );
    // Nothing is told twice, and the first one to come back is.
    let _eve = Client::join(&server, "p", 2).await;
    until("the next one to join", async || receiver.events("p").len() == 8).await;
    assert_eq!(receiver.received().len(), 8);
    server
        .until_metric("pageroom_webhooks_delivered_total", 8.0)
        .await;
    assert!(server.stop().await);
}

#[tokio::test]
async fn a_page_that_is_written_without_pause_is_told_of_once_an_interval_with_its_newest_row() {
    let receiver = Receiver::start().await;
    let url = receiver.url();
    let more = [
        "--webhook-events",
        "page.changed",
        "--webhook-debounce-seconds",
        "1",
    ];
    let server = TestServer::start(&flags(&url, &more)).await;
    let mut ada = Client::join(&server, "p", 1).await;
    let mut rows = 0;
    while receiver.events("p").len() < 3 {
        ada.write_durably("a").await;
        rows += 1;
    }
    let seqs: Vec<u64> = receiver
        .taken("p")
        .iter()
        .map(|received| received.json()["seq"].as_u64().expect("a number"))
        .collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    assert!(rows > 20, "{rows} rows in three seconds");
    let last = ask(&server, Method::GET, "/api/pages/p", "").await.json()["seq"].clone();
    until("the last row", async || {
        receiver.taken("p").last().expect("one").json()["seq"] == last
    })
    .await;
    assert!(receiver.received().len() <= 5, "not for every row");
}

#[tokio::test]
async fn what_a_target_does_not_take_is_sent_again_and_the_rest_of_its_page_waits() {
    let mut refused = 0;
    let receiver = Receiver::answering(move |received| {
        let is_first = received.text("pageId") == "p" && refused < 2;
        refused += u32::from(is_first);
        match is_first {
            true => Reply::With(503, "retry-after", "1".to_owned()),
            false => Reply::Status(202),
        }
    })
    .await;
    let url = receiver.url();
    let server = TestServer::start(&flags(&url, &["--webhook-events", STORED])).await;
    for page in ["p", "q"] {
        Client::join(&server, page, 1).await.write_durably("a").await;
    }
    receiver
        .until_events("q", &["page.created", "page.changed"])
        .await;
    receiver
        .until_events("p", &["page.created", "page.changed"])
        .await;
    let of_p: Vec<Received> = receiver.received();
    let of_p: Vec<_> = of_p
        .iter()
        .filter(|received| received.text("pageId") == "p")
        .collect();
    assert_eq!(of_p.len(), 4);
    assert!(
        of_p[..3].iter().all(|received| received.body == of_p[0].body),
        "the same each time"
    );
    assert!(of_p.iter().all(|received| received.is_signed()));
    assert_eq!(listed(&server, "pending").await, Vec::<serde_json::Value>::new());
    assert_eq!(server.metric("pageroom_webhooks_failed_total").await, Some(2.0));
}

#[tokio::test]
async fn a_target_that_is_away_makes_nothing_grow_and_gets_the_newest_when_it_is_back() {
    let gone = Receiver::start().await;
    let (address, url) = (gone.address.to_string(), gone.url());
    drop(gone);
    let server = TestServer::start(&flags(&url, &["--webhook-events", STORED])).await;
    let mut ada = Client::join(&server, "p", 1).await;
    for _ in 0..100 {
        ada.write_durably("a").await;
    }
    let last = ask(&server, Method::GET, "/api/pages/p", "").await.json()["seq"].clone();
    until("the last change to wait", async || {
        let pending = listed(&server, "pending").await;
        pending.last().is_some_and(|newest| newest["seq"] == last)
    })
    .await;
    let pending = listed(&server, "pending").await;
    let events: Vec<_> = pending.iter().map(|waits| waits["event"].as_str()).collect();
    assert_eq!(events, [Some("page.created"), Some("page.changed")]);
    let error = pending[0]["lastError"].as_str().unwrap_or_default();
    assert!(error.is_empty() || error.contains("cannot be reached"), "{error}");
    let receiver = Receiver::start_at(&address, |_| Reply::Status(200)).await;
    receiver
        .until_events("p", &["page.created", "page.changed"])
        .await;
    assert_eq!(receiver.taken("p")[1].json()["seq"], last);
}

#[tokio::test]
async fn dead_letters_are_shown_to_backends_and_sent_again_when_they_say_so() {
    let receiver = Receiver::answering(|_| Reply::Status(410)).await;
    let url = format!("{}?token=hunter2", receiver.url());
    let server = TestServer::start(&flags(&url, &["--webhook-events", "page.created,page.changed"])).await;
    for page in ["p", "q"] {
        Client::join(&server, page, 1).await.write_durably("a").await;
    }
    until("all to be dead", async || {
        listed(&server, "dead").await.len() == 4
    })
    .await;
    server.until_metric("pageroom_webhooks_dead_total", 4.0).await;
    let dead = listed(&server, "dead").await;
    assert!(
        dead[0]["lastError"]
            .as_str()
            .is_some_and(|error| error.contains("410")),
        "{dead:?}"
    );
    assert!(!dead[0].to_string().contains("hunter2"), "{dead:?}");
    assert_eq!(
        (dead[0]["attempts"].as_u64(), dead[0]["state"].as_str()),
        (Some(1), Some("dead"))
    );
    receiver.answer(|_| Reply::Status(200));
    let id = dead[0]["id"].as_str().expect("an id");
    let page = dead[0]["pageId"].as_str().expect("a page");
    let replay = format!("/api/webhooks/deliveries/{id}/replay");
    // Nobody else may.
    for path in [replay.as_str(), "/api/webhooks/replay"] {
        let refused = send(server.address, Method::POST, path, &[], "".into()).await;
        assert_eq!(
            (refused.status.as_u16(), refused.error()),
            (403, "forbidden".to_owned()),
            "{path}"
        );
    }
    let refused = get_with(server.address, "/api/webhooks/deliveries", &[]).await;
    assert_eq!(refused.status, 403);
    assert_eq!(
        ask(&server, Method::POST, &replay, "").await.json()["replayed"],
        1
    );
    receiver.until_events(page, &["page.created"]).await;
    assert_eq!(receiver.taken(page)[0].text("id"), id);
    assert_eq!(ask(&server, Method::POST, &replay, "").await.error(), "not_found");
    let part = ask(&server, Method::POST, "/api/webhooks/replay?limit=2", "")
        .await
        .json();
    assert_eq!(part["replayed"], 2);
    let rest = format!("/api/webhooks/replay?after={}", part["next"]);
    let rest = ask(&server, Method::POST, &rest, "").await.json();
    assert_eq!(
        (rest["replayed"].as_u64(), rest["next"].is_null()),
        (Some(1), true)
    );
    for page in ["p", "q"] {
        receiver
            .until_events(page, &["page.created", "page.changed"])
            .await;
    }
    let wrong = ask(&server, Method::GET, "/api/webhooks/deliveries?state=alive", "").await;
    assert_eq!(wrong.error(), "malformed");
    assert_eq!(
        ask(
            &server,
            Method::POST,
            "/api/webhooks/deliveries/nobody/replay",
            ""
        )
        .await
        .error(),
        "not_found"
    );
}

#[tokio::test]
async fn a_target_that_hangs_delays_no_edit_no_other_target_and_no_other_page() {
    let hanging = Receiver::answering(|received| match received.text("pageId") == "p" {
        true => Reply::Silence,
        false => Reply::Status(200),
    })
    .await;
    let receiver = Receiver::start().await;
    let urls = format!("{},{}", hanging.url(), receiver.url());
    let server = TestServer::start(&flags(&urls, &["--webhook-events", "page.created,page.changed"])).await;
    let mut ada = Client::join(&server, "p", 1).await;
    ada.write_durably("a").await;
    until("it to hang", async || !hanging.received().is_empty()).await;
    receiver
        .until_events("p", &["page.created", "page.changed"])
        .await;
    let mut bob = Client::join(&server, "q", 1).await;
    bob.write_durably("a").await;
    ada.write_durably("b").await;
    for target in [&hanging, &receiver] {
        target.until_events("q", &["page.created", "page.changed"]).await;
    }
    until("the newest change", async || receiver.events("p").len() == 3).await;
    assert_eq!(
        hanging
            .received()
            .iter()
            .filter(|received| received.text("pageId") == "p")
            .count(),
        1
    );
    assert!(server.stop().await, "a stop does not wait for it");
}

/// A target that answers with one byte each 100 ms and never with a whole head, or with a head and a body without end.
async fn dripping(is_endless: bool) -> (String, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let running = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                if is_endless {
                    let _ = stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")
                        .await;
                    while stream.write_all(&[b'x'; 65536]).await.is_ok() {}
                } else {
                    let head = b"HTTP/1.1 200 OK\r\nx-long: "
                        .iter()
                        .chain(std::iter::repeat(&b'x'));
                    for byte in head {
                        if stream.write_all(&[*byte]).await.is_err() {
                            return;
                        }
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            });
        }
    });
    (url, running)
}

#[tokio::test]
async fn answers_that_never_end_cost_little_and_answers_that_drip_are_cut_off() {
    let (dripping_url, drips) = dripping(false).await;
    let (endless_url, endless) = dripping(true).await;
    let urls = format!("{dripping_url},{endless_url}");
    let server = TestServer::start(&flags(&urls, &["--webhook-events", "page.created"])).await;
    Client::join(&server, "p", 1).await.write_durably("a").await;
    server
        .until_metric("pageroom_webhooks_delivered_total", 1.0)
        .await;
    server.until_metric("pageroom_webhooks_failed_total", 1.0).await;
    let pending = listed(&server, "pending").await;
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0]["lastError"], "no answer within 5s");
    assert_eq!(pending[0]["target"], dripping_url.as_str());
    drips.abort();
    endless.abort();
}

#[tokio::test]
async fn redirections_are_not_followed() {
    let inside = Receiver::start().await;
    let location = inside.url();
    let receiver = Receiver::answering(move |_| Reply::With(307, "location", location.clone())).await;
    let url = receiver.url();
    let server = TestServer::start(&flags(&url, &["--webhook-events", "page.created"])).await;
    Client::join(&server, "p", 1).await.write_durably("a").await;
    until("it to be told", async || {
        let pending = listed(&server, "pending").await;
        pending.first().is_some_and(|one| !one["lastError"].is_null())
    })
    .await;
    let pending = listed(&server, "pending").await;
    let error = pending[0]["lastError"].as_str().expect("an error");
    assert!(error.contains("redirections are not followed"), "{error}");
    assert_eq!(inside.received().len(), 0);
}

#[test]
fn targets_that_can_never_be_right_stop_the_start() {
    for (flags, problem) in [
        (
            vec!["--webhook-urls", "http://127.0.0.1:8080/"],
            "leads to a private address",
        ),
        (
            vec!["--webhook-urls", "http://[fd00::1]/"],
            "leads to a private address",
        ),
        (
            vec!["--webhook-urls", "http://169.254.169.254/latest"],
            "leads to a private address",
        ),
        (
            vec!["--webhook-urls", "https://a.example,http://localhost/"],
            "address 2 leads to a private address",
        ),
        (
            vec!["--webhook-urls", "https://ada:hunter2@a.example/"],
            "has a user or a password in it",
        ),
        (
            vec!["--webhook-urls", "https://a.example/#hunter2"],
            "has a fragment",
        ),
        (
            vec!["--webhook-urls", "ftp://a.example/hunter2"],
            "is no address of the web",
        ),
        (
            vec!["--webhook-urls", "https://a.example/,https://a.example/"],
            "address 2 is there twice",
        ),
        (
            vec![
                "--webhook-urls",
                "https://a.example/",
                "--webhook-events",
                "page.read",
            ],
            "`page.read` is no event",
        ),
        (
            vec![
                "--webhook-urls",
                "https://a.example/",
                "--webhook-secret",
                "hunter2",
            ],
            "needs at least 32",
        ),
        (
            vec![
                "--webhook-urls",
                "https://a.example/",
                "--webhook-debounce-seconds",
                "86401",
            ],
            "must be at most 86400",
        ),
    ] {
        let mut all = vec!["--webhook-secret", WEBHOOK_SECRET];
        all.extend(&flags);
        let error = configure(&all).expect_err("a problem").to_string();
        assert!(error.contains(problem), "{flags:?}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let unsigned = configure(&["--webhook-urls", "https://a.example/"]).expect_err("a problem");
    assert!(
        unsigned
            .to_string()
            .contains("PAGEROOM_WEBHOOK_SECRET or REALTIME_BROADCAST_SECRET")
    );
    let bridge = [
        "--webhook-urls",
        "https://a.example/",
        "--broadcast-secret",
        WEBHOOK_SECRET,
    ];
    assert!(
        configure(&bridge).expect("settings").webhooks.is_some(),
        "the bridge's secret will do"
    );
    assert!(configure(&[]).expect("settings").webhooks.is_none());
    let checked = run(
        &["check-config"],
        &[
            ("PAGEROOM_WEBHOOK_URLS", "http://10.0.0.1/?token=hunter2"),
            ("PAGEROOM_WEBHOOK_SECRET", WEBHOOK_SECRET),
        ],
    );
    let said = text(&checked.stderr) + &text(&checked.stdout);
    assert!(
        !checked.status.success() && said.contains("PAGEROOM_WEBHOOK_ALLOW_PRIVATE"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn what_happens_while_the_store_fails_is_told_when_it_is_back() {
    let receiver = Receiver::start().await;
    let url = receiver.url();
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &flags(&url, &[])).await;
    let mut ada = Client::join(&server, "p", 1).await;
    ada.write_durably("a").await;
    let begun = ["page.first_joined", "page.created", "page.changed"];
    receiver.until_events("p", &begun).await;
    store.writing(Weather::Failing(Fault::Unavailable));
    ada.write("b").await;
    let _bob = Client::join(&server, "q", 1).await;
    until("the store to be seen failing", async || {
        server.metric("pageroom_store_up").await == Some(0.0)
    })
    .await;
    assert_eq!(receiver.received().len(), 3);
    store.writing(Weather::Fine);
    ada.until_acknowledged().await;
    receiver.until_events("q", &["page.first_joined"]).await;
    until("the change", async || receiver.events("p").len() == 4).await;
    assert_eq!(receiver.events("p")[3], "page.changed");
    assert!(server.stop().await);
}

#[tokio::test]
async fn whatever_was_acknowledged_is_told_although_the_server_is_killed() {
    for database in Database::each() {
        let receiver = Receiver::answering(|_| Reply::Status(500)).await;
        let (url, target) = (database.url(), receiver.url());
        let settings = [
            ("DATABASE_URL", url.as_str()),
            ("PAGEROOM_WEBHOOK_URLS", target.as_str()),
            ("PAGEROOM_WEBHOOK_SECRET", WEBHOOK_SECRET),
            ("PAGEROOM_WEBHOOK_ALLOW_PRIVATE", "true"),
            ("PAGEROOM_WEBHOOK_EVENTS", STORED),
            ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN),
            ("PAGEROOM_AUTH", "open"),
        ];
        let mut slowly = settings.to_vec();
        // Nobody is told of changes while this one lives.
        slowly.push(("PAGEROOM_WEBHOOK_DEBOUNCE_SECONDS", "3600"));
        let mut server = Process::start(&slowly);
        let address = server.address().await;
        let mut ada = Client::join_at(address, "/ws/p", 1).await;
        ada.write_durably("a").await;
        until("an attempt", async || !receiver.received().is_empty()).await;
        ada.write_durably("b").await;
        let token = format!("Bearer {ADMIN_TOKEN}");
        let headers = [("authorization", token.as_str())];
        let deleted = send(address, Method::DELETE, "/api/pages/q", &headers, "".into()).await;
        assert_eq!(deleted.status, 404);
        Client::join_at(address, "/ws/q", 1)
            .await
            .write_durably("a")
            .await;
        let deleted = send(address, Method::DELETE, "/api/pages/q", &headers, "".into()).await;
        assert_eq!(deleted.status, 204);
        server.signal("KILL");
        server.ended().await;
        receiver.answer(|_| Reply::Status(200));
        let mut promptly = settings.to_vec();
        promptly.push(("PAGEROOM_WEBHOOK_DEBOUNCE_SECONDS", "0"));
        let server = Process::start(&promptly);
        server.address().await;
        receiver
            .until_events("p", &["page.created", "page.changed"])
            .await;
        receiver
            .until_events("q", &["page.created", "page.changed", "page.deleted"])
            .await;
        let of_p: Vec<_> = receiver.received();
        let of_p: Vec<_> = of_p.iter().filter(|one| one.text("pageId") == "p").collect();
        let created: Vec<_> = of_p
            .iter()
            .filter(|one| one.text("event") == "page.created")
            .collect();
        assert!(created.len() > 1, "it was sent before and after");
        assert!(
            created.iter().all(|one| one.body == created[0].body),
            "the same id, and all else"
        );
        assert_eq!(
            receiver.taken("p")[1].json()["seq"],
            2,
            "what was acknowledged last"
        );
        assert!(receiver.received().iter().all(Received::is_signed));
    }
}

#[tokio::test]
async fn servers_that_share_a_database_deliver_each_event_once() {
    let Some(database) = Database::postgres() else {
        return;
    };
    let receiver = Receiver::start().await;
    let url = receiver.url();
    let flags = flags(&url, &["--webhook-events", STORED]);
    let one = TestServer::start_on(database.open().await, &flags).await;
    let two = TestServer::start_on(database.open().await, &flags).await;
    let pages: Vec<String> = (0..20).map(|n| format!("p{n}")).collect();
    for (n, page) in pages.iter().enumerate() {
        let server = if n % 2 == 0 { &one } else { &two };
        Client::join(server, page, 1).await.write_durably("a").await;
    }
    for page in &pages {
        receiver
            .until_events(page, &["page.created", "page.changed"])
            .await;
    }
    // One goes, and the other goes on with what it left.
    let mut ada = Client::join(&one, "last", 1).await;
    ada.write_durably("a").await;
    assert!(one.stop().await);
    receiver
        .until_events("last", &["page.created", "page.changed"])
        .await;
    assert_eq!(receiver.received().len(), 42, "none came twice");
    assert!(two.stop().await);
}
