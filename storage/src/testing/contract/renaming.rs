//! How pages get other ids.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Place, append, commit_one, compact, page, rooms_of, snapshot, stored};
use crate::{
    Committed, Compaction, EventBatch, Generation, KeptEvent, KeptQuery, MAX_FORMER_IDS, NewVersion,
    PageCommit, Permission, Renaming, Search, SharedStore, VersionKind, prefix_range,
};

fn renaming(from: &str, to: &str) -> Renaming {
    let ([room, activity], [to_room, to_activity]) = (rooms_of(from), rooms_of(to));
    Renaming {
        from: page(from),
        to: page(to),
        rooms: [(room, to_room), (activity, to_activity)],
    }
}

async fn rename(store: &SharedStore, from: &str, to: &str) -> bool {
    store.rename(&renaming(from, to)).await.unwrap()
}

/// An entry of somebody who knows the page's generation.
fn of(generation: &Generation, entry: PageCommit) -> PageCommit {
    PageCommit {
        generation: Some(generation.clone()),
        ..entry
    }
}

fn permission(on: &str, user: &str, role: &str) -> Permission {
    Permission {
        page: on.to_owned(),
        user: user.to_owned(),
        role: role.to_owned(),
        expires_at: None,
    }
}

pub async fn a_page_that_is_renamed_is_the_same_page(place: &dyn Place) {
    let store = place.open().await;
    let first = commit_one(&store, append("old", [b"1", b"2", b"3"])).await;
    compact(&store, "old", snapshot(2, b"12")).await;
    compact(&store, "old", snapshot(3, b"123")).await;
    commit_one(&store, append("old", [b"4"])).await;
    let version = NewVersion {
        seq: 3,
        kind: VersionKind::Named,
        name: Some("kept".to_owned()),
        user: None,
        reason: None,
    };
    store.add_version(&page("old"), &version).await.unwrap();
    for (on, user, role) in [
        ("old", "ada", "edit"),
        ("old", "bob", "edit"),
        ("new", "bob", "view"),
    ] {
        store.grant(&permission(on, user, role)).await.unwrap();
    }
    let event = KeptEvent {
        room: "page:old".to_owned(),
        offset: 7,
        event: "said".to_owned(),
        payload: "{}".to_owned(),
        at: SystemTime::UNIX_EPOCH,
        until: SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000),
        count: 10,
    };
    let batch = EventBatch {
        events: vec![event],
        ids: Vec::new(),
        states: [
            ("activity:page:old", "of the page"),
            ("page:old", "of the page"),
            ("page:new", "of the id"),
        ]
        .map(|(room, state)| (room.to_owned(), state.to_owned()))
        .to_vec(),
    };
    store.keep_events(&batch).await.unwrap();
    let before = store.page(&page("old")).await.unwrap().unwrap();

    assert!(rename(&store, "old", "new").await);

    let other = place.open().await;
    for store in [&store, &other] {
        assert!(store.page(&page("old")).await.unwrap().is_none());
        assert!(store.load(&page("old")).await.unwrap().is_none());
        let record = store.page(&page("new")).await.unwrap().unwrap();
        assert_eq!((&record.generation, record.seq), (&first.generation, 4));
        assert_eq!(record.created_at, before.created_at);
        assert_eq!(
            stored(store, "new").await,
            (3, b"123".to_vec(), vec![(4, b"4".to_vec())])
        );
        assert!(store.past(&page("new"), 1, 4).await.unwrap().is_some());
        assert!(store.past(&page("old"), 1, 4).await.unwrap().is_none());
        assert!(store.history(&page("new")).await.unwrap().bytes > 0);
        let versions = store.versions(&page("new"), None, 10).await.unwrap();
        assert_eq!(versions.len(), 1);
        let role = async |user: &str| {
            let found = store.permissions_for(user, &page("new")).await.unwrap();
            found.into_iter().map(|found| found.role).collect::<Vec<_>>()
        };
        assert_eq!(role("ada").await, ["edit"]);
        assert_eq!(role("bob").await, ["view"], "what was said of the new id stays");
        assert!(
            store
                .permissions_for("bob", &page("old"))
                .await
                .unwrap()
                .is_empty()
        );
        let up = Search::parse("up").unwrap();
        let found = store
            .search(&up, &[prefix_range("").unwrap()], 0, 10)
            .await
            .unwrap();
        let found: Vec<_> = found.into_iter().map(|found| found.page).collect();
        assert_eq!(found, [page("new")]);
        let query = |room: &str| KeptQuery {
            rooms: vec![room.to_owned()],
            after: 0,
            up_to: 100,
            limit: 10,
            max_bytes: 1000,
        };
        assert_eq!(store.kept_events(&query("page:new")).await.unwrap().len(), 1);
        assert!(store.kept_events(&query("page:old")).await.unwrap().is_empty());
        for (room, expected) in [
            ("activity:page:new", Some("of the page")),
            ("activity:page:old", None),
            ("page:new", Some("of the id")),
            ("page:old", None),
        ] {
            let state = store.event_state(room).await.unwrap();
            assert_eq!(state.as_deref(), expected, "{room}");
        }
        assert_eq!(store.renamed(&page("old")).await.unwrap(), Some(page("new")));
        assert_eq!(store.renamed(&page("new")).await.unwrap(), None);
    }
    let next = commit_one(&store, append("new", [b"5"])).await;
    assert_eq!((next.generation, next.last_seq), (first.generation, 5));
    compact(&store, "new", snapshot(5, b"12345")).await;
    assert!(store.past(&page("new"), 1, 5).await.unwrap().is_some());
}

