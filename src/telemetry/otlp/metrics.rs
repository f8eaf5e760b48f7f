//! The numbers on their way to a collector: those of `/metrics`, under the same names.
//!
//! They are read from the text of Prometheus that the server makes anyway. So nothing is counted twice, and what collectors are sent is
//! what whoever scrapes would have read in the same moment.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::{
    tonic::{
        collector::metrics::v1::ExportMetricsServiceRequest,
        common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
        metrics::v1::{
            AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
            ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
        },
        resource::v1,
    },
    transform::common::tonic::ResourceAttributesWithSchema,
};
use opentelemetry_sdk::Resource;
use prost::Message;
use tokio::time::{MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::{ReadMetrics, SERVICE, sender::Sender};
use crate::telemetry::METRICS;

/// Sends the numbers.
#[derive(Debug)]
pub(super) struct MetricExport {
    sender: Sender,
    interval: Duration,
    resource: v1::Resource,
    /// When counting began.
    began: u64,
}

impl MetricExport {
    pub(super) fn new(sender: Sender, interval: Duration, resource: &Resource) -> Self {
        let ResourceAttributesWithSchema { attributes, .. } = resource.into();
        Self {
            sender,
            interval,
            resource: v1::Resource {
                attributes: attributes.0,
                ..v1::Resource::default()
            },
            began: nanoseconds_now(),
        }
    }

    /// Sends what `read` gives at the interval until `stop`, and then once more.
    pub(super) async fn run(self, read: ReadMetrics, stop: CancellationToken) {
        let mut ticks = interval_at(tokio::time::Instant::now() + self.interval, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_last = tokio::select! {
                _ = ticks.tick() => false,
                () = stop.cancelled() => true,
            };
            let message = self.request(&read(), nanoseconds_now()).encode_to_vec();
            let sending = self.sender.send(message);
            tokio::select! {
                // What goes wrong is in the log.
                _ = sending => {}
                // The last ones are newer.
                () = stop.cancelled(), if !is_last => {}
            }
            if is_last {
                return;
            }
        }
    }

    fn request(&self, text: &str, now: u64) -> ExportMetricsServiceRequest {
        let scope = InstrumentationScope {
            name: SERVICE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope),
                    metrics: metrics(text, self.began, now),
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        }
    }
}

/// One line of the text: a name, labels, and a value.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: f64,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at(end);
        let (labels, value) = match rest.strip_prefix('{') {
            None => (Vec::new(), rest),
            Some(rest) => labels(rest)?,
        };
        Some(Self {
            name,
            labels,
            value: value.trim().parse().ok()?,
        })
    }

    fn attributes(&self) -> Vec<KeyValue> {
        let labels = self.labels.iter().filter(|(name, _)| *name != "le");
        labels
            .map(|(name, value)| KeyValue {
                key: (*name).to_owned(),
                value: Some(AnyValue {
                    value: Some(any_value::Value::StringValue(value.clone())),
                }),
                ..KeyValue::default()
            })
            .collect()
    }

    /// The upper bound of a bucket.
    fn bound(&self) -> Option<f64> {
        let (_, bound) = self.labels.iter().find(|(name, _)| *name == "le")?;
        bound.parse().ok()
    }
}

/// Labels up to the brace behind them, and what follows that.
fn labels(mut rest: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = rest.trim_start_matches(',').split_once("=\"")?;
        let (mut value, mut letters) = (String::new(), quoted.char_indices());
        let end = loop {
            match letters.next()? {
                (end, '"') => break end,
                (_, '\\') => value.push(match letters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, letter) => value.push(letter),
            }
        };
        labels.push((name, value));
        rest = quoted.get(end + 1..)?;
    }
}

/// All numbers in a text, counted since `began`.
fn metrics(text: &str, began: u64, now: u64) -> Vec<Metric> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let samples: Vec<_> = lines.filter_map(Sample::parse).collect();
    let point = |sample: &Sample<'_>, start| NumberDataPoint {
        attributes: sample.attributes(),
        start_time_unix_nano: start,
        time_unix_nano: now,
        value: Some(number_data_point::Value::AsDouble(sample.value)),
        ..NumberDataPoint::default()
    };
    let cumulative = AggregationTemporality::Cumulative.into();
    METRICS
        .iter()
        .filter_map(|(name, kind, description)| {
            let own = samples.iter().filter(|sample| sample.name == *name);
            let data = match *kind {
                "counter" => {
                    let data_points: Vec<_> = own.map(|sample| point(sample, began)).collect();
                    (!data_points.is_empty()).then_some(metric::Data::Sum(Sum {
                        data_points,
                        aggregation_temporality: cumulative,
                        is_monotonic: true,
                    }))
                }
                "gauge" => {
                    let data_points: Vec<_> = own.map(|sample| point(sample, 0)).collect();
                    (!data_points.is_empty()).then_some(metric::Data::Gauge(Gauge { data_points }))
                }
                _ => histogram(name, &samples, began, now).map(|point| {
                    metric::Data::Histogram(Histogram {
                        data_points: vec![point],
                        aggregation_temporality: cumulative,
                    })
                }),
            };
            Some(Metric {
                name: (*name).to_owned(),
                description: (*description).to_owned(),
                unit: unit(name).to_owned(),
                data: Some(data?),
                ..Metric::default()
            })
        })
        .collect()
}

