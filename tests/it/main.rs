//! What Pageroom promises, one file a promise, kept over real sockets.

#![expect(clippy::expect_used, reason = "a test that cannot go on says so by panicking")]

mod auth;
mod awareness;
mod http;
mod persistence;
mod rooms;
mod support;
mod y_websocket;
