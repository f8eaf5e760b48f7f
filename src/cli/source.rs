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
    #[error("reading did not end: {0}")]
    Unfinished(#[from] tokio::task::JoinError),
}

/// A page on its way.
pub(super) struct Incoming {
    pub(super) described: Described,
    pub(super) update: Result<Bytes, FileError>,
}

/// Reads the pages of an archive, a folder or a database one after the other, until nobody takes them any more.
///
/// # Errors
/// When the source ends in the middle, or cannot be read at all.
pub(super) async fn read(
    source: String,
    query: String,
    pages: mpsc::Sender<Incoming>,
) -> Result<(), SourceError> {
    let is_database = ["postgres://", "postgresql://", "sqlite:"]
        .iter()
        .any(|scheme| source.starts_with(scheme));
    if is_database {
        let (rows, mut found) = mpsc::channel(MAX_READ_AHEAD);
        let reading = storage::read_documents(&source, &query, rows);
        let handing_over = async {
            while let Some((page_id, update)) = found.recv().await {
                let described = Described {
                    page_id,
                    ..Described::default()
                };
                let update = Ok(update);
                if pages.send(Incoming { described, update }).await.is_err() {
                    break;
                }
            }
        };
        let (read, ()) = tokio::join!(reading, handing_over);
        return read.map_err(SourceError::Documents);
    }
    let path = PathBuf::from(&source);
    let failed = |error| SourceError::Source(source, error);
    let reading = tokio::task::spawn_blocking(move || match path.is_dir() {
        true => folder::read(&path, &mut |page_id, update| {
            let described = Described {
                page_id,
                ..Described::default()
            };
            pages.blocking_send(Incoming { described, update }).is_ok()
        }),
        false => read_archive(&path, &pages),
    });
    reading.await?.map_err(failed)
}

fn read_archive(path: &Path, pages: &mpsc::Sender<Incoming>) -> io::Result<()> {
    let input = io::BufReader::new(File::open(path)?);
    archive::read(input, true, |page| {
        let incoming = Incoming {
            described: page.described,
            update: page.update,
        };
        pages.blocking_send(incoming).is_ok()
    })
}
