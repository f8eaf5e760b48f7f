//! A store that was led elsewhere, cut off or forgotten comes back to its primary, and knows there what was acknowledged.

use std::time::Duration;

use pageroom_storage::{
    AccessListener, Permission, SharedStore, StoreOptions, open,
    testing::contract::{append, page},
};
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use crate::{cluster::Cluster, forwarder::Forwarder};

/// Longer than a connection may rest without being asked whether it is there.
const REST: Duration = Duration::from_millis(1500);
/// A call on connections that are gone takes no longer.
const SOON: Duration = Duration::from_secs(5);

fn through(forwarder: &Forwarder) -> String {
    format!("postgres://pageroom@127.0.0.1:{}/postgres", forwarder.port())
}

async fn open_through(forwarder: &Forwarder) -> SharedStore {
    open(&through(forwarder), &StoreOptions::default()).await.unwrap()
}

fn grant(role: &str) -> Permission {
    Permission {
        page: "p".to_owned(),
        user: "ada".to_owned(),
        role: role.to_owned(),
        expires_at: None,
    }
}

/// Uses every kind of connection, so that each is open.
async fn use_all(store: &SharedStore, row: &str) {
    store.commit(&[append("p", [row])]).await.unwrap();
    store.commit_alone(&append("q", [row])).await.unwrap();
    store.grant(&grant("edit")).await.unwrap();
    store.load(&page("p")).await.unwrap();
    store.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_leaves_the_standby_that_its_address_led_to_for_a_while() {
    let Some(primary) = Cluster::start_new() else {
        return;
    };
    let forwarder = Forwarder::start(primary.port()).await;
    let store = open_through(&forwarder).await;
    use_all(&store, "before").await;
    let standby = primary.start_standby();
    let mut behind = PgConnection::connect(&standby.url("pageroom")).await.unwrap();
    behind.execute("SELECT pg_wal_replay_pause()").await.unwrap();

    forwarder.lead_to(standby.port());
    forwarder.cut();
    // A row that is still on its way is stored, and only the answer is lost.
    forwarder.until_cut().await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        for error in [
            store.commit(&[append("p", ["refused"])]).await.map(drop),
            store.load(&page("p")).await.map(drop),
            store.check().await,
        ] {
            let error = error.unwrap_err();
            assert_eq!(error.kind(), "unavailable", "{error}");
        }
        sleep(Duration::from_millis(100)).await;
    }
    // What led there stays open: nothing but the store itself can know that it is the wrong place.
    forwarder.lead_to(primary.port());
    use_all(&store, "after").await;
    assert!(store.revoke("p", "ada").await.unwrap());
    store.block("bob", true).await.unwrap();
    for _ in 0..20 {
        let stored = store.load(&page("p")).await.unwrap().unwrap();
        let rows: Vec<_> = stored.log.iter().map(|row| row.data.clone()).collect();
        assert_eq!(rows, ["before", "after"]);
        assert!(store.permissions_for("ada", &page("p")).await.unwrap().is_empty());
        assert!(store.user("bob").await.unwrap().blocked);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_on_a_primary_that_becomes_a_standby_goes_where_the_address_leads() {
    let Some(first) = Cluster::start_new() else {
        return;
    };
    let forwarder = Forwarder::start(first.port()).await;
    let store = open_through(&forwarder).await;
    use_all(&store, "before").await;
    let second = first.start_standby();
    let mut behind = PgConnection::connect(&second.url("pageroom")).await.unwrap();
    let caught_up = "SELECT pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn()";
    behind.execute(caught_up).await.unwrap();
    // The old primary goes on and is read-only: its connections are open, and reading on them would be reading the past.
    let mut old = PgConnection::connect(&first.url("pageroom")).await.unwrap();
    old.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        .await
        .unwrap();
    old.execute("SELECT pg_reload_conf()").await.unwrap();
    behind.execute("SELECT pg_promote()").await.unwrap();
    forwarder.lead_to(second.port());

    // The first that fails as read-only is the last that does.
    let began = Instant::now();
    while store.commit(&[append("p", ["after"])]).await.is_err() {
        assert!(began.elapsed() < SOON, "it stays where it was");
    }
    use_all(&store, "at last").await;
    let stored = store.load(&page("p")).await.unwrap().unwrap();
    let rows: Vec<_> = stored.log.iter().map(|row| row.data.clone()).collect();
    assert_eq!(rows, ["before", "after", "at last"]);
    store.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_were_forgotten_without_a_word_are_left_soon() {
    let Some(cluster) = Cluster::start_new() else {
        return;
    };
    let forwarder = Forwarder::start(cluster.port()).await;
    let store = open_through(&forwarder).await;
    use_all(&store, "before").await;
    forwarder.forget();
    sleep(REST).await;
    let began = Instant::now();
    use_all(&store, "after").await;
    assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
    // Those that have just been used are not asked first.
    forwarder.forget();
    let began = Instant::now();
    assert_eq!(store.load(&page("p")).await.unwrap().unwrap().record.seq, 2);
    assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
    forwarder.cut();
    store.load(&page("p")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_server_cuts_when_they_rest_fail_nothing() {
    let Some(cluster) = Cluster::start_new() else {
        return;
    };
    let mut behind = PgConnection::connect(&cluster.url("pageroom")).await.unwrap();
    behind
        .execute("ALTER DATABASE postgres SET idle_session_timeout = '2s'")
        .await
        .unwrap();
    let store = open(&cluster.url("pageroom"), &StoreOptions::default())
        .await
        .unwrap();
    for row in ["1", "2", "3"] {
        use_all(&store, row).await;
        sleep(Duration::from_millis(2500)).await;
    }
}

/// Waits until something that concerns Ada is heard, or everything may have changed.
async fn hear(listener: &mut AccessListener) {
    let heard = timeout(Duration::from_secs(10), async {
        loop {
            match listener.next().await {
                Ok(change) if change.user.as_deref().is_none_or(|user| user == "ada") => return,
                Ok(_) => {}
                // Whoever listens pauses and asks again.
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    });
    heard.await.expect("an announcement");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announcements_are_heard_again_after_their_connection_was_cut_or_forgotten() {
    let Some(cluster) = Cluster::start_new() else {
        return;
    };
    let forwarder = Forwarder::start(cluster.port()).await;
    let store = open_through(&forwarder).await;
    let direct = open(&cluster.url("pageroom"), &StoreOptions::default())
        .await
        .unwrap();
    let listener = store.access_listener().expect("a database that announces");
    let mut listener = listener.with_heartbeat(Duration::from_millis(200));
    hear(&mut listener).await;
    for fate in [Forwarder::cut, Forwarder::forget] {
        fate(&forwarder);
        direct.grant(&grant("edit")).await.unwrap();
        // Everything may have changed, which is said again when it listens again.
        hear(&mut listener).await;
        hear(&mut listener).await;
        direct.grant(&grant("view")).await.unwrap();
        hear(&mut listener).await;
    }
}
