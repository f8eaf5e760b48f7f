//! A collector of OpenTelemetry: takes spans and numbers over OTLP, and gives them back as they were decoded.

use std::{fmt::Write, io::Read, net::SocketAddr};

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::Metric,
    resource::v1::Resource,
    trace::v1::Span,
};
use prost::Message;

use super::{
    receiver::{Received, Receiver},
    until,
};

/// See the module.
pub(crate) struct Collector(Receiver);

impl Collector {
    pub(crate) async fn start() -> Self {
        Self(Receiver::start().await)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// What a server is started with that sends all here, soon.
    pub(crate) fn variables<'a>(endpoint: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let always = [
            ("DATABASE_URL", "memory:"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
        ];
        always.iter().chain(more).copied().collect()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Everything that came, as it came.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.0.received()
    }

    fn messages(&self, path: &str) -> Vec<Vec<u8>> {
        let received = self.received().into_iter();
        received
            .filter(|received| received.path == path)
            .map(|received| {
                assert_eq!(received.header("content-type"), "application/x-protobuf");
                body(&received)
            })
            .collect()
    }

    /// All spans, with the resource that sent them.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.requests()
            .into_iter()
            .flat_map(|request| request.resource_spans)
            .flat_map(|spans| spans.scope_spans)
            .flat_map(|spans| spans.spans)
            .collect()
    }

    /// Who has sent spans.
    pub(crate) fn resources(&self) -> Vec<Resource> {
        let all = self.requests().into_iter();
        all.flat_map(|request| request.resource_spans)
            .filter_map(|spans| spans.resource)
            .collect()
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let messages = self.messages("/v1/traces");
        messages
            .iter()
            .map(|message| ExportTraceServiceRequest::decode(&message[..]).expect("spans"))
            .collect()
    }

    /// The numbers that came last.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let Some(message) = self.messages("/v1/metrics").pop() else {
            return Vec::new();
        };
        let request = ExportMetricsServiceRequest::decode(&message[..]).expect("numbers");
        let resources = request.resource_metrics.into_iter();
        let scopes = resources.flat_map(|metrics| metrics.scope_metrics);
        scopes.flat_map(|metrics| metrics.metrics).collect()
    }

    /// Waits for so many spans of a name.
    pub(crate) async fn until_spans(&self, name: &str, count: usize) -> Vec<Span> {
        let named = || {
            let all = self.spans().into_iter();
            all.filter(|span| span.name == name).collect::<Vec<_>>()
        };
        until(&format!("{count} spans of {name}"), async || {
            named().len() >= count
        })
        .await;
        named()
    }
}

/// The body of a message, unpacked.
pub(crate) fn body(received: &Received) -> Vec<u8> {
    if received.header("content-encoding") != "gzip" {
        return received.body.to_vec();
    }
    let mut unpacked = Vec::new();
    let read = GzDecoder::new(&received.body[..]).read_to_end(&mut unpacked);
    read.expect("gzip");
    unpacked
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An attribute as text; empty where there is none.
pub(crate) fn attribute(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    let value = found.and_then(|attribute| attribute.value.clone()?.value);
    match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}
