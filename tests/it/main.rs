//! What Pageroom promises, one file a promise, kept over real sockets.

#![expect(clippy::expect_used, reason = "a test that cannot go on says so by panicking")]

mod access;
mod asyncapi;
mod auth;
mod awareness;
mod backpressure;
mod browsers;
mod cli;
mod components;
mod contents;
mod deploy;
mod docs;
mod event_awareness;
mod event_presence;
mod event_rooms;
mod events;
mod failover;
mod floods;
mod hocuspocus;
mod hocuspocus_access;
mod http;
mod indexer;
mod kept_events;
mod kept_store;
mod lanes;
mod limits;
mod matrix;
mod operations;
mod pagespace_access;
mod patio;
mod persistence;
mod proxies;
mod reader;
mod recovery;
mod rooms;
mod shutdown;
mod socketio;
mod strangers;
mod support;
mod tidy;
mod tokens;
mod traces;
mod y_sweet;
mod y_websocket;
