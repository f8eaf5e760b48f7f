//! What a run found: one list of figures, shown as a table or as JSON.

use std::{fmt, io::Write, path::Path};

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::measures::LatencySummary;

/// One figure; its unit is in its name.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Figure {
    /// A number of things.
    Count(u64),
    /// Anything measured.
    Number(f64),
    /// A distribution of latencies.
    Latencies(LatencySummary),
    /// A name.
    Text(String),
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Number(number) => write_number(f, *number),
            Self::Latencies(LatencySummary { count: 0, .. }) => write!(f, "none"),
            Self::Latencies(summary) => {
                for (name, value) in [
                    ("p50", summary.p50_ms),
                    ("p90", summary.p90_ms),
                    ("p99", summary.p99_ms),
                ] {
                    write!(f, "{name} ")?;
                    write_number(f, value)?;
                    write!(f, " · ")?;
                }
                write!(f, "max ")?;
                write_number(f, summary.max_ms)?;
                write!(f, " ms ({})", summary.count)
            }
            Self::Text(text) => write!(f, "{text}"),
        }
    }
}

/// Four digits say all that a measurement knows.
fn write_number(f: &mut fmt::Formatter<'_>, number: f64) -> fmt::Result {
    let magnitude = if number == 0.0 {
        0.0
    } else {
        number.abs().log10().floor()
    };
    let decimals = (3.0 - magnitude).clamp(0.0, 8.0) as usize;
    write!(f, "{number:.decimals$}")
}

/// What a run found.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    figures: Vec<(&'static str, Figure)>,
    /// What should not have happened.
    pub(super) complaints: Vec<String>,
}

impl Report {
    /// A report of the scenario with this name.
    pub(super) fn new(scenario: &str) -> Self {
        Self {
            figures: vec![("scenario", Figure::Text(scenario.to_owned()))],
            complaints: Vec::new(),
        }
    }

    /// Adds a number of things.
    pub(super) fn count(&mut self, name: &'static str, count: u64) {
        self.figures.push((name, Figure::Count(count)));
    }

    /// Adds something measured; nothing when it could not be.
    pub(super) fn number(&mut self, name: &'static str, number: impl Into<Option<f64>>) {
        if let Some(number) = number.into().filter(|number| number.is_finite()) {
            self.figures.push((name, Figure::Number(number)));
        }
    }

    /// Adds a name.
    pub(super) fn text(&mut self, name: &'static str, text: &str) {
        self.figures.push((name, Figure::Text(text.to_owned())));
    }

    /// Adds latencies.
    pub(super) fn latencies(&mut self, name: &'static str, summary: LatencySummary) {
        self.figures.push((name, Figure::Latencies(summary)));
    }

    /// Adds a count of something that should not have happened; complains when it did.
    pub(super) fn fault(&mut self, name: &'static str, count: u64) {
        self.count(name, count);
        if count > 0 {
            self.complaints
                .push(format!("{count} {}", name.replace('_', " ")));
        }
    }

    /// Writes the table to `out`.
    pub(super) fn write_table(&self, out: &mut impl Write) -> std::io::Result<()> {
        let width = self.figures.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, figure) in &self.figures {
            writeln!(out, "{:width$}  {figure}", name.replace('_', " "))?;
        }
        Ok(())
    }

    /// Shows the table, and writes the JSON to `json`, where `-` means the standard output.
    pub(super) fn publish(&self, json: Option<&Path>) -> std::io::Result<()> {
        match json {
            Some(path) if path.as_os_str() == "-" => {
                self.write_table(&mut std::io::stderr().lock())?;
                let mut out = std::io::stdout().lock();
                serde_json::to_writer_pretty(&mut out, self)?;
                writeln!(out)
            }
            Some(path) => {
                self.write_table(&mut std::io::stdout().lock())?;
                std::fs::write(path, serde_json::to_vec_pretty(self)?)
            }
            None => self.write_table(&mut std::io::stdout().lock()),
        }
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.figures.len() + 1))?;
        for (name, figure) in &self.figures {
            map.serialize_entry(name, figure)?;
        }
        map.serialize_entry("complaints", &self.complaints)?;
        map.end()
    }
}

/// Bytes as mebibytes.
pub(super) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_and_the_json_have_the_same_figures() {
        let mut report = Report::new("edits");
        report.number("cpu_seconds", 0.012_345_6);
        report.number("not_measured", None);
        report.fault("missing_deliveries", 2);
        report.latencies(
            "propagation",
            LatencySummary {
                count: 7,
                p50_ms: 0.25,
                p90_ms: 1.0,
                p99_ms: 12.5,
                max_ms: 100.0,
            },
        );
        let mut table = Vec::new();
        report.write_table(&mut table).expect("memory can be written to");
        insta::assert_snapshot!(String::from_utf8_lossy(&table), @r"
        scenario            edits
        cpu seconds         0.01235
        missing deliveries  2
        propagation         p50 0.2500 · p90 1.000 · p99 12.50 · max 100.0 ms (7)
        ");
        insta::assert_snapshot!(serde_json::to_string(&report).expect("a report is JSON"), @r#"{"scenario":"edits","cpu_seconds":0.0123456,"missing_deliveries":2,"propagation":{"count":7,"p50_ms":0.25,"p90_ms":1.0,"p99_ms":12.5,"max_ms":100.0},"complaints":["2 missing deliveries"]}"#);
    }
}
