//! A client's copy of a page, and the edits its user makes: real Yjs updates (v1), written by hand.

use bytes::Bytes;
use crdt::{ClientId, Limits, StateVector, encoding::Write, testing};

/// The root type that people write into.
pub(crate) const FIELD: &str = "text";

/// `ContentString` with nothing but a parent, and with an origin.
const STRING_IN_ROOT: u8 = 4;
const STRING_AFTER: u8 = 0x80 | 4;

/// One user's copy.
pub(crate) struct Replica(testing::Replica);

impl Replica {
    /// An empty copy whose user writes as `author`.
    pub(crate) fn new(author: u64) -> Self {
        Self(testing::Replica::new(ClientId(author)))
    }

    /// The client id of its user.
    pub(crate) fn author(&self) -> u64 {
        self.0.client().0
    }

    /// How much its user has written.
    pub(crate) fn clock(&self) -> u32 {
        self.knows(self.author())
    }

    /// How much it knows of what `author` wrote.
    pub(crate) fn knows(&self, author: u64) -> u32 {
        self.0.state_vector().get(ClientId(author))
    }

    /// Writes `text` behind what this user wrote last, and returns the update.
    pub(crate) fn write(&mut self, text: &str) -> Bytes {
        let update = insertion(self.author(), self.clock(), text);
        self.receive(&update);
        update
    }

    /// Inserts `text` at an offset in UTF-16 units, and returns the update.
    pub(crate) fn insert(&mut self, at: u32, text: &str) -> Bytes {
        self.0.insert(at, text)
    }

    /// Takes in an update; one whose predecessors are missing waits for them.
    pub(crate) fn receive(&mut self, update: &[u8]) {
        self.0.apply(update);
    }

    /// Whether nothing waits for its predecessors.
    pub(crate) fn is_whole(&self) -> bool {
        !self.0.is_waiting()
    }

    /// The text.
    pub(crate) fn text(&self) -> String {
        self.0.text()
    }

    /// How much is known, encoded.
    pub(crate) fn state_vector(&self) -> Bytes {
        self.0.state_vector().encode()
    }

    /// What somebody with `state_vector` lacks.
    pub(crate) fn lacking(&self, state_vector: &[u8]) -> Bytes {
        let known = StateVector::decode(state_vector, &Limits::default()).expect("a state vector");
        self.0.diff(&known)
    }
}

/// An update in which `author` inserts `text` at `clock`, behind what it inserted last.
pub(crate) fn insertion(author: u64, clock: u32, text: &str) -> Bytes {
    let mut update = vec![1, 1];
    update.put_number(author);
    update.put_number(clock.into());
    match clock.checked_sub(1) {
        None => {
            update.put_byte(STRING_IN_ROOT);
            update.put_byte(1);
            update.put_string(FIELD);
        }
        Some(last) => {
            update.put_byte(STRING_AFTER);
            update.put_number(author);
            update.put_number(last.into());
        }
    }
    update.put_string(text);
    update.put_byte(0);
    update.into()
}

/// An update that deletes `length` of what `author` wrote from `clock` on.
pub(crate) fn deletion(author: u64, clock: u32, length: u32) -> Bytes {
    let mut update = vec![0, 1];
    update.put_number(author);
    update.put_byte(1);
    update.put_number(clock.into());
    update.put_number(length.into());
    update.into()
}

/// The text that an update makes of an empty page.
pub(crate) fn text_of(update: &[u8]) -> String {
    let mut reader = Replica::new(0);
    reader.receive(update);
    assert!(reader.is_whole(), "an update that needs others is no page");
    reader.text()
}
