//! Socket.IO 5 over an Engine.IO session: packets, and several namespaces on one session.
//!
//! Packets are read and written by `socketioxide-core` and `socketioxide-parser-common`.

mod capacity;
mod config;
mod events;
mod joined_page;
mod joining;
mod namespaces;
mod page;
mod page_session;
mod place;
mod renewal;
mod saves;
mod server;
mod session;
mod settings;

pub use self::{
    config::SocketIoConfig,
    namespaces::{ConnectError, Connected, Namespaces, NotConnected},
    place::{Event, Place, Said},
    server::SocketIoServer,
    session::SocketIo,
    settings::SocketIoSettings,
};
