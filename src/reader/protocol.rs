//! What is said between the server and a worker: frames of a head in JSON and a body of bytes.
//!
//! ```text
//! length of the head, 4 bytes · length of the body, 8 bytes (both little-endian) · head · body
//! ```

use std::io::{self, Read, Write};

use crdt::{Form, Format, MergeRefusal};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest head: it names a page (255 bytes) and a field, whose name came in the address of a request.
const MAX_HEAD: u64 = 1 << 20;

/// A body is read in steps of this size, so that nothing is allocated for what a length merely claims.
const STEP: u64 = 1 << 20;

/// What a worker is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    /// The page; its id is only a name here.
    pub(super) page: String,
    /// The digest of the state that is meant.
    pub(super) version: String,
    /// What the body is; `None` when the worker should have this state.
    pub(super) state: Option<Given>,
    pub(super) ask: Ask,
    /// How many bytes at the end of the body belong to the question and not to the state.
    pub(super) asked: u64,
    /// The page will be asked about again.
    pub(super) keep: bool,
}

/// How a body makes a state.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Given {
    /// It is all of it, in updates of these lengths.
    Whole(Vec<u64>),
    /// It is what the page lacks in the state with this digest, as one update.
    After(String),
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reply {
    pub(super) answer: Answer,
    /// How much the worker knows of the page when it keeps it for the next question and has just been given something: an encoded state
    /// vector.
    pub(super) knows: Option<Vec<u8>>,
}

/// What is wanted of a page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// One field, or all of them.
    Content { form: Form, field: Option<String> },
    /// All of it in both forms.
    Readable,
    /// The names and types of its root types.
    Fields,
    /// The whole content of it, or of one field.
    Whole {
        format: Option<Format>,
        default_format: Format,
        field: Option<String>,
    },
    /// The edits under this client id that a save is; the body ends with it.
    Merge { client: u64 },
    /// The other form of places; the body ends with them, as JSON.
    Places { default_format: Format },
}

impl Ask {
    /// What a page may be unable to answer although others are answered. `None` where the question brings something with it that may be to
    /// blame, other than a few places.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Content { form, .. } => Some(Kind::Content(*form)),
            Self::Readable => Some(Kind::Readable),
            Self::Fields => Some(Kind::Fields),
            Self::Whole { .. } => Some(Kind::Whole),
            Self::Places { .. } => Some(Kind::Places),
            Self::Merge { .. } => None,
        }
    }
}

/// A kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Content(Form),
    Readable,
    Fields,
    Whole,
    Places,
}

/// What a worker answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It does not have this state.
    Unknown,
    /// The body is the content.
    Content,
    /// There is no such field.
    NoSuchField,
    /// The body is JSON of this length and then text. So many items stand elsewhere than between their neighbours.
    Readable { json: usize, misplaced: usize },
    /// The body is a list of names and types, as JSON.
    Fields,
    /// The body is the content, as JSON.
    Whole,
    /// The body is the places, as JSON.
    Places,
    /// The page has no such content.
    Nothing,
    /// The body is an update of this length and then the content that there is with it, as JSON.
    Merged {
        update: usize,
        field: String,
        format: Format,
        base: Option<usize>,
        differs: bool,
    },
    /// What was to be merged is refused.
    Refused(MergeRefusal),
    /// No document can be made of the state.
    Unreadable { reason: String },
    /// What was asked for cannot be shown.
    Unshown { reason: String },
}

/// Writes a frame.
pub(super) fn write(out: &mut impl Write, head: &impl Serialize, body: &[u8]) -> io::Result<()> {
    out.write_all(&prefix(head, body.len() as u64)?)?;
    out.write_all(body)?;
    out.flush()
}

/// Writes a frame whose body is in parts.
pub(super) async fn send<'a>(
    out: &mut (impl AsyncWrite + Unpin),
    head: &impl Serialize,
    body: impl Iterator<Item = &'a [u8]> + Clone,
) -> io::Result<()> {
    let length = body.clone().map(|part| part.len() as u64).sum();
    out.write_all(&prefix(head, length)?).await?;
    for part in body {
        out.write_all(part).await?;
    }
    out.flush().await
}

