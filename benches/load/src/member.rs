//! What one client does with what it receives: it keeps the books, confirms, and answers.

use std::{cell::RefCell, rc::Rc};

use crdt::encoding::Reader;

use super::{
    connection::{Fault, Message, Receive},
    measures::{Measures, Nanos},
    rooms::Room,
    updates::{Part, read_update},
};

/// What a member's presence says, but for the number of the message and the writer.
pub(super) const PRESENCE_NUMBER: &str = "\"n\":";

/// One client.
pub(super) struct Member {
    /// Where it is.
    pub(super) room: Rc<Room>,
    /// Its number in the room.
    pub(super) index: usize,
    /// The server is a relay.
    pub(super) relay: bool,
    /// With how many unconfirmed edits a writer stops; `None` when it does not write by itself.
    pub(super) window: Option<u64>,
    /// The run's.
    pub(super) measures: Rc<RefCell<Measures>>,
    /// Kept for its memory.
    pub(super) edit: Vec<u8>,
}

impl Receive for Member {
    fn receive(&mut self, message: Message<'_>, now: Nanos) -> Result<(), Fault> {
        let measures = Rc::clone(&self.measures);
        let measures = &mut *measures.borrow_mut();
        match message {
            Message::SyncStep1 => {
                measures.counts.sync_steps_1 += 1;
                self.answer_step_1();
            }
            Message::SyncStep2(update) => {
                measures.counts.sync_steps_2 += 1;
                self.take(update, now, measures)?;
            }
            Message::Update(update) => {
                measures.counts.update_frames += 1;
                self.take(update, now, measures)?;
            }
            Message::Awareness(update) => self.take_awareness(update, now, measures)?,
            Message::Other => {}
        }
        Ok(())
    }
}

impl Member {
    /// A server that asks gets what this client wrote; a relay passes on the questions of other clients, for nobody.
    fn answer_step_1(&mut self) {
        if let (false, Some(outbox)) = (self.relay, self.room.outboxes.get(self.index)) {
            self.edit.clear();
            self.room.ledger.borrow().write_all(self.index, &mut self.edit);
            outbox.sync_step_2(&self.edit);
        }
    }

    fn take(&mut self, update: &[u8], now: Nanos, measures: &mut Measures) -> Result<(), Fault> {
        let Self {
            room,
            index,
            relay,
            window,
            edit,
            ..
        } = self;
        read_update(update, |part: Part| {
            let writer = room.ledger.borrow_mut().arrived(*index, part, now, measures)?;
            // Who confirms a writer's edits: the server by sending them back, or at a relay the next member.
            let confirms = if *relay {
                (writer + 1) % room.outboxes.len()
            } else {
                writer
            };
            if let (Some(window), true) = (*window, confirms == *index) {
                room.refill(writer, *index, window, now, edit, measures);
            }
            Ok(())
        })?;
        Ok(())
    }

    fn take_awareness(&mut self, update: &[u8], now: Nanos, measures: &mut Measures) -> Result<(), Fault> {
        let mut reader = Reader::new(update);
        for _ in 0..reader.count()? {
            let client = reader.number()?;
            reader.number()?;
            let state = reader.string()?;
            let digits = state
                .split_once(PRESENCE_NUMBER)
                .and_then(|(_, rest)| rest.split([',', '}']).next());
            if let Some(number) = digits.and_then(|digits| digits.parse().ok()) {
                self.room
                    .ledger
                    .borrow_mut()
                    .awareness_arrived(self.index, client, number, now, measures);
            }
        }
        Ok(())
    }
}
