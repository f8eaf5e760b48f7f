//! How the trash is emptied.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Place, append, commit_one, compact, page, rooms_of, snapshot, stored, update};
use crate::{
    AddedVersion, EventBatch, KeptEvent, KeptQuery, NewVersion, PageCommit, Permission, Search, VersionKind,
    prefix_range,
};

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn named(seq: u64) -> NewVersion {
    NewVersion {
        seq,
        kind: VersionKind::Named,
        name: Some("kept".to_owned()),
        user: None,
        reason: None,
    }
}

pub async fn what_is_in_the_trash_is_found_by_age(place: &dyn Place) {
    let store = place.open().await;
    for id in ["a", "b", "c", "d"] {
        commit_one(&store, append(id, [b"1"])).await;
    }
    for (id, seconds) in [("a", 30), ("b", 10), ("c", 20)] {
        assert!(store.set_deleted(&page(id), Some(at(seconds))).await.unwrap());
    }
    let ids = |ids: &[&str]| ids.iter().map(|id| page(id)).collect::<Vec<_>>();
    assert_eq!(store.trashed(at(40), 10).await.unwrap(), ids(&["b", "c", "a"]));
    assert_eq!(store.trashed(at(40), 2).await.unwrap(), ids(&["b", "c"]));
    assert_eq!(store.trashed(at(20), 10).await.unwrap(), ids(&["b"]));
    assert_eq!(store.trashed(at(10), 10).await.unwrap(), ids(&[]));
}

pub async fn nothing_is_left_of_a_page_that_was_purged(place: &dyn Place) {
    let store = place.open().await;
    let permission = |id: &str| Permission {
        page: id.to_owned(),
        user: "ada".to_owned(),
        role: "edit".to_owned(),
        expires_at: None,
    };
    let mut generations = Vec::new();
    for id in ["p", "q"] {
        let committed = commit_one(&store, append(id, [b"1", b"2", b"3"])).await;
        generations.push(committed.generation);
        compact(&store, id, snapshot(2, b"12")).await;
        compact(&store, id, snapshot(3, b"123")).await;
        commit_one(&store, append(id, [b"4"])).await;
        store.grant(&permission(id)).await.unwrap();
        let added = store.add_version(&page(id), &named(2)).await.unwrap();
        assert!(matches!(added, AddedVersion::Added(_)));
    }
    let said = |room: String| KeptEvent {
        room,
        offset: 7,
        event: "said".to_owned(),
        payload: "{}".to_owned(),
        at: at(1),
        until: at(4_000_000_000),
        count: 10,
    };
    let rooms = [rooms_of("p"), rooms_of("q")].concat();
    let batch = EventBatch {
        events: rooms.iter().cloned().map(said).collect(),
        ids: Vec::new(),
        states: rooms.iter().map(|room| (room.clone(), "{}".to_owned())).collect(),
    };
    store.keep_events(&batch).await.unwrap();
    let gone = page("p");
    // Not what is not in the trash.
    assert!(!store.purge(&gone, &rooms_of("p")).await.unwrap());
    assert!(!store.purge(&page("never"), &rooms_of("never")).await.unwrap());
    assert_eq!(stored(&store, "p").await.2, [(4, b"4".to_vec())]);
    assert_eq!(store.versions(&gone, None, 10).await.unwrap().len(), 1);
    store.set_deleted(&gone, Some(at(1))).await.unwrap();
    assert!(store.purge(&gone, &rooms_of("p")).await.unwrap());
    assert!(!store.purge(&gone, &rooms_of("p")).await.unwrap());
    let other = place.open().await;
    for store in [&store, &other] {
        assert!(store.load(&gone).await.unwrap().is_none());
        assert!(store.page(&gone).await.unwrap().is_none());
        assert!(store.snapshot(&gone).await.unwrap().is_none());
        assert!(store.past(&gone, 1, 4).await.unwrap().is_none());
        assert!(store.changes(&gone, 0, 10).await.unwrap().is_none());
        assert!(store.versions(&gone, None, 10).await.unwrap().is_empty());
        assert_eq!(store.history(&gone).await.unwrap().bytes, 0);
        assert!(store.permissions_for("ada", &gone).await.unwrap().is_empty());
        for (n, room) in rooms.iter().enumerate() {
            let query = KeptQuery {
                rooms: vec![room.clone()],
                after: 0,
                up_to: 100,
                limit: 10,
                max_bytes: 1000,
            };
            let is_of_other = n >= 2;
            let kept = store.kept_events(&query).await.unwrap();
            assert_eq!(kept.len(), usize::from(is_of_other), "{room}");
            let state = store.event_state(room).await.unwrap();
            assert_eq!(state.is_some(), is_of_other, "{room}");
        }
        assert!(store.trashed(at(1_000_000), 10).await.unwrap().is_empty());
        let up = Search::parse("up").unwrap();
        let found = store
            .search(&up, &[prefix_range("").unwrap()], 0, 10)
            .await
            .unwrap();
        assert_eq!(
            found.iter().map(|found| &found.page).collect::<Vec<_>>(),
            [&page("q")]
        );
    }
    // The other page is as it was.
    assert_eq!(
        stored(&store, "q").await,
        (3, b"123".to_vec(), vec![(4, b"4".to_vec())])
    );
    assert_eq!(store.permissions_for("ada", &page("q")).await.unwrap().len(), 1);
    assert!(store.past(&page("q"), 1, 4).await.unwrap().is_some());
    // Another page may have the id.
    let again = commit_one(&store, append("p", [b"new"])).await;
    assert_eq!((again.first_seq, again.last_seq), (1, 1));
    assert!(!generations.contains(&again.generation));
    assert_eq!(
        stored(&store, "p").await,
        (0, Vec::new(), vec![(1, b"new".to_vec())])
    );
    assert!(store.page(&gone).await.unwrap().unwrap().deleted_at.is_none());
}

