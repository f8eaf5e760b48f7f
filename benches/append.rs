//! How long does a durable append take, with edits of how many pages in one transaction, and a snapshot, with how many rows that it covers?
#![expect(clippy::expect_used, reason = "a bench stops at the first error")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use storage::{NewUpdate, PageCommit, PageId, SharedStore, Snapshot, StoreOptions};
use tokio::{runtime::Runtime, time::Instant};

/// The variable that names an empty PostgreSQL database to write to.
const POSTGRES: &str = "PAGEROOM_TEST_DATABASE_URL";
/// What one edit takes in the log.
const UPDATE_BYTES: usize = 60;

fn batch(pages: usize) -> Vec<PageCommit> {
    let update = NewUpdate {
        data: Bytes::from(vec![7; UPDATE_BYTES]),
        user: Some(Arc::from("somebody")),
    };
    (0..pages)
        .map(|page| PageCommit {
            page: PageId::new(&format!("bench-append-{page}")).expect("a page id"),
            updates: vec![update.clone()],
            size_bytes: Some(UPDATE_BYTES as u64),
            generation: None,
        })
        .collect()
}

fn append_to(criterion: &mut Criterion, runtime: &Runtime, name: &str, store: &SharedStore) {
    let mut group = criterion.benchmark_group(format!("append/{name}"));
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    for pages in [1, 10, 100, 1000] {
        let batch = batch(pages);
        group.throughput(Throughput::Elements(pages as u64));
        group.bench_with_input(
            BenchmarkId::new("pages in a transaction", pages),
            &batch,
            |bencher, batch| {
                bencher.iter(|| runtime.block_on(store.commit(batch)).expect("a store that works"));
            },
        );
    }
    group.finish();
    runtime.block_on(store.close());
}

/// Writes rows and a snapshot of them; gives how long the snapshot took.
async fn compact_once(store: &SharedStore, rows: usize, page: &str) -> Duration {
    let page = PageId::new(page).expect("a page id");
    let row = batch(1)
        .pop()
        .and_then(|mut commit| commit.updates.pop())
        .expect("a row");
    let commit = PageCommit {
        page: page.clone(),
        updates: vec![row; rows],
        size_bytes: None,
        generation: None,
    };
    let committed = store.commit(&[commit]).await.expect("a store that works");
    let seq = committed.first().expect("an answer").last_seq;
    let snapshot = Snapshot {
        seq,
        state: Bytes::from(vec![7; 100_000]),
        state_vector: Bytes::from_static(&[0]),
        content: serde_json::Value::Null,
        text: String::new(),
    };
    let started = Instant::now();
    store
        .compact(&page, None, &snapshot)
        .await
        .expect("a store that works");
    started.elapsed()
}

fn compact_in(criterion: &mut Criterion, runtime: &Runtime, name: &str, url: &str) {
    let mut group = criterion.benchmark_group(format!("compact/{name}"));
    group.sample_size(10).measurement_time(Duration::from_secs(2));
    for history in [false, true] {
        let options = StoreOptions {
            history,
            ..StoreOptions::default()
        };
        let store = runtime
            .block_on(storage::open(url, &options))
            .expect("a database");
        for rows in [50, 5000] {
            let name = if history {
                "rows that are kept"
            } else {
                "rows that are deleted"
            };
            let page = format!("bench-compact-{history}-{rows}");
            group.bench_function(BenchmarkId::new(name, rows), |bencher| {
                bencher.iter_custom(|times| {
                    let each = (0..times).map(|_| runtime.block_on(compact_once(&store, rows, &page)));
                    each.sum()
                });
            });
        }
        runtime.block_on(store.close());
    }
    group.finish();
}

fn append(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let open = |url: &str| runtime.block_on(storage::open(url, &StoreOptions::default()));
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("bench.db").display());
    append_to(criterion, &runtime, "sqlite", &open(&url).expect("a new file"));
    compact_in(criterion, &runtime, "sqlite", &url);
    match std::env::var(POSTGRES) {
        Ok(url) => {
            append_to(criterion, &runtime, "postgres", &open(&url).expect("a database"));
            compact_in(criterion, &runtime, "postgres", &url);
        }
        Err(_) => eprintln!("skipped: no PostgreSQL in {POSTGRES}"),
    }
}

criterion_group!(benches, append);
criterion_main!(benches);
