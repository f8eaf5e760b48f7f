//! State vectors: how far a replica knows each client's history.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::encoding::{MAX_SAFE_INTEGER, Reader, Write, number_length};
use crate::error::DecodeError;
use crate::limits::Limits;

/// The largest clock plus one. Yjs would go further, the document library's searches would not.
pub const MAX_CLOCK: u32 = 1 << 30;

/// A Yjs client id: one editing session of one program, at most 2^53 - 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

impl ClientId {
    /// The largest client id, which is the largest number JavaScript holds exactly.
    pub const MAX: Self = Self(MAX_SAFE_INTEGER);
}

impl fmt::Debug for ClientId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "client {}", self.0)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// For each client the number of its clock ticks that are known; absent means none.
///
/// On the wire: a count, then client and clock for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateVector {
    /// Sorted by client; clocks are never zero.
    clocks: Vec<(ClientId, u32)>,
}

impl StateVector {
    /// Knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a state vector from outside.
    ///
    /// # Errors
    /// When it is not one, names a client twice, or more clients than the limit.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let count = reader.count()?;
        if count > limits.max_clients_per_state_vector {
            return Err(DecodeError::TooManyClients {
                limit: limits.max_clients_per_state_vector,
            });
        }
        // Two bytes is the least an entry takes.
        let mut clocks = Vec::with_capacity(count.min(reader.remaining() / 2));
        for _ in 0..count {
            let client = ClientId(reader.number()?);
            let clock = reader.number_up_to(MAX_CLOCK)?;
            if clock > 0 {
                clocks.push((client, clock));
            }
        }
        if !reader.is_at_end() {
            return Err(DecodeError::TrailingBytes {
                position: reader.position(),
            });
        }
        clocks.sort_unstable_by_key(|&(client, _)| client);
        if let Some(pair) = clocks.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(DecodeError::DuplicateClient { client: pair[0].0 });
        }
        Ok(Self { clocks })
    }

    /// Writes the state vector, highest client first as Yjs does.
    pub fn encode(&self) -> Bytes {
        let length = self.clocks.iter().fold(
            number_length(self.clocks.len() as u64),
            |length, (client, clock)| length + number_length(client.0) + number_length(u64::from(*clock)),
        );
        let mut bytes = BytesMut::with_capacity(length);
        bytes.put_number(self.clocks.len() as u64);
        for (client, clock) in self.clocks.iter().rev() {
            bytes.put_number(client.0);
            bytes.put_number(u64::from(*clock));
        }
        bytes.freeze()
    }

    /// How many ticks of `client` are known.
    #[inline]
    pub fn get(&self, client: ClientId) -> u32 {
        match self.find(client) {
            Ok(index) => self.clocks.get(index).map_or(0, |&(_, clock)| clock),
            Err(_) => 0,
        }
    }

    /// The clients with their clocks, in the order of their ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ClientId, u32)> + DoubleEndedIterator + '_ {
        self.clocks.iter().copied()
    }

    /// How many clients are known.
    pub fn len(&self) -> usize {
        self.clocks.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.clocks.is_empty()
    }

    /// Whether everything that `other` knows is known.
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|(client, clock)| self.get(client) >= clock)
    }

    /// Raises the clock of `client` to at least `clock`.
    pub fn advance(&mut self, client: ClientId, clock: u32) {
        if clock == 0 {
            return;
        }
        match self.find(client) {
            Ok(index) => {
                if let Some(entry) = self.clocks.get_mut(index) {
                    entry.1 = entry.1.max(clock);
                }
            }
            Err(index) => self.clocks.insert(index, (client, clock)),
        }
    }

    /// Where `client` is, or would be inserted.
    #[inline]
    pub(crate) fn position(&self, client: ClientId) -> Result<usize, usize> {
        match self.clocks.last() {
            Some(&(last, _)) if last == client => Ok(self.clocks.len() - 1),
            _ => self.find(client),
        }
    }

    #[inline]
    pub(crate) fn clock_at(&self, position: usize) -> u32 {
        self.clocks.get(position).map_or(0, |&(_, clock)| clock)
    }

    #[inline]
    pub(crate) fn set_at(&mut self, position: usize, clock: u32) {
        if let Some(entry) = self.clocks.get_mut(position) {
            entry.1 = clock;
        }
    }

    /// Makes room for clients, in the order of their ids, whose clocks are about to be set.
    pub(crate) fn insert_unknown(&mut self, clients: &[ClientId]) {
        if let &[client] = clients {
            let place = self.clocks.partition_point(|&(known, _)| known < client);
            self.clocks.insert(place, (client, 0));
        } else {
            self.clocks.extend(clients.iter().map(|&client| (client, 0)));
            self.clocks.sort_by_key(|&(client, _)| client);
        }
    }

    /// Removes the clients whose clocks were not set after all.
    pub(crate) fn remove_unknown(&mut self) {
        self.clocks.retain(|&(_, clock)| clock > 0);
    }

    #[inline]
    fn find(&self, client: ClientId) -> Result<usize, usize> {
        self.clocks.binary_search_by_key(&client, |&(client, _)| client)
    }
}

impl FromIterator<(ClientId, u32)> for StateVector {
    fn from_iter<T: IntoIterator<Item = (ClientId, u32)>>(clocks: T) -> Self {
        let mut clocks: Vec<_> = clocks.into_iter().filter(|&(_, clock)| clock > 0).collect();
        clocks.sort_unstable();
        clocks.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 = later.1;
            }
            same
        });
        Self { clocks }
    }
}
