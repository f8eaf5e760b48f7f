//! The disk that fails on demand does what its switches say, and keeps the contract when nothing is switched.

use std::sync::Arc;

use pageroom_storage::{
    SharedStore, Store, store_contract,
    testing::{
        Counts, Fault, Moment,
        contract::{MemoryPlace, Place, append, page},
        disk::FaultyStore,
    },
};

struct FaultyPlace(Arc<FaultyStore>);

#[async_trait::async_trait]
impl Place for FaultyPlace {
    async fn open(&self) -> SharedStore {
        Arc::clone(&self.0) as SharedStore
    }
}

store_contract!(async { Some(FaultyPlace(FaultyStore::in_memory())) });

#[tokio::test]
async fn a_paused_call_waits_until_it_is_resumed() {
    let disk = FaultyStore::in_memory();
    disk.turn(|faults| faults.pause());
    let commit = tokio::spawn({
        let disk = Arc::clone(&disk);
        async move { disk.commit(&[append("p", ["1"])]).await }
    });
    disk.until_waiting(1).await;
    assert!(disk.durable().load(&page("p")).await.unwrap().is_none());
    disk.turn(|faults| faults.resume());
    assert_eq!(commit.await.unwrap().unwrap()[0].last_seq, 1);
    assert_eq!(
        disk.counts(),
        Counts {
            succeeded: 1,
            ..Counts::default()
        }
    );
}

#[tokio::test]
async fn a_crash_forgets_what_was_not_committed_and_nothing_else() {
    let disk = FaultyStore::in_memory();
    disk.commit(&[append("p", ["before"])]).await.unwrap();
    disk.turn(|faults| faults.pause());
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let disk = Arc::clone(&disk);
            tokio::spawn(async move { disk.commit(&[append("p", ["forgotten"])]).await })
        })
        .collect();
    disk.until_waiting(3).await;
    disk.crash();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap_err().kind(), "unavailable");
    }
    disk.turn(|faults| faults.heal());
    let answer = disk.commit(&[append("p", ["after"])]).await.unwrap();
    assert_eq!(answer[0].first_seq, 2);
}

#[tokio::test]
async fn a_lost_answer_leaves_the_rows_behind() {
    let disk = FaultyStore::in_memory();
    disk.turn(|faults| faults.fail_next(1, Fault::Unavailable, Moment::After));
    assert_eq!(
        disk.commit(&[append("p", ["1"])]).await.unwrap_err().kind(),
        "unavailable"
    );
    assert_eq!(disk.load(&page("p")).await.unwrap().unwrap().record.seq, 1);
    disk.turn(|faults| faults.fail_next(1, Fault::Full, Moment::Before));
    assert_eq!(
        disk.commit(&[append("p", ["2"])]).await.unwrap_err().kind(),
        "full"
    );
    assert_eq!(disk.load(&page("p")).await.unwrap().unwrap().record.seq, 1);
    disk.turn(|faults| faults.fail_until_healed(Fault::ReadOnly));
    assert_eq!(disk.check().await.unwrap_err().kind(), "read_only");
    assert_eq!(disk.load(&page("p")).await.unwrap_err().kind(), "read_only");
    disk.turn(|faults| faults.heal());
    disk.check().await.unwrap();
    assert_eq!(
        disk.counts(),
        Counts {
            succeeded: 3,
            failed: 3,
            answers_lost: 1
        }
    );
}

#[tokio::test]
async fn a_caller_that_gives_up_no_longer_waits() {
    let disk = FaultyStore::new(
        MemoryPlace::default().open().await,
        pageroom_storage::testing::Faults::none(),
    );
    disk.turn(|faults| faults.pause());
    let call = tokio::spawn({
        let disk = Arc::clone(&disk);
        async move { disk.commit(&[append("p", ["1"])]).await }
    });
    disk.until_waiting(1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    disk.turn(|faults| faults.resume());
    assert!(disk.load(&page("p")).await.unwrap().is_none());
}
