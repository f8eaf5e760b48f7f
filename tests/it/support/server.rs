//! A server in this process, on a free port, over a store of the test's choice.

use std::net::SocketAddr;

use clap::Parser;
use pageroom::{
    config::{Config, ConfigError, Settings},
    rooms::Registry,
    server::Server,
};
use storage::{SharedStore, StoreOptions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{http::get, soon, until};

/// The bearer token of the backend, where a test configures one.
pub(crate) const ADMIN_TOKEN: &str = "the-backend-knows-this-and-nobody-else-does";

#[derive(Parser)]
#[command(args_override_self = true)]
struct Flags {
    #[command(flatten)]
    settings: Settings,
}

/// The configuration that `flags` give, on a free port of the loopback address.
pub(crate) fn configure(flags: &[&str]) -> Result<Config, ConfigError> {
    let always = [
        "pageroom",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--database-url",
        "memory:",
    ];
    Flags::try_parse_from(always.iter().chain(flags))
        .expect("flags that exist")
        .settings
        .check()
}

/// A running server.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    /// Its rooms.
    pub(crate) registry: Registry,
    stop: CancellationToken,
    running: JoinHandle<bool>,
}

impl TestServer {
    /// Starts an open server over a store in memory.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        Self::start_on(empty_store().await, flags).await
    }

    /// Starts a server over `store`.
    pub(crate) async fn start_on(store: SharedStore, flags: &[&str]) -> Self {
        let mut config = configure(flags).expect("settings that fit together");
        // This program is the tests, which cannot read pages.
        config.readers.program = Some(env!("CARGO_BIN_EXE_pageroom").into());
        let server = Server::bind_with(config, store).await.expect("a free port");
        let address = server.address().expect("an address");
        let registry = server.registry().clone();
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(stop.clone()));
        Self {
            address,
            registry,
            stop,
            running,
        }
    }

    /// The value of a metric; `None` when nothing has been counted yet.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let metrics = get(self.address, "/metrics").await;
        let value = metrics
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        Some(value.parse().expect("a number"))
    }

    /// Waits until a metric has a value.
    pub(crate) async fn until_metric(&self, name: &str, value: f64) {
        until(&format!("{name} to be {value}"), async || {
            self.metric(name).await.unwrap_or(0.0) == value
        })
        .await;
    }

    /// Stops the server as a signal does. Whether everything was stored in time.
    pub(crate) async fn stop(self) -> bool {
        self.stop.cancel();
        soon("the server to stop", self.running)
            .await
            .expect("a server that does not panic")
    }
}

/// A store in memory.
pub(crate) async fn empty_store() -> SharedStore {
    storage::open("memory:", &StoreOptions::default())
        .await
        .expect("memory")
}
