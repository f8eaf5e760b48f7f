//! `pageroom bench`: an end-to-end load run against any server that speaks y-websocket, with every delivery checked.
//!
//! A run makes real Yjs edits, sends them as many clients, and knows of each edit when it was written, when it reached
//! each other member of its room, and when it came back to its author. `ledger` keeps these books, `connection` moves
//! the bytes, `updates` writes and reads edits without a document, [`replica`] turns a text's history into edits, and
//! there is one module for each scenario. Everything runs on one thread, so that one core of load is enough for one core
//! of server.

mod connection;
mod desk;
mod edits;
mod fetch;
mod idle;
mod joins;
mod ledger;
mod limit;
mod made;
mod measures;
mod member;
mod pages;
mod process;
mod reader;
mod replay;
pub mod replica;
mod report;
mod rooms;
mod schedule;
mod target;
#[cfg(test)]
mod tests;
mod updates;
pub mod websocket;

use std::{io::Write, path::PathBuf, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use thiserror::Error;
use tokio::{
    runtime::LocalOptions,
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use self::{made::Made, process::Process, report::Report, target::Target};

pub use self::{
    connection::Fault,
    fetch::FetchError,
    replica::TraceError,
    target::{OpenError, TargetError},
    updates::UpdateError,
};

/// Makes load on a running server and measures what it does to edits, CPU time and memory.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = false)]
pub struct BenchArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    load: edits::LoadArgs,
    #[command(subcommand)]
    scenario: Option<Scenario>,
}

/// What to measure instead of a steady rate of edits.
#[derive(Clone, Debug, clap::Subcommand)]
enum Scenario {
    /// Find the highest rate of edits that the server keeps up with
    Limit(limit::LimitArgs),
    /// Open connections that do nothing, and measure the memory each takes
    Idle(idle::IdleArgs),
    /// Fill many pages with one client each, and measure the memory each takes
    Pages(pages::PagesArgs),
    /// Let many clients open one large page at the same moment
    Joins(joins::JoinsArgs),
    /// Type a recorded text again, edit by edit, and compare what comes out
    Replay(replay::ReplayArgs),
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Server")]
struct TargetArgs {
    /// Where the server listens; the name of a page is appended to it
    #[arg(long, default_value = "ws://127.0.0.1:3001/ws", global = true)]
    url: String,
    /// A token that may edit the pages of the run, and remove them when it ends, sent as a bearer token
    #[arg(long, env = "PAGEROOM_BENCH_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// Leave the pages that the run has made where they are
    #[arg(long, global = true)]
    keep: bool,
    /// The server's process, for its CPU time and memory; found by itself when the server is on this machine
    #[arg(long, global = true)]
    server_pid: Option<u32>,
    /// The server only copies frames to the other members: expect no sync step 2 and no acknowledgement
    #[arg(long, global = true)]
    relay: bool,
    /// Allow a server on another machine; a run can take a server down
    #[arg(long, global = true)]
    allow_remote: bool,
    /// Also write the figures as JSON to this file, or to the standard output with `-`
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
}

/// Why a run ended without a result, or with a bad one.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The server cannot be found or may not be put under load.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The options contradict each other.
    #[error("{0}")]
    Options(&'static str),
    /// A client could not open its page.
    #[error("client {client} of {clients} could not open its page: {source}")]
    Open {
        /// Which client, from 1 on.
        client: usize,
        /// Of how many.
        clients: usize,
        /// Why.
        source: OpenError,
    },
    /// The server did not answer in time.
    #[error("after {seconds} s, {waiting} of {clients} clients still wait for {what}")]
    Late {
        /// How long the run waited, in seconds.
        seconds: u64,
        /// How many clients are without it.
        waiting: u64,
        /// Of how many.
        clients: u64,
        /// What they wait for.
        what: &'static str,
    },
    /// Connections ended while they were needed: the server refuses them, or is gone.
    #[error("{}: {first}", match count { 1 => "a connection was lost".to_owned(), count => format!("{count} connections were lost, the first one") })]
    Lost {
        /// How many.
        count: u64,
        /// Why the first one ended.
        first: Fault,
    },
    /// A page could not be fetched.
    #[error("fetching a page: {0}")]
    Fetch(#[from] FetchError),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is nothing to replay.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// Somebody wants the run to end.
    #[error("interrupted")]
    Interrupted,
    /// The run's own thread could not be started or broke.
    #[error("the thread that makes the load failed")]
    Thread,
    /// The run ended, but the server did not keep its promises.
    #[error("the server failed the run: {}", .0.join(", "))]
    Failed(Vec<String>),
}

/// What every scenario gets.
struct Context {
    target: Target,
    made: Made,
    process: Option<Process>,
    progress: ProgressBar,
}

impl Context {
    /// Shows what is being done.
    fn stage(&self, stage: impl Into<String>, steps: u64) {
        self.progress.set_length(steps);
        self.progress.set_position(0);
        self.progress.set_message(stage.into());
    }

    /// Waits, and shows how long.
    async fn wait(&self, stage: &'static str, duration: Duration) {
        const STEP: Duration = Duration::from_millis(100);
        let steps = duration.as_millis().div_ceil(STEP.as_millis());
        let steps = u64::try_from(steps).unwrap_or(u64::MAX);
        self.stage(stage, steps);
        let end = tokio::time::Instant::now() + duration;
        let mut ticks = tokio::time::interval(STEP);
        for step in 0..steps {
            ticks.tick().await;
            self.progress.set_position(step);
        }
        tokio::time::sleep_until(end).await;
    }

    /// Waits until `waiting` is zero; returns what is left of it when `limit` has passed.
    async fn wait_for(&self, limit: Duration, mut waiting: impl FnMut() -> u64) -> u64 {
        const STEP: Duration = Duration::from_millis(5);
        let mut rest = limit;
        loop {
            let left = waiting();
            if left == 0 || rest.is_zero() {
                return left;
            }
            tokio::time::sleep(STEP.min(rest)).await;
            rest = rest.saturating_sub(STEP);
        }
    }
}

/// Runs the load, shows what was measured, and fails when the server lost something.
pub async fn run(args: BenchArgs) -> Result<(), BenchError> {
    let (sender, result) = oneshot::channel();
    std::thread::Builder::new()
        .name("load".to_owned())
        .spawn(move || {
            let report = run_here(args);
            // Nobody waits any more only when the process is ending.
            let _ = sender.send(report);
        })
        .map_err(|_| BenchError::Thread)?;
    result.await.map_err(|_| BenchError::Thread)?
}

fn run_here(args: BenchArgs) -> Result<(), BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(|_| BenchError::Thread)?;
    let json = args.target.json.clone();
    let report = runtime.block_on(measure(args))?;
    report
        .publish(json.as_deref())
        .map_err(|source| BenchError::File {
            path: json.unwrap_or_default(),
            source,
        })?;
    if report.complaints.is_empty() {
        Ok(())
    } else {
        Err(BenchError::Failed(report.complaints))
    }
}

async fn measure(args: BenchArgs) -> Result<Report, BenchError> {
    let TargetArgs {
        url,
        token,
        server_pid,
        relay,
        allow_remote,
        keep,
        ..
    } = args.target;
    let mut target = Target::find(&url, token, allow_remote).await?;
    target.relay = relay;
    let process = match server_pid {
        Some(id) => Some(Process::with_id(id).ok_or(TargetError::Process(id))?),
        None => target.process,
    };
    let style = ProgressStyle::with_template("{elapsed:>5} {bar:30} {msg}");
    let progress = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let context = Context {
        target,
        made: Made::default(),
        process,
        progress,
    };
    let mut interruptions = Interruptions::listen();
    let report = tokio::select! {
        report = Box::pin(load(&context, &args.load, args.scenario)) => report,
        () = interruptions.next() => Err(BenchError::Interrupted),
    };
    context.progress.finish_and_clear();
    if !keep && !relay {
        tokio::select! {
            () = clean_up(&context) => {}
            () = interruptions.next() => tell_kept(&context.made.prefix(), "interrupted again"),
        }
    }
    report
}

async fn load(
    context: &Context,
    load: &edits::LoadArgs,
    scenario: Option<Scenario>,
) -> Result<Report, BenchError> {
    match scenario {
        None => edits::run(context, load).await,
        Some(Scenario::Limit(args)) => limit::run(context, &args).await,
        Some(Scenario::Idle(args)) => idle::run(context, &args).await,
        Some(Scenario::Pages(args)) => pages::run(context, &args).await,
        Some(Scenario::Joins(args)) => joins::run(context, &args).await,
        Some(Scenario::Replay(args)) => replay::run(context, &args).await,
    }
}

/// Removes the pages of the run, or says where they are.
async fn clean_up(context: &Context) {
    if context.made.is_empty() {
        return;
    }
    if let Err(error) = context.made.remove(&context.target).await {
        tell_kept(&context.made.prefix(), &error.to_string());
    }
}

/// Says that pages are left, and which.
fn tell_kept(prefix: &str, reason: &str) {
    let line = format!(
        "pages of this run are left on the server, called {prefix}…, because they could not be removed ({reason}): that takes a --token \
         that may manage them"
    );
    // Whoever has closed the output does not want to know.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// SIGINT and SIGTERM.
struct Interruptions(Vec<Signal>);

impl Interruptions {
    /// From now on they do not end the process. One that cannot be listened for goes on doing that.
    fn listen() -> Self {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
        Self(kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect())
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let mut signals = self.0.iter_mut();
            match signals.any(|signal| signal.poll_recv(context).is_ready()) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        })
        .await;
    }
}
