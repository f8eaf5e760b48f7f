//! A bounded place for updates that arrived before what they depend on.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::document::Missing;
use crate::state_vector::StateVector;
use crate::update::Update;

/// How much may be parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParkingLimits {
    /// How many updates.
    pub max_updates: usize,
    /// How many bytes of updates.
    pub max_bytes: usize,
    /// How long an update may wait.
    pub max_age: Duration,
}

impl Default for ParkingLimits {
    fn default() -> Self {
        Self {
            max_updates: 1024,
            max_bytes: 16 << 20,
            max_age: Duration::from_secs(60),
        }
    }
}

/// There is no room for another update. It was not kept; its sender still has it and must send it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many updates wait for changes that have not arrived")]
pub struct ParkingFull;

/// Early updates, oldest first, each with a tag that says whose it is.
#[derive(Debug)]
pub struct Parking<T> {
    limits: ParkingLimits,
    bytes: usize,
    parked: VecDeque<Parked<T>>,
}

#[derive(Debug)]
struct Parked<T> {
    tag: T,
    since: Instant,
    missing: Missing,
    update: Update,
}

impl<T: PartialEq> Parking<T> {
    /// An empty place.
    pub fn new(limits: ParkingLimits) -> Self {
        Self {
            limits,
            bytes: 0,
            parked: VecDeque::new(),
        }
    }

    /// Keeps an update until `missing` is there.
    ///
    /// # Errors
    /// When it would exceed the limits; it is not kept then.
    pub fn park(
        &mut self,
        now: Instant,
        tag: T,
        update: Update,
        missing: Missing,
    ) -> Result<(), ParkingFull> {
        let bytes = self.bytes + update.len();
        if self.parked.len() >= self.limits.max_updates || bytes > self.limits.max_bytes {
            return Err(ParkingFull);
        }
        self.bytes = bytes;
        self.parked.push_back(Parked {
            tag,
            since: now,
            missing,
            update: update.unpinned(),
        });
        Ok(())
    }

    /// Takes out, oldest first, what is no longer known to miss anything. To be admitted again, after which there may
    /// be more.
    pub fn take_ready(&mut self, known: &StateVector) -> Vec<(T, Update)> {
        self.take(|parked| known.get(parked.missing.client) >= parked.missing.clock)
    }

    /// Takes out everything of one tag.
    pub fn remove(&mut self, tag: &T) -> Vec<(T, Update)> {
        self.take(|parked| parked.tag == *tag)
    }

    /// Whether something of this tag waits.
    pub fn holds(&self, tag: &T) -> bool {
        self.parked.iter().any(|parked| parked.tag == *tag)
    }

    /// Takes out what has waited too long.
    pub fn expire(&mut self, now: Instant) -> Vec<(T, Update)> {
        let max_age = self.limits.max_age;
        self.take(|parked| now.saturating_duration_since(parked.since) >= max_age)
    }

    /// When [`Parking::expire`] will next have something.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.parked
            .front()
            .map(|parked| parked.since + self.limits.max_age)
    }

    /// How many updates wait.
    pub fn len(&self) -> usize {
        self.parked.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    /// How many bytes of updates wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn take(&mut self, mut wanted: impl FnMut(&Parked<T>) -> bool) -> Vec<(T, Update)> {
        if !self.parked.iter().any(&mut wanted) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        for parked in std::mem::take(&mut self.parked) {
            if wanted(&parked) {
                self.bytes -= parked.update.len();
                taken.push((parked.tag, parked.update));
            } else {
                self.parked.push_back(parked);
            }
        }
        taken
    }
}
