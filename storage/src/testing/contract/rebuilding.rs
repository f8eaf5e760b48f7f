//! How documents are rebuilt.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{Place, append, commit_one, compact, page, rooms_of, snapshot, stored};
use crate::{Generation, PageCommit, Past, Rebuilding, Search, SharedStore, prefix_range};

fn rebuilding(generation: &Generation, seq: u64, state: &'static [u8]) -> Rebuilding {
    Rebuilding {
        page: page("p"),
        generation: generation.clone(),
        seq,
        state: Bytes::from_static(state),
        state_vector: Bytes::from_static(b"new vector"),
        ended_clients: Bytes::from_static(b"clients"),
    }
}

async fn past(store: &SharedStore, from: u64, to: u64) -> Option<(Option<Bytes>, u64, usize)> {
    let found = store.past(&page("p"), from, to).await.unwrap();
    found.map(
        |Past {
             base, covered, rows, ..
         }| (base, covered, rows.len()),
    )
}

pub async fn a_rebuilt_document_takes_the_place_of_the_page_as_it_was(place: &dyn Place) {
    let store = place.open().await;
    let first = commit_one(&store, append("p", [b"1", b"2", b"3"]))
        .await
        .generation;
    compact(&store, "p", snapshot(3, b"123")).await;
    let found = store.load(&page("p")).await.unwrap().unwrap();
    assert!(found.ended_clients.is_none());
    let second = store
        .rebuild(&rebuilding(&first, 3, b"abc"))
        .await
        .unwrap()
        .unwrap();
    assert_ne!(first, second);
    let other = place.open().await;
    for store in [&store, &other] {
        assert_eq!(stored(store, "p").await, (4, b"abc".to_vec(), Vec::new()));
        let found = store.load(&page("p")).await.unwrap().unwrap();
        assert_eq!((&found.record.generation, found.record.seq), (&second, 4));
        assert_eq!(found.record.size_bytes, 3);
        assert_eq!(found.ended_clients.as_deref(), Some(&b"clients"[..]));
        assert_eq!(found.snapshot.unwrap().state_vector, b"new vector"[..]);
        let up = Search::parse("up").unwrap();
        let words = store
            .search(&up, &[prefix_range("").unwrap()], 0, 10)
            .await
            .unwrap();
        assert_eq!(words.len(), 1, "it says what it said");
    }
    // Whoever knows the former generation writes nothing.
    let late = PageCommit {
        generation: Some(first.clone()),
        ..append("p", [b"late"])
    };
    assert!(commit_one(&store, late).await.is_nothing());
    let next = commit_one(&store, append("p", [b"d", b"e"])).await;
    assert_eq!((&next.generation, next.first_seq, next.last_seq), (&second, 5, 6));
    compact(&store, "p", snapshot(6, b"abcde")).await;
    commit_one(&store, append("p", [b"f"])).await;
    compact(&store, "p", snapshot(7, b"abcdef")).await;
    // What was before is what it was, and what is between is nothing.
    let base = |state: &'static [u8]| Some(Bytes::from_static(state));
    assert_eq!(past(&store, 3, 3).await, Some((base(b"123"), 3, 0)));
    assert_eq!(past(&store, 1, 3).await, Some((None, 0, 3)));
    assert_eq!(past(&store, 4, 4).await, Some((base(b"abc"), 4, 0)));
    assert_eq!(past(&store, 5, 6).await, Some((base(b"abc"), 4, 2)));
    assert_eq!(past(&store, 3, 5).await, None);
    let changes = store.changes(&page("p"), 0, 10).await.unwrap().unwrap();
    let rows: Vec<_> = changes.rows.iter().map(|row| row.seq).collect();
    assert_eq!((changes.last, rows), (7, vec![1, 2, 3, 5, 6, 7]));
    assert_eq!(store.rebuild(&rebuilding(&first, 7, b"x")).await.unwrap(), None);
    let third = store.rebuild(&rebuilding(&second, 7, b"xyz")).await.unwrap();
    assert!(third.is_some_and(|third| third != second));
    assert_eq!(stored(&store, "p").await, (8, b"xyz".to_vec(), Vec::new()));
}

pub async fn a_page_is_rebuilt_only_as_it_is_known_and_covered_by_its_snapshot(place: &dyn Place) {
    let store = place.open().await;
    let generation = commit_one(&store, append("p", [b"1", b"2"])).await.generation;
    let tries = async |seq| store.rebuild(&rebuilding(&generation, seq, b"x")).await.unwrap();
    assert_eq!(tries(2).await, None, "no snapshot");
    compact(&store, "p", snapshot(1, b"1")).await;
    assert_eq!(tries(1).await, None);
    assert_eq!(tries(2).await, None, "a row that no snapshot covers");
    compact(&store, "p", snapshot(2, b"12")).await;
    assert_eq!(tries(1).await, None);
    let deleted = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    store.set_deleted(&page("p"), Some(deleted)).await.unwrap();
    assert_eq!(tries(2).await, None);
    store.set_deleted(&page("p"), None).await.unwrap();
    assert_eq!(stored(&store, "p").await, (2, b"12".to_vec(), Vec::new()));
    assert!(tries(2).await.is_some());
    // Nothing is left of it when it is purged.
    store.set_deleted(&page("p"), Some(deleted)).await.unwrap();
    assert!(store.purge(&page("p"), &rooms_of("p")).await.unwrap());
    commit_one(&store, append("p", [b"1"])).await;
    let found = store.load(&page("p")).await.unwrap().unwrap();
    assert!(found.ended_clients.is_none());
}
