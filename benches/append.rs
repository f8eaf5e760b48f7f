//! How long does a durable append take, with edits of how many pages in one transaction?
#![expect(clippy::expect_used, reason = "a bench stops at the first error")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use storage::{NewUpdate, PageCommit, PageId, SharedStore};
use tokio::runtime::Runtime;

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

fn append(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let open = |url: &str| runtime.block_on(storage::open(url, &storage::StoreOptions::default()));
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("bench.db").display());
    append_to(criterion, &runtime, "sqlite", &open(&url).expect("a new file"));
    match std::env::var(POSTGRES) {
        Ok(url) => append_to(criterion, &runtime, "postgres", &open(&url).expect("a database")),
        Err(_) => eprintln!("skipped: no PostgreSQL in {POSTGRES}"),
    }
}

criterion_group!(benches, append);
criterion_main!(benches);
