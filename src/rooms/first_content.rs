//! Where the first content of a page comes from that has never been stored.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use storage::PageId;

use super::Refusal;

/// Knows what pages hold before anything of them is stored here.
pub trait FirstContent: Send + Sync {
    /// The first edit of a page; `None` when nothing is known of it. For one content it is the same edit each time, so that two servers
    /// which open the page at once store it twice and have it once.
    ///
    /// An error keeps the page closed: what is written into an empty page would stand in the place of its content for good.
    fn of<'a>(&'a self, page: &'a PageId) -> BoxFuture<'a, Result<Option<Bytes>, Refusal>>;
}
