//! The standard variables of OpenTelemetry, as far as they are honoured here.
//!
//! As the standard wants it, what cannot be used is told of and left out: telemetry keeps no server from starting.

use std::{collections::BTreeMap, ffi::OsString, time::Duration};

use hyper::{
    HeaderMap, Uri,
    header::{HeaderName, HeaderValue},
};
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;

/// How long a collector may take for a message.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often the numbers are sent.
const METRIC_INTERVAL: Duration = Duration::from_secs(60);

/// Where one kind of telemetry goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    pub(super) endpoint: Uri,
    /// Their values are not shown.
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
    pub(super) compresses: bool,
}

/// What is sent where.
#[derive(Clone, Debug)]
pub struct OtlpConfig {
    pub(super) traces: Option<Target>,
    pub(super) metrics: Option<Target>,
    pub(super) sampler: Sampler,
    pub(super) metric_interval: Duration,
    /// The environment says what the service is called.
    pub(super) is_named: bool,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            traces: None,
            metrics: None,
            sampler: Sampler::ParentBased(Box::new(Sampler::AlwaysOn)),
            metric_interval: METRIC_INTERVAL,
            is_named: false,
        }
    }
}

/// A kind of telemetry.
struct Signal {
    /// As it stands in the names of variables.
    name: &'static str,
    /// Where it is taken at an endpoint for all kinds.
    path: &'static str,
    /// Exporters that are not ours to set up, and nothing to warn about.
    quiet: &'static [&'static str],
}

const TRACES: Signal = Signal {
    name: "TRACES",
    path: "v1/traces",
    quiet: &["none"],
};
const METRICS: Signal = Signal {
    name: "METRICS",
    path: "v1/metrics",
    quiet: &["none", "prometheus"],
};

impl OtlpConfig {
    /// What these variables want, and what they say that is left out. Without an endpoint nothing is sent.
    pub fn read(variables: &BTreeMap<OsString, OsString>) -> (Self, Vec<String>) {
        let mut reader = Reader {
            variables,
            warnings: Vec::new(),
        };
        let is_disabled = reader
            .get("OTEL_SDK_DISABLED")
            .is_some_and(|word| word.eq_ignore_ascii_case("true"));
        if is_disabled {
            return (Self::default(), Vec::new());
        }
        let traces = reader.target(&TRACES);
        let metrics = reader.target(&METRICS);
        let mut config = Self {
            traces,
            metrics,
            ..Self::default()
        };
        // Who sends nothing hears of nothing that is wrong with how.
        if !config.is_off() {
            config.sampler = reader.sampler();
            config.metric_interval = reader.duration("OTEL_METRIC_EXPORT_INTERVAL", METRIC_INTERVAL);
            config.is_named = reader.get("OTEL_SERVICE_NAME").is_some()
                || reader
                    .get("OTEL_RESOURCE_ATTRIBUTES")
                    .is_some_and(|all| all.split(',').any(|one| one.trim().starts_with("service.name=")));
        }
        (config, reader.warnings)
    }

    /// Whether nothing is sent.
    pub fn is_off(&self) -> bool {
        self.traces.is_none() && self.metrics.is_none()
    }
}

