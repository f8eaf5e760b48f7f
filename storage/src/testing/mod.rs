//! For tests of stores and of what stands on them: the contract as a suite, and a disk that fails on demand.

pub mod contract;
pub mod disk;
mod faults;

pub use faults::{Counts, Fault, Faults, Moment, Operation, Rates, Verdict};
