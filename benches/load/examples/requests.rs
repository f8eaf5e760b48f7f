//! Makes the same HTTP/1.1 requests again and again over connections that stay open, and prints as JSON how many were answered.
//!
//! One thread, whole requests written as they are, and of an answer only its status and its length are looked at: it costs less than any
//! server that it measures. Every connection has one request under way.
//!
//! `cargo run --release -p pageroom-load --example requests -- ADDRESS CONNECTIONS SECONDS < REQUESTS`; the requests are a JSON list of
//! `{"head", "body"?}`, each head without its last empty line. They are made in turn; the first tenth of the time is not counted.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::Read,
    rc::Rc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::LocalOptions,
};

/// One read takes at most this much.
const READ_BYTES: usize = 256 << 10;
/// The largest head of an answer.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Latencies that are kept, over all connections.
const LATENCIES_MAX: usize = 10_000_000;

#[derive(Debug, Error)]
enum LoadError {
    #[error("ADDRESS CONNECTIONS SECONDS are needed, and a list of requests on standard input")]
    Usage,
    #[error("the requests cannot be read: {0}")]
    Requests(#[from] serde_json::Error),
    #[error("the connection broke: {0}")]
    Socket(#[from] std::io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("an answer is no HTTP/1.1, or does not say how long it is")]
    Answer,
}

#[derive(Deserialize)]
struct Asked {
    head: String,
    #[serde(default)]
    body: String,
}

impl Asked {
    fn bytes(&self) -> Vec<u8> {
        let length = match self.body.len() {
            0 => String::new(),
            length => format!("content-length: {length}\r\n"),
        };
        let head = self.head.trim_end();
        format!("{head}\r\n{length}\r\n{}", self.body).into_bytes()
    }
}

/// What was answered in the time that counts.
#[derive(Default)]
struct Tally {
    statuses: BTreeMap<u16, u64>,
    body_bytes: u64,
    latencies: Vec<u32>,
}

#[derive(Serialize)]
struct Report {
    requests: usize,
    seconds: f64,
    per_second: f64,
    statuses: BTreeMap<u16, u64>,
    body_bytes: u64,
    p50_ms: f64,
    p99_ms: f64,
    load_cpu_percent: f64,
}

/// When counting begins and when everything ends.
#[derive(Clone, Copy)]
struct Times {
    begin: Instant,
    end: Instant,
}

async fn load(
    address: &str,
    requests: &[Vec<u8>],
    first: usize,
    times: Times,
    tally: &RefCell<Tally>,
) -> Result<(), LoadError> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; READ_BYTES];
    for request in requests.iter().cycle().skip(first) {
        let started = now();
        if started >= times.end {
            break;
        }
        stream.write_all(request).await?;
        let (status, length) = answer(&mut stream, &mut buffer).await?;
        let ended = now();
        if ended < times.begin || ended > times.end {
            continue;
        }
        let mut tally = tally.borrow_mut();
        *tally.statuses.entry(status).or_default() += 1;
        tally.body_bytes += length;
        if tally.latencies.len() < LATENCIES_MAX {
            let micros = (ended - started).as_micros();
            tally.latencies.push(u32::try_from(micros).unwrap_or(u32::MAX));
        }
    }
    Ok(())
}

/// Reads an answer to its end, and gives its status and the length of its body.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<(u16, u64), LoadError> {
    let mut read = 0;
    let (head, status, length) = loop {
        let room = buffer.get_mut(read..).ok_or(LoadError::Answer)?;
        match stream.read(room).await? {
            0 => return Err(LoadError::Closed),
            more => read += more,
        }
        let got = buffer.get(..read).ok_or(LoadError::Answer)?;
        match head_of(got)? {
            Some(head) => break head,
            None if read >= HEAD_BYTES_MAX => return Err(LoadError::Answer),
            None => {}
        }
    };
    let mut left = (head as u64 + length)
        .checked_sub(read as u64)
        .ok_or(LoadError::Answer)?;
    while left > 0 {
        match stream.read(buffer).await? {
            0 => return Err(LoadError::Closed),
            more => left = left.checked_sub(more as u64).ok_or(LoadError::Answer)?,
        }
    }
    Ok((status, length))
}

/// How long the head is, the status, and how long the body is; `None` when the head is not there yet.
fn head_of(got: &[u8]) -> Result<Option<(usize, u16, u64)>, LoadError> {
    let within = got.get(..got.len().min(HEAD_BYTES_MAX)).unwrap_or_default();
    let Some(end) = within.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = within.get(..end).and_then(|head| std::str::from_utf8(head).ok());
    let mut lines = head.ok_or(LoadError::Answer)?.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|status| status.parse().ok());
    let status = status.ok_or(LoadError::Answer)?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    let length = match length {
        Some(length) => length.trim().parse().map_err(|_| LoadError::Answer)?,
        None if matches!(status, 204 | 304) => 0,
        None => return Err(LoadError::Answer),
    };
    // An answer without a body may say how long the body would be.
    let length = if status == 304 { 0 } else { length };
    Ok(Some((end + 4, status, length)))
}

#[expect(clippy::disallowed_methods, reason = "it measures time")]
fn now() -> Instant {
    Instant::now()
}

/// CPU time of this process, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let columns = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = columns.split_whitespace().skip(11).take(2);
    // Ticks are hundredths of a second, as a part of Linux's interface.
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

async fn run(address: &str, connections: usize, seconds: f64, asked: &[Asked]) -> Result<Report, LoadError> {
    let requests: Rc<[Vec<u8>]> = asked.iter().map(Asked::bytes).collect();
    let tally = Rc::new(RefCell::new(Tally::default()));
    let start = now();
    let times = Times {
        begin: start + Duration::from_secs_f64(seconds / 10.0),
        end: start + Duration::from_secs_f64(seconds),
    };
    let loads: Vec<_> = (0..connections)
        .map(|connection| {
            let (address, requests, tally) = (address.to_owned(), requests.clone(), tally.clone());
            let first = connection * requests.len() / connections;
            tokio::task::spawn_local(async move { load(&address, &requests, first, times, &tally).await })
        })
        .collect();
    for load in loads {
        load.await.map_err(std::io::Error::from)??;
    }
    let cpu = cpu_seconds();
    let mut tally = tally.borrow_mut();
    tally.latencies.sort_unstable();
    let at = |share: usize| {
        let index = tally.latencies.len() * share / 100;
        let micros = tally.latencies.get(index).copied();
        f64::from(micros.unwrap_or_default()) / 1000.0
    };
    let counted = seconds * 0.9;
    let count: u64 = tally.statuses.values().sum();
    Ok(Report {
        requests: count as usize,
        seconds: counted,
        per_second: count as f64 / counted,
        body_bytes: tally.body_bytes,
        p50_ms: at(50),
        p99_ms: at(99),
        load_cpu_percent: 100.0 * cpu / seconds,
        statuses: tally.statuses.clone(),
    })
}

#[expect(clippy::print_stdout, reason = "the report goes there")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [address, connections, seconds] = arguments.as_slice() else {
        return Err(LoadError::Usage.into());
    };
    let (connections, seconds) = (connections.parse()?, seconds.parse()?);
    let mut requests = String::new();
    std::io::stdin().read_to_string(&mut requests)?;
    let asked: Vec<Asked> = serde_json::from_str(&requests).map_err(LoadError::from)?;
    if asked.is_empty() {
        return Err(LoadError::Usage.into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    let report = runtime.block_on(run(address, connections, seconds, &asked))?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