pub async fn what_is_written_under_a_former_id_is_not_stored(place: &dyn Place) {
    let store = place.open().await;
    let known = commit_one(&store, append("a", [b"1"])).await.generation;
    commit_one(&store, append("b", [b"1"])).await;
    assert!(rename(&store, "a", "c").await);
    let batch = [
        of(&known, append("a", [b"2"])),
        append("b", [b"2"]),
        of(&known, append("c", [b"3"])),
        of(&known, append("d", [b"4"])),
    ];
    let answers = store.commit(&batch).await.unwrap();
    let lasts: Vec<_> = answers.iter().map(|answer| answer.last_seq).collect();
    assert_eq!(lasts, [0, 2, 2, 0]);
    // By somebody who has never heard of the page.
    assert_eq!(
        commit_one(&store, append("a", [b"2"])).await,
        Committed::nothing()
    );
    assert!(store.page(&page("a")).await.unwrap().is_none());
    assert!(store.page(&page("d")).await.unwrap().is_none());
    // A batch of more than one statement.
    let large = PageCommit {
        updates: (0..3).map(|_| super::update(vec![7; 20 << 20])).collect(),
        ..of(&Generation("another".into()), append("c", [b"x"]))
    };
    assert_eq!(store.commit_alone(&large).await.unwrap(), Committed::nothing());
    assert_eq!(store.page(&page("c")).await.unwrap().unwrap().seq, 2);
    assert_eq!(
        stored(&store, "c").await.2,
        [(1, b"1".to_vec()), (2, b"3".to_vec())]
    );
}