fn prefix(head: &impl Serialize, body: u64) -> io::Result<Vec<u8>> {
    let head = serde_json::to_vec(head)?;
    let length = u32::try_from(head.len()).map_err(|_| too_large())?;
    let mut prefix = Vec::with_capacity(12 + head.len());
    prefix.extend(length.to_le_bytes());
    prefix.extend(body.to_le_bytes());
    prefix.extend(head);
    Ok(prefix)
}

/// Reads a frame; `None` when the other end has closed.
pub(super) fn read<T: DeserializeOwned>(
    from: &mut impl Read,
    max_body: u64,
) -> io::Result<Option<(T, Vec<u8>)>> {
    let mut lengths = [0; 12];
    match from.read_exact(&mut lengths) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let (head_length, body_length) = lengths_of(lengths, max_body)?;
    let mut head = Vec::new();
    from.by_ref().take(head_length).read_to_end(&mut head)?;
    let mut body = Vec::with_capacity(body_length.min(STEP) as usize);
    from.by_ref().take(body_length).read_to_end(&mut body)?;
    complete(&head, body, head_length, body_length).map(Some)
}

/// Reads a frame.
pub(super) async fn receive<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    max_body: u64,
) -> io::Result<(T, Vec<u8>)> {
    let mut lengths = [0; 12];
    from.read_exact(&mut lengths).await?;
    let (head_length, body_length) = lengths_of(lengths, max_body)?;
    let mut head = Vec::new();
    (&mut *from).take(head_length).read_to_end(&mut head).await?;
    let mut body = Vec::with_capacity(body_length.min(STEP) as usize);
    (&mut *from).take(body_length).read_to_end(&mut body).await?;
    complete(&head, body, head_length, body_length)
}

fn lengths_of(lengths: [u8; 12], max_body: u64) -> io::Result<(u64, u64)> {
    let [a, b, c, d, body @ ..] = lengths;
    let (head, body) = (
        u64::from(u32::from_le_bytes([a, b, c, d])),
        u64::from_le_bytes(body),
    );
    match head <= MAX_HEAD && body <= max_body {
        true => Ok((head, body)),
        false => Err(too_large()),
    }
}

fn complete<T: DeserializeOwned>(
    head: &[u8],
    body: Vec<u8>,
    head_length: u64,
    body_length: u64,
) -> io::Result<(T, Vec<u8>)> {
    if head.len() as u64 != head_length || body.len() as u64 != body_length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((serde_json::from_slice(head)?, body))
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the message is too large")
}

#[cfg(test)]
mod tests {
    use super::{Ask, Given, Question, read, write};

    #[test]
    fn a_frame_comes_out_as_it_went_in() {
        let question = Question {
            page: "page".to_owned(),
            version: "v".to_owned(),
            state: Some(Given::Whole(vec![3])),
            ask: Ask::Readable,
            asked: 0,
            keep: true,
        };
        let mut frame = Vec::new();
        write(&mut frame, &question, b"abc").expect("a frame");
        let (again, body) = read::<Question>(&mut &frame[..], 3)
            .expect("a frame")
            .expect("one");
        assert_eq!((again.page.as_str(), body.as_slice()), ("page", &b"abc"[..]));
        assert!(matches!(again.state, Some(Given::Whole(lengths)) if lengths == [3]));
        assert!(read::<Question>(&mut &frame[..0], 3).expect("an end").is_none());
        for cut in [13, frame.len() - 1] {
            assert!(read::<Question>(&mut &frame[..cut], 3).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_length_that_is_over_the_bound_is_refused_before_anything_is_read() {
        let mut frame = Vec::new();
        write(&mut frame, &1, b"abcd").expect("a frame");
        assert!(read::<u8>(&mut &frame[..], 3).is_err());
        assert!(
            read::<u8>(&mut &[0xff; 12][..], u64::MAX).is_err(),
            "a head without end"
        );
    }
}
