//! A steady load: rooms in which people type, at a given rate or as fast as the server confirms.

use std::{rc::Rc, str::FromStr, time::Duration};

use super::{
    BenchError, Context,
    fetch::fetch,
    measures::{Counts, Latencies, LatencySummary, Nanos},
    process::Process,
    report::{Report, mebibytes},
    rooms::{Rooms, Shape},
    schedule::Schedule,
    updates::read_update,
};

/// How long deliveries may take to arrive after the last edit.
pub(super) const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// The load of `pageroom bench`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Load")]
pub(super) struct LoadArgs {
    /// How many pages are edited
    #[arg(long, default_value_t = 1)]
    rooms: usize,
    /// How many clients open each page
    #[arg(long, default_value_t = 10)]
    clients: usize,
    /// How many of the clients of a page write [default: all]
    #[arg(long)]
    writers: Option<usize>,
    /// How many edits each writer makes in a second; `max` makes it write on as soon as the server confirms
    #[arg(long, default_value = "5", value_name = "RATE|max")]
    edits_per_second: Rate,
    /// With `max`, how many edits of a writer may be unconfirmed
    #[arg(long, default_value_t = 16)]
    window: u64,
    /// How many characters an edit inserts
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    characters: u32,
    /// How often each writer moves its cursor in a second
    #[arg(long, default_value_t = 0.0)]
    awareness_per_second: f64,
    /// Load before the measurement
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    warmup: Duration,
    /// Load that is measured
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// At the end, open each page anew and check that every edit is in it
    #[arg(long)]
    verify: bool,
}

/// How fast a writer writes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rate {
    PerSecond(f64),
    AsConfirmed,
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse()) {
            ("max", _) => Ok(Self::AsConfirmed),
            (_, Ok(0.0)) => Ok(Self::AsConfirmed),
            (_, Ok(rate)) if rate > 0.0 && rate <= 1e6 => Ok(Self::PerSecond(rate)),
            _ => Err("a rate is a number from 0 to 1000000, or `max`"),
        }
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// The rooms.
    pub(super) shape: Shape,
    /// Edits a second of each writer; `None`: as the server confirms.
    pub(super) rate: Option<f64>,
    /// Presence messages a second of each writer.
    pub(super) awareness: f64,
    /// Load before the measurement.
    pub(super) warmup: Duration,
    /// Load that is measured.
    pub(super) duration: Duration,
    /// How long the last deliveries may take.
    pub(super) drain: Duration,
    /// Whether the pages are opened anew and compared.
    pub(super) verify: bool,
}

/// What one measurement found.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// What was counted while it was measured.
    pub(super) counts: Counts,
    /// How long that was.
    pub(super) duration: Duration,
    /// Latencies from the author to others.
    pub(super) propagation: LatencySummary,
    /// Latencies from the author back to it.
    pub(super) acknowledgement: LatencySummary,
    /// Latencies of presence.
    pub(super) awareness: LatencySummary,
    /// How late edits were written, because the load was too much for this process.
    pub(super) lateness: LatencySummary,
    /// Deliveries that did not arrive.
    pub(super) missing: u64,
    /// Edits that did not come back.
    pub(super) unacknowledged: u64,
    /// Edits that were not in the pages when they were opened anew.
    pub(super) lost: u64,
    /// Of the whole run.
    pub(super) out_of_order: u64,
    /// CPU time of this process while it was measured.
    pub(super) own_cpu: Duration,
    /// CPU time of the server while it was measured.
    pub(super) server_cpu: Option<Duration>,
    /// Resident memory of the server before the connections were opened, in bytes.
    pub(super) resident_before: Option<u64>,
    /// The same with the load on it.
    pub(super) resident_after: Option<u64>,
    /// The most the server ever had, in bytes.
    pub(super) resident_peak: Option<u64>,
}

