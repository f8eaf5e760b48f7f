//! A page's content over REST: read in every form, written whole, in small edits, or as it comes into being.

pub(super) mod append;
mod author;
pub(super) mod edit;
mod kept;
pub(super) mod put;
pub(super) mod read;
mod seen;

pub(super) use append::append;
pub(super) use edit::edit;
pub use kept::KeptContents;
pub(super) use put::put;
pub(super) use read::read;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use crdt::{Form, Format};
use storage::{PageId, Seq};
use tokio::sync::{Semaphore, SemaphorePermit};
use utoipa::ToSchema;

use super::{App, HttpError, page_state::view};
use crate::rooms::Refusal;

/// A document without anything in it.
const NOTHING: &[u8] = &[0, 0];

/// A body of this size takes long enough to be read to get out of the way of other tasks.
const HEAVY_BYTES: usize = 256 * 1024;

/// Bodies that are merged at once, together, in KiB: a merge takes several times as much memory. One larger body alone passes.
const MAX_MERGED_KIB: u32 = 64 * 1024;
static MERGED: Semaphore = Semaphore::const_new(MAX_MERGED_KIB as usize);

/// The share of a body in what is merged at once; waits until there is room for it.
async fn share(bytes: usize) -> Result<SemaphorePermit<'static>, Refusal> {
    let kib = u32::try_from(bytes / 1024 + 1)
        .unwrap_or(u32::MAX)
        .min(MAX_MERGED_KIB);
    MERGED.acquire_many(kib).await.map_err(|_| Refusal::draining())
}

/// The forms in which a content is read and written.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes what `named` reads")]
pub(super) enum ContentFormat {
    /// Every root type by its name.
    Json,
    /// Plain text.
    Text,
    Html,
    Markdown,
    /// A document of ProseMirror.
    Prosemirror,
    /// The blocks of BlockNote, as a list.
    Blocknote,
    /// A delta of Quill.
    Delta,
}

/// The form that a media type stands for.
fn of_media_type(media_type: &str) -> Option<Form> {
    let name = media_type.split(';').next().unwrap_or_default();
    match name.trim().to_ascii_lowercase().as_str() {
        "application/json" => Some(Form::Json),
        "text/plain" => Some(Form::Text),
        "text/html" => Some(Form::Html),
        "text/markdown" => Some(Form::Markdown),
        "application/vnd.quill.delta+json" => Some(Form::Delta),
        "application/vnd.prosemirror+json" => Some(Form::Prosemirror),
        "application/vnd.blocknote+json" => Some(Form::Blocknote),
        _ => None,
    }
}

fn named(name: &str) -> Result<Form, Refusal> {
    Ok(match name {
        "json" => Form::Json,
        "text" => Form::Text,
        "html" => Form::Html,
        "markdown" => Form::Markdown,
        "prosemirror" => Form::Prosemirror,
        "blocknote" => Form::Blocknote,
        "delta" => Form::Delta,
        _ => {
            return Err(Refusal::malformed(
                "format is `json`, `text`, `html`, `markdown`, `prosemirror`, `blocknote` or `delta`",
            ));
        }
    })
}

/// The form that a request names, else that of what it sends.
fn sent(name: Option<&str>, headers: &HeaderMap) -> Result<Option<Form>, Refusal> {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    match name {
        Some(name) => named(name).map(Some),
        None => Ok(media_type.and_then(of_media_type)),
    }
}

/// The form in which whole contents are merged.
fn mergeable(form: Form) -> Format {
    match form {
        Form::Json => Format::Json,
        Form::Text => Format::Text,
        Form::Html => Format::Html,
        Form::Markdown => Format::Markdown,
        Form::Prosemirror => Format::Prosemirror,
        Form::Blocknote => Format::Blocknote,
        Form::Delta => Format::Delta,
    }
}

/// What a page holds now, and how far each client has come in it.
struct Now {
    state: Bytes,
    known: crdt::StateVector,
    /// The clients of former generations.
    ended: std::sync::Arc<crdt::EndedClients>,
    /// The number and the tag of the state; `None` when there is no such page.
    tag: Option<(Seq, String)>,
}

impl Now {
    async fn of(app: &App, page: &PageId) -> Result<Self, HttpError> {
        let read = view(app, page, |document| {
            let known = document.state_vector().clone();
            Ok((document.encode()?, known))
        });
        Ok(match read.await? {
            Some((view, _)) => Self {
                state: view.value.0,
                known: view.value.1,
                ended: view.ended,
                tag: Some((view.seq, view.etag)),
            },
            None => Self {
                state: Bytes::from_static(NOTHING),
                known: crdt::StateVector::new(),
                ended: std::sync::Arc::default(),
                tag: None,
            },
        })
    }

    /// Whether a client has written in the page, be it before it was rebuilt.
    fn has_client(&self, client: crdt::ClientId) -> bool {
        self.known.get(client) > 0 || self.ended.contains(client)
    }

    fn seq(&self) -> Seq {
        self.tag.as_ref().map_or(0, |(seq, _)| *seq)
    }

    /// Whether it is exactly what its number stands for.
    fn is_exact(&self) -> bool {
        self.tag.as_ref().is_none_or(|(_, tag)| !tag.starts_with("W/"))
    }
}
