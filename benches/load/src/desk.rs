//! One author who sends prepared edits to a page, and somebody who looks on.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use super::{
    BenchError, Context,
    connection::{Connections, Fault, Message, Outbox, Receive, Shared},
    measures::{Latencies, LatencySummary, Nanos},
    replica::Edit,
    updates::{Part, read_update},
};

/// How long the server may take for the whole text.
const TYPING_LIMIT: Duration = Duration::from_secs(600);
/// How long joining may take.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);

/// Which edits of one author have arrived somewhere.
#[derive(Debug)]
struct Progress {
    client: u64,
    written: Vec<bool>,
    deleted: Vec<bool>,
    /// Everything below this clock is written.
    frontier: u32,
    /// How many edits have arrived, counted in their order.
    edits: usize,
}

impl Progress {
    fn new(client: u64, edits: &[Edit]) -> Self {
        let clocks = edits.last().map_or(0, |edit| edit.clock) as usize;
        Self {
            client,
            written: vec![false; clocks],
            deleted: vec![false; clocks],
            frontier: 0,
            edits: 0,
        }
    }

    /// Takes a part of an update; false when it is not of this author.
    fn arrived(&mut self, part: Part) -> bool {
        let (client, start, end, flags) = match part {
            Part::Written { client, start, end } => (client, start, end, &mut self.written),
            Part::Deleted { client, start, end } => (client, start, end, &mut self.deleted),
        };
        match flags.get_mut(start as usize..end as usize) {
            Some(flags) if client == self.client => flags.fill(true),
            _ => return false,
        }
        true
    }

    /// Counts the edits that are complete now.
    fn advance(&mut self, edits: &[Edit]) {
        while self.written.get(self.frontier as usize) == Some(&true) {
            self.frontier += 1;
        }
        while let Some(edit) = edits.get(self.edits) {
            let gone = |(clock, length): &(u32, u32)| {
                let range = *clock as usize..(*clock + *length) as usize;
                self.deleted
                    .get(range)
                    .is_some_and(|flags| flags.iter().all(|deleted| *deleted))
            };
            if edit.clock > self.frontier || !edit.deletions.iter().all(gone) {
                break;
            }
            self.edits += 1;
        }
    }
}

/// What author and onlooker share.
struct Desk {
    edits: Vec<Edit>,
    /// When each edit was sent.
    sent: RefCell<Vec<Nanos>>,
    window: usize,
    author: Rc<Outbox>,
    synced: Cell<u64>,
    acknowledged: Cell<usize>,
    delivered: Cell<usize>,
    frames: Cell<u64>,
    acknowledgement: RefCell<Latencies>,
    propagation: RefCell<Latencies>,
    /// The updates that the onlooker got.
    seen: RefCell<Vec<Vec<u8>>>,
    relay: bool,
}

impl Desk {
    /// Sends edits until as many as the window allows are not confirmed.
    fn send(&self, now: Nanos) {
        let confirmed = if self.relay {
            self.delivered.get()
        } else {
            self.acknowledged.get()
        };
        let mut sent = self.sent.borrow_mut();
        let waiting = self.edits.get(sent.len()..).unwrap_or_default();
        let free = (confirmed + self.window).saturating_sub(sent.len());
        for edit in waiting.iter().take(free) {
            self.author.update(&edit.update);
            sent.push(now);
        }
    }
}

/// One of the two connections.
struct Seat {
    desk: Rc<Desk>,
    author: bool,
    outbox: Rc<Outbox>,
    progress: Progress,
}

impl Receive for Seat {
    fn receive(&mut self, message: Message<'_>, now: Nanos) -> Result<(), Fault> {
        let desk = &*self.desk;
        let update = match message {
            Message::SyncStep1 => {
                // Both begin with nothing, and say so only to a server that asks at the beginning.
                if !desk.relay && desk.sent.borrow().is_empty() {
                    self.outbox.sync_step_2(&[0, 0]);
                }
                return Ok(());
            }
            Message::SyncStep2(update) => {
                desk.synced.set(desk.synced.get() + 1);
                update
            }
            Message::Update(update) => {
                desk.frames.set(desk.frames.get() + 1);
                update
            }
            Message::Awareness(_) | Message::Other => return Ok(()),
        };
        let mut foreign = None;
        read_update(update, |part| {
            if !self.progress.arrived(part) {
                foreign = Some(part);
            }
            Ok(())
        })?;
        if let Some(Part::Written { client, .. } | Part::Deleted { client, .. }) = foreign {
            return Err(super::updates::UpdateError::ForeignClient(client).into());
        }
        let before = self.progress.edits;
        self.progress.advance(&desk.edits);
        let (latencies, reached) = if self.author {
            (&desk.acknowledgement, &desk.acknowledged)
        } else {
            desk.seen.borrow_mut().push(update.to_vec());
            (&desk.propagation, &desk.delivered)
        };
        let mut latencies = latencies.borrow_mut();
        for sent in desk
            .sent
            .borrow()
            .get(before..self.progress.edits)
            .unwrap_or_default()
        {
            latencies.record(now - sent);
        }
        reached.set(self.progress.edits);
        if self.author != desk.relay {
            desk.send(now);
        }
        Ok(())
    }
}

/// What became of the edits.
#[derive(Debug)]
pub(super) struct Typed {
    /// From the first edit until all had arrived and were acknowledged.
    pub(super) duration: Duration,
    /// Edits that did not reach the onlooker.
    pub(super) missing: u64,
    /// Edits that did not come back to the author.
    pub(super) unacknowledged: u64,
    /// Frames with updates to the two.
    pub(super) frames: u64,
    /// From the author to the onlooker.
    pub(super) propagation: LatencySummary,
    /// From the author back to it.
    pub(super) acknowledgement: LatencySummary,
    /// The updates that the onlooker got.
    pub(super) seen: Vec<Vec<u8>>,
    connections: Connections,
}

