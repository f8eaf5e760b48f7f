//! `pageroom serve`: says where to look, and serves until a signal.

use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    connections::ConnectionLimits,
    server::{Server, ServerError},
};

/// Runs the server until SIGTERM or SIGINT.
pub(super) async fn run(mut config: Config) -> Result<ExitCode, ServerError> {
    let open = config.authenticator.open;
    let demo = config.demo;
    if open {
        tracing::warn!(
            "running open: everybody who can connect may read and change every page (set JWT_SECRET to change that)"
        );
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        store = storage::describe(config.database_url.expose()),
        address = %config.address,
        mode = if open { "open" } else { "tokens" },
        "pageroom starts"
    );
    raise_open_files(&mut config.connections);
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone());
    let server = tokio::select! {
        bound = Server::bind(config) => bound?,
        () = stop.cancelled() => {
            tracing::info!("stopped before it could start");
            return Ok(ExitCode::SUCCESS);
        }
    };
    if let Ok(address) = server.address() {
        match demo {
            true => tracing::info!(
                "listening: try the demo at http://{address}/ and connect editors to ws://{address}/ws/PAGE"
            ),
            false => tracing::info!("listening: connect editors to ws://{address}/ws/PAGE"),
        }
    }
    if let Some(Ok(address)) = server.metrics_address() {
        tracing::info!("metrics are at http://{address}/metrics");
    }
    match server.run(stop).await {
        true => {
            tracing::info!("stopped, everything is stored");
            Ok(ExitCode::SUCCESS)
        }
        false => Ok(ExitCode::FAILURE),
    }
}

fn stop_on_signals(stop: CancellationToken) {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        match signal(kind) {
            Ok(mut signals) => {
                let stop = stop.clone();
                tokio::spawn(async move {
                    signals.recv().await;
                    stop.cancel();
                });
            }
            Err(error) => tracing::warn!(%error, "a signal cannot be listened for"),
        }
    }
}

/// Files and connections that are not clients': the store's, the log's, those of the processes that read.
const OWN_FILES: u64 = 128;

/// Raises the limit of open files as far as the system lets us. Where that is not enough for all connections, fewer are taken: those who
/// come beyond are told so, instead of waiting for a file that is never free.
fn raise_open_files(connections: &mut ConnectionLimits) {
    let limit = getrlimit(Resource::Nofile);
    let (Some(soft), hard) = (limit.current, limit.maximum) else {
        return;
    };
    let raised = Rlimit {
        current: hard,
        maximum: hard,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => hard.unwrap_or(u64::MAX),
        Err(_) => soft,
    };
    let places = places(limit);
    if connections.total == 0 || connections.total > places {
        let wanted = connections.total;
        tracing::warn!(
            open_files = limit,
            connections = places,
            wanted,
            "the system lets this process open fewer files than PAGEROOM_MAX_CONNECTIONS needs, so fewer connections are taken: raise \
             the limit (`ulimit -n`, LimitNOFILE=)"
        );
        connections.total = places;
    }
}

fn places(limit: u64) -> usize {
    // Beyond the limit of connections some more are taken, for probes.
    let places = limit.saturating_sub(OWN_FILES).max(1);
    usize::try_from(places).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_our_own_are_kept() {
        assert_eq!(places(1024), 896);
        assert_eq!(places(64), 1);
    }
}
