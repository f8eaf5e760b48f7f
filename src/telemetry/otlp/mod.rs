//! Sends spans and numbers to a collector over OTLP, as protobuf over HTTP.
//!
//! Nothing here makes anybody wait who edits. Spans that have ended wait in a queue of `OTEL_BSP_MAX_QUEUE_SIZE` for a thread of their
//! own, and those that find it full are dropped; the numbers are read every `OTEL_METRIC_EXPORT_INTERVAL`. What a
//! collector does not take in time is dropped, and the log says so once a minute.

mod config;
mod metrics;
mod sender;
mod spans;

use std::time::Duration;

pub use config::OtlpConfig;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tokio_util::sync::CancellationToken;

use self::{metrics::MetricExport, sender::Sender};
use super::Tracing;
use crate::supervision::Supervisor;

/// What is called so in telemetry if nobody calls it otherwise.
const SERVICE: &str = "pageroom";

/// Gives the numbers in the text of Prometheus.
type ReadMetrics = Box<dyn Fn() -> String + Send + Sync>;

/// What is sent to a collector.
#[derive(Debug, Default)]
pub struct Otlp {
    spans: Option<SdkTracerProvider>,
    metrics: Option<MetricExport>,
}

impl Otlp {
    /// Sets up what is configured, on the runtime that this is called in. Gives what makes spans.
    pub fn start(config: &OtlpConfig) -> (Self, Tracing) {
        if config.is_off() {
            return (Self::default(), Tracing::default());
        }
        let resource = resource(config);
        let provider = config.traces.clone().map(|target| {
            let sender = Sender::new("spans", target);
            spans::provider(sender, config.sampler.clone(), resource.clone())
        });
        let tracing = provider.as_ref().map(spans::tracing).unwrap_or_default();
        let metrics = config.metrics.clone().map(|target| {
            let sender = Sender::new("numbers", target);
            MetricExport::new(sender, config.metric_interval, &resource)
        });
        let otlp = Self {
            spans: provider,
            metrics,
        };
        (otlp, tracing)
    }

    /// Sends the numbers that `read` gives in the text of Prometheus, again and again until `stop`, and then once more, if they are
    /// wanted.
    pub fn send_metrics(
        &mut self,
        read: impl Fn() -> String + Send + Sync + 'static,
        stop: &CancellationToken,
        background: &Supervisor,
    ) {
        if let Some(export) = self.metrics.take() {
            background.spawn("metrics over OTLP", export.run(Box::new(read), stop.clone()));
        }
    }

    /// Sends the spans that wait, for no longer than `patience`. Spans that end later are dropped.
    pub async fn stop(self, patience: Duration) {
        let Some(provider) = self.spans else { return };
        // It waits for the thread of the spans, which waits for the collector.
        let stopping = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(patience));
        match tokio::time::timeout(patience, stopping).await {
            Ok(Ok(Ok(()))) => {}
            Ok(_) | Err(_) => tracing::warn!("the collector did not take the last spans in time"),
        }
    }
}

/// Who sends: what `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say.
fn resource(config: &OtlpConfig) -> Resource {
    let builder = Resource::builder().with_attribute(opentelemetry::KeyValue::new(
        "service.version",
        env!("CARGO_PKG_VERSION"),
    ));
    match config.is_named {
        true => builder.build(),
        false => builder.with_service_name(SERVICE).build(),
    }
}
