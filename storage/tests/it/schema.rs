//! Tables are created and brought up to date when that is wanted, and refused when they do not fit.

use pageroom_storage::{
    StoreOptions, migrate, open,
    testing::contract::{Place, append, page, snapshot},
};
use sqlx::{Executor, Row};

use crate::database::{PostgresPlace, SqlitePlace};

const AS_IT_IS: StoreOptions = StoreOptions {
    alone: false,
    notifies: false,
    direct: None,
    create: true,
    history: true,
    migrate: false,
    timeout: std::time::Duration::from_secs(10),
    readers: 1,
};

const FROM_THE_FUTURE: &str = "INSERT INTO pageroom_migrations
    (version, description, success, checksum, execution_time) VALUES (9999, 'from the future', true, 'x', 1)";

async fn check_states(url: &str) {
    let error = open(url, &AS_IT_IS).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), "migration");
    assert!(error.to_string().contains("`pageroom migrate`"), "{error}");
    migrate(url, None).await.unwrap();
    migrate(url, None).await.unwrap();
    let store = open(url, &AS_IT_IS).await.unwrap();
    store.commit(&[append("p", ["1"])]).await.unwrap();
    store.close().await;
}

async fn check_refused(url: &str) {
    for options in [StoreOptions::default(), AS_IT_IS] {
        let error = open(url, &options).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), "migration");
        assert!(error.to_string().contains("9999"), "{error}");
    }
}

#[tokio::test]
async fn a_file_is_migrated_on_demand_and_one_from_the_future_is_refused() {
    let place = SqlitePlace::new();
    check_states(&place.url()).await;
    place.connect().await.execute(FROM_THE_FUTURE).await.unwrap();
    check_refused(&place.url()).await;
}

#[tokio::test]
async fn a_database_is_migrated_on_demand_and_one_from_the_future_is_refused() {
    let Some(place) = PostgresPlace::new().await else {
        return;
    };
    check_states(&place.url()).await;
    place.connect().await.execute(FROM_THE_FUTURE).await.unwrap();
    check_refused(&place.url()).await;
    place.remove().await;
}

#[tokio::test]
async fn tables_of_another_kind_are_not_touched() {
    let Some(place) = PostgresPlace::new().await else {
        return;
    };
    place
        .connect()
        .await
        .execute("CREATE TABLE page_snapshots (mine int)")
        .await
        .unwrap();
    assert_eq!(
        open(&place.url(), &StoreOptions::default())
            .await
            .map(drop)
            .unwrap_err()
            .kind(),
        "migration"
    );
    place
        .connect()
        .await
        .execute("SELECT mine FROM page_snapshots")
        .await
        .unwrap();
    place.remove().await;
}

#[tokio::test]
async fn a_backend_reads_the_snapshots_of_a_database_itself() {
    let Some(place) = PostgresPlace::new().await else {
        return;
    };
    let store = place.open().await;
    store.commit(&[append("p", ["1", "2"])]).await.unwrap();
    store
        .compact(&page("p"), None, &snapshot(2, b"state"))
        .await
        .unwrap();

    let mut connection = place.connect().await;
    let columns = "SELECT string_agg(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position)
        FROM information_schema.columns WHERE table_name = 'page_snapshots' AND table_schema = current_schema()";
    let columns: String = connection.fetch_one(columns).await.unwrap().get(0);
    assert_eq!(
        columns,
        "page_id text, seq bigint, state bytea, state_vector bytea, content jsonb, text text, \
         updated_at timestamp with time zone"
    );
    let row =
        "SELECT (content ->> 'covered')::bigint + seq, state, text, now() - updated_at < interval '1 minute'
        FROM page_snapshots WHERE page_id = 'p'";
    let row = connection.fetch_one(row).await.unwrap();
    assert_eq!(
        (row.get::<i64, _>(0), row.get::<Vec<u8>, _>(1)),
        (4, b"state".to_vec())
    );
    assert_eq!((row.get::<&str, _>(2), row.get::<bool, _>(3)), ("up to 2", true));
    assert!(store.snapshot(&page("p")).await.unwrap().is_some());
    place.remove().await;
}

