//! Saves of whole contents become edits of the live document.

#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

mod append;
mod blocknote;
mod component;
mod delta;
mod documents;
mod edits;
mod html;
mod page;
mod shown;
mod text;
mod tree;
mod values;
