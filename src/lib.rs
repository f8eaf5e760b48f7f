//! Pageroom: the server behind pages that many people edit at once.

pub mod auth;
pub mod cli;
pub mod config;
pub mod connections;
pub mod http;
pub mod protocols;
pub mod rooms;
pub mod server;
pub mod telemetry;
