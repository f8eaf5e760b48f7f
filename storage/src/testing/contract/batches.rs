//! What is stored of a batch: rows, numbers, answers.

use super::{Place, append, commit_one, compact, listed, page, snapshot, stored};
use crate::{Committed, PageCommit, Seq};

pub async fn what_was_never_stored_is_none_and_asking_writes_nothing(place: &dyn Place) {
    let store = place.open().await;
    assert!(store.load(&page("p")).await.unwrap().is_none());
    assert!(store.page(&page("p")).await.unwrap().is_none());
    assert!(store.snapshot(&page("p")).await.unwrap().is_none());
    assert_eq!(store.log(&page("p"), 0, 10).await.unwrap(), Some(Vec::new()));
    assert_eq!(store.commit(&[]).await.unwrap(), []);
    assert!(listed(&store, "", None, 10).await.is_empty());
}

pub async fn rows_are_numbered_from_one_and_come_back_as_they_were(place: &dyn Place) {
    let store = place.open().await;
    let large: Vec<u8> = (0..5_000_000_u32)
        .map(|n| n.to_le_bytes()[usize::from(n % 3 == 0)])
        .collect();
    let all_bytes: Vec<u8> = (0..=255).collect();
    let mut entry = append("p", [&all_bytes[..], b"", &large]);
    entry.updates[0].user = Some("zoë \"quoted\" \\ \u{10ffff}".into());
    entry.updates[1].user = Some("with\0nul".into());
    let first = commit_one(&store, entry).await;
    assert_eq!((first.first_seq, first.last_seq), (1, 3));
    let second = commit_one(&store, append("p", [b"four"])).await;
    assert_eq!((second.first_seq, second.last_seq), (4, 4));

    let loaded = store.load(&page("p")).await.unwrap().unwrap();
    assert!(loaded.snapshot.is_none());
    assert_eq!(
        loaded.log.iter().map(|row| row.seq).collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    let data: Vec<&[u8]> = loaded.log.iter().map(|row| &*row.data).collect();
    assert_eq!(data, [&all_bytes[..], b"", &large, b"four"]);
    let users: Vec<Option<&str>> = loaded.log.iter().map(|row| row.user.as_deref()).collect();
    assert_eq!(
        users,
        [
            Some("zoë \"quoted\" \\ \u{10ffff}"),
            Some("with\u{fffd}nul"),
            None,
            None
        ]
    );

    // Only empty rows in a batch, and none at all.
    let empty = commit_one(&store, append("p", [b""])).await;
    assert_eq!((empty.first_seq, empty.last_seq), (5, 5));
    let nothing = commit_one(&store, append::<&[u8]>("p", [])).await;
    assert_eq!((nothing.first_seq, nothing.last_seq), (6, 5));
}

pub async fn answers_come_in_the_order_of_the_batch(place: &dyn Place) {
    let store = place.open().await;
    // More pages than a row buffer holds, with ids that sort differently from the batch.
    let ids: Vec<String> = (0..1_500)
        .map(|n| format!("{:04}-'\"%\\/é", (n * 7) % 1_500))
        .collect();
    let batch: Vec<PageCommit> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| append(id, vec![id; n % 3 + 1]))
        .collect();
    for round in 0..2 {
        let answers = store.commit(&batch).await.unwrap();
        for (n, answer) in answers.iter().enumerate() {
            let rows = n as Seq % 3 + 1;
            assert_eq!(
                (answer.first_seq, answer.last_seq),
                (round * rows + 1, (round + 1) * rows),
                "{}",
                ids[n]
            );
        }
    }
    let (_, _, log) = stored(&store, &ids[4]).await;
    assert_eq!(
        log,
        (1..=4)
            .map(|seq| (seq, ids[4].clone().into_bytes()))
            .collect::<Vec<_>>()
    );
}

pub async fn a_page_twice_in_a_batch_is_refused_and_nothing_is_stored(place: &dyn Place) {
    let store = place.open().await;
    let error = store
        .commit(&[append("a", [b"1"]), append("b", [b"2"]), append("a", [b"3"])])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), "statement");
    assert!(listed(&store, "", None, 10).await.is_empty());
}

pub async fn a_batch_larger_than_a_statement_is_stored_whole(place: &dyn Place) {
    let store = place.open().await;
    let large = vec![5; 12 << 20];
    commit_one(&store, append("a", [b"first"])).await;
    let answers = store
        .commit(&[
            append("b", [&large[..], b"small", &large]),
            append("a", [&large[..], &large]),
        ])
        .await
        .unwrap();
    compact(&store, "a", snapshot(2, &large)).await;
    assert_eq!((answers[0].first_seq, answers[0].last_seq), (1, 3));
    assert_eq!((answers[1].first_seq, answers[1].last_seq), (2, 3));
    let (covered, state, log) = stored(&store, "a").await;
    assert_eq!((covered, state == large), (2, true));
    assert!(log == [(3, large.clone())]);
    let (_, _, log) = stored(&store, "b").await;
    assert!(log == [(1, large.clone()), (2, b"small".to_vec()), (3, large)]);
}

pub async fn an_entry_without_rows_for_an_unknown_page_writes_nothing(place: &dyn Place) {
    let store = place.open().await;
    let mut sized = append::<&[u8]>("q", []);
    sized.size_bytes = Some(7);
    let batch = [append::<&[u8]>("p", []), sized, append("r", [b"1"])];
    let answers = store.commit(&batch).await.unwrap();
    assert_eq!(answers[..2], [Committed::nothing(), Committed::nothing()]);
    assert_eq!(answers[2].last_seq, 1);
    assert_eq!(listed(&store, "", None, 10).await, ["r"]);
    assert!(store.snapshot(&page("p")).await.unwrap().is_none());
}

pub async fn a_generation_stays_and_differs_between_pages(place: &dyn Place) {
    let store = place.open().await;
    let first = commit_one(&store, append("a", [b"1"])).await.generation;
    assert!(!first.0.is_empty() && first.0.len() <= 32 && first.0.is_ascii());
    assert_eq!(commit_one(&store, append("a", [b"2"])).await.generation, first);
    compact(&store, "a", snapshot(1, b"s")).await;
    assert_eq!(store.page(&page("a")).await.unwrap().unwrap().generation, first);
    assert_eq!(
        store.load(&page("a")).await.unwrap().unwrap().record.generation,
        first
    );
    assert_ne!(commit_one(&store, append("b", [b"1"])).await.generation, first);
}

pub async fn what_was_committed_is_there_after_reopening(place: &dyn Place) {
    let store = place.open().await;
    commit_one(&store, append("p", [b"1", b"2"])).await;
    let before = store.page(&page("p")).await.unwrap().unwrap();
    compact(&store, "p", snapshot(1, b"s")).await;
    store.close().await;
    let store = place.open().await;
    assert_eq!(
        stored(&store, "p").await,
        (1, b"s".to_vec(), vec![(2, b"2".to_vec())])
    );
    let after = commit_one(&store, append("p", [b"3"])).await;
    assert_eq!((after.generation, after.first_seq), (before.generation, 3));
}
