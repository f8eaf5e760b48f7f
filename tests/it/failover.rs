//! A database whose address leads elsewhere for a while: acknowledged edits are there afterwards, and permissions count again.

use std::time::Duration;

use hyper::StatusCode;
use storage::StoreOptions;

use crate::{
    access::{LOCKED, backend, bare, grant, member, outcome},
    support::{cluster::Cluster, forwarder::Forwarder, http::get, server::TestServer, until},
};

/// An endpoint leads to the wrong server for so long.
const ELSEWHERE: Duration = Duration::from_secs(3);

async fn until_ready(server: &TestServer, status: StatusCode) {
    until("the server to know whether it is ready", async || {
        get(server.address, "/readyz").await.status == status
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_comes_back_from_a_standby_with_all_edits_and_permissions() {
    let Some(primary) = Cluster::start_new() else {
        return;
    };
    let forwarder = Forwarder::start(primary.port()).await;
    let url = format!("postgres://pageroom@127.0.0.1:{}/postgres", forwarder.port());
    let options = StoreOptions::default();
    let store = storage::open(&url, &options).await.expect("a database");
    let server = TestServer::start_on(store, &LOCKED).await;
    for user in ["ada", "bob", "eve"] {
        grant(&server, "page", user, "edit").await;
    }
    let mut ada = member(&server, "page", "ada", 1).await;
    let mut eve = member(&server, "page", "eve", 2).await;
    ada.write_durably("before, ").await;
    let standby = primary.start_standby();

    forwarder.lead_to(standby.port());
    forwarder.cut();
    until_ready(&server, StatusCode::SERVICE_UNAVAILABLE).await;
    ada.write("meanwhile").await;
    tokio::time::sleep(ELSEWHERE).await;
    assert!(
        ada.acknowledged < ada.replica.clock(),
        "nothing is stored on a standby"
    );
    forwarder.lead_to(primary.port());
    ada.until_acknowledged().await;
    until_ready(&server, StatusCode::OK).await;

    // What another server of the same database says counts here, for those who are connected and those who come.
    let other = storage::open(&primary.url("pageroom"), &options)
        .await
        .expect("a database");
    other.revoke("page", "eve").await.expect("a permission");
    assert_eq!(eve.closed().await.code, 4403);
    assert_eq!(outcome(&server, "page", &bare("eve")).await, "4403 forbidden");
    other.block("bob", true).await.expect("a user");
    assert_eq!(outcome(&server, "page", &bare("bob")).await, "4403 forbidden");
    ada.leave().await;
    let log = other.load(&storage::PageId::new("page").expect("a page")).await;
    assert_eq!(log.expect("a database").expect("a page").record.seq, 2);
    let reader = backend(
        &server,
        hyper::Method::GET,
        "/api/pages/page/content?format=text",
        serde_json::Value::Null,
    )
    .await;
    assert_eq!(reader.text(), "before, meanwhile");
}