pub async fn a_long_history_is_purged_whole(place: &dyn Place) {
    let store = place.open().await;
    let rows = crate::trash::MAX_PURGED_ROWS_AT_ONCE as u64 * 2 + 10;
    let long = PageCommit {
        page: page("p"),
        updates: (0..rows).map(|_| update(b"x")).collect(),
        size_bytes: None,
        generation: None,
    };
    store.commit(&[long]).await.unwrap();
    compact(&store, "p", snapshot(rows, b"all")).await;
    store.set_deleted(&page("p"), Some(at(1))).await.unwrap();
    assert!(store.purge(&page("p"), &rooms_of("p")).await.unwrap());
    commit_one(&store, append("p", [b"1"])).await;
    let changes = store.changes(&page("p"), 0, 10).await.unwrap().unwrap();
    assert_eq!(changes.rows.len(), 1);
}

/// A row that came in between would stay for ever, and stop the next page with this id at its number.
pub async fn a_page_that_another_store_writes_to_is_purged_whole(place: &dyn Place) {
    let (store, other) = (place.open().await, place.open().await);
    for round in 0..20 {
        commit_one(&store, append("p", [b"1"])).await;
        store.set_deleted(&page("p"), Some(at(1))).await.unwrap();
        let writer = {
            let other = Arc::clone(&other);
            tokio::spawn(async move {
                for _ in 0..5 {
                    commit_one(&other, append("p", [b"2"])).await;
                }
            })
        };
        store.purge(&page("p"), &rooms_of("p")).await.unwrap();
        writer.await.unwrap();
        // What was written afterwards made another page, and all of it is there.
        if let Some(record) = store.page(&page("p")).await.unwrap() {
            let (_, _, log) = stored(&store, "p").await;
            assert_eq!(log.len() as u64, record.seq, "round {round}");
            store.set_deleted(&page("p"), Some(at(1))).await.unwrap();
            assert!(store.purge(&page("p"), &rooms_of("p")).await.unwrap());
        }
        let again = commit_one(&store, append("p", vec![b"3"; 20])).await;
        assert_eq!(again.last_seq, 20, "round {round}");
        store.set_deleted(&page("p"), Some(at(1))).await.unwrap();
        assert!(store.purge(&page("p"), &rooms_of("p")).await.unwrap());
    }
}
