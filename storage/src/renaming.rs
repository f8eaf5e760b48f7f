//! The ids of pages: a page gets another one, and is still found by those that it had.

use async_trait::async_trait;

use crate::{PageId, StoreError};

/// Most former ids that lead to one page. Whoever renames it once more frees one of them first.
pub const MAX_FORMER_IDS: usize = 100;

/// A page that gets another id.
#[derive(Clone, Debug)]
pub struct Renaming {
    /// The id that it has.
    pub from: PageId,
    /// The id that it gets.
    pub to: PageId,
    /// Rooms whose kept events and last states go with it: the name that each has, and the one that it gets.
    pub rooms: [(String, String); 2],
}

impl Renaming {
    /// Whether one of the ids is taken for a prefix by permissions: those on it are of many pages, and do not go with one.
    pub(crate) fn is_of_pattern(&self) -> bool {
        self.from.is_pattern() || self.to.is_pattern()
    }
}

/// The part of a store that gives pages other ids.
#[async_trait]
pub trait RenameStore: Send + Sync + 'static {
    /// Gives a page another id, with all that is stored of it: its number, generation, history, versions, and the permissions and the history
    /// policy on exactly this page (what the new id has of them already, and of last states of its rooms, stays). The former id leads to it from then on, as do those that it
    /// had before, and what is written under the former id is refused.
    ///
    /// `false`, and nothing is changed, when there is no such page outside the trash, when there is a page with the new id, when that leads
    /// to another page, when [`MAX_FORMER_IDS`] lead to this one, or when one of the ids ends with `*`.
    ///
    /// In PostgreSQL its time grows with the size of the page's history.
    async fn rename(&self, renaming: &Renaming) -> Result<bool, StoreError>;

    /// The id that the page has now which had `former`; `None` for what leads nowhere.
    async fn renamed(&self, former: &PageId) -> Result<Option<PageId>, StoreError>;

    /// The ids that a page had before, in their order.
    async fn former_ids(&self, page: &PageId) -> Result<Vec<PageId>, StoreError>;

    /// Frees a former id of a page: it leads nowhere any more. `false` when it did not lead to this page.
    async fn free_former_id(&self, page: &PageId, former: &PageId) -> Result<bool, StoreError>;
}
