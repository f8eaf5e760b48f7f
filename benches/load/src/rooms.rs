//! The rooms of a run: opening them, and letting their writers write.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use futures_util::{StreamExt, stream};

use super::{
    BenchError, Context,
    connection::{Connections, Outbox, Shared},
    ledger::Ledger,
    made::run_number,
    measures::{Counts, Measures, Nanos},
    member::{Member, PRESENCE_NUMBER},
    target::Target,
};

/// How many connections are being opened at the same time.
pub(super) const OPENING_MAX: usize = 64;
/// How long opening and answering may take.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);

/// The shape of the rooms of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// How many rooms.
    pub(super) rooms: usize,
    /// How many members each has.
    pub(super) clients: usize,
    /// How many of these write.
    pub(super) writers: usize,
    /// How many characters an edit has.
    pub(super) edit_length: u32,
    /// With how many unanswered edits a writer stops for an answer; `None` when it does not write by itself.
    pub(super) window: Option<u64>,
}

/// One room.
#[derive(Debug)]
pub(super) struct Room {
    /// The page.
    pub(super) name: String,
    /// The books.
    pub(super) ledger: RefCell<Ledger>,
    /// What waits to be written to each member.
    pub(super) outboxes: Vec<Rc<Outbox>>,
    /// How many edits each writer writes at most, when it writes by itself.
    quota: Cell<u64>,
}

/// All rooms of a run.
#[derive(Debug)]
pub(super) struct Rooms {
    /// The rooms.
    pub(super) rooms: Vec<Rc<Room>>,
    /// The clocks and counts of all connections.
    pub(super) shared: Rc<Shared>,
    /// What is measured.
    pub(super) measures: Rc<RefCell<Measures>>,
    connections: Connections,
    shape: Shape,
    edit: RefCell<Vec<u8>>,
}

/// The first client id of a run. Yjs draws 32 bits, nearly always five bytes on the wire.
pub(super) fn first_client() -> u64 {
    (1 << 31) | (run_number() & 0x3fff_ffff)
}

impl Rooms {
    /// Opens `shape.clients` connections to each of `shape.rooms` fresh pages, at most `pace` a second.
    pub(super) async fn open(context: &Context, shape: Shape, pace: Option<f64>) -> Result<Self, BenchError> {
        Self::open_pages(context, shape, pace, &context.made.fresh("room")).await
    }

    /// The same with `page` and a number as the names of the pages, which are of this run.
    pub(super) async fn open_pages(
        context: &Context,
        shape: Shape,
        pace: Option<f64>,
        page: &str,
    ) -> Result<Self, BenchError> {
        let first_client = first_client();
        let room = |index: usize| {
            let client = first_client + (index * shape.clients) as u64;
            Rc::new(Room {
                name: format!("{page}-{index}"),
                ledger: RefCell::new(Ledger::new(
                    client,
                    shape.clients,
                    shape.writers,
                    shape.edit_length,
                )),
                outboxes: (0..shape.clients).map(|_| Rc::default()).collect(),
                quota: Cell::new(0),
            })
        };
        let connections = Connections::default();
        let shared = connections.shared();
        let mut rooms = Self {
            rooms: (0..shape.rooms).map(room).collect(),
            shared: Rc::clone(&shared),
            measures: Rc::default(),
            connections,
            shape,
            edit: RefCell::default(),
        };
        for room in &rooms.rooms {
            context.made.add(&room.name);
        }
        let opening = rooms.connect(&context.target, context, pace);
        shared.unless_lost(opening).await??;
        if !context.target.relay {
            rooms.wait_for_step_2(context).await?;
        }
        Ok(rooms)
    }

    async fn connect(
        &mut self,
        target: &Target,
        context: &Context,
        pace: Option<f64>,
    ) -> Result<(), BenchError> {
        let Self {
            rooms,
            shared,
            measures,
            connections,
            shape,
            ..
        } = self;
        let clients = shape.rooms * shape.clients;
        context.stage(format!("opening {clients} connections"), clients as u64);
        let seats = rooms
            .iter()
            .flat_map(|room| (0..room.outboxes.len()).map(move |member| (room, member)));
        let start = shared.now();
        let opened = stream::iter(seats.enumerate()).map(|(client, (room, member))| {
            let due = pace.map_or(0, |pace| (client as f64 / pace * 1e9) as Nanos);
            let shared = Rc::clone(shared);
            async move {
                let early = due.saturating_sub(shared.now() - start);
                if early > 0 {
                    tokio::time::sleep(Duration::from_nanos(early)).await;
                }
                let opened = target.open(&room.name).await;
                let opened = opened.map_err(|source| BenchError::Open {
                    client: client + 1,
                    clients,
                    source,
                })?;
                Ok::<_, BenchError>((opened, Rc::clone(room), member))
            }
        });
        let mut opened = opened.buffer_unordered(OPENING_MAX);
        while let Some(opened) = opened.next().await {
            let (socket, room, index) = opened?;
            let Some(outbox) = room.outboxes.get(index).map(Rc::clone) else {
                continue;
            };
            if !target.relay {
                outbox.sync_step_1();
            }
            let member = Member {
                room,
                index,
                relay: target.relay,
                window: shape.window,
                measures: Rc::clone(measures),
                edit: Vec::new(),
            };
            connections.add(socket, outbox, member);
            context.progress.inc(1);
        }
        Ok(())
    }