impl Typed {
    /// Closes the two connections; fails when one was lost before.
    pub(super) async fn close(self) -> Result<(), BenchError> {
        let shared = self.connections.shared();
        self.connections.close().await;
        shared.take_loss().map_or(Ok(()), Err)
    }
}

/// Two connections to a page, before the first edit.
pub(super) struct Desks {
    desk: Rc<Desk>,
    connections: Connections,
    shared: Rc<Shared>,
}

/// Opens `page` twice, for the author of `edits`, which are of `client`, and for an onlooker.
pub(super) async fn sit_down(
    context: &Context,
    page: &str,
    client: u64,
    edits: Vec<Edit>,
    window: usize,
) -> Result<Desks, BenchError> {
    let relay = context.target.relay;
    let mut connections = Connections::default();
    let desk = Rc::new(Desk {
        sent: RefCell::new(Vec::with_capacity(edits.len())),
        edits,
        window: window.max(1),
        author: Rc::default(),
        synced: Cell::new(0),
        acknowledged: Cell::new(0),
        delivered: Cell::new(0),
        frames: Cell::new(0),
        acknowledgement: RefCell::default(),
        propagation: RefCell::default(),
        seen: RefCell::default(),
        relay,
    });
    for author in [false, true] {
        let opened = context.target.open(page).await;
        let opened = opened.map_err(|source| BenchError::Open {
            client: 1 + usize::from(author),
            clients: 2,
            source,
        })?;
        let outbox = if author {
            Rc::clone(&desk.author)
        } else {
            Rc::default()
        };
        if !relay {
            outbox.sync_step_1();
        }
        let progress = Progress::new(client, &desk.edits);
        connections.add(
            opened,
            Rc::clone(&outbox),
            Seat {
                desk: Rc::clone(&desk),
                author,
                outbox,
                progress,
            },
        );
    }
    let shared = connections.shared();
    let waiting = || if relay { 0 } else { 2 - desk.synced.get().min(2) };
    let waiting = shared
        .unless_lost(context.wait_for(OPEN_DEADLINE, waiting))
        .await?;
    if waiting > 0 {
        let seconds = OPEN_DEADLINE.as_secs();
        return Err(BenchError::Late {
            seconds,
            waiting,
            clients: 2,
            what: "their sync step 2",
        });
    }
    Ok(Desks {
        desk,
        connections,
        shared,
    })
}

impl Desks {
    /// Sends all edits and waits until they have arrived.
    pub(super) async fn type_all(self, context: &Context) -> Typed {
        let Self {
            desk,
            connections,
            shared,
        } = self;
        let start = shared.now();
        let total = desk.edits.len();
        context.stage(format!("typing {total} edits"), total as u64);
        desk.send(start);
        let left = || {
            let acknowledged = if desk.relay {
                total
            } else {
                desk.acknowledged.get()
            };
            let arrived = desk.delivered.get().min(acknowledged);
            context.progress.set_position(arrived as u64);
            if shared.has_lost() {
                0
            } else {
                (total - arrived) as u64
            }
        };
        context.wait_for(TYPING_LIMIT, left).await;
        Typed {
            duration: Duration::from_nanos(shared.now() - start),
            missing: (total - desk.delivered.get()) as u64,
            unacknowledged: if desk.relay {
                0
            } else {
                (total - desk.acknowledged.get()) as u64
            },
            frames: desk.frames.get(),
            propagation: desk.propagation.borrow().summary(),
            acknowledgement: desk.acknowledgement.borrow().summary(),
            seen: desk.seen.take(),
            connections,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Replica;

    fn progress(edits: &[Edit], parts: &[Part]) -> usize {
        let mut progress = Progress::new(9, edits);
        for part in parts {
            assert!(progress.arrived(*part), "{part:?}");
        }
        progress.advance(edits);
        progress.edits
    }

    #[test]
    fn an_edit_has_arrived_when_its_insertion_and_its_deletion_have() {
        let mut replica = Replica::new(9);
        let edits: Vec<_> = [(0, 0, "abc"), (1, 1, ""), (1, 1, "X")]
            .map(|(position, deleted, text)| replica.edit(&[(position, deleted, text.to_owned())]))
            .into();
        let written = |start, end| Part::Written {
            client: 9,
            start,
            end,
        };
        let deleted = |start, end| Part::Deleted {
            client: 9,
            start,
            end,
        };
        assert_eq!(progress(&edits, &[written(0, 3)]), 1);
        assert_eq!(progress(&edits, &[written(0, 3), deleted(1, 2)]), 2);
        assert_eq!(progress(&edits, &[written(0, 4), deleted(1, 2)]), 2);
        assert_eq!(progress(&edits, &[written(0, 4), deleted(1, 3)]), 3);
        assert_eq!(progress(&edits, &[written(3, 4), deleted(1, 3)]), 0);
    }

    #[test]
    fn what_the_author_did_not_write_is_told() {
        let mut replica = Replica::new(9);
        let edits = [replica.edit(&[(0, 0, "abc".to_owned())])];
        let mut progress = Progress::new(9, &edits);
        assert!(!progress.arrived(Part::Written {
            client: 8,
            start: 0,
            end: 1
        }));
        assert!(!progress.arrived(Part::Written {
            client: 9,
            start: 0,
            end: 4
        }));
    }
}
