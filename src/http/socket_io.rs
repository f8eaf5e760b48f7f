//! `/socket.io/`: Engine.IO requests, whose sessions speak Socket.IO.

use axum::{Extension, Router, extract::Request, response::Response, routing::any};
use std::sync::Arc;
use tower_http::cors::CorsLayer;

use crate::connections::engine_io::{Engine, Server};

/// The routes of an engine at `path`, for browsers that `cors` allows.
pub fn routes<S: Server, T>(path: &str, engine: Engine<S>, cors: CorsLayer) -> Router<T>
where
    T: Clone + Send + Sync + 'static,
{
    Router::new()
        .route(path, any(serve::<S>))
        // Some clients leave the last slash out.
        .route(path.trim_end_matches('/'), any(serve::<S>))
        .layer(Extension(Arc::new(engine)))
        .layer(cors)
}

async fn serve<S: Server>(Extension(engine): Extension<Arc<Engine<S>>>, request: Request) -> Response {
    engine.handle(request).await
}
