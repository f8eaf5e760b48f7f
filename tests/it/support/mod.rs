//! What promises are tested with: a server in this process, clients with their own copy of a page, stores that fail on demand.

pub(crate) mod client;
#[path = "../../../storage/tests/it/cluster.rs"]
#[expect(dead_code, reason = "the stores' tests use all of it")]
pub(crate) mod cluster;
pub(crate) mod collector;
pub(crate) mod database;
pub(crate) mod event_stream;
#[path = "../../../storage/tests/it/forwarder.rs"]
#[expect(dead_code, reason = "the stores' tests use all of it")]
pub(crate) mod forwarder;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod provider;
pub(crate) mod receiver;
pub(crate) mod replica;
pub(crate) mod server;
pub(crate) mod socket;
pub(crate) mod socket_io;
pub(crate) mod store;
pub(crate) mod token;

use std::time::Duration;

/// Longest wait for anything. When it ends, something is broken, not slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for `future`, and fails the test when that takes too long.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    within(PATIENCE, what, future).await
}

/// The same with a patience of its own, for what is much and not slow.
pub(crate) async fn within<T>(patience: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(patience, future).await {
        Ok(done) => done,
        Err(_) => panic!("waited too long for {what}"),
    }
}

/// Asks again and again until `is_so`, and fails the test when that takes too long.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    const PAUSE: Duration = Duration::from_millis(10);
    soon(what, async {
        while !is_so().await {
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await;
}
