//! The address on which connections are taken.

use std::{io, net::SocketAddr};

use rustix::io::Errno;
use tokio::net::TcpListener;

/// An address that cannot be listened on: the operator's fault, or somebody else listens there.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", remedy(source))]
pub struct ListenError {
    /// The address.
    address: SocketAddr,
    /// What the system said.
    source: io::Error,
}

/// Listens on an address.
///
/// # Errors
/// When the system does not let it.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| ListenError { address, source })
}

/// What helps.
fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ADDRINUSE) => {
            ". Another program listens there, perhaps a server that still runs: stop it, or set PORT"
        }
        Some(Errno::ADDRNOTAVAIL) => ". This machine has no such address: set HOST to one that it has",
        Some(Errno::ACCESS) => ". This user may not have this port: set PORT to one above 1023",
        _ => "",
    }
}
