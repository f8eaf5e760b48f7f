//! One worker process, as the server has it: started with nothing of its surroundings, asked over a pipe, killed when dropped.

use std::{collections::BTreeMap, io, path::PathBuf, process::Stdio, sync::Arc};

use bytes::Bytes;
use crdt::{Limits, StateVector, Update};
use tokio::{
    io::BufReader,
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::{
    LARGE_STATE, ReaderConfig, State,
    protocol::{self, Answer, Ask, Given, Question, Reply},
};

/// Of how many pages it is remembered that the worker has them; then of none, which costs one more message for each.
const MAX_REMEMBERED: usize = 1024;

/// A page may always have been given this many bytes.
const SMALL: u64 = 64 << 10;

const MEGABYTE: u64 = 1 << 20;

pub(super) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    max_body: u64,
    /// What it was given last.
    has: BTreeMap<Arc<str>, Warm>,
}

/// A page as a worker has it, if it has kept it.
#[derive(Debug)]
struct Warm {
    version: Arc<str>,
    /// How much it knows of the page, where it said so.
    knows: Option<StateVector>,
    /// How much it has been given to make it.
    bytes: u64,
}

/// What is sent with a question.
struct Sent {
    given: Option<Given>,
    parts: Arc<[Bytes]>,
}

impl Sent {
    fn nothing() -> Self {
        Self {
            given: None,
            parts: [].into(),
        }
    }

    fn whole(state: &State) -> Self {
        let lengths = state.0.iter().map(|part| part.len() as u64);
        Self {
            given: Some(Given::Whole(lengths.collect())),
            parts: state.0.clone(),
        }
    }

    /// What a warm page lacks; nothing can make it what it was before. A worker frees nothing of a page that it keeps: when it has been given much more than there is, it is
    /// given all of it, with which it begins anew.
    async fn lacking(state: &State, warm: &Warm) -> Option<Self> {
        let (knows, [whole]) = (warm.knows.clone()?, &*state.0) else {
            return None;
        };
        let (whole, size) = (whole.clone(), state.len());
        let cut = move || Update::lacking(whole, &knows).ok().flatten();
        let lacking = match size < LARGE_STATE {
            true => cut()?,
            false => tokio::task::spawn_blocking(cut).await.ok()??,
        };
        let fits =
            warm.bytes.saturating_add(lacking.len() as u64) <= size.saturating_mul(2).saturating_add(SMALL);
        fits.then(|| Self {
            given: Some(Given::After(warm.version.to_string())),
            parts: [lacking].into(),
        })
    }

    fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }
}

/// What is to be read.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) page: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) state: State,
    pub(super) ask: Ask,
    /// What belongs to the question and is too long for its head.
    pub(super) asked: Bytes,
    /// The page will be asked about again in this state or one behind it.
    pub(super) keep: bool,
}

impl Wanted {
    /// The same page, of which no more is asked than what can be said of each that can be read.
    pub(super) fn fields(&self) -> Self {
        Self {
            ask: Ask::Fields,
            asked: Bytes::new(),
            ..self.clone()
        }
    }
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
        let warm = self.has.remove(&wanted.page);
        let mut sent = match &warm {
            Some(warm) if warm.version == wanted.version => Sent::nothing(),
            Some(warm) => match Sent::lacking(&wanted.state, warm).await {
                Some(sent) => sent,
                None => Sent::whole(&wanted.state),
            },
            None => Sent::whole(&wanted.state),
        };
        let mut before = warm.filter(|_| !matches!(sent.given, Some(Given::Whole(_))));
        let (mut reply, mut body) = self.exchange(wanted, &mut sent).await?;
        if matches!(reply.answer, Answer::Unknown) {
            (before, sent) = (None, Sent::whole(&wanted.state));
            (reply, body) = self.exchange(wanted, &mut sent).await?;
        }
        if matches!(reply.answer, Answer::Unknown) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if wanted.keep {
            self.note(wanted, &sent, before, reply.knows);
        }
        Ok((reply.answer, body))
    }

    /// Notes what the worker has now, if it had `before`.
    fn note(&mut self, wanted: &Wanted, sent: &Sent, before: Option<Warm>, knows: Option<Vec<u8>>) {
        if self.has.len() >= MAX_REMEMBERED {
            self.has.clear();
        }
        let (known, bytes) = before.map_or((None, 0), |before| (before.knows, before.bytes));
        let knows = match &sent.given {
            None => known,
            Some(_) => knows.and_then(|bytes| StateVector::decode(&bytes, &Limits::default()).ok()),
        };
        let warm = Warm {
            version: wanted.version.clone(),
            knows,
            bytes: bytes + sent.len(),
        };
        self.has.insert(wanted.page.clone(), warm);
    }

    async fn exchange(&mut self, wanted: &Wanted, sent: &mut Sent) -> io::Result<(Reply, Vec<u8>)> {
        let question = Question {
            page: wanted.page.to_string(),
            version: wanted.version.to_string(),
            state: sent.given.take(),
            ask: wanted.ask.clone(),
            asked: wanted.asked.len() as u64,
            keep: wanted.keep,
        };
        let body = sent.parts.iter().chain([&wanted.asked]).map(|part| &**part);
        protocol::send(&mut self.input, &question, body).await?;
        sent.given = question.state;
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

#[cfg(test)]
mod tests {
    use super::{Arc, Bytes, Given, Sent, State, StateVector, Warm};

    /// "ab" in root `t`.
    const STATE: &[u8] = &[1, 1, 1, 0, 4, 1, 1, b't', 2, b'a', b'b', 0];

    fn warm(clock: u32, bytes: u64) -> Warm {
        Warm {
            version: "1".into(),
            knows: Some(StateVector::from_iter([(crdt::ClientId(1), clock)])),
            bytes,
        }
    }

    #[tokio::test]
    async fn a_warm_page_is_sent_what_it_lacks_until_that_has_become_much() {
        let state = State::from(Bytes::from_static(STATE));
        let sent = Sent::lacking(&state, &warm(1, 11)).await.expect("a part");
        assert!(matches!(&sent.given, Some(Given::After(version)) if version == "1"));
        assert_eq!(
            sent.parts[..],
            [Bytes::from_static(&[1, 1, 1, 1, 0x84, 1, 0, 1, b'b', 0])]
        );
        assert!(Sent::lacking(&state, &warm(1, 1 << 20)).await.is_none());
        // It is of an earlier state.
        assert!(Sent::lacking(&state, &warm(3, 11)).await.is_none());
        let untold = Warm {
            knows: None,
            ..warm(1, 11)
        };
        assert!(Sent::lacking(&state, &untold).await.is_none());
        let parts: Arc<[Bytes]> = Sent::whole(&state).parts;
        assert_eq!(parts[..], [Bytes::from_static(STATE)]);
    }
}
