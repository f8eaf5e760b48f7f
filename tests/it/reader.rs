//! Pages are read in processes of their own: whatever becomes of these, what people write is taken, told and stored.

use std::{fs, net::SocketAddr, process::Command};

use bytes::Bytes;
use crdt::Form;
use crdt::{Candidate, ClientId, Format, MergeRefusal, Merged, Save, encoding::Write};
use hyper::StatusCode;
use pageroom::reader::{Change, MergeError, ReadError, ReaderConfig, Readers};
use serde_json::{Value, json, value::RawValue};
use storage::PageId;

use crate::support::{
    PATIENCE,
    client::Client,
    http::{Answer, get, get_with, post},
    process::Process,
    replica::{Replica, insertion},
    server::ADMIN_TOKEN,
    soon, until,
};

/// Worker processes of the process `parent`.
fn workers(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("a list of processes");
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let arguments = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let says = |line: &str| status.lines().any(|found| found == line);
        says(&format!("PPid:\t{parent}"))
            && arguments.split('\0').nth(1) == Some("reader")
            && !status.contains("State:\tZ")
    })
    .collect()
}

fn signal(name: &str, id: u32) {
    let sent = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", name, &id.to_string()])
        .status();
    assert!(sent.expect("a shell").success(), "a process to signal");
}

/// A server in a process of its own whose one worker has these limits.
async fn server(limits: &[(&str, &str)]) -> (Process, SocketAddr) {
    let mut environment = vec![("DATABASE_URL", "memory:"), ("PAGEROOM_READERS", "1")];
    environment.extend(limits);
    let server = Process::start(&environment);
    let address = server.address().await;
    (server, address)
}

async fn content(address: SocketAddr, page: &str) -> Answer {
    get(address, &format!("/api/pages/{page}/content")).await
}

async fn join(address: SocketAddr, page: &str, author: u64) -> Client {
    Client::join_at(address, &format!("/ws/{page}"), author).await
}

/// A reader pool without a server.
fn readers(memory: u64) -> Readers {
    Readers::new(ReaderConfig {
        workers: 1,
        memory,
        timeout: PATIENCE,
        program: Some(env!("CARGO_BIN_EXE_pageroom").into()),
    })
}

fn page(id: &str) -> PageId {
    PageId::new(id).expect("a page id")
}

