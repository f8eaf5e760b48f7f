//! The worker: reads questions from standard input, answers on standard output, and ends when the input does.

use std::{
    collections::VecDeque,
    io::{self, BufWriter},
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use crdt::{ClientId, MergeError, MergeRefusal, View, ViewError};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::{
    Change, LARGE_STATE,
    protocol::{self, Answer, Ask, Given, Question, Reply},
};

/// Types may be nested as deep as a page allows, and the document library walks them recursively.
const STACK_BYTES: usize = 256 << 20;

/// Pages are kept warm as long as their states together are this part of the memory: a document takes many times its encoded size.
const WARM_PART: u64 = 32;

/// A page that is not kept warm takes the place of others when it is larger than this part of what they may take together.
const SMALL_PART: u64 = 4;

/// Pages that are kept warm at most; it is searched from one end to the other.
const MAX_WARM_PAGES: usize = 256;

/// A page of more clients is sent whole each time, because the server remembers for each page how much is known of it.
const MAX_KNOWN: usize = 1000;

/// How much address space there is before anything is done, where the system does not say.
const USUAL_ADDRESS_SPACE: u64 = 1 << 30;

/// Why a worker ended before its input did.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The pipe to the server broke, or something else than a question came out of it.
    #[error("the server cannot be understood: {0}")]
    Pipe(#[from] io::Error),
    /// Its memory could not be limited.
    #[error("the memory cannot be limited: {0}")]
    Limit(#[from] rustix::io::Errno),
    /// Its thread died.
    #[error("the thread that reads has ended")]
    Ended,
}

/// Answers questions until the input ends. May take `memory` bytes beyond what the program has when it starts.
///
/// # Errors
/// When the pipe breaks, or the memory cannot be limited.
pub fn serve(memory: u64) -> Result<(), WorkerError> {
    // No copy of what people write is left behind when this process dies.
    setrlimit(Resource::Core, limit(0))?;
    // One question waits while another one is answered.
    let (questions, waiting) = sync_channel(1);
    let (ready, limited) = sync_channel(1);
    let reading = thread::Builder::new()
        .name("reader".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            // Here, so that this thread's stack and heap are there already and do not count.
            let limited = setrlimit(Resource::As, limit(address_space().saturating_add(memory)));
            if ready.send(limited).is_ok() && limited.is_ok() {
                answer_all(&waiting, memory)
            } else {
                Ok(())
            }
        })?;
    limited.recv().map_err(|_| WorkerError::Ended)??;
    let mut input = io::stdin().lock();
    // This thread sees the end of the input also while the other one is busy, and then the process ends: nobody waits for answers.
    while let Some(question) = protocol::read::<Question>(&mut input, memory)? {
        if questions.send(question).is_err() {
            let ended = reading.join().map_err(|_| WorkerError::Ended)?;
            return Ok(ended?);
        }
    }
    Ok(())
}

fn limit(bytes: u64) -> Rlimit {
    Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    }
}

/// How much address space this process has.
fn address_space() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = status.lines().find_map(|line| {
        let size = line.strip_prefix("VmSize:")?;
        size.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    });
    kilobytes.map_or(USUAL_ADDRESS_SPACE, |kilobytes| kilobytes * 1024)
}

fn answer_all(questions: &Receiver<(Question, Vec<u8>)>, memory: u64) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout());
    let mut warm = Warm::new(memory / WARM_PART);
    while let Ok((question, body)) = questions.recv() {
        let (reply, body) = warm.answer(&question, &body);
        protocol::write(&mut out, &reply, &body)?;
    }
    Ok(())
}

/// A page as it was last asked for.
struct Page {
    id: String,
    version: String,
    /// The size of its state.
    bytes: u64,
    view: View,
}

/// The pages that were asked for last, the latest at the end.
struct Warm {
    pages: VecDeque<Page>,
    budget: u64,
}

impl Warm {
    fn new(budget: u64) -> Self {
        Self {
            pages: VecDeque::new(),
            budget,
        }
    }

    fn answer(&mut self, question: &Question, body: &[u8]) -> (Reply, Vec<u8>) {
        let state = body.len()
            - usize::try_from(question.asked)
                .unwrap_or(usize::MAX)
                .min(body.len());
        let (body, asked) = body.split_at(state);
        let kept = self.take(&question.page);
        let page = match (kept, &question.state) {
            (Some(page), None) if page.version == question.version => Ok(page),
            (Some(page), Some(Given::After(before))) if page.version == *before => {
                brought_up(page, question, body)
            }
            (_, Some(Given::Whole(parts))) => {
                // Room is made first, so that an old page never costs a new one its memory. A small one that goes at once leaves the
                // others where they are.
                if question.keep || body.len() as u64 > self.budget / SMALL_PART {
                    self.make_room(body.len() as u64);
                }
                opened(parts, question, body)
            }
            (_, None | Some(Given::After(_))) => Err(Answer::Unknown),
        };
        let page = match page {
            Ok(page) => page,
            Err(answer) => return (Reply { answer, knows: None }, Vec::new()),
        };
        let (answer, body) = read(&page.view, page.bytes >= LARGE_STATE, &question.ask, asked)
            .unwrap_or_else(|error| {
                let reason = error.to_string();
                (Answer::Unshown { reason }, Vec::new())
            });
        let knows = page.view.state_vector();
        let is_kept = question.keep && page.bytes <= self.budget;
        let is_told = is_kept && question.state.is_some() && knows.len() <= MAX_KNOWN;
        let knows = is_told.then(|| knows.encode().to_vec());
        if is_kept {
            self.make_room(page.bytes);
            self.pages.push_back(page);
        }
        (Reply { answer, knows }, body)
    }

