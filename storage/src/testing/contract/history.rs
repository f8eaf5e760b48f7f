//! What becomes of rows that a snapshot has covered, and of versions.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{Place, append, commit_one, compact, page, snapshot};
use crate::{
    AddedVersion, MAX_HISTORY_ROWS_AT_ONCE, MAX_NAMED_VERSIONS, NewUpdate, NewVersion, PageCommit, Past, Seq,
    SharedStore, VersionKind,
};

/// A row, and who wrote it.
fn row(data: &str, user: Option<&str>) -> NewUpdate {
    NewUpdate {
        data: Bytes::copy_from_slice(data.as_bytes()),
        user: user.map(Arc::from),
    }
}

fn version(seq: Seq, kind: VersionKind, name: Option<&str>) -> NewVersion {
    NewVersion {
        seq,
        kind,
        name: name.map(str::to_owned),
        user: Some("ada".to_owned()),
        reason: None,
    }
}

/// A stretch of the past: what the base covers, the base, and the rows with their authors.
type Read = (Seq, Option<String>, Vec<(Seq, String, Option<String>)>);

fn read(past: Past) -> Read {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let rows = past.rows.iter();
    let rows = rows.map(|row| (row.seq, text(&row.data), row.user.as_deref().map(str::to_owned)));
    (past.covered, past.base.map(|state| text(&state)), rows.collect())
}

async fn past(store: &SharedStore, from: Seq, to: Seq) -> Option<Read> {
    store.past(&page("p"), from, to).await.unwrap().map(read)
}

/// A minute before a page's last row was stored, and one after.
async fn around_last_row(store: &SharedStore, id: &str) -> (SystemTime, SystemTime) {
    let minute = Duration::from_secs(60);
    let at = store.page(&page(id)).await.unwrap().unwrap().updated_at;
    (at - minute, at + minute)
}

async fn forget_all(store: &SharedStore, upto: Seq) -> u64 {
    let mut forgotten = 0;
    loop {
        match store.forget_history(&page("p"), upto).await.unwrap() {
            0 => return forgotten,
            some => forgotten += some,
        }
    }
}

pub async fn rows_that_a_snapshot_covers_stay_readable_in_order_with_their_authors(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(past(&store, 0, 0).await, None);
    assert_eq!(store.changes(&page("p"), 0, 10).await.unwrap(), None);
    let entry = PageCommit {
        page: page("p"),
        updates: vec![row("1", Some("ada")), row("", None), row("333", Some("b\"ob"))],
        size_bytes: None,
        generation: None,
    };
    commit_one(&store, entry).await;
    let expected = |from: usize, to: usize| {
        let all = [
            (1, "1".to_owned(), Some("ada".to_owned())),
            (2, String::new(), None),
            (3, "333".to_owned(), Some("b\"ob".to_owned())),
            (4, "4".to_owned(), None),
        ];
        all[from..to].to_vec()
    };
    assert_eq!(past(&store, 2, 2).await, Some((0, None, expected(0, 2))));
    compact(&store, "p", snapshot(2, "12")).await;
    commit_one(&store, append("p", ["4"])).await;
    for seq in 0..=1 {
        let all = expected(0, seq as usize);
        assert_eq!(past(&store, seq, seq).await, Some((0, None, all)));
    }
    let base = Some("12".to_owned());
    assert_eq!(past(&store, 2, 2).await, Some((2, base.clone(), vec![])));
    assert_eq!(past(&store, 2, 4).await, Some((2, base, expected(2, 4))));
    assert_eq!(past(&store, 1, 4).await, Some((0, None, expected(0, 4))));
    compact(&store, "p", snapshot(4, "1234")).await;
    assert_eq!(past(&store, 3, 3).await, Some((0, None, expected(0, 3))));
    for seq in [5, Seq::MAX] {
        assert_eq!(past(&store, seq, seq).await, None, "a row that is not there yet");
    }

    let changes = store.changes(&page("p"), 1, 2).await.unwrap().unwrap();
    assert_eq!(changes.last, 4);
    let told = changes.rows.iter();
    let told: Vec<_> = told
        .map(|row| (row.seq, row.user.as_deref(), row.bytes))
        .collect();
    assert_eq!(told, [(2, None, 0), (3, Some("b\"ob"), 3)]);
    let (earlier, later) = around_last_row(&store, "p").await;
    let is_near = |at: SystemTime| at > earlier && at < later;
    assert!(changes.rows.iter().all(|row| is_near(row.at)), "{changes:?}");
    let record = store.history(&page("p")).await.unwrap();
    assert_eq!((record.first_seq, record.bytes), (0, 4 * 64 + 5));
}

