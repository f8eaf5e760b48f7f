//! How long does it take to check an update from outside?
#![expect(clippy::expect_used, reason = "a bench stops at the first error")]

use bytes::Bytes;
use crdt::{Document, Limits, Message, Update};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

#[path = "support/traces.rs"]
mod traces;

/// Updates of one trace that are checked in one go.
const UPDATES: usize = 20_000;

fn decode(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut updates = traces::updates("automerge-paper");
    let whole_page = state(&updates);
    updates.truncate(UPDATES);
    let frames: Vec<Bytes> = updates
        .iter()
        .map(|update| crdt::message::update(update))
        .collect();

    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(updates.len() as u64));
    group.bench_function("frame", |bencher| {
        bencher.iter(|| {
            frames
                .iter()
                .flat_map(Message::decode)
                .filter(Result::is_ok)
                .count()
        });
    });
    group.bench_function("structure", |bencher| {
        bencher.iter(|| {
            updates
                .iter()
                .filter(|update| Update::parse((*update).clone(), &limits).is_ok())
                .count()
        });
    });
    group.bench_function("structure and causality", |bencher| {
        bencher.iter_batched_ref(
            || Document::new(limits),
            |document| {
                for update in &updates {
                    let update = Update::parse(update.clone(), &limits).expect("a well-formed update");
                    document.admit(update).expect("an update that follows");
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.throughput(Throughput::Bytes(whole_page.len() as u64));
    group.bench_function("structure of a whole page", |bencher| {
        bencher.iter(|| Update::parse(whole_page.clone(), &limits));
    });
    group.finish();
}

/// The page after these updates, as one update.
fn state(updates: &[Bytes]) -> Bytes {
    let mut document =
        Document::load(Limits::default(), updates.iter().cloned()).expect("a complete history");
    document.encode().expect("a whole document")
}

criterion_group!(benches, decode);
criterion_main!(benches);