pub async fn a_page_is_renamed_only_to_an_id_that_is_free(place: &dyn Place) {
    let store = place.open().await;
    for id in ["a", "b", "gone"] {
        commit_one(&store, append(id, [b"1"])).await;
    }
    let trashed = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    store.set_deleted(&page("gone"), Some(trashed)).await.unwrap();
    for (from, to) in [
        ("a", "b"),
        ("a", "a"),
        ("never", "c"),
        ("gone", "c"),
        ("a", "gone"),
    ] {
        assert!(!rename(&store, from, to).await, "{from} to {to}");
    }
    // Through other ids and back: each former one leads to where the page is.
    for (from, to) in [("a", "a1"), ("a1", "a2")] {
        assert!(rename(&store, from, to).await);
    }
    assert!(!rename(&store, "b", "a1").await, "it leads to another page");
    assert_eq!(
        store.former_ids(&page("a2")).await.unwrap(),
        [page("a"), page("a1")]
    );
    assert!(rename(&store, "a2", "a1").await);
    for former in ["a", "a2"] {
        assert_eq!(store.renamed(&page(former)).await.unwrap(), Some(page("a1")));
    }
    assert_eq!(store.renamed(&page("a1")).await.unwrap(), None);
    assert_eq!(commit_one(&store, append("a1", [b"2"])).await.last_seq, 2);
    // One that leads nowhere is free again.
    assert!(!store.free_former_id(&page("b"), &page("a")).await.unwrap());
    assert!(store.free_former_id(&page("a1"), &page("a")).await.unwrap());
    assert!(!store.free_former_id(&page("a1"), &page("a")).await.unwrap());
    assert_eq!(commit_one(&store, append("a", [b"1"])).await.last_seq, 1);
    // What led to a page that was purged leads nowhere.
    store.set_deleted(&page("a1"), Some(trashed)).await.unwrap();
    assert!(store.purge(&page("a1"), &rooms_of("a1")).await.unwrap());
    assert_eq!(store.renamed(&page("a2")).await.unwrap(), None);
    assert_eq!(commit_one(&store, append("a2", [b"1"])).await.last_seq, 1);
}

pub async fn a_page_has_only_so_many_former_ids(place: &dyn Place) {
    let store = place.open().await;
    commit_one(&store, append("0", [b"1"])).await;
    for n in 0..MAX_FORMER_IDS {
        assert!(rename(&store, &n.to_string(), &(n + 1).to_string()).await, "{n}");
    }
    let last = MAX_FORMER_IDS.to_string();
    assert!(!rename(&store, &last, "more").await);
    assert!(rename(&store, &last, "0").await, "one of its own");
    assert_eq!(store.former_ids(&page("0")).await.unwrap().len(), MAX_FORMER_IDS);
    assert!(store.free_former_id(&page("0"), &page("1")).await.unwrap());
    assert!(rename(&store, "0", "more").await);
}

/// Of many who want an id for their pages at once one gets it, wherever that page goes on to meanwhile.
pub async fn an_id_that_several_pages_are_to_have_is_given_to_one(place: &dyn Place) {
    let (store, other) = (place.open().await, place.open().await);
    for round in 0..10 {
        let ids: Vec<String> = (0..8).map(|n| format!("{round}.{n}")).collect();
        for id in &ids {
            commit_one(&store, append(id, [b"1"])).await;
        }
        let wanted = format!("{round}.wanted");
        let tasks = ids.iter().enumerate().map(|(n, id)| {
            let store = Arc::clone(if n % 2 == 0 { &store } else { &other });
            let (id, wanted) = (id.clone(), wanted.clone());
            tokio::spawn(async move {
                let moved = rename(&store, &id, &wanted).await;
                // Every other one frees the place at once, and leaves a former id there.
                let went_on = moved && n % 2 == 0 && rename(&store, &wanted, &format!("{id}.on")).await;
                (moved, went_on)
            })
        });
        let (mut moved, mut went_on) = (0, 0);
        for task in tasks.collect::<Vec<_>>() {
            let (has_moved, has_gone_on) = task.await.unwrap();
            moved += usize::from(has_moved);
            went_on += usize::from(has_gone_on);
        }
        assert_eq!((moved, went_on <= 1), (1, true), "round {round}");
        // Nothing is a page and a former id, and each page is somewhere.
        let mut found = 0;
        for id in ids
            .iter()
            .cloned()
            .chain([wanted.clone()])
            .chain(ids.iter().map(|id| format!("{id}.on")))
        {
            let is_page = store.page(&page(&id)).await.unwrap().is_some();
            let leads = store.renamed(&page(&id)).await.unwrap();
            assert!(
                !is_page || leads.is_none(),
                "{id} is a page and leads to {leads:?}"
            );
            if let Some(to) = leads {
                assert!(
                    store.page(&to).await.unwrap().is_some(),
                    "{id} leads to {to:?}, where nothing is"
                );
            }
            found += usize::from(is_page);
        }
        assert_eq!(found, ids.len(), "round {round}");
    }
}