    fn take(&mut self, id: &str) -> Option<Page> {
        let found = self.pages.iter().position(|page| page.id == id)?;
        self.pages.remove(found)
    }

    fn make_room(&mut self, bytes: u64) {
        let mut kept: u64 = self.pages.iter().map(|page| page.bytes).sum();
        while self.pages.len() >= MAX_WARM_PAGES || kept.saturating_add(bytes) > self.budget {
            let Some(oldest) = self.pages.pop_front() else {
                return;
            };
            kept -= oldest.bytes;
        }
    }
}

/// The page in the state that is meant, from all of it.
fn opened(parts: &[u64], question: &Question, body: &[u8]) -> Result<Page, Answer> {
    let view = open(parts, body).map_err(|error| Answer::Unreadable {
        reason: error.to_string(),
    })?;
    Ok(Page {
        id: question.page.clone(),
        version: question.version.clone(),
        bytes: body.len() as u64,
        view,
    })
}

/// The page in the state that is meant, from an earlier one and what that lacks. Where this fails all of it is asked for.
fn brought_up(mut page: Page, question: &Question, body: &[u8]) -> Result<Page, Answer> {
    page.view.apply(body).map_err(|_| Answer::Unknown)?;
    page.version = question.version.clone();
    page.bytes += body.len() as u64;
    Ok(page)
}

fn open(parts: &[u64], mut body: &[u8]) -> Result<View, ViewError> {
    let mut view = View::new(true);
    for &length in parts {
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(body.len());
        let (part, rest) = body.split_at(length);
        view.apply(part)?;
        body = rest;
    }
    Ok(view)
}

fn read(view: &View, is_large: bool, ask: &Ask, asked: &[u8]) -> Result<(Answer, Vec<u8>), ViewError> {
    Ok(match ask {
        Ask::Content { form, field } => {
            let content = match view.shown(*form, field.as_deref()) {
                Ok(content) => content,
                Err(MergeError::Refused(refusal)) => return Ok((Answer::Refused(refusal), Vec::new())),
                Err(MergeError::View(error)) => return Err(error),
            };
            match content {
                Some(content) => (Answer::Content, content.into_bytes()),
                None => (Answer::NoSuchField, Vec::new()),
            }
        }
        Ask::Readable => {
            let json = view.json(None)?.unwrap_or_default().to_string();
            let mut body = json.into_bytes();
            let length = body.len();
            body.extend(view.text(None)?.unwrap_or_default().into_bytes());
            // Of large pages that would take memory which reading them needs.
            let misplaced = match is_large {
                true => 0,
                false => view.misplaced().unwrap_or_default(),
            };
            (
                Answer::Readable {
                    json: length,
                    misplaced,
                },
                body,
            )
        }
        Ask::Fields => {
            let fields = view.fields();
            let fields: Vec<_> = fields.iter().map(|(name, kind)| (name, kind.name())).collect();
            (Answer::Fields, serde_json::json!(fields).to_string().into_bytes())
        }
        Ask::Whole {
            format,
            default_format,
            field,
        } => match view.content(*format, *default_format, field.as_deref()) {
            Ok(Some(whole)) => (Answer::Whole, whole.content.to_string().into_bytes()),
            Ok(None) => (Answer::Nothing, Vec::new()),
            Err(MergeError::Refused(refusal)) => (Answer::Refused(refusal), Vec::new()),
            Err(MergeError::View(error)) => return Err(error),
        },
        Ask::Merge { client } => merge(view, ClientId(*client), asked)?,
        Ask::Places { default_format } => {
            let places: Vec<crdt::Place> = serde_json::from_slice(asked).unwrap_or_default();
            let other = view.places(&places, *default_format)?;
            (Answer::Places, serde_json::json!(other).to_string().into_bytes())
        }
    })
}

