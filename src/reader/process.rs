//! One worker process, as the server has it: started with nothing of its surroundings, asked over a pipe, killed when dropped.

use std::{collections::BTreeMap, io, path::PathBuf, process::Stdio, sync::Arc};

use tokio::{
    io::BufReader,
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::{
    ReaderConfig, State,
    protocol::{self, Answer, Ask, Question},
};

/// Of how many pages it is remembered that the worker has them; then of none, which costs one more message for each.
const REMEMBERED: usize = 1024;

const MEGABYTE: u64 = 1 << 20;

pub(super) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    max_body: u64,
    /// The versions that it was given last.
    has: BTreeMap<Arc<str>, Arc<str>>,
}

/// What is to be read.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) page: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) state: State,
    pub(super) ask: Ask,
}

impl Process {
    /// Starts a worker.
    pub(super) fn start(config: &ReaderConfig) -> io::Result<Self> {
        let mut command = Command::new(program(config)?);
        command
            .arg("reader")
            .arg("--memory-megabytes")
            .arg(config.memory.div_ceil(MEGABYTE).to_string())
            // It needs no secret, no address and no file.
            .env_clear()
            // Else the C library sets aside address space for each thread, which the memory limit would have to allow for.
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What a panic says may have content in it.
            .stderr(Stdio::null())
            // A signal from a terminal is for the server, which ends its workers itself.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
            max_body: config.memory,
            has: BTreeMap::new(),
        })
    }

    /// Waits until it ends.
    pub(super) async fn ended(&mut self) {
        // A process that cannot be waited for is one that has ended.
        let _ = self.child.wait().await;
    }

    /// Asks it. Must not be used again when this fails or is given up.
    pub(super) async fn ask(&mut self, wanted: &Wanted) -> io::Result<(Answer, Vec<u8>)> {
        let is_warm = self.has.get(&wanted.page) == Some(&wanted.version);
        let (mut answer, mut body) = self.exchange(wanted, !is_warm).await?;
        if matches!(answer, Answer::Unknown) {
            (answer, body) = self.exchange(wanted, true).await?;
        }
        if self.has.len() >= REMEMBERED {
            self.has.clear();
        }
        self.has.insert(wanted.page.clone(), wanted.version.clone());
        match matches!(answer, Answer::Unknown) {
            true => Err(io::ErrorKind::InvalidData.into()),
            false => Ok((answer, body)),
        }
    }

    async fn exchange(&mut self, wanted: &Wanted, with_state: bool) -> io::Result<(Answer, Vec<u8>)> {
        let parts = if with_state { &*wanted.state.0 } else { &[] };
        let question = Question {
            page: wanted.page.to_string(),
            version: wanted.version.to_string(),
            state: with_state.then(|| parts.iter().map(|part| part.len() as u64).collect()),
            ask: wanted.ask.clone(),
        };
        protocol::send(&mut self.input, &question, parts.iter().map(|part| &**part)).await?;
        protocol::receive(&mut self.output, self.max_body).await
    }
}

/// Where the running program is, also after its file has been replaced by a newer version.
const RUNNING: &str = "/proc/self/exe";

fn program(config: &ReaderConfig) -> io::Result<PathBuf> {
    match &config.program {
        Some(program) => Ok(program.clone()),
        None if cfg!(target_os = "linux") && std::fs::exists(RUNNING).unwrap_or(false) => Ok(RUNNING.into()),
        None => std::env::current_exe(),
    }
}
