//! Many open pages with something on each, for the memory that each takes.

use std::time::Duration;

use super::{
    BenchError, Context,
    fetch::fetch,
    process::{Memory, Process},
    report::{Report, mebibytes},
    rooms::{Rooms, Shape},
};

/// How many pages are being filled at the same time.
const FILLING_MAX: usize = 50;
/// How many edits of a writer may be unconfirmed.
const WINDOW: u64 = 32;
/// How long filling [`FILLING_MAX`] pages may take.
const FILL_LIMIT: Duration = Duration::from_secs(60);

/// How many pages to fill, and with what.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct PagesArgs {
    /// How many pages are opened, by one client each
    #[arg(long, default_value_t = 2000)]
    pages: usize,
    /// How many edits make a page
    #[arg(long, default_value_t = 256)]
    edits: u32,
    /// How many characters an edit inserts
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1000))]
    characters: u32,
    /// Opens the pages that an earlier run with `--keep` has filled and reported under this name, instead of filling new ones
    #[arg(long)]
    page: Option<String>,
    /// How long to wait before the memory is read
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    settle: Duration,
}

/// Fills pages, or opens filled ones, and reports the memory they take.
pub(super) async fn run(context: &Context, args: &PagesArgs) -> Result<Report, BenchError> {
    if args.pages == 0 {
        return Err(BenchError::Options("there must be pages"));
    }
    if let Some(page) = &args.page {
        return reopen(context, args, page).await;
    }
    let quota = u64::from(args.edits);
    // A relay confirms nothing to a client that is alone, so there is nothing to wait for.
    let window = if context.target.relay { quota } else { WINDOW };
    let shape = Shape {
        rooms: args.pages,
        clients: 1,
        writers: 1,
        edit_length: args.characters,
        window: Some(window),
    };
    let memory = || context.process.and_then(Process::memory);
    let cpu = || context.process.and_then(Process::cpu);
    let before = memory();
    let page = context.made.fresh("room");
    let rooms = Rooms::open_pages(context, shape, None, &page).await?;
    let empty = memory();
    let (cpu_before, start) = (cpu(), rooms.shared.now());
    context.stage("filling the pages", args.pages as u64);
    let mut unconfirmed = 0;
    for first in (0..args.pages).step_by(FILLING_MAX) {
        let last = (first + FILLING_MAX).min(args.pages);
        rooms.start(first..last, quota);
        let filling = rooms.rooms.get(first..last).unwrap_or_default();
        let open = || {
            filling
                .iter()
                .map(|room| quota - room.confirmed(window).min(quota))
                .sum()
        };
        let filling = context.wait_for(FILL_LIMIT, open);
        unconfirmed += rooms.shared.unless_lost(filling).await?;
        context.progress.inc((last - first) as u64);
    }
    let filled = Duration::from_nanos(rooms.shared.now() - start);
    let cpu_filled = cpu();
    let settling = context.wait("settling", args.settle);
    rooms.shared.unless_lost(settling).await?;
    let after = memory();
    rooms.close().await?;

    let mut report = Report::new("pages");
    report.text("page", &page);
    report.count("pages", args.pages as u64);
    report.count("characters_per_page", quota * u64::from(args.characters));
    if let (Some(before), Some(empty), Some(after)) = (before, empty, after) {
        report.number("resident_kib_per_page", kib_each(args, before, after));
        report.number("resident_kib_per_page_empty", kib_each(args, before, empty));
        report.number("server_resident_mib_before", mebibytes(before.resident_bytes));
        report.number("server_resident_mib", mebibytes(after.resident_bytes));
        report.number("server_resident_mib_peak", mebibytes(after.peak_bytes));
    }
    report.number("fill_seconds", filled.as_secs_f64());
    report.number(
        "fill_edits_per_second",
        (quota * args.pages as u64) as f64 / filled.as_secs_f64(),
    );
    let spent = cpu_filled
        .zip(cpu_before)
        .map(|(after, before)| (after - before).as_secs_f64());
    report.number("fill_server_cpu_seconds", spent);
    report.fault("unconfirmed_edits", unconfirmed);
    Ok(report)
}

/// Opens filled pages with one client each and reports the memory they take.
async fn reopen(context: &Context, args: &PagesArgs, page: &str) -> Result<Report, BenchError> {
    let memory = || context.process.and_then(Process::memory);
    let before = memory();
    context.stage("opening the pages", args.pages as u64);
    let mut clients = Vec::with_capacity(args.pages);
    for index in 0..args.pages {
        clients.push(fetch(&context.target, &format!("{page}-{index}"), None).await?);
        context.progress.inc(1);
    }
    context.wait("settling", args.settle).await;
    let after = memory();
    let bytes: usize = clients.iter().map(|client| client.update.len()).sum();
    drop(clients);

    let mut report = Report::new("pages");
    report.text("page", page);
    report.count("pages", args.pages as u64);
    report.number("content_bytes_per_page", bytes as f64 / args.pages as f64);
    if let Some((before, after)) = before.zip(after) {
        report.number("resident_kib_per_page", kib_each(args, before, after));
        report.number("server_resident_mib_before", mebibytes(before.resident_bytes));
        report.number("server_resident_mib", mebibytes(after.resident_bytes));
        report.number("server_resident_mib_peak", mebibytes(after.peak_bytes));
    }
    Ok(report)
}

fn kib_each(args: &PagesArgs, before: Memory, after: Memory) -> f64 {
    let grown = after.resident_bytes.saturating_sub(before.resident_bytes);
    grown as f64 / 1024.0 / args.pages as f64
}
