//! The clients of the former generations of a page: who names one of them speaks of a document that is no more.
//!
//! When a page is rebuilt, its items get new ids. A replica of the former document still knows the old ones, and what it writes builds on
//! them: it has to start anew before it can join in. It shows by the clients that it names. What does not give it away is an update
//! of a client that wrote nothing before and that builds on nothing, a value under a key that had none for example: such an
//! update means the same in every generation.
//!
//! ```text
//! count, the first client, and for each of the others in order: how many ids lie between it and the one before
//! ```

use bytes::Bytes;
use thiserror::Error;

use crate::encoding::{MAX_SAFE_INTEGER, ReadError, Reader, Write};
use crate::error::DecodeError;
use crate::limits::Limits;
use crate::state_vector::{ClientId, StateVector};
use crate::update::{Parent, Update, read_struct};

/// How many clients are remembered of one page, in eight bytes of memory each.
pub const MAX_ENDED_CLIENTS: usize = 1_000_000;

/// More clients have written in the generations of a page than are remembered. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the generations of the page have more than {MAX_ENDED_CLIENTS} clients, which is as many as are remembered"
)]
pub struct TooManyEndedClients;

/// The ids of all clients that wrote in former generations of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndedClients {
    /// In order, each once.
    clients: Vec<ClientId>,
}

impl EndedClients {
    /// There was no former generation.
    pub fn new() -> Self {
        Self::default()
    }

    /// These and the clients of a document that ends now, which has this state vector. Takes time in proportion to both.
    ///
    /// # Errors
    /// When they are more than [`MAX_ENDED_CLIENTS`].
    pub fn with(&self, ended: &StateVector) -> Result<Self, TooManyEndedClients> {
        let mut clients = Vec::with_capacity(self.clients.len() + ended.len());
        clients.extend_from_slice(&self.clients);
        clients.extend(ended.iter().map(|(client, _)| client));
        // Both are in order, which this sort finds and merges.
        clients.sort();
        clients.dedup();
        match clients.len() <= MAX_ENDED_CLIENTS {
            true => Ok(Self { clients }),
            false => Err(TooManyEndedClients),
        }
    }

    /// Reads what [`EndedClients::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are anything else, or name more than [`MAX_ENDED_CLIENTS`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let count = reader.count()?;
        if count > MAX_ENDED_CLIENTS {
            return Err(DecodeError::TooManyClients {
                limit: MAX_ENDED_CLIENTS,
            });
        }
        let mut clients = Vec::with_capacity(count);
        let mut least = 0;
        for _ in 0..count {
            let position = reader.position();
            // Neither has more than 54 bits.
            let client = least + reader.number()?;
            if client > MAX_SAFE_INTEGER {
                return Err(ReadError::InvalidNumber { position }.into());
            }
            clients.push(ClientId(client));
            least = client + 1;
        }
        match reader.is_at_end() {
            true => Ok(Self { clients }),
            false => Err(DecodeError::TrailingBytes {
                position: reader.position(),
            }),
        }
    }

    /// The ids as bytes: about four for each when there are few, fewer the more there are.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(8 + 5 * self.clients.len());
        out.put_number(self.clients.len() as u64);
        let mut least = 0;
        for &ClientId(client) in &self.clients {
            out.put_number(client - least);
            least = client + 1;
        }
        out.into()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there was no former generation in which anybody wrote.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Whether a client wrote in a former generation. Takes logarithmic time.
    pub fn contains(&self, client: ClientId) -> bool {
        self.clients.binary_search(&client).is_ok()
    }

    /// Whether a state vector names one of them: it is that of a replica of a former generation. Takes time in proportion to the state
    /// vector, times the logarithm of the number of clients; none when there are none.
    pub fn knows_any_of(&self, state_vector: &StateVector) -> bool {
        !self.is_empty() && state_vector.iter().any(|(client, _)| self.contains(client))
    }

    /// Whether an update names one of them: as an author, as the neighbour or the parent of something new, or in what is deleted. Takes
    /// time in proportion to the update, times the logarithm of the number of clients; none when there are none.
    pub fn are_named_in(&self, update: &Update) -> bool {
        if self.is_empty() {
            return false;
        }
        // Mostly it is the same one again.
        let mut last = None;
        let mut is_ended = |client| {
            let is_known = last == Some(client);
            last = Some(client);
            !is_known && self.contains(client)
        };
        let mut is_named = false;
        update.each_delete(|found| is_named = is_named || is_ended(found.client));
        let mut sections = update.sections().iter();
        is_named
            || sections.any(|section| {
                let mut reader = Reader::starting_at(update.bytes(), section.first as usize);
                is_ended(section.client)
                    || (0..section.count).any(|_| {
                        let Ok(read) = read_struct::<true>(&mut reader, &Limits::trusted()) else {
                            debug_assert!(false, "the structs were checked when the update was parsed");
                            return false;
                        };
                        let parent = match read.parent {
                            Some(Parent::Nested(id)) => Some(id),
                            Some(Parent::Root(_)) | None => None,
                        };
                        let mut named = [read.origin, read.right_origin, parent].into_iter().flatten();
                        named.any(|id| is_ended(id.client))
                    })
            })
    }
}
