//! Spans on their way to a collector.

use opentelemetry::{InstrumentationScope, trace::TracerProvider};
use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest,
    transform::{
        common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter},
};
use prost::Message;
use tokio::runtime::Handle;

use super::{SERVICE, sender::Sender};
use crate::telemetry::Tracing;

/// Sends batches of spans. The thread that gathers them knows no runtime, so each is sent on the server's.
#[derive(Debug)]
struct Exporter {
    sender: Sender,
    runtime: Handle,
    resource: ResourceAttributesWithSchema,
}

impl SpanExporter for Exporter {
    async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(spans, &self.resource),
        };
        let (sender, message) = (self.sender.clone(), request.encode_to_vec());
        let sent = self.runtime.spawn(async move { sender.send(message).await });
        match sent.await {
            Ok(sent) => sent.map_err(|error| OTelSdkError::InternalFailure(error.to_string())),
            // The runtime is ending, and the process with it.
            Err(_) => Err(OTelSdkError::AlreadyShutdown),
        }
    }
}

/// What makes spans and gathers those that have ended, with the bounds of `OTEL_BSP_*`.
pub(super) fn provider(sender: Sender, sampler: Sampler, resource: Resource) -> SdkTracerProvider {
    let exporter = Exporter {
        sender,
        runtime: Handle::current(),
        resource: ResourceAttributesWithSchema::from(&resource),
    };
    SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(exporter).build())
        .with_sampler(sampler)
        .with_resource(resource)
        .build()
}

pub(super) fn tracing(provider: &SdkTracerProvider) -> Tracing {
    let scope = InstrumentationScope::builder(SERVICE)
        .with_version(env!("CARGO_PKG_VERSION"))
        .build();
    Tracing::new(provider.tracer_with_scope(scope))
}
