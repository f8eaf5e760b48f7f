//! `pageroom serve`: says where to look, and serves until a signal.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    server::{Server, ServerError},
};

/// Runs the server until SIGTERM or SIGINT.
pub(super) async fn run(config: Config) -> Result<ExitCode, ServerError> {
    let open = config.authenticator.open;
    let demo = config.demo;
    if open {
        tracing::warn!(
            "running open: everybody who can connect may read and change every page (set JWT_SECRET to change that)"
        );
    }
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone());
    let server = Server::bind(config).await?;
    if let Ok(address) = server.address() {
        match demo {
            true => tracing::info!(
                "listening: try the demo at http://{address}/ and connect editors to ws://{address}/ws/PAGE"
            ),
            false => tracing::info!("listening: connect editors to ws://{address}/ws/PAGE"),
        }
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
