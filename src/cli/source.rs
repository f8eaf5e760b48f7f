//! From where an import takes pages: an archive, a folder, or the tables of another server.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use storage::StoreError;
use tokio::sync::mpsc;

use super::{
    archive::{self, Described},
    folder::{self, FileError},
    yhub,
};

/// Pages that are read before they are stored.
pub(super) const MAX_READ_AHEAD: usize = 4;

/// Why reading ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("{0} cannot be read: {1}")]
    Source(String, #[source] io::Error),
    #[error("what is to be imported cannot be read: {0}")]
    Documents(#[source] StoreError),
    #[error("{0} is no database: --yhub and --query are for postgres://… and sqlite://…")]
    NoDatabase(String),
    #[error("reading did not end: {0}")]
    Unfinished(#[from] tokio::task::JoinError),
}

/// A page on its way.
pub(super) struct Incoming {
    pub(super) described: Described,
    pub(super) update: Result<Bytes, UnreadError>,
}

/// Why a page was not read. What it was read from is at fault.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnreadError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Row(#[from] yhub::RowError),
}

/// How the rows of a database are read.
#[derive(Clone, Debug)]
pub(super) enum Rows {
    /// As Hocuspocus' default, or as the operator says.
    Query(Option<String>),
    /// As y/hub writes them.
    Yhub,
}

/// What gives a name and an update, a row each, where Hocuspocus has written them.
const HOCUSPOCUS: &str = "SELECT name, data FROM documents";

/// Reads the pages of an archive, a folder or a database one after the other, until nobody takes them any more.
///
/// # Errors
/// When the source ends in the middle, or cannot be read at all.
pub(super) async fn read(
    source: String,
    rows: Rows,
    pages: mpsc::Sender<Incoming>,
) -> Result<(), SourceError> {
    let is_database = ["postgres://", "postgresql://", "sqlite:"]
        .iter()
        .any(|scheme| source.starts_with(scheme));
    if is_database {
        return read_rows(&source, rows, &pages)
            .await
            .map_err(SourceError::Documents);
    }
    if !matches!(rows, Rows::Query(None)) {
        return Err(SourceError::NoDatabase(source));
    }
    let path = PathBuf::from(&source);
    let failed = |error| SourceError::Source(source, error);
    let reading = tokio::task::spawn_blocking(move || match path.is_dir() {
        true => folder::read(&path, &mut |page_id, update| {
            let described = Described {
                page_id,
                ..Described::default()
            };
            let update = update.map_err(UnreadError::from);
            pages.blocking_send(Incoming { described, update }).is_ok()
        }),
        false => read_archive(&path, &pages),
    });
    reading.await?.map_err(failed)
}

async fn read_rows(source: &str, rows: Rows, pages: &mpsc::Sender<Incoming>) -> Result<(), StoreError> {
    let (query, mut documents) = match rows {
        Rows::Query(query) => (query.unwrap_or_else(|| HOCUSPOCUS.to_owned()), None),
        Rows::Yhub => {
            let has_tombstones = has_tombstones(source).await?;
            let query = yhub::rows(has_tombstones).to_owned();
            (query, Some(yhub::Documents::default()))
        }
    };
    let mut read = |name: String, value: Bytes| match &mut documents {
        Some(documents) => {
            let (described, update) = documents.read(&name, &value);
            let update = update.map_err(UnreadError::from);
            Incoming { described, update }
        }
        None => Incoming {
            described: Described {
                page_id: name,
                ..Described::default()
            },
            update: Ok(value),
        },
    };
    let (found, mut rows) = mpsc::channel(MAX_READ_AHEAD);
    let reading = storage::read_documents(source, &query, found);
    let handing_over = async {
        while let Some((name, value)) = rows.recv().await {
            if pages.send(read(name, value)).await.is_err() {
                break;
            }
        }
    };
    let (read, ()) = tokio::join!(reading, handing_over);
    read
}

/// Whether y/hub is of a version that deletes documents.
async fn has_tombstones(source: &str) -> Result<bool, StoreError> {
    let (found, mut rows) = mpsc::channel(MAX_READ_AHEAD);
    storage::read_documents(source, yhub::HAS_TOMBSTONES, found).await?;
    Ok(rows.recv().await.is_some_and(|(name, _)| !name.is_empty()))
}

fn read_archive(path: &Path, pages: &mpsc::Sender<Incoming>) -> io::Result<()> {
    let input = io::BufReader::new(File::open(path)?);
    archive::read(input, true, |page| {
        let incoming = Incoming {
            described: page.described,
            update: page.update.map_err(UnreadError::from),
        };
        pages.blocking_send(incoming).is_ok()
    })
}