fn hex(digits: &str) -> Bytes {
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("two digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

#[tokio::test]
async fn a_worker_is_started_when_something_is_read_and_has_no_surroundings() {
    let secrets = [("PAGEROOM_AUTH", "open"), ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN)];
    let (server, address) = server(&secrets).await;
    let mut ada = join(address, "page", 1).await;
    ada.write_durably("hello").await;
    assert_eq!(workers(server.id()), [0; 0], "nothing has been read yet");
    assert_eq!(content(address, "page").await.json(), json!({ "text": "hello" }));
    let [worker] = workers(server.id())[..] else {
        panic!("one worker")
    };
    let environment = fs::read(format!("/proc/{worker}/environ")).expect("an environment");
    assert_eq!(environment, b"MALLOC_ARENA_MAX=1\0", "no secrets");
    let files = fs::read_dir(format!("/proc/{worker}/fd")).expect("open files");
    let sockets = files.filter(|file| {
        let target = file
            .as_ref()
            .ok()
            .and_then(|file| fs::read_link(file.path()).ok());
        target.is_some_and(|target| target.to_string_lossy().starts_with("socket:"))
    });
    assert_eq!(sockets.count(), 0, "no sockets");
    let limits = fs::read_to_string(format!("/proc/{worker}/limits")).expect("limits");
    let memory = limits.lines().find(|line| line.starts_with("Max address space"));
    assert!(memory.is_some_and(|line| !line.contains("unlimited")), "{limits}");
}

#[tokio::test]
async fn a_worker_that_is_killed_is_replaced_while_people_type_and_read() {
    let (server, address) = server(&[]).await;
    let mut ada = join(address, "page", 1).await;
    let mut bob = join(address, "page", 2).await;
    let mut text = String::new();
    for word in ["one ", "two ", "three ", "four "] {
        ada.write_durably(word).await;
        text.push_str(word);
        assert_eq!(content(address, "page").await.json(), json!({ "text": text }));
        let killed = workers(server.id());
        for worker in &killed {
            signal("KILL", *worker);
        }
        // Typing goes on meanwhile, and another worker is there without anybody's having to ask for it.
        ada.write("and ").await;
        text.push_str("and ");
        bob.until_text(&text).await;
        ada.until_acknowledged().await;
        until("another worker", async || {
            let now = workers(server.id());
            now.len() == 1 && !killed.contains(&now[0])
        })
        .await;
    }
    assert_eq!(content(address, "page").await.json(), json!({ "text": text }));
    let described = get(address, "/api/pages/page").await.json();
    assert_eq!(described["unreadable"], false);
    assert_eq!(described["fields"], json!([{ "name": "text", "type": "text" }]));
}

#[tokio::test]
async fn a_worker_that_hangs_is_replaced_and_the_question_put_again() {
    let (server, address) = server(&[("PAGEROOM_READER_TIMEOUT_SECONDS", "1")]).await;
    let mut ada = join(address, "page", 1).await;
    let mut bob = join(address, "page", 2).await;
    ada.write_durably("hello").await;
    assert_eq!(content(address, "page").await.status, StatusCode::OK);
    let stopped = workers(server.id());
    assert_eq!(stopped.len(), 1);
    signal("STOP", stopped[0]);
    ada.write_durably(" you").await;
    let reading = tokio::spawn(async move { content(address, "page").await });
    ada.write_durably("!").await;
    bob.until_text("hello you!").await;
    let read = soon("the answer", reading).await.expect("an answer");
    assert_eq!(read.status, StatusCode::OK);
    // A signal takes effect when its process is run next.
    until("the worker that hung to be gone", async || {
        !workers(server.id()).contains(&stopped[0])
    })
    .await;
}

#[tokio::test]
async fn a_large_page_that_takes_long_keeps_no_small_one_waiting() {
    let (server, address) = server(&[("PAGEROOM_READER_TIMEOUT_SECONDS", "600")]).await;
    let mut ada = join(address, "large", 1).await;
    ada.write_durably(&"x".repeat(300 * 1024)).await;
    assert_eq!(content(address, "large").await.status, StatusCode::OK);
    let stopped = workers(server.id());
    assert_eq!(stopped.len(), 1);
    signal("STOP", stopped[0]);
    // A signal takes effect when its process is run next.
    until("all threads of the worker to stop", async || {
        let threads = fs::read_dir(format!("/proc/{}/task", stopped[0])).expect("threads");
        let status =
            |thread: fs::DirEntry| fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let mut threads = threads.filter_map(Result::ok).map(status);
        threads.all(|status| status.contains("State:\tT"))
    })
    .await;
    ada.write_durably("y").await;
    let reading = tokio::spawn(async move { content(address, "large").await });
    for number in 0..8 {
        let page = format!("small{number}");
        let mut bob = join(address, &page, 2).await;
        bob.write_durably("hello").await;
        let read = soon("the answer", content(address, &page)).await;
        assert_eq!(read.json(), json!({ "text": "hello" }));
    }
    assert!(!reading.is_finished());
    signal("CONT", stopped[0]);
    let read = soon("the answer", reading).await.expect("an answer");
    assert_eq!(read.status, StatusCode::OK);
}

/// An update of one client that makes a list of `count` lists.
fn lists(count: u64) -> Bytes {
    let mut update = vec![1];
    update.put_number(count);
    update.put_number(1);
    update.put_number(0);
    update.put_raw(&[7, 1, 1, b'l', 0]);
    for clock in 1..count {
        update.put_byte(0x87);
        update.put_number(1);
        update.put_number(clock - 1);
        update.put_byte(0);
    }
    update.put_byte(0);
    update.into()
}

#[tokio::test]
async fn a_page_that_needs_more_memory_than_a_worker_may_take_is_unreadable_and_is_edited_all_the_same() {
    let (server, address) = server(&[("PAGEROOM_READER_MEMORY_MEGABYTES", "16")]).await;
    let mut ada = join(address, "page", 1).await;
    ada.write_durably("hello").await;
    assert_eq!(content(address, "page").await.status, StatusCode::OK);
    // 1 MB, of which the document library makes a document of far more than 16 MB.
    let posted = post(address, "/api/pages/large/updates", lists(150_000)).await;
    assert_eq!(posted.status, StatusCode::OK);
    // However many ask at the same time, the page is tried by two workers and by no more.
    let asking: Vec<_> = (0..8)
        .map(|_| tokio::spawn(async move { content(address, "large").await }))
        .collect();
    for asking in asking {
        let read = asking.await.expect("an answer");
        assert_eq!(read.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(read.error(), "internal");
    }
    let described = get(address, "/api/pages/large").await.json();
    assert_eq!(
        (&described["unreadable"], &described["fields"]),
        (&json!(true), &json!([]))
    );
    // One line says so, with the page and its digest.
    let log = server.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("cannot be read"))
        .collect();
    let [line] = lines[..] else {
        panic!("one line: {log}")
    };
    assert_eq!(log.matches("is replaced").count(), 2, "{log}");
    assert!(line.contains("large") && line.contains("digest"), "{line}");
    // It is synced and stored, and so are the others.
    let mut bob = join(address, "large", 2).await;
    bob.write_durably("more").await;
    let mut carol = join(address, "large", 3).await;
    carol.until_text("more").await;
    ada.write_durably(" you").await;
    assert_eq!(
        content(address, "page").await.json(),
        json!({ "text": "hello you" })
    );
}

/// A map in root `a`, "defgh" under its key `l`, "x" behind the second tick of that; then the map is deleted.
const FREED: [&str; 2] = [
    "01030700070101610124000700016c056465666768840702017800",
    "000107010001",
];

#[tokio::test]
async fn what_makes_the_document_library_use_freed_memory_brings_down_a_worker_at_most() {
    let readers = readers(256 << 20);
    let whole = "01030700070101610124000700016c05646566676884070201780107010001";
    for _ in 0..10 {
        for (name, state) in [("two", FREED.map(hex).to_vec()), ("one", vec![hex(whole)])] {
            // It answers something, or the worker dies of it; this process goes on.
            for form in [Form::Json, Form::Text] {
                let read = readers.content(&page(name), state.clone(), form, None).await;
                assert!(
                    matches!(
                        read,
                        Ok(_) | Err(MergeError::Unread(ReadError::Unreadable { .. }))
                    ),
                    "{read:?}"
                );
            }
        }
        let mut replica = Replica::new(1);
        let state = replica.write("hello");
        let read = readers.readable(&page("neighbour"), state).await.expect("a page");
        assert_eq!(
            (read.content, read.text.as_str()),
            (json!({ "text": "hello" }), "hello")
        );
    }
}

#[tokio::test]
async fn a_page_that_no_worker_reads_is_tried_again_when_it_has_changed() {
    let readers = readers(256 << 20);
    let page = page("page");
    // No update at all.
    let broken = vec![insertion(1, 0, "a"), Bytes::from_static(b"?")];
    let failed = readers.content(&page, broken, Form::Text, None).await;
    assert!(
        matches!(failed, Err(MergeError::Unread(ReadError::Unreadable { .. }))),
        "{failed:?}"
    );
    assert!(readers.is_unreadable(&page));
    let mended = vec![insertion(1, 0, "a"), insertion(1, 1, "b")];
    let mut read = None;
    until("another try", async || {
        let text = readers.content(&page, mended.clone(), Form::Text, None).await;
        read = text.ok().flatten();
        read.is_some()
    })
    .await;
    assert_eq!(read.as_deref(), Some("ab"));
    assert!(!readers.is_unreadable(&page));
}

#[tokio::test]
async fn a_form_that_cannot_be_shown_keeps_nobody_from_the_others() {
    let readers = readers(64 << 20);
    let page = page("page");
    let mut replica = Replica::new(1);
    // As HTML each character is five, in several copies.
    let written = "&".repeat(4 << 20);
    let state = replica.write(&written);
    let read = async |form| readers.content(&page, state.clone(), form, None).await;
    let html = read(Form::Html).await;
    assert!(
        matches!(html, Err(MergeError::Unread(ReadError::Unshown { .. }))),
        "{html:?}"
    );
    assert!(!readers.is_unreadable(&page));
    assert_eq!(read(Form::Text).await, Ok(Some(written)));
    assert!(readers.fields(&page, state.clone()).await.is_ok());
    // That others were answered brings nothing back of what was not.
    let html = read(Form::Html).await;
    assert!(
        matches!(html, Err(MergeError::Unread(ReadError::Unshown { .. }))),
        "{html:?}"
    );
}

#[tokio::test]
async fn a_program_that_is_no_worker_is_an_answer_and_no_hang() {
    for (program, hint) in [
        ("/nonexistent", "cannot be started"),
        ("/bin/false", "is not a worker"),
    ] {
        let readers = Readers::new(ReaderConfig {
            workers: 1,
            memory: 1 << 20,
            timeout: PATIENCE,
            program: Some(program.into()),
        });
        let read = readers.fields(&page("page"), insertion(1, 0, "a")).await;
        assert!(read.is_err(), "{program} {hint}");
    }
}

#[tokio::test]
async fn whoever_has_a_page_already_costs_no_reading() {
    let (server, address) = server(&[]).await;
    post(address, "/api/pages/page/updates", insertion(1, 0, "hello")).await;
    let first = get(address, "/api/pages/page/content").await;
    assert_eq!(first.json(), json!({ "text": "hello" }));
    let stopped = workers(server.id());
    for worker in &stopped {
        signal("STOP", *worker);
    }
    let again = get_with(
        address,
        "/api/pages/page/content",
        &[("if-none-match", first.header("etag"))],
    )
    .await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn a_worker_ends_with_its_server_however_that_ends() {
    let (server, address) = server(&[]).await;
    post(address, "/api/pages/page/updates", insertion(1, 0, "hello")).await;
    assert_eq!(content(address, "page").await.status, StatusCode::OK);
    let [worker] = workers(server.id())[..] else {
        panic!("one worker")
    };
    server.signal("KILL");
    until("the worker to end", async || {
        let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    })
    .await;
}

#[tokio::test]
async fn what_is_read_is_what_yjs_shows() {
    let (_server, address) = server(&[]).await;
    for (update, shown) in [
        // A list of a text, a map, a number and an XML element.
        (
            "01040100080101\
             6c0177057469746c6587010001880101017d2a870102030170\
             00",
            json!({ "l": ["title", {}, 42, "<p></p>"] }),
        ),
        // Bytes under a key of a map.
        (
            "010101002801016d016201740201ff00",
            json!({ "m": { "b": { "0": 1, "1": 255 } } }),
        ),
        // An XML element with an attribute that is an object.
        (
            "010201000701017803017028000100016101760000",
            json!({ "x": "<p a=\"[object Object]\"></p>" }),
        ),
    ] {
        let page = shown
            .as_object()
            .and_then(|shown| shown.keys().next())
            .expect("a field");
        let posted = post(address, &format!("/api/pages/{page}/updates"), hex(update)).await;
        assert_eq!(posted.status, StatusCode::OK);
        assert_eq!(content(address, page).await.json(), shown);
    }
}

fn save(content: &str, candidates: &[&str]) -> Change {
    let candidates = candidates.iter().map(|content| Candidate {
        content: json!(content),
        is_certain: true,
    });
    Change::Save(Save {
        content: json!(content),
        format: None,
        default_format: Format::Text,
        field: Some("text".to_owned()),
        candidates: candidates.collect(),
        had_current: false,
    })
}

fn value(merged: &Merged<Box<RawValue>>) -> Value {
    serde_json::from_str(merged.content.get()).expect("JSON")
}

#[tokio::test]
async fn a_save_of_a_whole_content_is_merged_into_a_warm_page() {
    let readers = readers(256 << 20);
    let page = page("page");
    let mut replica = Replica::new(1);
    let state = replica.write("hello ada");
    readers.fields(&page, state.clone()).await.expect("fields");
    let change = save("hello bob", &["hello"]);
    let merged = readers
        .merge(&page, state.clone(), ClientId(7), &change)
        .await
        .expect("edits");
    assert_eq!(
        (value(&merged), merged.base, merged.differs, merged.field.as_str()),
        (json!("hello bob ada"), Some(0), true, "text")
    );
    // The page that the worker has kept is what it was, and with the edits it is what was said.
    let text = readers.content(&page, state.clone(), Form::Text, None).await;
    assert_eq!(text, Ok(Some("hello ada".to_owned())));
    let again = save("hello ada", &["hello ada"]);
    let same = readers
        .merge(&page, state.clone(), ClientId(8), &again)
        .await
        .expect("edits");
    assert!(same.update.is_empty() && !same.differs, "{same:?}");
    let Change::Save(other) = save("<p>hello</p>", &[]) else {
        panic!("a save")
    };
    let other = Change::Save(Save {
        format: Some(Format::Html),
        ..other
    });
    let refused = readers.merge(&page, state.clone(), ClientId(9), &other).await;
    let held = "text".to_owned();
    assert_eq!(refused.err(), Some(MergeRefusal::Conflict { held }.into()));
    let with_edits = vec![state, merged.update];
    let text = readers.content(&page, with_edits, Form::Text, None).await;
    assert_eq!(text, Ok(Some("hello bob ada".to_owned())));
}

#[tokio::test]
async fn a_save_of_html_is_merged_node_by_node() {
    let readers = readers(256 << 20);
    let page = page("page");
    let html = |html: &str, candidates: &[&str]| match save(html, candidates) {
        Change::Save(save) => Change::Save(Save {
            format: Some(Format::Html),
            field: None,
            ..save
        }),
        Change::Component(_) | Change::Shown(_) | Change::Edits(_) | Change::Append(_) => panic!("a save"),
    };
    let base = "<p>one</p><p>two</p>";
    let empty = Bytes::from_static(&[0, 0]);
    let first = readers.merge(&page, empty, ClientId(1), &html(base, &[])).await;
    let first = first.expect("edits").update;
    let change = html("<p>one <em>more</em></p><p>two</p>", &[base]);
    let second = readers.merge(&page, first.clone(), ClientId(2), &change).await;
    let both = vec![first, second.expect("edits").update];
    let change = html("<h1>zero</h1><p>one</p><p>two 2</p>", &[base]);
    let third = readers
        .merge(&page, both, ClientId(3), &change)
        .await
        .expect("edits");
    assert_eq!(
        (value(&third), third.differs, third.field.as_str()),
        (
            json!("<h1>zero</h1><p>one <em>more</em></p><p>two 2</p>"),
            true,
            "default"
        )
    );
}

#[tokio::test]
async fn a_page_is_not_to_blame_for_a_save_that_no_worker_can_merge() {
    let readers = readers(24 << 20);
    let page = page("page");
    let mut replica = Replica::new(1);
    let state = replica.write("hello");
    let long = "a b c d e f g ".repeat(1 << 20);
    let merged = readers
        .merge(&page, state.clone(), ClientId(7), &save(&long, &["hello"]))
        .await;
    assert!(
        matches!(merged, Err(MergeError::Unread(ReadError::Unshown { .. }))),
        "{merged:?}"
    );
    assert!(!readers.is_unreadable(&page));
    let text = readers.content(&page, state, Form::Text, None).await;
    assert_eq!(text, Ok(Some("hello".to_owned())));
}

#[tokio::test]
async fn what_cannot_stand_between_its_neighbours_is_counted() {
    let (server, address) = server(&[("PAGEROOM_SNAPSHOT_INTERVAL_SECONDS", "1")]).await;
    let counted = async || {
        let metrics = get(address, "/metrics").await.text().to_owned();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("pageroom_snapshots_misplaced_total "));
        line.and_then(|count| count.parse::<u32>().ok())
    };
    // "b" of client 100, "a" of client 200 before it, and "y" behind "b" and before "a".
    let (b, a) = ("0101640004010174016200", "0101c80100446400016100");
    let y = "01013200c46400c80100015900";
    for (page, updates) in [("page", &[b, a][..]), ("odd", &[b, a, y])] {
        for update in updates {
            let answer = post(address, &format!("/api/pages/{page}/updates"), hex(update)).await;
            assert!(answer.status.is_success(), "{}", answer.text());
        }
    }
    until("the snapshot to be looked at", async || {
        counted().await >= Some(1)
    })
    .await;
    let log = server.log();
    let lines = log.lines().filter(|line| line.contains("cannot stand"));
    let lines: Vec<_> = lines.collect();
    assert!(
        matches!(lines[..], [line] if line.contains("page=odd") && line.contains("misplaced=1")),
        "{lines:?}"
    );
    // It is served all the same.
    let text = content(address, "odd").await.text().to_owned();
    assert!(text.contains('b') && text.contains('Y'), "{text}");
}
