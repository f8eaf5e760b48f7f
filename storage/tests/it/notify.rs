//! Announcements of commits on PostgreSQL's channel `pageroom_pages`.

use std::{collections::BTreeSet, time::Duration};

use pageroom_storage::{
    SharedStore, StoreOptions, open,
    testing::contract::{Place, append, page},
};
use sqlx::postgres::PgListener;
use tokio::time::timeout;

use crate::database::PostgresPlace;

/// Listens at the address of PostgreSQL itself.
pub(crate) async fn listener(place: &PostgresPlace) -> PgListener {
    let mut listener = PgListener::connect(&place.url()).await.unwrap();
    listener.listen("pageroom_pages").await.unwrap();
    listener
}

/// Hears so many announcements: pages with their last rows.
pub(crate) async fn heard(
    listener: &mut PgListener,
    store: &SharedStore,
    count: usize,
) -> BTreeSet<(String, u64)> {
    let mut heard = BTreeSet::new();
    while heard.len() < count {
        let next = timeout(Duration::from_secs(10), listener.recv());
        let next = next.await.expect("an announcement").unwrap();
        let told: serde_json::Value = serde_json::from_str(next.payload()).unwrap();
        let id = told["pageId"].as_str().unwrap().to_owned();
        let seq = told["seq"].as_u64().unwrap();
        // What is announced can be read.
        assert!(store.load(&page(&id)).await.unwrap().unwrap().record.seq >= seq);
        heard.insert((id, seq));
    }
    heard
}

#[tokio::test]
async fn commits_are_announced_with_the_last_row_of_each_page_where_that_is_asked_for() {
    let Some(place) = PostgresPlace::new().await else {
        return;
    };
    let mut listener = listener(&place).await;
    let quiet = place.open().await;
    quiet.commit(&[append("silent", ["1"])]).await.unwrap();
    let options = StoreOptions {
        notifies: true,
        ..StoreOptions::default()
    };
    let store = open(&place.url(), &options).await.unwrap();
    store
        .commit(&[append("a \"quoted\" page", ["1", "2"]), append("b", ["1"])])
        .await
        .unwrap();
    store.commit_alone(&append("b", ["2"])).await.unwrap();
    let heard = heard(&mut listener, &store, 3).await;
    let expected = [("a \"quoted\" page", 2), ("b", 1), ("b", 2)].map(|(id, seq)| (id.to_owned(), seq));
    assert_eq!(heard, BTreeSet::from(expected), "and nothing of the quiet server");
    place.remove().await;
}