#[tokio::test]
async fn a_database_announces_every_change_of_permissions_and_users() {
    use pageroom_storage::{AccessChange, Permission};

    let Some(place) = PostgresPlace::new().await else {
        return;
    };
    let store = place.open().await;
    let mut listener = store.access_listener().expect("a database that announces");
    let change = |user: Option<&str>, page: Option<&str>| AccessChange {
        user: user.map(str::to_owned),
        page: page.map(str::to_owned),
    };
    assert_eq!(
        listener.next().await.unwrap(),
        change(None, None),
        "what was before was not heard"
    );
    // Everything in the database shares the channel, also what other tests do.
    let mut heard = async |expected: AccessChange| while listener.next().await.unwrap() != expected {};
    let permission = Permission {
        page: "announced".to_owned(),
        user: "ada\"".to_owned(),
        role: "edit".to_owned(),
        expires_at: None,
    };
    store.grant(&permission).await.unwrap();
    heard(change(Some("ada\""), Some("announced"))).await;
    store.revoke("announced", "ada\"").await.unwrap();
    heard(change(Some("ada\""), Some("announced"))).await;
    store
        .sign_out("announced", std::time::SystemTime::UNIX_EPOCH)
        .await
        .unwrap();
    heard(change(Some("announced"), None)).await;
    place.remove().await;
}

/// A page of a store that kept no history is read from its last snapshot on by one that does.
async fn check_history_begins(url: &str) {
    let without = StoreOptions {
        history: false,
        ..StoreOptions::default()
    };
    let store = open(url, &without).await.unwrap();
    store.commit(&[append("p", ["1", "2"])]).await.unwrap();
    store
        .compact(&page("p"), None, &snapshot(2, b"12"))
        .await
        .unwrap();
    assert_eq!(store.past(&page("p"), 1, 1).await.unwrap(), None);
    store.close().await;

    let store = open(url, &StoreOptions::default()).await.unwrap();
    for (seq, row) in [(3, "3"), (4, "4")] {
        store.commit(&[append("p", [row])]).await.unwrap();
        store
            .compact(&page("p"), None, &snapshot(seq, row))
            .await
            .unwrap();
    }
    assert_eq!(store.past(&page("p"), 1, 1).await.unwrap(), None);
    for (seq, rows) in [(2, 0), (3, 1)] {
        let past = store.past(&page("p"), seq, seq).await.unwrap().unwrap();
        assert_eq!(
            (past.covered, past.base.as_deref(), past.rows.len()),
            (2, Some(&b"12"[..]), rows)
        );
    }
    store.close().await;

    // And one that keeps none again leaves a gap, across which nothing is made up.
    let store = open(url, &without).await.unwrap();
    store.commit(&[append("p", ["5"])]).await.unwrap();
    store
        .compact(&page("p"), None, &snapshot(5, b"12345"))
        .await
        .unwrap();
    store.close().await;
    let store = open(url, &StoreOptions::default()).await.unwrap();
    store.commit(&[append("p", ["6"])]).await.unwrap();
    store
        .compact(&page("p"), None, &snapshot(6, b"123456"))
        .await
        .unwrap();
    for (seq, covered) in [(3, Some(2)), (4, Some(2)), (5, Some(5)), (6, Some(6))] {
        let past = store.past(&page("p"), seq, seq).await.unwrap();
        assert_eq!(past.map(|past| past.covered), covered, "after row {seq}");
    }
    assert_eq!(store.past(&page("p"), 4, 6).await.unwrap(), None);
    store.close().await;
}

#[tokio::test]
async fn a_history_that_is_switched_on_begins_with_what_there_is() {
    let place = SqlitePlace::new();
    check_history_begins(&place.url()).await;
    if let Some(place) = PostgresPlace::new().await {
        check_history_begins(&place.url()).await;
        place.remove().await;
    }
}
