//! What is kept of a snapshot for readers of the file and for searches.

use std::borrow::Cow;

use crate::{Snapshot, readable};

/// Largest `content` and `text` that are kept, in bytes each; of a longer text the beginning, which is what searches look at.
const MAX_READABLE_BYTES: usize = 1 << 20;

/// Content and text for readers of the file, where they are short: everybody waits while they are written, and backends read over REST.
pub(super) fn shortened(snapshot: &Snapshot) -> (Option<String>, Cow<'_, str>) {
    let text = readable::text(&snapshot.text);
    if text.len() > MAX_READABLE_BYTES || snapshot.text.len() > MAX_READABLE_BYTES {
        let beginning = readable::text(beginning(&snapshot.text)).into_owned();
        // U+0000 has become three bytes.
        let beginning = self::beginning(&beginning).to_owned();
        return (None, beginning.into());
    }
    let content = readable::json(&snapshot.content).filter(|json| json.len() <= MAX_READABLE_BYTES);
    (content, text)
}

fn beginning(text: &str) -> &str {
    let end = text.floor_char_boundary(MAX_READABLE_BYTES);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::contract::snapshot;

    #[test]
    fn what_is_long_is_kept_for_searches_alone() {
        let stored = |text: &str| Snapshot {
            content: serde_json::json!({ "text": text }),
            text: text.to_owned(),
            ..snapshot(1, b"")
        };
        let table = [
            ("short".to_owned(), true, 5),
            (
                "x".repeat(MAX_READABLE_BYTES - 100),
                true,
                MAX_READABLE_BYTES - 100,
            ),
            // The content is longer than the text.
            ("x".repeat(MAX_READABLE_BYTES), false, MAX_READABLE_BYTES),
            (
                "\u{1f600}".repeat(MAX_READABLE_BYTES / 4 + 1),
                false,
                MAX_READABLE_BYTES,
            ),
            (
                format!("x{}", "\u{1f600}".repeat(MAX_READABLE_BYTES / 4)),
                false,
                MAX_READABLE_BYTES - 3,
            ),
        ];
        for (text, is_whole, length) in table {
            let snapshot = stored(&text);
            let (content, kept) = shortened(&snapshot);
            assert_eq!((content.is_some(), kept.len()), (is_whole, length));
            assert!(text.starts_with(&*kept));
        }
    }
}