struct Reader<'a> {
    variables: &'a BTreeMap<OsString, OsString>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    /// A variable that is set to something.
    fn get(&self, name: &str) -> Option<&'a str> {
        let value = self.variables.get(&OsString::from(name))?.to_str()?.trim();
        (!value.is_empty()).then_some(value)
    }

    /// A variable of one kind of telemetry, or else of all, with its name.
    fn of(&self, signal: &Signal, what: &str) -> Option<(String, &'a str)> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.name);
        let all = format!("OTEL_EXPORTER_OTLP_{what}");
        [own, all]
            .into_iter()
            .find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn target(&mut self, signal: &Signal) -> Option<Target> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.name);
        let (name, address) = match self.get(&own) {
            Some(address) => (own, address.to_owned()),
            None => {
                let base = self.get("OTEL_EXPORTER_OTLP_ENDPOINT")?.trim_end_matches('/');
                (
                    "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
                    format!("{base}/{}", signal.path),
                )
            }
        };
        let exporter = format!("OTEL_{}_EXPORTER", signal.name);
        let exporters = self.get(&exporter).unwrap_or("otlp");
        if !exporters.split(',').any(|exporter| exporter.trim() == "otlp") {
            if !signal.quiet.contains(&exporters) {
                self.warn(format!(
                    "{exporter} is {exporters}, which is not spoken here (otlp and none are): nothing is sent"
                ));
            }
            return None;
        }
        if let Some((name, protocol)) = self.of(signal, "PROTOCOL")
            && protocol != "http/protobuf"
        {
            self.warn(format!(
                "{name} is {protocol}, which is not spoken here: nothing is sent. Set it to http/protobuf and the endpoint to where the \
                 collector takes that (mostly port 4318)"
            ));
            return None;
        }
        let Some(endpoint) = usable(&address) else {
            // It may hold a password.
            self.warn(format!(
                "{name} is no address that begins with http:// or https://: nothing is sent"
            ));
            return None;
        };
        if let Some((name, _)) = self.of(signal, "CERTIFICATE") {
            self.warn(format!(
                "{name} is not honoured: certificates are checked against the roots of the web"
            ));
        }
        let compresses = match self.of(signal, "COMPRESSION") {
            None | Some((_, "none")) => false,
            Some((_, "gzip")) => true,
            Some((name, other)) => {
                self.warn(format!(
                    "{name} is {other}, which is not spoken here: nothing is compressed"
                ));
                false
            }
        };
        let timeout = match self.of(signal, "TIMEOUT") {
            Some((name, _)) => self.duration(&name, TIMEOUT),
            None => TIMEOUT,
        };
        Some(Target {
            endpoint,
            headers: self.headers(signal),
            timeout,
            compresses,
        })
    }

    /// `name=value` pairs between commas, percent-encoded. Those of one kind are added to those of all.
    fn headers(&mut self, signal: &Signal) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in [
            "OTEL_EXPORTER_OTLP_HEADERS".to_owned(),
            format!("OTEL_EXPORTER_OTLP_{}_HEADERS", signal.name),
        ] {
            let pairs = self.get(&name).unwrap_or_default().split(',');
            for pair in pairs.map(str::trim).filter(|pair| !pair.is_empty()) {
                match header(pair) {
                    Some((header, value)) => drop(headers.insert(header, value)),
                    // It may be a secret.
                    None => self.warn(format!(
                        "{name} has something in it that is no header: it is left out"
                    )),
                }
            }
        }
        headers
    }

    /// Milliseconds, of which there are some.
    fn duration(&mut self, name: &str, default: Duration) -> Duration {
        match self.get(name).map(str::parse::<u64>) {
            None => default,
            Some(Ok(milliseconds)) if milliseconds > 0 => Duration::from_millis(milliseconds),
            Some(_) => {
                self.warn(format!(
                    "{name} is no number of milliseconds above 0: it is {} ms",
                    default.as_millis()
                ));
                default
            }
        }
    }

    fn sampler(&mut self) -> Sampler {
        let name = self.get("OTEL_TRACES_SAMPLER").unwrap_or("parentbased_always_on");
        let (is_by_parent, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let root = match root {
            "always_on" => Sampler::AlwaysOn,
            "always_off" => Sampler::AlwaysOff,
            "traceidratio" => Sampler::TraceIdRatioBased(self.ratio()),
            _ => {
                self.warn(format!("OTEL_TRACES_SAMPLER is {name}, which is none that is known here: it is parentbased_always_on"));
                return OtlpConfig::default().sampler;
            }
        };
        match is_by_parent {
            true => Sampler::ParentBased(Box::new(root)),
            false => root,
        }
    }

    fn ratio(&mut self) -> f64 {
        match self.get("OTEL_TRACES_SAMPLER_ARG").map(str::parse::<f64>) {
            None => 1.0,
            Some(Ok(ratio)) if (0.0..=1.0).contains(&ratio) => ratio,
            Some(_) => {
                self.warn("OTEL_TRACES_SAMPLER_ARG is no number from 0 to 1: it is 1".to_owned());
                1.0
            }
        }
    }
}

/// An address to which something can be posted.
fn usable(address: &str) -> Option<Uri> {
    let address: Uri = address.parse().ok()?;
    let is_web = matches!(address.scheme_str(), Some("http" | "https"));
    (is_web && address.host().is_some_and(|host| !host.is_empty())).then_some(address)
}

