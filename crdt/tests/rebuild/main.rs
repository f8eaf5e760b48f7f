//! A rebuilt document has what is live in the old one, and nothing else.
#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

mod kinds;
mod sessions;
mod writer;