/// A histogram without labels.
fn histogram(name: &str, samples: &[Sample<'_>], began: u64, now: u64) -> Option<HistogramDataPoint> {
    let of = |suffix: &str| {
        let sample = samples
            .iter()
            .find(|sample| sample.name.strip_prefix(name) == Some(suffix));
        sample.map(|sample| sample.value)
    };
    let buckets = samples
        .iter()
        .filter(|sample| sample.name.strip_prefix(name) == Some("_bucket"));
    let (mut bounds, mut counts, mut before) = (Vec::new(), Vec::new(), 0.0);
    for bucket in buckets {
        let bound = bucket.bound()?;
        // Here each bucket has those before it in it, and there it has not.
        counts.push((bucket.value - before).max(0.0) as u64);
        before = bucket.value;
        if bound.is_finite() {
            bounds.push(bound);
        }
    }
    let fits = counts.len() == bounds.len() + 1;
    fits.then_some(HistogramDataPoint {
        start_time_unix_nano: began,
        time_unix_nano: now,
        count: of("_count")? as u64,
        sum: of("_sum"),
        bucket_counts: counts,
        explicit_bounds: bounds,
        ..HistogramDataPoint::default()
    })
}

/// The unit that a name speaks of, as UCUM writes it.
fn unit(name: &str) -> &'static str {
    let name = name.trim_end_matches("_total");
    if name.ends_with("_seconds") {
        "s"
    } else if name.ends_with("_bytes") {
        "By"
    } else {
        ""
    }
}

#[expect(clippy::disallowed_methods, reason = "numbers say when they were read")]
fn nanoseconds_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Fault, Metrics};

    fn told(metrics: &Metrics) -> Vec<Metric> {
        super::metrics(&metrics.render(), 1, 2)
    }

    fn named<'a>(told: &'a [Metric], name: &str) -> &'a metric::Data {
        let found = told.iter().find(|metric| metric.name == name);
        let found = found.unwrap_or_else(|| panic!("{name} in {told:?}"));
        found.data.as_ref().expect("data")
    }

    #[test]
    fn every_number_is_told_under_its_name_with_its_kind() {
        let metrics = Metrics::new();
        for (name, kind, _) in METRICS {
            if kind == "gauge" {
                metrics.set(name, 7.0);
            }
        }
        metrics.received(3, 99);
        metrics.refused("read_only", 2);
        metrics.refused("forbidden", 1);
        metrics.error(Fault::PageLoad);
        metrics.room_opened(Duration::from_millis(3), true);
        let busy = storage::StoreError::Busy { pages: Vec::new() };
        metrics.store_commit(Duration::from_millis(30), 4, Some(&busy));
        metrics.store_commit(Duration::from_secs(60), 4, None);
        let told = told(&metrics);
        let names: Vec<_> = told.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(names, METRICS.map(|(name, ..)| name));
        for (metric, (name, kind, text)) in told.iter().zip(METRICS) {
            let is_right = match metric.data.as_ref().expect("data") {
                metric::Data::Sum(sum) => kind == "counter" && sum.is_monotonic,
                metric::Data::Gauge(_) => kind == "gauge",
                metric::Data::Histogram(_) => kind == "histogram",
                metric::Data::ExponentialHistogram(_) | metric::Data::Summary(_) => {
                    panic!("{name} is of no kind that there is")
                }
            };
            assert!(is_right && metric.description == text, "{metric:?}");
        }
        let metric::Data::Sum(sum) = named(&told, "pageroom_refusals_total") else {
            panic!("a counter");
        };
        let mut refusals: Vec<_> = sum
            .data_points
            .iter()
            .map(|point| (point.attributes[0].value.clone(), point.value))
            .map(|(kind, value)| (format!("{:?}", kind.expect("a kind").value), format!("{value:?}")))
            .collect();
        refusals.sort();
        assert!(
            refusals[0].0.contains("forbidden") && refusals[0].1.contains("1.0"),
            "{refusals:?}"
        );
        assert!(
            refusals[1].0.contains("read_only") && refusals[1].1.contains("2.0"),
            "{refusals:?}"
        );
        let metric::Data::Histogram(histogram) = named(&told, "pageroom_store_commit_seconds") else {
            panic!("a histogram");
        };
        let [point] = &histogram.data_points[..] else {
            panic!("{histogram:?}");
        };
        assert_eq!((point.count, point.sum), (2, Some(60.03)));
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), 2);
        assert_eq!(point.bucket_counts.last(), Some(&1), "it is above every bound");
        let fifty = point.explicit_bounds.iter().position(|bound| *bound == 0.05);
        assert_eq!(point.bucket_counts[fifty.expect("a bound of 50 ms")], 1);
        for (name, expected) in [
            ("pageroom_store_commit_seconds", "s"),
            ("pageroom_sent_bytes_total", "By"),
            ("pageroom_rooms_open", ""),
        ] {
            assert_eq!(unit(name), expected);
        }
    }

    #[test]
    fn labels_are_read_as_they_were_written() {
        let sample = Sample::parse(r#"a_total{kind="say \"x\\y\"\n",le="+Inf"} 4"#).expect("a sample");
        assert_eq!(sample.labels[0], ("kind", "say \"x\\y\"\n".to_owned()));
        assert_eq!(sample.bound(), Some(f64::INFINITY));
        assert_eq!((sample.name, sample.value), ("a_total", 4.0));
        for bad in ["", "a", "a{", "a{b=\"c", "a{b=\"c\"", "a x", "a{b}"] {
            assert!(Sample::parse(bad).is_none(), "{bad}");
        }
    }
}
