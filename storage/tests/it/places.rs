//! Addresses as people write them, followed to real servers: several hosts, sockets, and passwords with any character.

use std::{net::TcpListener, time::Duration};

use pageroom_storage::{
    AccessChange, Permission, SharedStore, StoreOptions, open,
    testing::contract::{append, page},
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{Cluster, free_port};

/// A host that refuses, or cannot be written, costs no more than asking it.
const AT_ONCE: Duration = Duration::from_secs(3);
/// One that says nothing is waited for, and so is the end of what went there.
const SOON: Duration = Duration::from_secs(15);

async fn open_at(url: &str) -> SharedStore {
    let opened = open(url, &StoreOptions::default()).await;
    opened.unwrap_or_else(|error| panic!("{url}: {error}"))
}

fn grant(user: &str) -> Permission {
    Permission {
        page: "p".to_owned(),
        user: user.to_owned(),
        role: "edit".to_owned(),
        expires_at: None,
    }
}

/// Writes and reads on every kind of connection, and hears what is announced. Gives the time until it listened.
async fn use_all(store: &SharedStore, row: &str) -> Duration {
    store.commit(&[append("p", [row])]).await.unwrap();
    store.commit_alone(&append("q", [row])).await.unwrap();
    store.check().await.unwrap();
    let stored = store.load(&page("p")).await.unwrap().unwrap();
    assert_eq!(stored.log.last().unwrap().data, row);
    let mut listener = store.access_listener().expect("a database that announces");
    let began = Instant::now();
    let listens = timeout(SOON, listener.next()).await.expect("a listener");
    assert_eq!(listens.unwrap(), AccessChange::default());
    let listened = began.elapsed();
    store.grant(&grant(row)).await.unwrap();
    let heard = timeout(SOON, listener.next()).await.expect("an announcement");
    assert_eq!(heard.unwrap().user.as_deref(), Some(row));
    listened
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_are_tried_in_turn_until_one_is_there_that_can_be_written() {
    let Some(primary) = Cluster::start_new() else {
        return;
    };
    let standby = primary.start_standby();
    let nobody = free_port();
    // Whoever connects waits for ever.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().expect("an address").port();
    let (primary, standby) = (primary.port(), standby.port());
    let at = |ports: &[u16]| {
        let hosts: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        hosts.join(",")
    };
    for (n, (hosts, query, patience)) in [
        (at(&[nobody, primary]), "", AT_ONCE),
        (at(&[primary, nobody]), "", AT_ONCE),
        (
            at(&[standby, primary]),
            "?target_session_attrs=read-write",
            AT_ONCE,
        ),
        (
            at(&[standby, nobody, primary]),
            "?target_session_attrs=primary&sslmode=disable",
            AT_ONCE,
        ),
        (at(&[silent, primary]), "", SOON),
    ]
    .into_iter()
    .enumerate()
    {
        let url = format!("postgres://pageroom@{hosts}/postgres{query}");
        let listened = use_all(&open_at(&url).await, &format!("{n}")).await;
        assert!(listened < patience, "{url}: it listened after {listened:?}");
    }
    // In the way of libpq's keywords.
    let url = format!(
        "postgres://pageroom@/postgres?host=127.0.0.1,127.0.0.1&port={standby},{primary}&target_session_attrs=read-write"
    );
    use_all(&open_at(&url).await, "listed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_first_host_is_gone_the_second_is_written_and_heard() {
    let Some(first) = Cluster::start_new() else {
        return;
    };
    let hosts = |ports: [u16; 2]| {
        let [first, second] = ports.map(|port| format!("127.0.0.1:{port}"));
        format!("postgres://pageroom@{first},{second}/postgres?target_session_attrs=read-write")
    };
    open_at(&first.url("pageroom")).await;
    let second = first.start_standby();
    let store = open_at(&hosts([first.port(), second.port()])).await;
    let mut listener = store.access_listener().expect("a database that announces");
    listener.next().await.unwrap();
    use_all(&store, "before").await;
    // Acknowledged is on the standby, too, before the primary goes.
    let mut behind = PgConnection::connect(&second.url("pageroom")).await.unwrap();
    let rows = "SELECT count(*) FROM page_permissions WHERE user_id = 'before'";
    let began = Instant::now();
    while sqlx::query_scalar::<_, i64>(rows)
        .fetch_one(&mut behind)
        .await
        .unwrap()
        == 0
    {
        assert!(began.elapsed() < SOON, "the standby does not follow");
        sleep(Duration::from_millis(20)).await;
    }

    first.crash();
    behind.execute("SELECT pg_promote()").await.unwrap();
    let began = Instant::now();
    while let Err(error) = store.commit(&[append("p", ["after"])]).await {
        assert_eq!(error.kind(), "unavailable", "{error}");
        assert!(began.elapsed() < SOON, "it stays where it was: {error}");
        sleep(Duration::from_millis(20)).await;
    }
    use_all(&store, "at last").await;
    // Whoever listened before is told that everything may have changed, and listens at the second one.
    let hearing = timeout(SOON, async {
        loop {
            match listener.next().await {
                Ok(change) if change.user.as_deref() == Some("again") => return,
                Ok(_) => store.grant(&grant("again")).await.unwrap(),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    });
    hearing.await.expect("an announcement of the second host");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_with_a_socket_is_a_host() {
    let Some(cluster) = Cluster::start_new() else {
        return;
    };
    // What it answers on a socket it does not say on any other way in.
    let (folder, port) = (cluster.sockets().display().to_string(), cluster.port());
    let escaped = folder.replace('/', "%2F");
    for (n, url) in [
        format!("postgres://pageroom@/postgres?host={folder}&port={port}"),
        format!("postgres:///postgres?host={folder}&port={port}&user=pageroom"),
        format!("postgres://pageroom:a-secret@localhost/postgres?host={folder}&port={port}&sslmode=disable"),
        format!("postgres://pageroom@{escaped}:{port}/postgres"),
        format!("postgres://pageroom@/postgres?host=/nowhere/at/all,{folder}&port={port}"),
    ]
    .into_iter()
    .enumerate()
    {
        let store = open_at(&url).await;
        use_all(&store, &format!("{n}")).await;
        let mut behind = PgConnection::connect(&cluster.url("pageroom")).await.unwrap();
        let elsewhere = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pageroom' AND client_addr IS NOT NULL";
        let elsewhere: i64 = sqlx::query_scalar(elsewhere)
            .fetch_one(&mut behind)
            .await
            .unwrap();
        assert_eq!(elsewhere, 0, "{url}: all connections are sockets");
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_with_any_character_open_as_they_are_and_encoded() {
    let Some(cluster) = Cluster::start_new() else {
        return;
    };
    let mut behind = PgConnection::connect(&cluster.url("pageroom")).await.unwrap();
    behind
        .execute("CREATE ROLE locked SUPERUSER LOGIN")
        .await
        .unwrap();
    let demand = async |password: &str| {
        let mut behind = PgConnection::connect(&cluster.url("pageroom")).await.unwrap();
        let password = password.replace('\'', "''");
        let demand = format!("ALTER ROLE locked PASSWORD '{password}'");
        behind.execute(AssertSqlSafe(demand)).await.unwrap();
    };
    demand("one").await;
    cluster.demand_password_of("locked");
    let url = |password: &str| {
        format!(
            "postgres://locked:{password}@127.0.0.1:{}/postgres",
            cluster.port()
        )
    };
    let refused = open(&url("another"), &StoreOptions::default()).await.map(drop);
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), "address", "{refused}");
    assert!(
        refused.to_string().contains("check user and password"),
        "{refused}"
    );
    for password in [
        "a/b",
        "a#b",
        "a?b",
        "a@b",
        "a:b",
        "a&b=c",
        "100%",
        "a b",
        "[a]",
        "{a}|^\\`",
        "\"<a>'",
        "ä€",
        "$a!*()+,;~.",
        "p@ss/w#rd?%:[x]",
    ] {
        demand(password).await;
        let escaped: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for written in [password, &escaped] {
            open_at(&url(written)).await.check().await.unwrap();
        }
    }
    // Whoever listens comes in the same way.
    use_all(&open_at(&url("p@ss/w#rd?%:[x]")).await, "all").await;
    // What the driver cannot send says so, instead of being a password that is wrong.
    demand("👋").await;
    let refused = open(&url("👋"), &StoreOptions::default()).await.map(drop);
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), "address", "{refused}");
    assert!(refused.to_string().contains("another password"), "{refused}");
}
