//! What is read of a page in Markdown, HTML and ProseMirror's JSON is that page again when it is saved.

#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

mod commonmark;
mod documents;
mod normal;
mod page;
