//! Many clients that open the same page at the same moment, each with nothing.

use std::time::Duration;

use futures_util::future::join_all;

use super::{
    BenchError, Context,
    desk::sit_down,
    fetch::fetch,
    measures::Latencies,
    process::Process,
    replica::{Edit, Replica},
    report::{Report, mebibytes},
    rooms::first_client,
};

/// How many edits of the author of the page may be unconfirmed.
const WINDOW: usize = 500;
/// How many characters each edit of the page inserts, at a random place, so that few of them grow together.
const EDIT_LENGTH: usize = 40;

/// Who opens what.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct JoinsArgs {
    /// How many clients open the page at the same moment
    #[arg(long, default_value_t = 150)]
    clients: usize,
    /// How often they do
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// How large the page is made, in bytes of updates
    #[arg(long, default_value_t = 4_000_000)]
    page_bytes: usize,
    /// Open this page, which has something on it already, instead of making one
    #[arg(long)]
    page: Option<String>,
}

/// Opens the page at once with all clients and reports how long they waited.
pub(super) async fn run(context: &Context, args: &JoinsArgs) -> Result<Report, BenchError> {
    if args.clients == 0 || context.target.relay {
        return Err(BenchError::Options(
            "there must be clients, and a server that answers them",
        ));
    }
    let memory = || context.process.and_then(Process::memory);
    let before = memory();
    let mut report = Report::new("joins");
    let page = match &args.page {
        Some(page) => page.clone(),
        None => make(context, args.page_bytes, &mut report).await?,
    };
    // The first client shows what the others must get. It opens a page that nobody has open.
    let alone = memory();
    let cpu = || context.process.and_then(Process::cpu);
    let cpu_before = cpu();
    let first = fetch(&context.target, &page, None).await?;
    let cpu_first = cpu();
    let mut latencies = Latencies::default();
    for _ in 0..args.rounds {
        context.stage(format!("{} clients open the page", args.clients), 1);
        let joiners = (0..args.clients).map(|_| fetch(&context.target, &page, Some(&first.frame)));
        // All stay until the last has its content.
        let joined: Vec<_> = join_all(joiners).await.into_iter().collect::<Result<_, _>>()?;
        for joiner in &joined {
            latencies.record(u64::try_from(joiner.latency.as_nanos()).unwrap_or(u64::MAX));
        }
    }
    let cpu_after = cpu();

    report.text("page", &page);
    report.count("content_bytes", first.update.len() as u64);
    report.number("first_fetch_ms", first.latency.as_secs_f64() * 1e3);
    report.count("clients", args.clients as u64);
    report.latencies("fetch", latencies.summary());
    let spent = |from: Option<Duration>, to: Option<Duration>| Some((to? - from?).as_secs_f64() * 1e3);
    report.number("server_cpu_ms_first_fetch", spent(cpu_before, cpu_first));
    report.number(
        "server_cpu_ms_a_round",
        spent(cpu_first, cpu_after).map(|all| all / args.rounds as f64),
    );
    report.number(
        "server_resident_mib_before",
        before.map(|memory| mebibytes(memory.resident_bytes)),
    );
    report.number(
        "server_resident_mib_with_page",
        alone.map(|memory| mebibytes(memory.resident_bytes)),
    );
    report.number(
        "server_resident_mib_peak",
        memory().map(|memory| mebibytes(memory.peak_bytes)),
    );
    Ok(report)
}

/// Types a page whose updates have `bytes` bytes together.
async fn make(context: &Context, bytes: usize, report: &mut Report) -> Result<String, BenchError> {
    let page = context.made.fresh("joins");
    context.made.add(&page);
    let client = first_client();
    let desks = sit_down(context, &page, client, edits(client, bytes), WINDOW).await?;
    let typed = desks.type_all(context).await;
    report.fault("unacknowledged_edits", typed.unacknowledged);
    report.fault("missing_deliveries", typed.missing);
    typed.close().await?;
    Ok(page)
}

/// Insertions at random places, the same in each run.
fn edits(client: u64, bytes: usize) -> Vec<Edit> {
    let mut replica = Replica::new(client);
    let mut edits = Vec::new();
    let mut written = 0;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while written < bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let position = (state >> 33) as usize % (replica.length() + 1);
        let text = (0..EDIT_LENGTH)
            .map(|at| char::from(b'a' + ((edits.len() + at) % 26) as u8))
            .collect();
        let edit = replica.edit(&[(position, 0, text)]);
        written += edit.update.len();
        edits.push(edit);
    }
    edits
}
