//! The promises of a store, each as a test that any store can be put through with [`store_contract!`](crate::store_contract).

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![expect(missing_docs, reason = "the name of a promise says it")]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;

use crate::{
    Committed, Compaction, DirectUrl, NewUpdate, PageCommit, PageId, Seq, SharedStore, Snapshot, StoreError,
    StoreOptions, open,
};

mod access;
mod batches;
mod deliveries;
mod events;
mod history;
mod policies;
mod reading;
mod rebuilding;
mod renaming;
mod rooms;
mod search;
mod sharing;
mod snapshots;
mod trash;
mod webhooks;

pub use access::*;
pub use batches::*;
pub use deliveries::*;
pub use events::*;
pub use history::*;
pub use policies::*;
pub use reading::*;
pub use rebuilding::*;
pub use renaming::*;
pub use rooms::*;
pub use search::*;
pub use sharing::*;
pub use snapshots::*;
pub use trash::*;
pub use webhooks::*;

/// An empty database of a test's own, which can be opened more than once.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens another store on the same database, as another process would.
    async fn open(&self) -> SharedStore;

    /// Removes the database after a test that succeeded, where that does not happen by itself.
    async fn remove(&self) {}
}

/// The memory of this process: every opening is the same store.
#[derive(Default)]
pub struct MemoryPlace(Arc<crate::MemoryStore>);

#[async_trait]
impl Place for MemoryPlace {
    async fn open(&self) -> SharedStore {
        Arc::clone(&self.0) as SharedStore
    }
}

/// A database at a `DATABASE_URL`.
pub struct UrlPlace(pub String);

/// A database at a `DATABASE_URL` that leads through a pooler, and straight.
pub struct PooledPlace(pub String, pub DirectUrl);

#[async_trait]
impl Place for PooledPlace {
    async fn open(&self) -> SharedStore {
        let options = StoreOptions {
            direct: Some(self.1.clone()),
            ..StoreOptions::default()
        };
        open(&self.0, &options).await.unwrap()
    }
}

#[async_trait]
impl Place for UrlPlace {
    async fn open(&self) -> SharedStore {
        open(&self.0, &StoreOptions::default()).await.unwrap()
    }
}

/// Makes one test of each promise. The argument is an async expression that gives an `Option` of a [`Place`]; `None` skips.
#[macro_export]
macro_rules! store_contract {
    ($place:expr) => {
        $crate::store_contract! { $place;
            what_was_never_stored_is_none_and_asking_writes_nothing
            rows_are_numbered_from_one_and_come_back_as_they_were
            answers_come_in_the_order_of_the_batch
            a_page_twice_in_a_batch_is_refused_and_nothing_is_stored
            a_batch_larger_than_a_statement_is_stored_whole
            a_generation_stays_and_differs_between_pages
            a_snapshot_swallows_exactly_the_rows_it_covers
            a_snapshot_that_covers_no_more_is_passed_over
            a_snapshot_beyond_the_log_is_passed_over
            a_snapshot_of_a_page_that_was_never_stored_is_passed_over
            what_is_committed_alone_is_stored_like_anything_else
            an_entry_without_rows_for_an_unknown_page_writes_nothing
            a_log_is_read_in_parts_and_none_where_a_snapshot_swallowed_it
            pages_are_listed_bytewise_by_prefix_and_in_parts
            sizes_and_times_are_those_of_the_last_rows
            no_content_makes_a_snapshot_unstorable
            what_is_many_megabytes_long_comes_out_as_it_went_in
            what_was_committed_is_there_after_reopening
            stores_that_open_an_empty_database_at_once_share_it
            two_stores_append_to_one_page_without_holes
            two_stores_compact_one_page_and_lose_nothing
            two_stores_write_the_same_pages_in_any_order_without_deadlock
            a_cancelled_commit_is_stored_whole_or_not_at_all
            check_works_and_writes_no_page
            a_page_in_the_trash_is_marked_and_otherwise_as_it_was
            rows_that_a_snapshot_covers_stay_readable_in_order_with_their_authors
            a_past_state_is_read_from_a_base_that_is_near
            a_page_whose_rows_were_not_kept_begins_with_its_snapshot
            what_is_forgotten_is_none_and_what_is_behind_it_stays
            versions_are_listed_newest_first_and_named_ones_keep_their_base
            two_stores_that_compact_at_once_archive_each_row_once
            the_policy_of_a_page_is_its_own_one_or_that_on_the_longest_prefix
            what_a_snapshot_covers_is_kept_as_the_policy_says
            a_policy_goes_with_its_page
            what_is_set_on_a_prefix_is_not_of_the_page_that_is_called_so
            old_histories_are_listed_each_once_the_oldest_first
            a_version_is_found_by_its_place_from_the_newest_one
            histories_that_are_too_long_are_found
            what_is_in_the_trash_is_found_by_age
            nothing_is_left_of_a_page_that_was_purged
            a_long_history_is_purged_whole
            a_page_that_another_store_writes_to_is_purged_whole
            a_rebuilt_document_takes_the_place_of_the_page_as_it_was
            a_page_is_rebuilt_only_as_it_is_known_and_covered_by_its_snapshot
            a_page_that_is_renamed_is_the_same_page
            what_is_written_under_a_former_id_is_not_stored
            a_page_is_renamed_only_to_an_id_that_is_free
            a_page_has_only_so_many_former_ids
            a_page_that_another_store_writes_to_is_renamed_whole
            an_id_that_several_pages_are_to_have_is_given_to_one
            a_snapshot_is_only_of_the_page_that_it_was_made_of
            pages_are_found_by_the_words_of_their_snapshots
            what_is_found_is_in_range_and_not_in_the_trash
            no_text_and_no_search_is_an_error
            permissions_cover_a_page_by_its_id_and_by_prefix
            what_a_user_has_permissions_on_is_listed
            a_permission_takes_the_place_of_the_last_one_and_can_be_revoked
            users_are_signed_out_and_blocked
            who_was_seen_in_a_room_is_read_newest_first_and_forgotten
            the_audit_log_is_read_newest_first_and_forgotten_by_time
            a_shared_room_is_kept_as_it_was_last_said_and_forgotten
            who_was_removed_from_a_room_stays_so_until_granted_a_permission_on_it
            kept_events_come_back_by_room_in_order_and_byte_for_byte
            of_each_name_in_a_room_the_newest_events_are_kept
            events_and_ids_are_forgotten_by_time
            the_last_state_of_a_room_replaces_the_one_before
            what_is_stored_of_a_page_is_told_once_and_in_order
            what_happened_before_there_were_webhooks_is_told_nobody
            an_event_is_claimed_by_one_and_the_rest_of_its_page_waits
            a_change_that_waits_is_told_as_the_newest_one
            dead_events_are_listed_replayed_in_their_place_and_forgotten
            two_stores_tell_and_deliver_each_event_once
        }
    };
    ($place:expr; $($promise:ident)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            if let Some(place) = $place.await {
                $crate::testing::contract::$promise(&place).await;
                $crate::testing::contract::Place::remove(&place).await;
            }
        }
    )* };
}