fn merge(view: &View, client: ClientId, asked: &[u8]) -> Result<(Answer, Vec<u8>), ViewError> {
    let merged = match serde_json::from_slice(asked) {
        Ok(Change::Save(save)) => view.merge(client, &save),
        Ok(Change::Shown(save)) => view.merge_shown(client, save),
        Ok(Change::Append(append)) => view.append(client, &append),
        Ok(Change::Edits(edits)) => view.edit_small(client, &edits),
        Ok(Change::Component(change)) => view.merge_component(client, &change),
        Err(error) => Err(MergeRefusal::Malformed {
            reason: error.to_string(),
        }
        .into()),
    };
    match merged {
        Ok(merged) => {
            let mut body = Vec::from(merged.update);
            let answer = Answer::Merged {
                update: body.len(),
                field: merged.field,
                format: merged.format,
                base: merged.base,
                differs: merged.differs,
            };
            body.extend(merged.content.to_string().into_bytes());
            Ok((answer, body))
        }
        Err(MergeError::Refused(refusal)) => Ok((Answer::Refused(refusal), Vec::new())),
        Err(MergeError::View(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use crdt::Form;

    use super::{Answer, Ask, Given, Question, Reply, Warm};

    /// "a" in root `t`.
    const STATE: &[u8] = &[1, 1, 1, 0, 4, 1, 1, b't', 1, b'a', 0];
    /// "b" behind it.
    const MORE: &[u8] = &[1, 1, 1, 1, 0x84, 1, 0, 1, b'b', 0];

    fn asked(
        warm: &mut Warm,
        (page, version): (&str, &str),
        state: Option<Given>,
        body: &[u8],
    ) -> (Reply, Vec<u8>) {
        let question = Question {
            page: page.to_owned(),
            version: version.to_owned(),
            state,
            ask: Ask::Content {
                form: Form::Text,
                field: None,
            },
            asked: 0,
            keep: !page.contains('\n'),
        };
        warm.answer(&question, body)
    }

    fn ask(warm: &mut Warm, page: &str, version: &str, has_state: bool) -> Answer {
        let state = has_state.then(|| Given::Whole(vec![STATE.len() as u64]));
        let body = if has_state { STATE } else { &[] };
        asked(warm, (page, version), state, body).0.answer
    }

    #[test]
    fn a_page_stays_warm_until_it_is_another_or_others_need_its_place() {
        let mut warm = Warm::new(2 * STATE.len() as u64);
        assert!(matches!(ask(&mut warm, "a", "1", false), Answer::Unknown));
        assert!(matches!(ask(&mut warm, "a", "1", true), Answer::Content));
        assert!(matches!(ask(&mut warm, "a", "1", false), Answer::Content));
        assert!(matches!(ask(&mut warm, "b", "1", true), Answer::Content));
        assert!(matches!(ask(&mut warm, "a", "1", false), Answer::Content));
        // The third one takes the place of the one that has not been asked for longest.
        assert!(matches!(ask(&mut warm, "c", "1", true), Answer::Content));
        assert!(matches!(ask(&mut warm, "b", "1", false), Answer::Unknown));
        assert!(matches!(ask(&mut warm, "a", "1", false), Answer::Content));
        assert!(matches!(ask(&mut warm, "a", "2", false), Answer::Unknown));
    }

    #[test]
    fn a_state_of_the_past_is_not_kept_and_leaves_pages_warm() {
        let mut warm = Warm::new(4 * STATE.len() as u64);
        for page in ["a", "b", "c", "d"] {
            assert!(matches!(ask(&mut warm, page, "1", true), Answer::Content));
        }
        assert!(matches!(ask(&mut warm, "a\n1", "0", true), Answer::Content));
        assert!(matches!(ask(&mut warm, "a\n1", "0", false), Answer::Unknown));
        for page in ["a", "b", "c", "d"] {
            assert!(
                matches!(ask(&mut warm, page, "1", false), Answer::Content),
                "{page}"
            );
        }
    }

    #[test]
    fn a_warm_page_takes_in_what_it_lacks_and_only_in_the_state_that_it_is_for() {
        let mut warm = Warm::new(1 << 20);
        let after = |version: &str| Some(Given::After(version.to_owned()));
        let lost = asked(&mut warm, ("a", "2"), after("1"), MORE);
        assert!(matches!(lost.0.answer, Answer::Unknown), "another worker had it");
        let whole = Some(Given::Whole(vec![STATE.len() as u64]));
        let (reply, text) = asked(&mut warm, ("a", "1"), whole, STATE);
        assert_eq!((text.as_slice(), reply.knows), (&b"a"[..], Some(vec![1, 1, 1])));
        let (reply, text) = asked(&mut warm, ("a", "2"), after("1"), MORE);
        assert_eq!((text.as_slice(), reply.knows), (&b"ab"[..], Some(vec![1, 1, 2])));
        // Nothing is told twice.
        let (reply, text) = asked(&mut warm, ("a", "2"), None, &[]);
        assert_eq!((text.as_slice(), reply.knows), (&b"ab"[..], None));
        let (reply, _) = asked(&mut warm, ("a", "3"), after("1"), MORE);
        assert!(matches!(reply.answer, Answer::Unknown));
    }
}
