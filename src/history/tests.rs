//! What is forgotten, and what stays.

use std::sync::Arc;

use crdt::{ClientId, testing::Replica};
use storage::{HistoryStore, Keep, MemoryStore, NewUpdate, PageCommit, Snapshot, Store};
use tokio_util::sync::CancellationToken;

use super::*;

struct Past {
    store: Arc<MemoryStore>,
    page: PageId,
    writer: Replica,
    gate: Limits,
}

impl Past {
    fn new() -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            page: PageId::new("p").expect("an id"),
            writer: Replica::new(ClientId(1)),
            gate: Limits::default(),
        }
    }

    fn history(&self, keep: Keep, max_bytes: Option<u64>) -> History {
        let config = HistoryConfig {
            keep,
            max_bytes,
            version_interval: None,
            version_quiet: None,
        };
        let feed = ChangeFeed::new(Editing::new(None, None));
        History::new(self.store.clone(), self.gate, config, feed)
    }

    /// Writes so many rows, each of one letter.
    async fn write(&mut self, rows: usize) {
        let updates = (0..rows).map(|_| NewUpdate {
            data: self.writer.insert(0, "x"),
            user: None,
        });
        let commit = PageCommit {
            page: self.page.clone(),
            updates: updates.collect(),
            size_bytes: None,
            generation: None,
        };
        self.store.commit(&[commit]).await.expect("a store that works");
    }

    /// Has the snapshot cover all of it.
    async fn compact(&self) {
        let seq = self.seq().await;
        let snapshot = Snapshot {
            seq,
            state: self.writer.encode(),
            state_vector: self.writer.state_vector().encode(),
            content: serde_json::Value::Null,
            text: String::new(),
        };
        self.store
            .compact(&self.page, None, &snapshot)
            .await
            .expect("a store that works");
    }

    async fn seq(&self) -> Seq {
        let record = self.store.page(&self.page).await.expect("a store that works");
        record.map_or(0, |record| record.seq)
    }

    /// How long the text was after each row of which the state is kept. (Before the first one a page is empty.)
    async fn kept(&self) -> Vec<(Seq, usize)> {
        let history = self.history(Keep::Everything, None);
        let mut kept = Vec::new();
        for seq in 1..=self.seq().await {
            if let Some(mut state) = history.state(&self.page, seq).await.expect("a past that fits") {
                let mut reader = Replica::new(ClientId(2));
                reader.apply(&state.document.encode().expect("a document"));
                kept.push((seq, reader.text().len()));
            }
        }
        kept
    }
}

fn named(seq: Seq) -> NewVersion {
    NewVersion {
        seq,
        kind: VersionKind::Named,
        name: None,
        user: None,
        reason: None,
    }
}

/// Each row has added one letter.
fn states(rows: impl IntoIterator<Item = Seq>) -> Vec<(Seq, usize)> {
    rows.into_iter().map(|seq| (seq, seq as usize)).collect()
}

#[tokio::test]
async fn so_many_versions_are_kept_and_all_that_is_behind_the_oldest() {
    let mut past = Past::new();
    let history = past.history(Keep::Versions(2), None);
    for round in 1..=4_u64 {
        past.write(5).await;
        if round % 2 == 0 {
            past.compact().await;
        }
        history
            .add_version(&past.page, &keeper_version(5 * round))
            .await
            .expect("a version");
        let oldest = if round < 2 { 1 } else { 5 * (round - 1) };
        assert_eq!(
            past.kept().await,
            states(oldest..=5 * round),
            "after round {round}"
        );
    }
    // What comes later goes on with it.
    past.write(3).await;
    past.compact().await;
    past.write(3).await;
    past.compact().await;
    assert_eq!(past.kept().await, states(15..=26));
}

fn keeper_version(seq: Seq) -> NewVersion {
    NewVersion {
        kind: VersionKind::Automatic,
        ..named(seq)
    }
}