    async fn wait_for_step_2(&self, context: &Context) -> Result<(), BenchError> {
        let clients = self.connections.len() as u64;
        let answered = || self.measures.borrow().counts.sync_steps_2;
        let waiting = context.wait_for(OPEN_DEADLINE, || clients.saturating_sub(answered()));
        match self.shared.unless_lost(waiting).await? {
            0 => Ok(()),
            waiting => Err(BenchError::Late {
                seconds: OPEN_DEADLINE.as_secs(),
                waiting,
                clients,
                what: "their sync step 2",
            }),
        }
    }

    /// How many writers there are.
    pub(super) fn writers(&self) -> usize {
        self.shape.rooms * self.shape.writers
    }

    /// Lets one writer write one edit now. Writers are numbered through all rooms.
    pub(super) fn write(&self, writer: usize) {
        let Some(room) = self.rooms.get(writer / self.shape.writers) else {
            return;
        };
        self.measures.borrow_mut().counts.written += 1;
        room.write(
            writer % self.shape.writers,
            self.shared.now(),
            &mut self.edit.borrow_mut(),
        );
    }

    /// Lets one writer show its presence now.
    pub(super) fn write_awareness(&self, writer: usize) {
        let Some(room) = self.rooms.get(writer / self.shape.writers) else {
            return;
        };
        let member = writer % self.shape.writers;
        let (client, number) = room
            .ledger
            .borrow_mut()
            .write_awareness(member, self.shared.now());
        let state = format!(
            "{{{PRESENCE_NUMBER}{number},\"user\":{{\"name\":\"Writer {member}\",\"color\":\"#30bced\"}},\
             \"cursor\":{{\"anchor\":{number},\"head\":{number}}}}}"
        );
        if let Some(outbox) = room.outboxes.get(member) {
            self.measures.borrow_mut().counts.awareness_written += 1;
            outbox.awareness(client, number, &state);
        }
    }

    /// Lets the writers of the given rooms write by themselves until each has written `quota` edits.
    pub(super) fn start(&self, rooms: std::ops::Range<usize>, quota: u64) {
        for room in self.rooms.get(rooms).unwrap_or_default() {
            room.quota.set(quota);
            for writer in 0..self.shape.writers {
                let window = self.shape.window.unwrap_or(0);
                room.refill(
                    writer,
                    writer,
                    window,
                    self.shared.now(),
                    &mut self.edit.borrow_mut(),
                    &mut self.measures.borrow_mut(),
                );
            }
        }
    }

    /// Lets no writer write by itself any more.
    pub(super) fn stop(&self) {
        for room in &self.rooms {
            room.quota.set(0);
        }
    }

    /// The counts up to now.
    pub(super) fn counts(&self) -> Counts {
        self.shared.counted(self.measures.borrow().counts)
    }

    /// How many deliveries are missing.
    pub(super) fn missing(&self) -> u64 {
        self.rooms.iter().map(|room| room.ledger.borrow().missing()).sum()
    }

    /// How many edits have not come back to their authors.
    pub(super) fn unacknowledged(&self) -> u64 {
        self.rooms
            .iter()
            .map(|room| room.ledger.borrow().unacknowledged())
            .sum()
    }

    /// Closes all connections; fails when some were lost before.
    pub(super) async fn close(self) -> Result<(), BenchError> {
        self.connections.close().await;
        self.shared.take_loss().map_or(Ok(()), Err)
    }
}

impl Room {
    /// How many edits of the first writer are confirmed; all it wrote when its `window` is so large that it does not wait.
    pub(super) fn confirmed(&self, window: u64) -> u64 {
        let ledger = self.ledger.borrow();
        let written = ledger.written(0);
        if window >= self.quota.get() {
            written
        } else {
            written - ledger.in_flight(0, 0)
        }
    }

    fn write(&self, writer: usize, now: Nanos, edit: &mut Vec<u8>) {
        edit.clear();
        self.ledger.borrow_mut().write(writer, now, edit);
        if let Some(outbox) = self.outboxes.get(writer) {
            outbox.update(edit);
        }
    }

    /// Lets a writer write until `window` of its edits have not reached `member`.
    pub(super) fn refill(
        &self,
        writer: usize,
        member: usize,
        window: u64,
        now: Nanos,
        edit: &mut Vec<u8>,
        measures: &mut Measures,
    ) {
        let (flying, written) = {
            let ledger = self.ledger.borrow();
            (ledger.in_flight(writer, member), ledger.written(writer))
        };
        let room = window
            .saturating_sub(flying)
            .min(self.quota.get().saturating_sub(written));
        for _ in 0..room {
            self.write(writer, now, edit);
        }
        measures.counts.written += room;
    }
}
