//! How long does it take to apply a real history of edits, and to merge it for those who listen?
#![expect(clippy::expect_used, reason = "a bench stops at the first error")]

use crdt::{Document, Limits, Update};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

#[path = "support/traces.rs"]
mod traces;

fn apply(criterion: &mut Criterion) {
    let limits = Limits::default();
    for name in ["automerge-paper", "rustcode"] {
        let updates = traces::updates(name);
        let parsed: Vec<Update> = updates
            .iter()
            .map(|update| Update::parse(update.clone(), &limits).expect("a well-formed update"))
            .collect();
        let mut group = criterion.benchmark_group(format!("apply/{name}"));
        group
            .sample_size(10)
            .throughput(Throughput::Elements(updates.len() as u64));
        for batch in [1, 10, 100] {
            group.bench_function(format!("{batch} edits at a time"), |bencher| {
                bencher.iter_batched_ref(
                    || Document::new(limits),
                    |document| {
                        for updates in parsed.chunks(batch) {
                            for update in updates {
                                document.admit(update.clone()).expect("an update that follows");
                            }
                        }
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        for batch in [10, 100] {
            group.bench_function(format!("merge {batch} edits"), |bencher| {
                bencher.iter(|| {
                    parsed
                        .chunks(batch)
                        .map(|updates| crdt::merge(updates).len())
                        .sum::<usize>()
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, apply);
criterion_main!(benches);
