//! The promises of the stores, on real databases: a file for each.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failure here is a failed test"
)]

mod address;
mod backup;
mod cluster;
mod contract;
mod database;
mod disk;
mod failover;
mod forwarder;
mod notify;
mod outage;
mod places;
mod pooler;
mod read_only;
mod schema;
mod waiting;
