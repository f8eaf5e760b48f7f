//! State vectors: how far a replica knows each client's history.

use std::{collections::BTreeMap, fmt};

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
    /// Clocks are never zero.
    clocks: BTreeMap<ClientId, u32>,
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
        let mut clocks = BTreeMap::new();
        for _ in 0..count {
            let client = ClientId(reader.number()?);
            let clock = reader.number_up_to(MAX_CLOCK)?;
            if clock > 0 && clocks.insert(client, clock).is_some() {
                return Err(DecodeError::DuplicateClient { client });
            }
        }
        if !reader.is_at_end() {
            return Err(DecodeError::TrailingBytes {
                position: reader.position(),
            });
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

    /// How many ticks of `client` are known. Takes logarithmic time.
    #[inline]
    pub fn get(&self, client: ClientId) -> u32 {
        self.clocks.get(&client).copied().unwrap_or(0)
    }

    /// The clients with their clocks, in the order of their ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ClientId, u32)> + DoubleEndedIterator + '_ {
        self.clocks.iter().map(|(&client, &clock)| (client, clock))
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
        if clock > 0 {
            let known = self.clocks.entry(client).or_insert(clock);
            *known = clock.max(*known);
        }
    }

    /// Sets the clock of `client` back to what it was.
    pub(crate) fn set_back(&mut self, client: ClientId, clock: u32) {
        match clock {
            0 => drop(self.clocks.remove(&client)),
            _ => drop(self.clocks.insert(client, clock)),
        }
    }
}

impl FromIterator<(ClientId, u32)> for StateVector {
    fn from_iter<T: IntoIterator<Item = (ClientId, u32)>>(clocks: T) -> Self {
        let mut state_vector = Self::new();
        for (client, clock) in clocks {
            state_vector.advance(client, clock);
        }
        state_vector
    }
}
