//! A database that may not be written is read, refuses writes as read-only, and is written again when it may be.

use std::{
    env,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    process::Command,
};

use pageroom_storage::{
    SharedStore, StoreOptions, open,
    testing::contract::{Place, append, page},
};
use sqlx::{AssertSqlSafe, Executor};

use crate::{
    cluster::{Cluster, run, runs_as_root},
    database::{PostgresPlace, SqlitePlace, skipped},
};

const SELF: &str = "read_only::a_file_without_write_permission_is_read_and_written_again_when_it_has_it";

#[test]
fn a_file_without_write_permission_is_read_and_written_again_when_it_has_it() {
    if !runs_as_root() {
        return tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(take_permission_away());
    }
    // Root may write every file: run this test again as somebody who may not.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let program = folder.path().join("it");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    if Command::new("setpriv").arg("--version").output().is_err() {
        return skipped("setpriv is not there to give up the rights of root");
    }
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    run(Command::new("setpriv")
        .args(nobody)
        .arg(program)
        .args(["--exact", SELF])
        .env("TMPDIR", folder.path()));
}

async fn can_only_be_read(store: &SharedStore) {
    assert!(store.load(&page("p")).await.unwrap().is_some());
    assert_eq!(store.check().await.unwrap_err().kind(), "read_only");
    assert_eq!(
        store
            .commit(&[append("p", ["refused"])])
            .await
            .unwrap_err()
            .kind(),
        "read_only"
    );
}

async fn take_permission_away() {
    let place = SqlitePlace::new();
    let store = place.open().await;
    store.commit(&[append("p", ["before"])]).await.unwrap();
    store.close().await;

    fs::set_permissions(place.file(), Permissions::from_mode(0o444)).unwrap();
    let store = place.open().await;
    can_only_be_read(&store).await;

    // The file, and those that SQLite put beside it with the same permissions.
    for file in fs::read_dir(place.file().parent().unwrap()).unwrap() {
        fs::set_permissions(file.unwrap().path(), Permissions::from_mode(0o644)).unwrap();
    }
    store.check().await.unwrap();
    assert_eq!(
        store.commit(&[append("p", ["after"])]).await.unwrap()[0].first_seq,
        2
    );
}

#[tokio::test]
async fn a_file_opened_for_reading_refuses_writes() {
    let place = SqlitePlace::new();
    place.open().await.commit(&[append("p", ["1"])]).await.unwrap();
    let store = open(&format!("{}?mode=ro", place.url()), &StoreOptions::default())
        .await
        .unwrap();
    can_only_be_read(&store).await;
}

#[tokio::test]
async fn a_database_with_read_only_transactions_refuses_writes() {
    let Some(place) = PostgresPlace::new().await else {
        return;
    };
    place.open().await.commit(&[append("p", ["1"])]).await.unwrap();
    let url = format!("{}&options[default_transaction_read_only]=on", place.url());
    let store = open(&url, &StoreOptions::default()).await.unwrap();
    can_only_be_read(&store).await;
    place.remove().await;
}

#[tokio::test]
async fn a_role_that_may_only_read_is_told_so_and_may_be_granted_more() {
    let Some(cluster) = Cluster::start_new() else {
        return;
    };
    let owner = open(&cluster.url("pageroom"), &StoreOptions::default())
        .await
        .unwrap();
    owner.commit(&[append("p", ["1"])]).await.unwrap();
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&cluster.url("pageroom"))
        .await
        .unwrap();
    let reader = "CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader";
    connection.execute(reader).await.unwrap();

    // The tables are up to date, so a role that cannot create any may start.
    let store = open(&cluster.url("reader"), &StoreOptions::default())
        .await
        .unwrap();
    can_only_be_read(&store).await;

    let grant = "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO reader";
    connection.execute(grant).await.unwrap();
    store.check().await.unwrap();
    assert_eq!(store.commit(&[append("p", ["2"])]).await.unwrap()[0].first_seq, 2);
}

#[tokio::test]
async fn a_role_that_may_not_read_one_of_the_tables_is_told_which() {
    let Some(cluster) = Cluster::start_new() else {
        return;
    };
    open(&cluster.url("pageroom"), &StoreOptions::default())
        .await
        .unwrap();
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&cluster.url("pageroom"))
        .await
        .unwrap();
    let limited = "CREATE ROLE limited LOGIN;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO limited";
    connection.execute(limited).await.unwrap();
    let store = open(&cluster.url("limited"), &StoreOptions::default())
        .await
        .unwrap();
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'pageroom_migrations'";
    let tables: Vec<String> = sqlx::query_scalar(tables)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert!(tables.contains(&"page_heads".to_owned()), "{tables:?}");
    let needed = tables.iter().map(|table| ("SELECT", table.as_str()));
    let written = [
        ("INSERT", "page_heads"),
        ("UPDATE", "page_heads"),
        ("INSERT", "page_updates"),
    ];
    for (right, table) in needed.chain(written) {
        let revoke = format!("REVOKE {right} ON {table} FROM limited");
        connection.execute(AssertSqlSafe(revoke)).await.unwrap();
        let error = store.check().await.expect_err(table);
        assert_eq!(error.kind(), "read_only", "{error}");
        assert!(
            error.to_string().contains(&format!("lacks {right} on {table}:")),
            "{error}"
        );
        let grant = format!("GRANT {right} ON {table} TO limited");
        connection.execute(AssertSqlSafe(grant)).await.unwrap();
        store.check().await.unwrap();
    }
}
