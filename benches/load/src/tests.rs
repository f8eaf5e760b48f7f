//! Load runs against a small server that keeps its word, and against ones that do not.

use std::{cell::Cell, cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use bytes::Bytes;
use clap::Parser;
use crdt::{Admission, Document, Limits, Message, Update};
use futures_util::{SinkExt, StreamExt};
use indicatif::ProgressBar;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::LocalOptions,
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::{self, handshake::server::Request, protocol::CloseFrame};

use super::{
    BenchArgs, BenchError, Context, Fault, FetchError,
    desk::sit_down,
    edits::{Load, Outcome, measure},
    fetch::fetch,
    load,
    made::Made,
    replica::Replica,
    rooms::{OPENING_MAX, Shape},
    target::Target,
};

/// How the server fails.
#[derive(Clone, Copy, PartialEq)]
enum Failing {
    Never,
    /// It forgets one update on its way to the others.
    Forgets,
    /// It sends one update twice.
    Repeats,
    /// It does not send one update back to its author.
    Withholds,
    /// It hangs up on one author.
    HangsUp,
    /// It lets everybody connect, and says then that it lets nobody in.
    Refuses,
}

struct Room {
    document: Document,
    members: Vec<mpsc::Sender<Bytes>>,
}

struct Server {
    failing: Failing,
    connections: Cell<usize>,
    updates: Cell<usize>,
    rooms: RefCell<BTreeMap<String, Room>>,
}

/// The update at which the server fails.
const FAILS_AT: usize = 20;

impl Server {
    /// Starts the server; returns what a run needs to find it.
    async fn start(failing: Failing) -> Context {
        Self::start_counting(failing).await.0
    }

    /// The same, with what it has counted.
    async fn start_counting(failing: Failing) -> (Context, Rc<Self>) {
        let server = Rc::new(Self {
            failing,
            connections: Cell::new(0),
            updates: Cell::new(0),
            rooms: RefCell::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let accepting = Rc::clone(&server);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = Rc::clone(&accepting);
                server.connections.set(server.connections.get() + 1);
                tokio::task::spawn_local(async move { server.serve(stream).await });
            }
        });
        let target = Target::find(&format!("ws://{address}/ws"), None, false)
            .await
            .expect("a server");
        let context = Context {
            target,
            made: Made::default(),
            process: None,
            progress: ProgressBar::hidden(),
        };
        (context, server)
    }

    #[expect(clippy::result_large_err, reason = "the form is the library's")]
    async fn serve(self: Rc<Self>, stream: TcpStream) {
        let mut page = String::new();
        let accepted = tokio_tungstenite::accept_hdr_async(stream, |request: &Request, response| {
            page = request.uri().path().to_owned();
            Ok(response)
        });
        let mut socket = accepted.await.expect("a WebSocket client");
        if self.failing == Failing::Refuses {
            let frame = CloseFrame {
                code: 4401.into(),
                reason: "token_expired: the token\u{7} has expired".into(),
            };
            // Whoever has gone already needs no reason.
            let _ = socket.close(Some(frame)).await;
            while let Some(Ok(_)) = socket.next().await {}
            return;
        }
        let (sender, mut outgoing) = mpsc::channel(100_000);
        let number = {
            let mut rooms = self.rooms.borrow_mut();
            let room = rooms.entry(page.clone()).or_insert_with(|| Room {
                document: Document::new(Limits::default()),
                members: Vec::new(),
            });
            room.members.push(sender.clone());
            room.members.len() - 1
        };
        loop {
            tokio::select! {
                Some(frame) = outgoing.recv() => {
                    if socket.send(tungstenite::Message::Binary(frame)).await.is_err() {
                        return;
                    }
                }
                frame = socket.next() => match frame {
                    Some(Ok(tungstenite::Message::Binary(frame))) => {
                        if !self.take(&page, number, &sender, &frame) {
                            return;
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                }
            }
        }
    }

    /// Takes a frame; false when the server hangs up.
    fn take(&self, page: &str, author: usize, answers: &mpsc::Sender<Bytes>, frame: &Bytes) -> bool {
        let mut rooms = self.rooms.borrow_mut();
        let room = rooms.get_mut(page).expect("a room that was joined");
        for message in Message::decode(frame) {
            match message.expect("a y-websocket message") {
                Message::SyncStep1(_) => {
                    let whole = room.document.encode().expect("a whole document");
                    answers
                        .try_send(crdt::message::sync_step_2(&whole))
                        .expect("room in the queue");
                    answers
                        .try_send(crdt::message::sync_step_1(&[0]))
                        .expect("room in the queue");
                }
                Message::Update(update) => {
                    let parsed =
                        Update::parse(update.clone(), &Limits::default()).expect("a well-formed update");
                    let admitted = room.document.admit(parsed).expect("an update that may enter");
                    assert!(
                        matches!(admitted, Admission::New(_)),
                        "an edit that follows the ones before it"
                    );
                    self.updates.set(self.updates.get() + 1);
                    let failing = if self.updates.get() == FAILS_AT {
                        self.failing
                    } else {
                        Failing::Never
                    };
                    for (number, member) in room.members.iter().enumerate() {
                        let times = match failing {
                            Failing::Forgets if number != author => 0,
                            Failing::Withholds if number == author => 0,
                            Failing::Repeats => 2,
                            Failing::Never
                            | Failing::Forgets
                            | Failing::Withholds
                            | Failing::HangsUp
                            | Failing::Refuses => 1,
                        };
                        for _ in 0..times {
                            // Members that have gone are not served any more.
                            let _ = member.try_send(crdt::message::update(&update));
                        }
                    }
                    if failing == Failing::HangsUp {
                        return false;
                    }
                }
                Message::SyncStep2(_)
                | Message::Awareness(_)
                | Message::PermissionDenied(_)
                | Message::QueryAwareness
                | Message::Unknown { .. } => {}
            }
        }
        true
    }
}

fn on_one_thread<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    runtime.expect("a runtime").block_on(test)
}

/// Two rooms with three clients, two of which write.
fn run(failing: Failing, rate: Option<f64>) -> Result<Outcome, BenchError> {
    let window = if rate.is_none() { Some(4) } else { None };
    let load = Load {
        shape: Shape {
            rooms: 2,
            clients: 3,
            writers: 2,
            edit_length: 3,
            window,
        },
        rate,
        awareness: 0.0,
        warmup: Duration::ZERO,
        duration: Duration::from_millis(300),
        drain: Duration::from_millis(500),
        verify: true,
    };
    on_one_thread(async { measure(&Server::start(failing).await, &load).await })
}

#[test]
fn every_edit_is_delivered_and_acknowledged_once() {
    for rate in [Some(100.0), None] {
        let outcome = run(Failing::Never, rate).expect("a run that ends well");
        assert!(outcome.counts.written > FAILS_AT as u64);
        assert_eq!((outcome.missing, outcome.unacknowledged, outcome.lost), (0, 0, 0));
        assert_eq!((outcome.counts.overlapping, outcome.out_of_order), (0, 0));
        assert!(outcome.propagation.count >= 2 * outcome.acknowledgement.count);
        assert_eq!(
            outcome.due(&Shape {
                rooms: 2,
                clients: 3,
                writers: 2,
                edit_length: 3,
                window: None
            }),
            outcome.counts.written * 2
        );
    }
}

#[test]
fn an_update_that_is_not_delivered_is_missed() {
    let outcome = run(Failing::Forgets, Some(100.0)).expect("a run that ends");
    // What follows the gap cannot be used either.
    assert!(outcome.missing >= 2, "{}", outcome.missing);
    assert!(outcome.out_of_order > 0);
    assert_eq!((outcome.unacknowledged, outcome.lost), (0, 0));
}

#[test]
fn an_update_that_does_not_come_back_is_not_acknowledged() {
    let outcome = run(Failing::Withholds, Some(100.0)).expect("a run that ends");
    assert!(outcome.unacknowledged > 0);
    assert_eq!(outcome.missing, 0);
}

#[test]
fn an_update_that_comes_twice_is_an_overlap() {
    let outcome = run(Failing::Repeats, Some(100.0)).expect("a run that ends well");
    assert_eq!(outcome.counts.overlapping, 3);
    assert_eq!(outcome.missing, 0);
}

#[test]
fn a_lost_connection_fails_the_run() {
    let lost = run(Failing::HangsUp, Some(100.0));
    assert!(matches!(lost, Err(BenchError::Lost { count: 1, .. })), "{lost:?}");
}

#[derive(clap::Parser)]
struct CommandLine {
    #[command(flatten)]
    args: BenchArgs,
}

#[test]
fn a_refusal_ends_every_run_at_once_and_says_why() {
    for line in [
        "bench --rooms 200",
        "bench limit --rooms 50",
        "bench idle",
        "bench idle --joins-per-second 0.1",
        "bench pages",
        "bench pages --page another",
        "bench joins --page-bytes 1000",
        "bench joins --page another",
    ] {
        let CommandLine { args } = CommandLine::try_parse_from(line.split(' ')).expect("a command");
        on_one_thread(async {
            let (context, server) = Server::start_counting(Failing::Refuses).await;
            let run = load(&context, &args.load, args.scenario);
            let ended = tokio::time::timeout(Duration::from_secs(10), run).await;
            let error = ended
                .expect("an end long before a deadline")
                .expect_err("a refusal");
            let (BenchError::Lost { first: fault, .. } | BenchError::Fetch(FetchError::Fault(fault))) =
                &error
            else {
                panic!("{line}: {error}");
            };
            assert!(
                matches!(fault, Fault::Closed { code: 4401, .. }),
                "{line}: {error}"
            );
            let said = error.to_string();
            assert!(
                said.ends_with(
                    "the server hung up with code 4401: token_expired: the token\u{fffd} has expired"
                ),
                "{line}: {said}"
            );
            let connections = server.connections.get();
            assert!(connections < 2 * OPENING_MAX, "{line}: {connections} connections");
        });
    }
}

#[test]
fn the_pages_of_a_run_have_names_of_their_own_with_one_beginning() {
    let (made, other) = (Made::default(), Made::default());
    let names = [made.fresh("room"), made.fresh("room"), made.fresh("room")];
    assert!(names.iter().all(|name| name.starts_with(&made.prefix())));
    assert!(names[0] != names[1] && names[1] != names[2], "{names:?}");
    assert!(made.is_empty(), "a name is no page");
    made.add(&names[0]);
    assert!(!made.is_empty() && other.is_empty());
}

#[test]
fn a_text_that_is_typed_again_is_on_the_page() {
    on_one_thread(async {
        let context = Server::start(Failing::Never).await;
        let mut replica = Replica::new(9);
        let edits = [(0, 0, "pager"), (5, 0, "oom"), (4, 1, "R")]
            .map(|(position, deleted, text)| replica.edit(&[(position, deleted, text.to_owned())]));
        let desks = sit_down(&context, "a page", 9, edits.into(), 2)
            .await
            .expect("two connections");
        let typed = desks.type_all(&context).await;
        assert_eq!((typed.missing, typed.unacknowledged, typed.seen.len()), (0, 0, 4));
        typed.close().await.expect("no lost connection");
        let fetched = fetch(&context.target, "a page", None).await.expect("the page");
        let again = fetch(&context.target, "a page", Some(&fetched.frame))
            .await
            .expect("the same page");
        assert!(again.update.is_empty());
        let mut document =
            Document::load(Limits::default(), [fetched.update.into()]).expect("a whole document");
        let text = document.content().expect("content").text(None).expect("text");
        assert_eq!(text.as_deref(), Some("pageRoom"));
        assert!(
            fetch(&context.target, "another page", Some(&fetched.frame))
                .await
                .is_err()
        );
    });
}