pub async fn a_past_state_is_read_from_a_base_that_is_near(place: &dyn Place) {
    let store = place.open().await;
    let state = vec![b's'; 1000];
    let row = vec![b'r'; 50_000];
    for seq in 1..=40 {
        commit_one(&store, append("p", [&row])).await;
        compact(&store, "p", snapshot(seq, &state)).await;
    }
    for seq in 0..=40 {
        let read = store.past(&page("p"), seq, seq).await.unwrap().unwrap();
        assert!(read.rows.len() <= 7, "{} rows to {seq}", read.rows.len());
        assert_eq!(read.base.is_some(), read.covered > 0);
    }
    // States cost no more than the rows between them.
    let record = store.history(&page("p")).await.unwrap();
    let rows = 40 * (50_000 + 64);
    assert!((rows + 4_000..rows + 8_000).contains(&record.bytes), "{record:?}");
}

pub async fn a_page_whose_rows_were_not_kept_begins_with_its_snapshot(place: &dyn Place) {
    let store = place.open().await;
    commit_one(&store, append("p", ["1", "2"])).await;
    compact(&store, "p", snapshot(2, "12")).await;
    // All of it is forgotten, as if nothing had been kept.
    assert_eq!(forget_all(&store, 2).await, 2);
    assert_eq!(store.history(&page("p")).await.unwrap().bytes, 0);
    assert_eq!(past(&store, 1, 1).await, None);
    assert_eq!(past(&store, 2, 2).await, Some((2, Some("12".to_owned()), vec![])));
    for text in ["3", "4"] {
        commit_one(&store, append("p", [text])).await;
    }
    compact(&store, "p", snapshot(3, "123")).await;
    compact(&store, "p", snapshot(4, "1234")).await;
    let (covered, base, rows) = past(&store, 3, 3).await.unwrap();
    assert_eq!((covered, base.as_deref(), rows.len()), (2, Some("12"), 1));
    assert_eq!(past(&store, 1, 1).await, None, "never another state");
    assert_eq!(past(&store, 1, 3).await, None);
    let changes = store.changes(&page("p"), 0, 10).await.unwrap().unwrap();
    assert_eq!(changes.rows.first().map(|row| row.seq), Some(3));
    let record = store.history(&page("p")).await.unwrap();
    assert_eq!((record.first_seq, record.bytes), (2, 2 * 65 + 2));
}