/// Runs one load and reports it.
pub(super) async fn run(context: &Context, args: &LoadArgs) -> Result<Report, BenchError> {
    let writers = args.writers.unwrap_or(args.clients);
    if args.rooms == 0 || args.clients == 0 || writers > args.clients {
        return Err(BenchError::Options(
            "there must be rooms and clients, and at most as many writers as clients",
        ));
    }
    let (rate, window) = match args.edits_per_second {
        Rate::PerSecond(rate) => (Some(rate), None),
        Rate::AsConfirmed => (None, Some(args.window.max(1))),
    };
    let load = Load {
        shape: Shape {
            rooms: args.rooms,
            clients: args.clients,
            writers,
            edit_length: args.characters,
            window,
        },
        rate,
        awareness: args.awareness_per_second,
        warmup: args.warmup,
        duration: args.duration,
        drain: DRAIN_LIMIT,
        verify: args.verify,
    };
    let outcome = measure(context, &load).await?;
    Ok(outcome.report(context, &load))
}

/// Runs one load.
pub(super) async fn measure(context: &Context, load: &Load) -> Result<Outcome, BenchError> {
    let before = context.process.and_then(Process::memory);
    let rooms = Rooms::open(context, load.shape, None).await?;
    let shared = Rc::clone(&rooms.shared);
    let start = shared.now();
    let window = nanos(load.warmup) + start..nanos(load.warmup + load.duration) + start;
    rooms.measures.borrow_mut().window = window.clone();
    let mut lateness = Latencies::default();
    let mut marks = None;
    {
        let writing = write(&rooms, load, window.end, &mut lateness);
        let watching = async {
            context.wait("warming up", load.warmup).await;
            let first = Mark::now(&rooms, context);
            context.wait("measuring", load.duration).await;
            marks = Some((first, Mark::now(&rooms, context)));
            rooms.stop();
        };
        shared
            .unless_lost(async { tokio::join!(writing, watching) })
            .await?;
    }
    let after = context.process.and_then(Process::memory);
    context.stage("waiting for the last deliveries", 1);
    let acknowledged = !context.target.relay;
    let waiting = || rooms.missing() + if acknowledged { rooms.unacknowledged() } else { 0 };
    shared.unless_lost(context.wait_for(load.drain, waiting)).await?;
    let lost = if load.verify {
        verify(context, &rooms).await?
    } else {
        0
    };
    let (first, last) = marks.ok_or(BenchError::Thread)?;
    let outcome = {
        let measures = rooms.measures.borrow();
        Outcome {
            counts: last.counts - first.counts,
            duration: Duration::from_nanos(last.time - first.time),
            propagation: measures.propagation.summary(),
            acknowledgement: measures.acknowledgement.summary(),
            awareness: measures.awareness.summary(),
            lateness: lateness.summary(),
            missing: rooms.missing(),
            unacknowledged: if acknowledged { rooms.unacknowledged() } else { 0 },
            lost,
            out_of_order: measures.counts.out_of_order,
            own_cpu: last.own_cpu.unwrap_or_default() - first.own_cpu.unwrap_or_default(),
            server_cpu: last
                .server_cpu
                .zip(first.server_cpu)
                .map(|(last, first)| last - first),
            resident_before: before.map(|memory| memory.resident_bytes),
            resident_after: after.map(|memory| memory.resident_bytes),
            resident_peak: context
                .process
                .and_then(Process::memory)
                .map(|memory| memory.peak_bytes),
        }
    };
    rooms.close().await?;
    Ok(outcome)
}

/// Where the counters stand at some moment.
struct Mark {
    time: Nanos,
    counts: Counts,
    own_cpu: Option<Duration>,
    server_cpu: Option<Duration>,
}

impl Mark {
    fn now(rooms: &Rooms, context: &Context) -> Self {
        Self {
            time: rooms.shared.now(),
            counts: rooms.counts(),
            own_cpu: Process::this().cpu(),
            server_cpu: context.process.and_then(Process::cpu),
        }
    }
}

