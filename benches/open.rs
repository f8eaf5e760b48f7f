//! How long does it take to open a page that nobody has open, and to give it to somebody who has nothing?
#![expect(clippy::expect_used, reason = "a bench stops at the first error")]

use bytes::Bytes;
use crdt::{ClientId, Document, Limits, StateVector};
use criterion::{Criterion, criterion_group, criterion_main};

#[path = "support/traces.rs"]
mod traces;

/// Rows that no snapshot covers yet.
const LOG_ROWS: usize = 500;

fn open(criterion: &mut Criterion) {
    let limits = Limits::default();
    let updates = traces::updates("automerge-paper");
    let whole_page = state(&updates);
    let (covered, log) = updates.split_at(updates.len() - LOG_ROWS);
    let snapshot = state(covered);
    let mut whole = Document::load(limits, [whole_page.clone()]).expect("a whole page");
    let state_vector = whole.state_vector().encode();
    let client = whole
        .state_vector()
        .iter()
        .next()
        .map_or(ClientId(0), |(client, _)| client);
    let behind: StateVector = [(client, whole.state_vector().get(client) - 100)]
        .into_iter()
        .collect();

    let mut group = criterion.benchmark_group("open");
    group.bench_function("a snapshot, for a client with nothing", |bencher| {
        bencher.iter(|| {
            let mut document =
                Document::asleep(limits, whole_page.clone(), &state_vector).expect("a whole page");
            document.encode().expect("a whole page").len()
        });
    });
    group.bench_function("a snapshot, for a client that is behind", |bencher| {
        bencher.iter(|| {
            let mut document =
                Document::asleep(limits, whole_page.clone(), &state_vector).expect("a whole page");
            document.diff(&behind).expect("a whole page").len()
        });
    });
    group.bench_function("a snapshot, to edit it", |bencher| {
        bencher.iter(|| Document::load(limits, [whole_page.clone()]).expect("a whole page"));
    });
    group.bench_function("a snapshot and 500 rows, for a client with nothing", |bencher| {
        bencher.iter(|| {
            let parts = std::iter::once(&snapshot).chain(log).cloned();
            let mut document = Document::load(limits, parts).expect("a whole page");
            document.encode().expect("a whole page").len()
        });
    });
    group.bench_function("snapshot of an open page", |bencher| {
        bencher.iter(|| whole.snapshot().expect("a whole page"));
    });
    group.finish();
}

/// The page after these updates, as one update.
fn state(updates: &[Bytes]) -> Bytes {
    let mut document =
        Document::load(Limits::default(), updates.iter().cloned()).expect("a complete history");
    document.encode().expect("a whole document")
}

criterion_group!(benches, open);
criterion_main!(benches);
