//! Connections that do nothing, for the memory that each takes.

use std::time::Duration;

use super::{
    BenchError, Context,
    process::Process,
    report::{Report, mebibytes},
    rooms::{Rooms, Shape},
};

/// How many connections to open.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct IdleArgs {
    /// How many pages are opened
    #[arg(long, default_value_t = 500)]
    rooms: usize,
    /// How many clients open each page
    #[arg(long, default_value_t = 10)]
    clients: usize,
    /// How many connections are opened in a second
    #[arg(long, default_value_t = 1000.0)]
    joins_per_second: f64,
    /// How long to wait before the memory is read
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    settle: Duration,
}

/// Opens idle connections and reports the memory they take.
pub(super) async fn run(context: &Context, args: &IdleArgs) -> Result<Report, BenchError> {
    let connections = (args.rooms * args.clients) as u64;
    if connections == 0 {
        return Err(BenchError::Options("there must be rooms and clients"));
    }
    let memory = || context.process.and_then(Process::memory);
    let cpu = || context.process.and_then(Process::cpu);
    let (before, cpu_before) = (memory(), cpu());
    let shape = Shape {
        rooms: args.rooms,
        clients: args.clients,
        writers: 0,
        edit_length: 1,
        window: None,
    };
    let rooms = Rooms::open(context, shape, Some(args.joins_per_second)).await?;
    let cpu_opened = cpu();
    let settling = context.wait("settling", args.settle);
    rooms.shared.unless_lost(settling).await?;
    let (after, cpu_after) = (memory(), cpu());
    rooms.close().await?;

    let mut report = Report::new("idle");
    report.count("connections", connections);
    report.count("rooms", args.rooms as u64);
    if let (Some(before), Some(after)) = (before, after) {
        let grown = after.resident_bytes.saturating_sub(before.resident_bytes);
        report.number(
            "resident_kib_per_connection",
            grown as f64 / 1024.0 / connections as f64,
        );
        report.number("server_resident_mib_before", mebibytes(before.resident_bytes));
        report.number("server_resident_mib", mebibytes(after.resident_bytes));
        report.number("server_resident_mib_peak", mebibytes(after.peak_bytes));
    }
    let spent = |from: Option<Duration>, to: Option<Duration>| Some((to? - from?).as_secs_f64());
    report.number(
        "server_cpu_ms_per_join",
        spent(cpu_before, cpu_opened).map(|seconds| seconds * 1e3 / connections as f64),
    );
    report.number(
        "server_cpu_percent_idle",
        spent(cpu_opened, cpu_after).map(|seconds| seconds / args.settle.as_secs_f64() * 100.0),
    );
    Ok(report)
}
