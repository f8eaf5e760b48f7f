//! A rebuilt document has what is live in the old one, and nothing else; and who comes from a former one is known.
#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

mod ended;
mod kinds;
mod sessions;
mod writer;