/// What another store has still to write of a page, or writes at this moment, is not found in the page that has its id later.
pub async fn a_snapshot_is_only_of_the_page_that_it_was_made_of(place: &dyn Place) {
    let (store, other) = (place.open().await, place.open().await);
    for round in 0..20 {
        let (id, to) = (format!("{round}"), format!("{round}.to"));
        let known = commit_one(&store, append(&id, [b"1", b"2"])).await.generation;
        let writing = {
            let (other, id, known) = (Arc::clone(&other), page(&id), known.clone());
            tokio::spawn(async move {
                for seq in [1, 2, 2] {
                    let snapshot = snapshot(seq, b"secret");
                    other.compact(&id, Some(&known), &snapshot).await.unwrap();
                }
            })
        };
        assert!(rename(&store, &id, &to).await);
        writing.await.unwrap();
        assert!(store.free_former_id(&page(&to), &page(&id)).await.unwrap());
        commit_one(&store, append(&id, [b"a", b"b", b"c"])).await;
        let passed = other
            .compact(&page(&id), Some(&known), &snapshot(2, b"secret"))
            .await
            .unwrap();
        assert_eq!(passed, Compaction::Passed);
        let rows = [(1, b"a".to_vec()), (2, b"b".to_vec()), (3, b"c".to_vec())];
        assert_eq!(
            stored(&store, &id).await,
            (0, Vec::new(), rows.to_vec()),
            "round {round}"
        );
        let up = Search::parse("up").unwrap();
        let found = store
            .search(&up, &[prefix_range(&id).unwrap()], 0, 10)
            .await
            .unwrap();
        assert!(found.iter().all(|found| found.page != page(&id)), "round {round}");
        assert_eq!(store.history(&page(&id)).await.unwrap().bytes, 0, "round {round}");
        let generation = store.page(&page(&id)).await.unwrap().unwrap().generation;
        let compacted = other
            .compact(&page(&id), Some(&generation), &snapshot(2, b"ab"))
            .await
            .unwrap();
        assert_eq!(compacted, Compaction::Compacted);
        assert_eq!(
            stored(&store, &id).await,
            (2, b"ab".to_vec(), vec![(3, b"c".to_vec())])
        );
    }
}

/// What somebody writes who knows the page is stored with it, before or after; and never under the former id.
pub async fn a_page_that_another_store_writes_to_is_renamed_whole(place: &dyn Place) {
    let (store, other) = (place.open().await, place.open().await);
    for round in 0..20 {
        let (from, to) = (format!("from{round}"), format!("to{round}"));
        let generation = commit_one(&store, append(&from, [b"1"])).await.generation;
        let writer = {
            let (other, from) = (Arc::clone(&other), from.clone());
            tokio::spawn(async move {
                let mut stored = 1;
                for n in 0..5 {
                    let entry = append(&from, [b"2"]);
                    // Every other time as somebody to whom the page is new, who may have to begin again.
                    let entry = if n % 2 == 0 { of(&generation, entry) } else { entry };
                    loop {
                        match other.commit(std::slice::from_ref(&entry)).await {
                            Ok(answers) => {
                                stored += u64::from(!answers.iter().all(Committed::is_nothing));
                                break;
                            }
                            Err(error) if error.is_retryable() => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
                stored
            })
        };
        assert!(rename(&store, &from, &to).await, "round {round}");
        let count = writer.await.unwrap();
        assert!(store.page(&page(&from)).await.unwrap().is_none(), "round {round}");
        let record = store.page(&page(&to)).await.unwrap().unwrap();
        assert_eq!(record.seq, count, "round {round}");
        assert_eq!(stored(&store, &to).await.2.len() as u64, count, "round {round}");
    }
}