pub async fn what_is_forgotten_is_none_and_what_is_behind_it_stays(place: &dyn Place) {
    let store = place.open().await;
    let rows = MAX_HISTORY_ROWS_AT_ONCE as u64 + 10;
    commit_one(&store, append("p", (0..rows).map(|_| "r"))).await;
    compact(&store, "p", snapshot(rows, "s")).await;
    assert_eq!(
        store.forget_history(&page("p"), rows - 2).await.unwrap(),
        0,
        "what is behind it could not be read any more"
    );
    store
        .keep_base(&page("p"), rows - 2, &Bytes::from_static(b"base"))
        .await
        .unwrap();
    let first = store.forget_history(&page("p"), rows - 2).await.unwrap();
    assert_eq!(first, MAX_HISTORY_ROWS_AT_ONCE as u64);
    assert_eq!(past(&store, rows - 3, rows - 3).await, None);
    assert_eq!(forget_all(&store, rows - 2).await, 8);
    let kept = past(&store, rows - 1, rows - 1).await.unwrap();
    assert_eq!(
        (kept.0, kept.1.as_deref(), kept.2.len()),
        (rows - 2, Some("base"), 1)
    );
    assert_eq!(past(&store, rows - 3, rows).await, None);
    let record = store.history(&page("p")).await.unwrap();
    assert_eq!((record.first_seq, record.bytes), (rows - 2, 4 + 2 * 65));
    // What comes later goes on with it.
    commit_one(&store, append("p", ["r"])).await;
    compact(&store, "p", snapshot(rows + 1, "t")).await;
    assert_eq!(
        past(&store, rows, rows).await.unwrap().0,
        rows,
        "the rows since the last base are long"
    );
    assert_eq!(forget_all(&store, rows + 1).await, 3);
    assert_eq!(past(&store, rows, rows).await, None);
    assert_eq!(store.history(&page("p")).await.unwrap().bytes, 0);
}

pub async fn versions_are_listed_newest_first_and_named_ones_keep_their_base(place: &dyn Place) {
    let store = place.open().await;
    let add = async |version: NewVersion| store.add_version(&page("p"), &version).await.unwrap();
    assert_eq!(
        add(version(0, VersionKind::Named, None)).await,
        AddedVersion::Unknown
    );
    commit_one(&store, append("p", ["1", "2", "3", "4"])).await;
    assert_eq!(
        add(version(5, VersionKind::Named, None)).await,
        AddedVersion::Unknown
    );
    let kept = [
        version(1, VersionKind::Automatic, None),
        version(2, VersionKind::Named, Some("Zoë's \u{1f600}")),
        version(3, VersionKind::Restore, None),
        version(4, VersionKind::Automatic, None),
    ];
    let mut ids = Vec::new();
    for version in kept.clone() {
        match add(version).await {
            AddedVersion::Added(id) => ids.push(id),
            other @ (AddedVersion::Unknown | AddedVersion::TooMany) => panic!("{other:?}"),
        }
    }
    assert!(ids.is_sorted());
    let listed = store.versions(&page("p"), None, 3).await.unwrap();
    let read: Vec<_> = listed.iter().map(|known| known.version.clone()).collect();
    assert_eq!(read, [kept[3].clone(), kept[2].clone(), kept[1].clone()]);
    let rest = store
        .versions(&page("p"), listed.last().map(|known| known.id), 3)
        .await
        .unwrap();
    assert_eq!(rest.iter().map(|known| known.id).collect::<Vec<_>>(), [ids[0]]);
    let found = store.version(&page("p"), ids[1]).await.unwrap().unwrap();
    assert_eq!((found.id, &found.version), (ids[1], &kept[1]));
    assert_eq!(store.version(&page("q"), ids[1]).await.unwrap(), None);

    compact(&store, "p", snapshot(4, "1234")).await;
    for (seq, state) in [(2, "12"), (3, "123")] {
        store
            .keep_base(&page("p"), seq, &Bytes::from_static(state.as_bytes()))
            .await
            .unwrap();
    }
    assert_eq!(forget_all(&store, 4).await, 4);
    let listed = store.versions(&page("p"), None, 10).await.unwrap();
    assert_eq!(
        listed.iter().map(|known| known.id).collect::<Vec<_>>(),
        [ids[3], ids[2], ids[1]]
    );
    assert_eq!(past(&store, 1, 1).await, None);
    assert_eq!(past(&store, 2, 2).await, Some((2, Some("12".to_owned()), vec![])));
    assert_eq!(
        past(&store, 3, 3).await,
        Some((3, Some("123".to_owned()), vec![]))
    );

    for _ in 2..MAX_NAMED_VERSIONS {
        add(version(4, VersionKind::Named, None)).await;
    }
    assert_eq!(
        add(version(4, VersionKind::Named, None)).await,
        AddedVersion::TooMany
    );
    assert!(matches!(
        add(version(4, VersionKind::Automatic, None)).await,
        AddedVersion::Added(_)
    ));
}

