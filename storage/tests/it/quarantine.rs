//! The newest hundred updates that were set aside are kept for the operator.

use bytes::Bytes;
use pageroom_storage::{
    MemoryStore, NewUpdate, QUARANTINE_ROWS, SharedStore, Tables,
    testing::contract::{Place, page},
};
use sqlx::{Executor, Row};

use crate::database::{PostgresPlace, SqlitePlace};

const KEPT: &str =
    "SELECT count(*), min(length(data)), max(length(data)), min(user_id), min(reason) FROM page_quarantine";

async fn fill(store: &SharedStore) {
    for n in 0..QUARANTINE_ROWS + 5 {
        let update = NewUpdate {
            data: Bytes::from(vec![0; n]),
            user: Some("ada".into()),
        };
        store
            .quarantine(&page("p"), &update, "it killed a document")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_file_keeps_the_newest() {
    let place = SqlitePlace::new();
    fill(&place.open().await).await;
    let row = place.connect().await.fetch_one(KEPT).await.unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), (100_i64, 5_i64, 104_i64));
    assert_eq!((row.get(3), row.get(4)), ("ada", "it killed a document"));
}

#[tokio::test]
async fn a_database_keeps_the_newest() {
    let Some(place) = PostgresPlace::new().await else {
        return;
    };
    fill(&place.open().await).await;
    let row = place.connect().await.fetch_one(KEPT).await.unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), (100_i64, 5_i32, 104_i32));
    assert_eq!((row.get(3), row.get(4)), ("ada", "it killed a document"));
    place.remove().await;
}

#[tokio::test]
async fn memory_keeps_the_newest() {
    let store = std::sync::Arc::new(MemoryStore::new());
    fill(&(store as SharedStore)).await;
    let mut tables = Tables::new(1);
    for n in 0..QUARANTINE_ROWS + 5 {
        let update = NewUpdate {
            data: Bytes::from(vec![0; n]),
            user: None,
        };
        tables.quarantine(&page("p"), &update, "reason");
    }
    let kept: Vec<usize> = tables.quarantined().map(|kept| kept.update.data.len()).collect();
    assert_eq!(kept, (5..105).collect::<Vec<_>>());
}