#[tokio::test]
async fn what_somebody_wanted_stays_when_all_around_it_is_forgotten() {
    let mut past = Past::new();
    past.write(4).await;
    past.compact().await;
    let history = past.history(Keep::Everything, None);
    for seq in [2, 4] {
        history
            .add_version(&past.page, &named(seq))
            .await
            .expect("a version");
    }
    past.write(6).await;
    past.compact().await;
    // A history may take nothing: all of it goes, but for what somebody wanted.
    let stop = CancellationToken::new();
    past.history(Keep::Everything, Some(0)).shorten(&stop).await;
    assert_eq!(past.kept().await, states([2, 4, 10]));
    past.write(2).await;
    past.compact().await;
    assert_eq!(past.kept().await, states([2, 4, 10, 11, 12]));
    let versions = past
        .store
        .versions(&past.page, None, 10)
        .await
        .expect("a store that works");
    assert_eq!(versions.len(), 2);
}

#[tokio::test]
async fn what_is_not_too_old_and_not_too_long_stays() {
    let mut past = Past::new();
    past.write(10).await;
    past.compact().await;
    let stop = CancellationToken::new();
    past.history(Keep::Days(1), Some(1 << 20)).shorten(&stop).await;
    assert_eq!(past.kept().await, states(1..=10));
}

#[tokio::test]
async fn what_was_kept_goes_when_it_is_switched_off() {
    let mut past = Past::new();
    past.write(10).await;
    past.compact().await;
    past.write(1).await;
    let stop = CancellationToken::new();
    past.history(Keep::Nothing, None).shorten(&stop).await;
    assert_eq!(
        past.kept().await,
        states([10, 11]),
        "what is in the snapshot and behind it"
    );
}

#[tokio::test]
async fn the_policy_of_a_page_counts_before_the_setting() {
    let seven = states(1..=7);
    for (setting, policy, kept) in [
        (Keep::Nothing, Keep::Everything, seven.clone()),
        (Keep::Nothing, Keep::Days(1), seven.clone()),
        (Keep::Everything, Keep::Nothing, states([7])),
        (Keep::Days(1), Keep::Versions(1), states(5..=7)),
        (Keep::Nothing, Keep::Versions(2), states(3..=7)),
        (Keep::Versions(1), Keep::Versions(3), seven.clone()),
    ] {
        let mut past = Past::new();
        past.write(7).await;
        past.compact().await;
        for seq in [3, 5] {
            let version = keeper_version(seq);
            past.store
                .add_version(&past.page, &version)
                .await
                .expect("a version");
        }
        let history = past.history(setting, None);
        let on = |pages: &str, keep| HistoryPolicy {
            pages: PageId::new(pages).expect("an id"),
            keep,
        };
        // That on a shorter prefix does not count.
        assert!(history.set_policy(&on("*", setting)).await.expect("a policy"));
        assert!(history.set_policy(&on("p*", policy)).await.expect("a policy"));
        let stop = CancellationToken::new();
        history.shorten(&stop).await;
        assert_eq!(past.kept().await, kept, "{policy} instead of {setting}");
        // Twice the same.
        history.shorten(&stop).await;
        assert_eq!(past.kept().await, kept, "{policy} instead of {setting}");
    }
}

#[tokio::test]
async fn a_page_whose_past_is_kept_gets_versions_and_another_one_none() {
    let mut past = Past::new();
    past.write(1).await;
    let history = past.history(Keep::Nothing, None);
    let versions = async || {
        past.store
            .versions(&past.page, None, 10)
            .await
            .expect("versions")
            .len()
    };
    let automatic = keeper_version(1);
    history
        .add_automatic(&past.page, &automatic)
        .await
        .expect("a store that works");
    assert_eq!(versions().await, 0);
    let policy = HistoryPolicy {
        pages: past.page.clone(),
        keep: Keep::Everything,
    };
    assert!(history.set_policy(&policy).await.expect("a policy"));
    history
        .add_automatic(&past.page, &automatic)
        .await
        .expect("a store that works");
    assert_eq!(versions().await, 1);
}
