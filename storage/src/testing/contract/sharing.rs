//! What holds when several write at once, and when one gives up.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{Place, append, commit_one, compact, page, snapshot, stored};
use crate::{PageCommit, Seq, SharedStore};

pub async fn stores_that_open_an_empty_database_at_once_share_it(place: &dyn Place) {
    let (alice, bob, carol) = tokio::join!(place.open(), place.open(), place.open());
    for (seq, store) in (1..).zip([&alice, &bob, &carol]) {
        assert_eq!(commit_one(store, append("p", [b"row"])).await.last_seq, seq);
    }
    assert_eq!(stored(&alice, "p").await.2.len(), 3);
}

pub async fn two_stores_append_to_one_page_without_holes(place: &dyn Place) {
    let writer = async |store: SharedStore, name: &'static str| {
        let mut numbers = Vec::new();
        for n in 0..40_usize {
            let rows = n % 3 + 1;
            let answer = commit_one(&store, append("p", vec![name; rows])).await;
            assert_eq!(answer.last_seq + 1 - answer.first_seq, rows as Seq);
            numbers.extend(answer.first_seq..=answer.last_seq);
        }
        numbers
    };
    let (alice, bob) = (place.open().await, place.open().await);
    let (a, b) = tokio::join!(writer(Arc::clone(&alice), "alice"), writer(bob, "bob"));
    let (_, _, log) = stored(&alice, "p").await;
    let of = |name: &str| {
        log.iter()
            .filter(|(_, data)| data == name.as_bytes())
            .map(|(seq, _)| *seq)
            .collect::<Vec<_>>()
    };
    assert_eq!((of("alice"), of("bob")), (a, b));
    assert!(log.iter().map(|(seq, _)| *seq).eq(1..=160 - 2));
}

/// Two processes append rows with a letter of their own each and merge what they see. The merged state is the rows in a
/// sorted list, so a row that is lost or swallowed unmerged is missing at the end.
pub async fn two_stores_compact_one_page_and_lose_nothing(place: &dyn Place) {
    fn merged(state: &[u8], log: &[(Seq, Vec<u8>)]) -> BTreeSet<[u8; 4]> {
        let rows = state.chunks_exact(4).chain(log.iter().map(|(_, data)| &data[..]));
        rows.map(|row| row.try_into().unwrap()).collect()
    }
    let writer = async |store: SharedStore, name: u8| {
        for n in 0..60_u8 {
            commit_one(&store, append("p", [[name, n, 0, 0], [name, n, 1, 0]])).await;
            // A load fails when a row is missing between the snapshot and the last number.
            let (covered, state, log) = stored(&store, "p").await;
            let seen = log.last().map_or(covered, |(seq, _)| *seq);
            let merged: Vec<u8> = merged(&state, &log).into_iter().flatten().collect();
            commit_one(&store, append("p", [[name, n, 2, 0]])).await;
            compact(&store, "p", snapshot(seen, merged)).await;
        }
    };
    let (alice, bob) = (place.open().await, place.open().await);
    tokio::join!(writer(Arc::clone(&alice), b'a'), writer(bob, b'b'));
    let (covered, state, log) = stored(&alice, "p").await;
    assert!(covered > 300);
    let expected: BTreeSet<[u8; 4]> = [b'a', b'b']
        .iter()
        .flat_map(|&name| (0..180).map(move |n| [name, n / 3, n % 3, 0]))
        .collect();
    assert_eq!(merged(&state, &log), expected);
}

pub async fn two_stores_write_the_same_pages_in_any_order_without_deadlock(place: &dyn Place) {
    let ids: Vec<String> = (0..30).map(|n| format!("page-{n:02}")).collect();
    let writer = async |store: SharedStore, backwards: bool| {
        for round in 0..30 {
            let mut batch: Vec<PageCommit> = ids.iter().map(|id| append(id, [b"row"])).collect();
            if backwards {
                batch.reverse();
            }
            // A batch that finds its pages held by the other store is asked for again.
            while let Err(error) = store.commit(&batch).await {
                assert_eq!(error.kind(), "busy", "{error}");
            }
            if round % 5 == 0 {
                for id in &ids {
                    compact(&store, id, snapshot(round, b"state")).await;
                }
            }
        }
    };
    let (alice, bob) = (place.open().await, place.open().await);
    tokio::join!(writer(Arc::clone(&alice), false), writer(bob, true));
    for record in alice.pages("", None, 100).await.unwrap() {
        assert_eq!(record.seq, 60);
    }
}

pub async fn a_cancelled_commit_is_stored_whole_or_not_at_all(place: &dyn Place) {
    let store = place.open().await;
    let rows = [[0_u8; 8]; 100];
    let other = |polls: u64| format!("with-{polls}");
    for polls in 0..12 {
        let batch = [append("p", rows), append(&other(polls), rows)];
        let mut commit = pin!(store.commit(&batch));
        for _ in 0..polls {
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(answer) = commit.as_mut().poll(&mut context) {
                assert_eq!(answer.unwrap().len(), 2);
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    // The store goes on, also while a database may still be busy with what nobody waits for any more.
    commit_one(&store, append("p", [b"last"])).await;
    let whole = async || {
        let mut whole = Vec::new();
        for polls in 0..12 {
            if let Some(record) = store.page(&page(&other(polls))).await.unwrap() {
                assert_eq!(record.seq, 100);
                whole.push(polls);
            }
        }
        whole
    };
    loop {
        let before = whole().await;
        let rows = stored(&store, "p").await.2.len();
        if whole().await == before {
            assert_eq!(rows, before.len() * 100 + 1);
            break;
        }
    }
}
