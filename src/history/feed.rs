//! Tells those who follow a page that something of it was stored.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use storage::{PageId, Seq};
use tokio::sync::watch;

use super::Editing;
use crate::{rooms::StoreListener, webhooks::WebhookNotes};

/// Who may follow pages at once.
const MAX_FOLLOWERS: usize = 10_000;

/// What was stored in this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ChangeFeed(Arc<Mutex<Feed>>);

#[derive(Debug)]
struct Feed {
    followed: BTreeMap<PageId, watch::Sender<Seq>>,
    followers: usize,
    editing: Editing,
}

/// Somebody who follows a page, as long as this is kept.
#[derive(Debug)]
pub struct Follower {
    feed: ChangeFeed,
    page: PageId,
    stored: watch::Receiver<Seq>,
}

impl ChangeFeed {
    /// A feed that also notes which pages are to get a version.
    pub fn new(editing: Editing) -> Self {
        Self(Arc::new(Mutex::new(Feed {
            followed: BTreeMap::new(),
            followers: 0,
            editing,
        })))
    }

    /// Follows a page. `None` when as many follow as may.
    pub fn follow(&self, page: &PageId) -> Option<Follower> {
        let mut feed = self.feed();
        if feed.followers >= MAX_FOLLOWERS {
            return None;
        }
        feed.followers += 1;
        let stored = feed
            .followed
            .entry(page.clone())
            .or_insert_with(|| watch::Sender::new(0));
        Some(Follower {
            stored: stored.subscribe(),
            feed: self.clone(),
            page: page.clone(),
        })
    }

    /// Looks at the pages that are being edited.
    pub(super) fn editing<T>(&self, look: impl FnOnce(&mut Editing) -> T) -> T {
        look(&mut self.feed().editing)
    }

    fn feed(&self) -> MutexGuard<'_, Feed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoreListener for ChangeFeed {
    fn stored(&self, now: Instant, page: &PageId, seq: Seq) {
        let mut feed = self.feed();
        feed.editing.stored(now, page, seq);
        if let Some(followed) = feed.followed.get(page) {
            followed.send_replace(seq);
        }
    }
}

impl Follower {
    /// Waits until something was stored that has not been waited for.
    pub async fn changed(&mut self) {
        // The sender stays as long as somebody follows.
        let _ = self.stored.changed().await;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut feed = self.feed.feed();
        feed.followers -= 1;
        if let Entry::Occupied(followed) = feed.followed.entry(self.page.clone())
            // This one is still counted.
            && followed.get().receiver_count() <= 1
        {
            followed.remove();
        }
    }
}

/// Tells those who follow a page, and webhooks, what was stored.
pub struct StoredNews(pub ChangeFeed, pub WebhookNotes);

impl StoreListener for StoredNews {
    fn stored(&self, now: Instant, page: &PageId, seq: Seq) {
        self.0.stored(now, page, seq);
        self.1.stored(now, page, seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_follows_a_page_hears_of_it_and_leaves_nothing_behind() {
        let feed = ChangeFeed::new(Editing::new(None, None));
        let (page, other) = (PageId::new("p").expect("an id"), PageId::new("q").expect("an id"));
        let mut first = feed.follow(&page).expect("a place");
        let second = feed.follow(&page).expect("a place");
        feed.stored(tokio::time::Instant::now().into_std(), &other, 1);
        feed.stored(tokio::time::Instant::now().into_std(), &page, 1);
        first.changed().await;
        drop(second);
        feed.stored(tokio::time::Instant::now().into_std(), &page, 2);
        first.changed().await;
        drop(first);
        assert!(feed.feed().followed.is_empty());
        assert_eq!(feed.feed().followers, 0);
    }

    #[test]
    fn only_so_many_follow() {
        let feed = ChangeFeed::new(Editing::new(None, None));
        let page = PageId::new("p").expect("an id");
        let mut followers: Vec<_> = (0..MAX_FOLLOWERS).map(|_| feed.follow(&page)).collect();
        assert!(followers.iter().all(Option::is_some));
        assert!(feed.follow(&page).is_none());
        followers.pop();
        assert!(feed.follow(&page).is_some());
    }
}
