//! Contents of pages that were read lately: in one state a page says the same in one form, so it is made once.
//!
//! Who may read it is decided before anything is looked for here, and in which state the page is, too: what is kept is found only by the tag
//! of that state.

use std::time::Duration;

use bytes::Bytes;
use crdt::Form;
use moka::future::Cache;
use storage::PageId;

/// Bytes that are kept, at most.
const MAX_KEPT_BYTES: u64 = 64 << 20;

/// What nobody asks for in this time is kept no longer. That is also how long what a page said that was deleted for good stays here.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// About what an entry takes beside its texts.
const ENTRY_BYTES: usize = 256;

/// A page in a state, and what of it in which form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct What {
    pub(super) page: PageId,
    /// The tag of the state.
    pub(super) tag: String,
    pub(super) form: Form,
    pub(super) field: Option<String>,
}

/// See the module. Clones share what they keep.
#[derive(Clone, Debug)]
pub struct KeptContents(Cache<What, Bytes>);

impl Default for KeptContents {
    fn default() -> Self {
        let cache = Cache::builder()
            .weigher(weight)
            .max_capacity(MAX_KEPT_BYTES)
            .time_to_idle(KEPT_FOR);
        Self(cache.build())
    }
}

impl KeptContents {
    pub(super) async fn get(&self, what: &What) -> Option<Bytes> {
        self.0.get(what).await
    }

    /// Keeps a content, if its tag stands for one state: while edits are on their way to the store it does not.
    pub(super) async fn keep(&self, what: What, content: Bytes) {
        if !what.tag.starts_with("W/") {
            self.0.insert(what, content).await;
        }
    }
}

fn weight(what: &What, content: &Bytes) -> u32 {
    let field = what.field.as_ref().map_or(0, String::len);
    let key = ENTRY_BYTES + what.page.as_str().len() + what.tag.len() + field;
    u32::try_from(key.saturating_add(content.len())).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(tag: &str, form: Form, field: Option<&str>) -> What {
        What {
            page: PageId::new("page").expect("a name"),
            tag: tag.to_owned(),
            form,
            field: field.map(str::to_owned),
        }
    }

    #[tokio::test]
    async fn a_content_is_found_by_its_state_form_and_field_alone() {
        let kept = KeptContents::default();
        let text = what("\"g-1\"", Form::Text, None);
        kept.keep(text.clone(), Bytes::from_static(b"a")).await;
        assert_eq!(kept.get(&text).await.as_deref(), Some(&b"a"[..]));
        for other in [
            what("\"g-2\"", Form::Text, None),
            what("\"h-1\"", Form::Text, None),
            what("\"g-1\"", Form::Json, None),
            what("\"g-1\"", Form::Text, Some("t")),
        ] {
            assert_eq!(kept.get(&other).await, None, "{other:?}");
        }
    }

    #[tokio::test]
    async fn what_a_page_says_ahead_of_the_store_is_not_kept() {
        let kept = KeptContents::default();
        let ahead = what("W/\"g-1+\"", Form::Text, None);
        kept.keep(ahead.clone(), Bytes::from_static(b"a")).await;
        assert_eq!(kept.get(&ahead).await, None);
    }

    #[tokio::test]
    async fn no_more_is_kept_than_has_place() {
        let kept = KeptContents::default();
        let content = Bytes::from(vec![b'a'; 1 << 20]);
        for seq in 0..128 {
            let what = what(&format!("\"g-{seq}\""), Form::Text, None);
            kept.keep(what, content.clone()).await;
        }
        kept.0.run_pending_tasks().await;
        assert!(kept.0.weighted_size() <= MAX_KEPT_BYTES);
        assert!(kept.0.entry_count() > 0);
    }
}
