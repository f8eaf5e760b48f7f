//! The highest rate of edits that the server keeps up with.

use std::time::Duration;

use super::{
    BenchError, Context,
    edits::{DRAIN_LIMIT, Load, Outcome, measure},
    report::Report,
    rooms::Shape,
};

/// Raise the rate by this until it is too high.
const GROWTH: f64 = 1.5;
/// Then halve the distance between the best and the failed rate until it is less than this part of the best.
const PRECISION: f64 = 0.06;
/// A bound on the number of measurements.
const STEPS_MAX: usize = 32;
/// Of the deliveries that are due while it is measured, this part must arrive in that time.
const IN_TIME_MIN: f64 = 0.95;

/// What to look for.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct LimitArgs {
    /// How many pages are edited
    #[arg(long, default_value_t = 1)]
    rooms: usize,
    /// How many clients open each page and write
    #[arg(long, default_value_t = 20)]
    clients: usize,
    /// The first rate, of all writers together, in edits a second
    #[arg(long, default_value_t = 2000.0)]
    from: f64,
    /// A rate is too high when the propagation of one edit in a hundred takes longer
    #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration)]
    p99_limit: Duration,
    /// Load before each measurement
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    warmup: Duration,
    /// Load that is measured at each rate
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    duration: Duration,
}

/// Searches the rate and reports it.
pub(super) async fn run(context: &Context, args: &LimitArgs) -> Result<Report, BenchError> {
    let writers = args.rooms * args.clients;
    if args.rooms == 0 || args.clients < 2 || args.from <= 0.0 {
        return Err(BenchError::Options(
            "there must be rooms with at least two clients, and a first rate",
        ));
    }
    let shape = Shape {
        rooms: args.rooms,
        clients: args.clients,
        writers: args.clients,
        edit_length: 1,
        window: None,
    };
    let mut best: Option<(f64, Outcome)> = None;
    let mut failed: Option<f64> = None;
    let mut reason = "";
    let mut rate = args.from;
    let mut again = true;
    for _ in 0..STEPS_MAX {
        let load = Load {
            shape,
            rate: Some(rate / writers as f64),
            awareness: 0.0,
            warmup: args.warmup,
            duration: args.duration,
            drain: DRAIN_LIMIT,
            verify: false,
        };
        context.progress.println(format!("trying {rate:.0} edits/s"));
        let outcome = measure(context, &load).await?;
        match fault(&outcome, &shape, rate, args.p99_limit) {
            None => {
                best = Some((rate, outcome));
                again = true;
            }
            // One bad moment of the machine is not the server's limit.
            Some(_) if again => {
                again = false;
                continue;
            }
            Some(found) => {
                reason = found;
                failed = Some(rate);
                again = true;
            }
        }
        rate = match (&best, failed) {
            (Some((best, _)), Some(failed)) if failed - best <= best * PRECISION => break,
            (Some((best, _)), Some(failed)) => f64::midpoint(*best, failed),
            (Some((best, _)), None) => best * GROWTH,
            (None, Some(failed)) => failed / GROWTH,
            (None, None) => break,
        };
    }

    let mut report = Report::new("limit");
    report.count("rooms", args.rooms as u64);
    report.count("writers_per_room", args.clients as u64);
    match &best {
        Some((rate, outcome)) => {
            report.number("highest_rate", *rate);
            report.number("failed_rate", failed);
            report.text("limited_by", reason);
            outcome.add_to(&mut report, context);
        }
        None => report.fault("rates_kept_up_with_missing", 1),
    }
    Ok(report)
}

/// Why a rate was too high.
fn fault(outcome: &Outcome, shape: &Shape, rate: f64, p99_limit: Duration) -> Option<&'static str> {
    let seconds = outcome.duration.as_secs_f64();
    if outcome.missing > 0 {
        Some("missing deliveries")
    } else if (outcome.counts.written as f64) < rate * seconds * IN_TIME_MIN {
        Some("the load process, which could not write fast enough")
    } else if (outcome.counts.delivered as f64) < outcome.due(shape) as f64 * IN_TIME_MIN {
        Some("deliveries that were not in time")
    } else if outcome.propagation.p99_ms > p99_limit.as_secs_f64() * 1e3 {
        Some("latency")
    } else {
        None
    }
}