/// A page id.
pub fn page(id: &str) -> PageId {
    PageId::new(id).unwrap()
}

/// The rooms of a page's own, whose names mean nothing here.
pub fn rooms_of(id: &str) -> [String; 2] {
    [format!("page:{id}"), format!("activity:page:{id}")]
}

/// An update with these bytes, of nobody.
pub fn update(data: impl AsRef<[u8]>) -> NewUpdate {
    NewUpdate {
        data: Bytes::copy_from_slice(data.as_ref()),
        user: None,
    }
}

/// An entry of a batch that appends these rows to a page.
pub fn append<D: AsRef<[u8]>>(id: &str, rows: impl IntoIterator<Item = D>) -> PageCommit {
    PageCommit {
        page: page(id),
        updates: rows.into_iter().map(update).collect(),
        size_bytes: None,
        generation: None,
    }
}

/// A snapshot with these bytes that covers the log up to `seq`.
pub fn snapshot(seq: Seq, state: impl AsRef<[u8]>) -> Snapshot {
    Snapshot {
        seq,
        state: Bytes::copy_from_slice(state.as_ref()),
        state_vector: Bytes::from_static(&[9, 9]),
        content: json!({ "covered": seq }),
        text: format!("up to {seq}"),
    }
}

/// Writes a snapshot of a page.
async fn compact(store: &SharedStore, id: &str, snapshot: Snapshot) -> Compaction {
    store.compact(&page(id), None, &snapshot).await.unwrap()
}

async fn commit_one(store: &SharedStore, entry: PageCommit) -> Committed {
    match store.commit(std::slice::from_ref(&entry)).await {
        // Another store holds the page. It is stored apart then, as by every caller.
        Err(StoreError::Busy { .. }) => store.commit_alone(&entry).await.unwrap(),
        committed => committed.unwrap().remove(0),
    }
}

/// What a page is stored as: the number that its snapshot covers, the snapshot's state, and the rows behind it.
async fn stored(store: &SharedStore, id: &str) -> (Seq, Vec<u8>, Vec<(Seq, Vec<u8>)>) {
    let stored = store.load(&page(id)).await.unwrap().unwrap();
    let (covered, state) = stored
        .snapshot
        .map_or((0, Vec::new()), |s| (s.seq, s.state.to_vec()));
    (
        covered,
        state,
        stored
            .log
            .into_iter()
            .map(|row| (row.seq, row.data.to_vec()))
            .collect(),
    )
}

async fn listed(store: &SharedStore, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let records = store.pages(prefix, after, limit).await.unwrap();
    records
        .into_iter()
        .map(|record| record.page.as_str().to_owned())
        .collect()
}