pub async fn two_stores_that_compact_at_once_archive_each_row_once(place: &dyn Place) {
    let (first, second) = (place.open().await, place.open().await);
    for seq in 1..=30_u64 {
        commit_one(&first, append("p", [seq.to_string()])).await;
        tokio::join!(
            compact(&first, "p", snapshot(seq, "s")),
            compact(&second, "p", snapshot(seq.saturating_sub(seq % 2), "s")),
        );
        let read = past(&second, seq - 1, seq).await.unwrap();
        let numbers: Vec<_> = read.2.iter().map(|(seq, data, _)| (*seq, data.clone())).collect();
        let expected: Vec<_> = (read.0 + 1..=seq).map(|seq| (seq, seq.to_string())).collect();
        assert_eq!(numbers, expected);
    }
}

pub async fn histories_that_are_too_long_are_found(place: &dyn Place) {
    let store = place.open().await;
    for id in ["p", "q"] {
        commit_one(&store, append(id, ["1", "2"])).await;
        compact(&store, id, snapshot(2, "12")).await;
    }
    commit_one(&store, append("q", ["3"])).await;
    let old = async |before| {
        let found = store.old_histories(before, None, 10).await.unwrap();
        found.into_iter().map(|old| old.page).collect::<Vec<_>>()
    };
    let large = async |bytes| {
        let mut found = store.large_histories(bytes, 10).await.unwrap();
        found.sort();
        found
    };
    let (past, future) = around_last_row(&store, "p").await;
    assert_eq!(old(past).await, []);
    assert_eq!(old(future).await, [page("p"), page("q")]);
    assert_eq!(large(1000).await, []);
    assert_eq!(large(100).await, [(page("p"), 2), (page("q"), 2)]);
    assert_eq!(store.last_before(&page("q"), past).await.unwrap(), Some(0));
    assert_eq!(store.last_before(&page("q"), future).await.unwrap(), Some(2));
    assert_eq!(store.last_before(&page("r"), future).await.unwrap(), None);
    assert_eq!(forget_all(&store, 2).await, 2);
    assert_eq!(old(future).await, [page("q")]);
    assert_eq!(large(100).await, [(page("q"), 2)]);
    assert_eq!(store.last_before(&page("p"), future).await.unwrap(), None);
}

pub async fn old_histories_are_listed_each_once_the_oldest_first(place: &dyn Place) {
    let store = place.open().await;
    let ids: Vec<_> = (0..25).map(|number| format!("p{:02}", number * 7 % 25)).collect();
    for id in &ids {
        commit_one(&store, append(id, ["1"])).await;
        compact(&store, id, snapshot(1, "1")).await;
    }
    let (_, future) = around_last_row(&store, "p00").await;
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let found = store.old_histories(future, after.as_ref(), 4).await.unwrap();
        let Some(last) = found.last() else { break };
        after = Some(last.cursor.clone());
        listed.extend(
            found
                .into_iter()
                .map(|old| (old.first_at, old.page.as_str().to_owned())),
        );
    }
    assert!(listed.is_sorted_by_key(|(at, _)| *at), "{listed:?}");
    let mut pages: Vec<_> = listed.into_iter().map(|(_, page)| page).collect();
    pages.sort();
    let mut ids = ids;
    ids.sort();
    assert_eq!(pages, ids);
}

pub async fn a_version_is_found_by_its_place_from_the_newest_one(place: &dyn Place) {
    let store = place.open().await;
    commit_one(&store, append("p", ["1", "2", "3"])).await;
    for seq in [1, 2, 3] {
        let version = version(seq, VersionKind::Automatic, None);
        store.add_version(&page("p"), &version).await.unwrap();
    }
    for (count, seq) in [(1, Some(3)), (3, Some(1)), (4, None), (u32::MAX, None)] {
        let found = store.version_from_newest(&page("p"), count).await.unwrap();
        assert_eq!(found, seq, "{count}");
    }
}
