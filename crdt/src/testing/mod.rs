//! For tests: seeded editing clients, recorded editing sessions, and readable dumps of updates.
#![expect(
    clippy::expect_used,
    reason = "tests should stop at the first thing that cannot be"
)]

mod choices;
mod dump;
pub mod edits;
pub mod fuzz;
mod replica;
pub mod traces;

pub use crate::work::steps_of;
pub use dump::dump;
pub use replica::Replica;

/// A small seeded random number generator (SplitMix64): the same seed gives the same numbers for ever.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u32
    }

    /// One of several things.
    pub fn pick<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.below(things.len() as u32) as usize]
    }

    /// Brings things into a random order.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for end in (1..things.len()).rev() {
            let other = self.below(end as u32 + 1) as usize;
            things.swap(end, other);
        }
    }
}
