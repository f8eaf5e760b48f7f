//! A recorded text, typed again edit by edit by one author while one other client looks on.

use std::{path::PathBuf, time::Duration};

use super::{
    BenchError, Context,
    desk::sit_down,
    fetch::fetch,
    process::Process,
    replica::Trace,
    report::{Report, mebibytes},
    rooms::first_client,
};

/// Time for the server to finish what it does after the last acknowledgement.
const SETTLE: Duration = Duration::from_secs(3);

/// What to type.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// A trace of the editing-traces collection (JSON, also packed with gzip)
    trace: PathBuf,
    /// How many edits may be unconfirmed
    #[arg(long, default_value_t = 500)]
    window: usize,
    /// The page to type it on, which must be empty [default: a new one]
    #[arg(long)]
    page: Option<String>,
}

/// Types the text and reports what it took.
pub(super) async fn run(context: &Context, args: &ReplayArgs) -> Result<Report, BenchError> {
    context.stage("preparing the edits", 1);
    let trace = Trace::read(&args.trace)?;
    let client = first_client();
    let edits = trace.edits(client);
    let total = edits.len();
    let page = args.page.clone().unwrap_or_else(|| {
        let page = context.made.fresh("replay");
        context.made.add(&page);
        page
    });

    let cpu = || context.process.and_then(Process::cpu);
    let own_cpu = || Process::this().cpu();
    let before = context.process.and_then(Process::memory);
    let desks = sit_down(context, &page, client, edits, args.window).await?;
    let (cpu_before, own_before) = (cpu(), own_cpu());
    let typed = desks.type_all(context).await;
    let (cpu_typed, own_typed) = (cpu(), own_cpu());
    context.wait("settling", SETTLE).await;
    let cpu_settled = cpu();
    let after = context.process.and_then(Process::memory);

    context.stage("comparing", 1);
    let same = |updates: Vec<Vec<u8>>| text_of(updates).as_deref() == Some(&*trace.end_content);
    let mut report = Report::new("replay");
    report.text("page", &page);
    report.count("edits", total as u64);
    report.number("seconds", typed.duration.as_secs_f64());
    report.number("edits_per_second", total as f64 / typed.duration.as_secs_f64());
    report.latencies("propagation", typed.propagation);
    if !context.target.relay {
        report.latencies("acknowledgement", typed.acknowledgement);
    }
    report.fault("missing_deliveries", typed.missing);
    report.fault("unacknowledged_edits", typed.unacknowledged);
    report.count("update_frames", typed.frames);
    report.fault(
        "onlookers_with_another_text",
        u64::from(!same(typed.seen.clone())),
    );
    if !context.target.relay {
        let fetched = fetch(&context.target, &page, None).await?;
        report.number("content_bytes", fetched.update.len() as f64);
        report.number("first_fetch_ms", fetched.latency.as_secs_f64() * 1e3);
        report.fault(
            "joiners_with_another_text",
            u64::from(!same(vec![fetched.update])),
        );
    }
    let each =
        |from: Option<Duration>, to: Option<Duration>| Some((to? - from?).as_secs_f64() * 1e6 / total as f64);
    report.number("server_cpu_microseconds_per_edit", each(cpu_before, cpu_typed));
    report.number(
        "server_cpu_microseconds_per_edit_settled",
        each(cpu_before, cpu_settled),
    );
    report.number("load_cpu_microseconds_per_edit", each(own_before, own_typed));
    report.number(
        "server_resident_mib_before",
        before.map(|memory| mebibytes(memory.resident_bytes)),
    );
    report.number(
        "server_resident_mib",
        after.map(|memory| mebibytes(memory.resident_bytes)),
    );
    report.number(
        "server_resident_mib_peak",
        after.map(|memory| mebibytes(memory.peak_bytes)),
    );
    typed.close().await?;
    Ok(report)
}

/// The text of a replica that got these updates; `None` when they make no document.
fn text_of(updates: Vec<Vec<u8>>) -> Option<String> {
    let limits = crdt::Limits::default();
    let mut document = crdt::Document::load(limits, updates.into_iter().map(Into::into)).ok()?;
    let mut view = crdt::View::new(true);
    view.apply(&document.encode().ok()?).ok()?;
    Some(view.text(None).ok()?.unwrap_or_default())
}