/// Writes edits and presence until `end`.
async fn write(rooms: &Rooms, load: &Load, end: Nanos, lateness: &mut Latencies) {
    let start = rooms.shared.now();
    let schedule = |rate: f64| match rate > 0.0 {
        true => Schedule::new(rooms.writers(), Duration::from_secs_f64(1.0 / rate), start),
        false => Schedule::new(0, Duration::MAX, start),
    };
    if load.rate.is_none() {
        rooms.start(0..rooms.rooms.len(), u64::MAX);
    }
    let mut edits = schedule(load.rate.unwrap_or(0.0));
    let mut awareness = schedule(load.awareness);
    while let Some(due) = edits.due().into_iter().chain(awareness.due()).min()
        && due < end
    {
        let now = rooms.shared.now();
        if now < due {
            tokio::time::sleep(Duration::from_nanos(due - now)).await;
        }
        let now = rooms.shared.now();
        while let Some((writer, late)) = edits.take(now) {
            lateness.record(late);
            rooms.write(writer);
        }
        while let Some((writer, _)) = awareness.take(now) {
            rooms.write_awareness(writer);
        }
        // A load that is behind must not keep the sockets from their turn.
        tokio::task::yield_now().await;
    }
}

/// Opens each page anew; returns how many edits are not in them.
async fn verify(context: &Context, rooms: &Rooms) -> Result<u64, BenchError> {
    context.stage("comparing", rooms.rooms.len() as u64);
    let mut lost = 0;
    for room in &rooms.rooms {
        let fetched = fetch(&context.target, &room.name, None).await?;
        let mut parts = Vec::new();
        let read = read_update(&fetched.update, |part| {
            parts.push(part);
            Ok(())
        });
        if read.is_err() {
            parts.clear();
        }
        lost += room.ledger.borrow().missing_in(&parts);
        context.progress.inc(1);
    }
    Ok(lost)
}

fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}

impl Outcome {
    /// Deliveries that were due while it was measured.
    pub(super) fn due(&self, shape: &Shape) -> u64 {
        self.counts.written * (shape.clients as u64).saturating_sub(1)
    }

    fn report(&self, context: &Context, load: &Load) -> Report {
        let mut report = Report::new("edits");
        report.count("rooms", load.shape.rooms as u64);
        report.count("clients_per_room", load.shape.clients as u64);
        report.count("writers_per_room", load.shape.writers as u64);
        self.add_to(&mut report, context);
        report
    }

    /// Adds what was found to a report.
    pub(super) fn add_to(&self, report: &mut Report, context: &Context) {
        let Counts {
            written,
            delivered,
            update_frames,
            bytes,
            overlapping,
            ..
        } = self.counts;
        let seconds = self.duration.as_secs_f64();
        let per_delivery = |amount: u64| (delivered > 0).then(|| amount as f64 / delivered as f64);
        report.number("seconds", seconds);
        report.number("edits_per_second", written as f64 / seconds);
        report.number("deliveries_per_second", delivered as f64 / seconds);
        report.latencies("propagation", self.propagation);
        if !context.target.relay {
            report.latencies("acknowledgement", self.acknowledgement);
        }
        if self.counts.awareness_written > 0 {
            report.latencies("awareness", self.awareness);
            report.number(
                "awareness_deliveries_per_second",
                self.counts.awareness_delivered as f64 / seconds,
            );
        }
        report.fault("missing_deliveries", self.missing);
        report.fault("unacknowledged_edits", self.unacknowledged);
        report.fault("edits_not_in_the_page", self.lost);
        report.count("out_of_order", self.out_of_order);
        report.count("overlapping", overlapping);
        report.number("update_frames_per_delivery", per_delivery(update_frames));
        report.number("bytes_per_delivery", per_delivery(bytes));
        if let Some(cpu) = self.server_cpu.map(|cpu| cpu.as_secs_f64()) {
            report.number("server_cpu_percent", cpu / seconds * 100.0);
            report.number(
                "server_cpu_seconds_per_1000_deliveries",
                per_delivery(1000).map(|each| cpu * each),
            );
        }
        report.number("server_resident_mib_before", self.resident_before.map(mebibytes));
        report.number("server_resident_mib", self.resident_after.map(mebibytes));
        report.number("server_resident_mib_peak", self.resident_peak.map(mebibytes));
        report.number("load_cpu_percent", self.own_cpu.as_secs_f64() / seconds * 100.0);
        report.number("load_late_p99_ms", self.lateness.p99_ms);
    }
}