fn header(pair: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = pair.split_once('=')?;
    let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
    let mut value = HeaderValue::try_from(&*value).ok()?;
    value.set_sensitive(true);
    Some((HeaderName::try_from(name.trim()).ok()?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (OtlpConfig, Vec<String>) {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        OtlpConfig::read(&variables.collect())
    }

    fn addresses(config: &OtlpConfig) -> [Option<String>; 2] {
        let address = |target: &Option<Target>| target.as_ref().map(|target| target.endpoint.to_string());
        [address(&config.traces), address(&config.metrics)]
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
    const BOTH: [Option<&str>; 2] = [
        Some("http://collector:4318/v1/traces"),
        Some("http://collector:4318/v1/metrics"),
    ];

    #[test]
    fn each_kind_goes_where_the_variables_say() {
        let no_traces = [None, BOTH[1]];
        let no_metrics = [BOTH[0], None];
        for (more, expected) in [
            (vec![], BOTH),
            (
                vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/")],
                BOTH,
            ),
            (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "")], [None, None]),
            (vec![("OTEL_SDK_DISABLED", "true")], [None, None]),
            (vec![("OTEL_SDK_DISABLED", "no")], BOTH),
            (vec![("OTEL_TRACES_EXPORTER", "none")], no_traces),
            (vec![("OTEL_METRICS_EXPORTER", "none")], no_metrics),
            (vec![("OTEL_METRICS_EXPORTER", "prometheus")], no_metrics),
            (vec![("OTEL_METRICS_EXPORTER", "otlp,prometheus")], BOTH),
            (
                vec![(
                    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                    "https://traces.example/as/it/is",
                )],
                [Some("https://traces.example/as/it/is"), BOTH[1]],
            ),
        ] {
            let variables = [vec![ENDPOINT], more].concat();
            let (config, warnings) = read(&variables);
            assert_eq!(
                addresses(&config),
                expected.map(|address| address.map(str::to_owned))
            );
            assert_eq!(warnings, Vec::<String>::new(), "{variables:?}");
        }
        assert_eq!(addresses(&read(&[]).0), [None, None]);
    }

    #[test]
    fn what_cannot_be_used_is_told_of_and_left_out() {
        for (more, word, expected) in [
            (
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                "http/protobuf",
                [None, None],
            ),
            (
                ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
                "http/json",
                [None, BOTH[1]],
            ),
            (("OTEL_TRACES_EXPORTER", "zipkin"), "zipkin", [None, BOTH[1]]),
            (
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
                "http://",
                [None, None],
            ),
            (("OTEL_EXPORTER_OTLP_HEADERS", "secret"), "no header", BOTH),
            (("OTEL_EXPORTER_OTLP_TIMEOUT", "0"), "10000 ms", BOTH),
            (("OTEL_METRIC_EXPORT_INTERVAL", "1m"), "60000 ms", BOTH),
            (("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"), "zstd", BOTH),
            (
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
                "not honoured",
                BOTH,
            ),
            (("OTEL_TRACES_SAMPLER", "jaeger_remote"), "jaeger_remote", BOTH),
        ] {
            let (config, warnings) = read(&[ENDPOINT, more]);
            assert_eq!(
                addresses(&config),
                expected.map(|address| address.map(str::to_owned)),
                "{more:?}"
            );
            let [warning] = &warnings[..] else {
                panic!("{more:?}: {warnings:?}");
            };
            assert!(warning.contains(word) && warning.contains(more.0), "{warning}");
            assert!(!warning.contains("secret"), "{warning}");
        }
        // Of what is not used, nothing is told.
        assert_eq!(
            read(&[("OTEL_TRACES_SAMPLER", "nonsense")]).1,
            Vec::<String>::new()
        );
    }

    #[test]
    fn headers_are_decoded_and_not_shown() {
        let (config, _) = read(&[
            ENDPOINT,
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Bearer%20sesame, x-team = a",
            ),
            ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x-team=b"),
        ]);
        let headers = config.traces.clone().expect("traces").headers;
        assert_eq!(headers["authorization"], "Bearer sesame");
        assert_eq!(headers["x-team"], "a");
        assert_eq!(config.metrics.clone().expect("metrics").headers["x-team"], "b");
        assert!(!format!("{config:?}").contains("sesame"));
    }

    #[test]
    fn samplers_have_their_standard_names() {
        for (name, argument, expected) in [
            ("always_on", "", "AlwaysOn"),
            ("always_off", "", "AlwaysOff"),
            ("traceidratio", "0.25", "TraceIdRatioBased(0.25)"),
            ("traceidratio", "", "TraceIdRatioBased(1.0)"),
            ("parentbased_always_off", "", "ParentBased(AlwaysOff)"),
            (
                "parentbased_traceidratio",
                "0.01",
                "ParentBased(TraceIdRatioBased(0.01))",
            ),
            (
                "parentbased_traceidratio",
                "1 %",
                "ParentBased(TraceIdRatioBased(1.0))",
            ),
            ("", "", "ParentBased(AlwaysOn)"),
        ] {
            let variables = [
                ENDPOINT,
                ("OTEL_TRACES_SAMPLER", name),
                ("OTEL_TRACES_SAMPLER_ARG", argument),
            ];
            assert_eq!(format!("{:?}", read(&variables).0.sampler), expected);
        }
    }
}
