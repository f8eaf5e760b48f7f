//! `pageroom import`: merges pages from elsewhere into the store: an archive, a folder of updates, or the tables of another server.
//!
//! What a page holds already is not stored again, so an import that was cut short is simply made again.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use clap::Args;
use crdt::Update;
use indicatif::{HumanBytes, ProgressBar};
use storage::{
    Committed, LoggedUpdate, NewUpdate, PageCommit, PageId, PageIdError, Permission, SharedStore, Snapshot,
    StoreError, StoredPage,
};
use tokio::sync::mpsc;

use super::{
    archive::{self, Described, Permitted},
    folder::{self, YSweetError},
    store::StoreArgs,
};
use crate::{
    reader::{Readable, ReaderConfig, Readers},
    rooms::{Refusal, Role, ended_clients, open_document},
};

/// Pages that are read before they are stored.
const MAX_READ_AHEAD: usize = 4;
/// What one process may take that reads pages, in bytes and in time.
const READER_MEMORY: u64 = 4 << 30;
const READER_TIME: Duration = Duration::from_secs(60);

/// From where, and how.
#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    /// An archive (`export-all`), a folder of files that each hold an update (`.update`, `.yjs`, `.ydoc`, `.bin`; the path in the folder is the
    /// page), the folder of a y-sweet server, or a database (`postgres://…`, `sqlite://FILE`).
    source: String,
    /// For a database: gives the name of a document and an update of it, a row each, several to a document if there are. As it is, for what
    /// Hocuspocus stores.
    #[arg(long, value_name = "SQL", default_value = "SELECT name, data FROM documents")]
    query: String,
    /// Put before every name.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    prefix: String,
    /// Says what would be imported, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// Why an import ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0} cannot be read: {1}")]
    Source(String, #[source] io::Error),
    #[error("what is to be imported cannot be read: {0}")]
    Documents(#[source] StoreError),
    #[error("reading did not end: {0}")]
    Unfinished(#[from] tokio::task::JoinError),
}

/// Why a page was not imported. Its bytes' fault, or its name's.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Id(#[from] PageIdError),
    #[error("it is no update in either of Yjs' encodings: {0}")]
    Update(#[source] crdt::LoadError),
    #[error("it is no file of y-sweet's that can be read: {0}")]
    YSweet(#[from] YSweetError),
    #[error("it does not go together with what is there: {0}")]
    Broken(#[from] crdt::ApplyError),
    #[error("the page is in the trash here")]
    InTrash,
    #[error("what is stored of the page does not fit together: {0}")]
    Damaged(#[source] crdt::LoadError),
    #[error("the page is called `{0}` here")]
    Renamed(PageId),
    #[error(
        "the page was compacted here: this is of a former document of it, and all of it would be there twice"
    )]
    Rebuilt,
    #[error("the former documents of the page are not known: {0}")]
    Unknown(#[source] Refusal),
    #[error("the page has become another one meanwhile: import it again")]
    Changed,
    #[error("its description has the time `{0}`, which is none")]
    Time(String),
    #[error("its description has the role `{0}`, which is none")]
    Role(String),
}

/// What became of a page.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    New,
    Merged,
    /// All of it was there.
    Known,
}

/// A page on its way.
struct Incoming {
    described: Described,
    update: Result<Bytes, YSweetError>,
}

/// Imports, and gives how many pages were refused.
pub(super) async fn run(args: &ImportArgs) -> Result<u64, ImportError> {
    let store = match args.dry_run {
        true => args.store.open().await?,
        false => args.store.open_for_writing().await?,
    };
    let readers = Readers::new(ReaderConfig {
        workers: 1,
        memory: READER_MEMORY,
        timeout: READER_TIME,
        program: None,
    });
    let (pages, mut incoming) = mpsc::channel(MAX_READ_AHEAD);
    let reading = tokio::spawn(read(args.source.clone(), args.query.clone(), pages));
    let bar = ProgressBar::new_spinner();
    let (mut new, mut merged, mut known, mut refused, mut bytes) = (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    while let Some(page) = incoming.recv().await {
        let size = page.update.as_ref().map_or(0, |update| update.len() as u64);
        let name = format!("{}{}", args.prefix, page.described.page_id);
        match import(&store, &readers, &name, page, args.dry_run).await? {
            Ok(fate) => {
                *match fate {
                    Fate::New => &mut new,
                    Fate::Merged => &mut merged,
                    Fate::Known => &mut known,
                } += 1;
                bytes += size;
            }
            Err(reason) => {
                refused += 1;
                let _ = bar.suspend(|| writeln!(io::stderr(), "{name:?} was not imported: {reason}"));
            }
        }
        bar.set_message(format!("{} pages, {}", new + merged + known, HumanBytes(bytes)));
        bar.tick();
    }
    bar.finish_and_clear();
    reading.await??;
    store.close().await;
    let would = if args.dry_run {
        " (nothing was changed)"
    } else {
        ""
    };
    let _ = writeln!(
        io::stderr(),
        "{new} new, {merged} merged, {known} there already, {refused} refused; {}{would}",
        HumanBytes(bytes)
    );
    Ok(refused)
}

async fn read(source: String, query: String, pages: mpsc::Sender<Incoming>) -> Result<(), ImportError> {
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
        return read.map_err(ImportError::Documents);
    }
    let path = PathBuf::from(&source);
    let failed = |error| ImportError::Source(source, error);
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
            update: Ok(page.update.into()),
        };
        pages.blocking_send(incoming).is_ok()
    })
}

/// Merges one page. What is wrong with the page ends only it; what is wrong with the store ends the import.
async fn import(
    store: &SharedStore,
    readers: &Readers,
    name: &str,
    incoming: Incoming,
    is_dry: bool,
) -> Result<Result<Fate, Refused>, StoreError> {
    let page = match PageId::new(name) {
        Ok(page) => page,
        Err(error) => return Ok(Err(error.into())),
    };
    let deleted_at = match incoming.described.deleted_at.as_deref().map(time).transpose() {
        Ok(deleted_at) => deleted_at,
        Err(refused) => return Ok(Err(refused)),
    };
    let permissions: Result<Vec<_>, _> = incoming
        .described
        .permissions
        .iter()
        .map(|permitted| permission(&page, permitted))
        .collect();
    let permissions = match permissions {
        Ok(permissions) => permissions,
        Err(refused) => return Ok(Err(refused)),
    };
    let update = match incoming.update {
        Ok(update) => update,
        Err(error) => return Ok(Err(error.into())),
    };
    let stored = store.load(&page).await?;
    if stored.is_none()
        && let Some(renamed) = store.renamed(&page).await?
    {
        return Ok(Err(Refused::Renamed(renamed)));
    }
    let generation = stored.as_ref().map(|stored| stored.record.generation.clone());
    let merged = match merge(stored, update, deleted_at.is_some()) {
        Ok(merged) => merged,
        Err(refused) => return Ok(Err(refused)),
    };
    if is_dry || merged.fate == Fate::Known {
        return Ok(Ok(merged.fate));
    }
    let Merged {
        fate,
        update,
        seq,
        state,
        state_vector,
    } = merged;
    let commit = PageCommit {
        page: page.clone(),
        size_bytes: Some(state.len() as u64),
        updates: vec![NewUpdate {
            data: update,
            user: None,
        }],
        generation,
    };
    let committed = store.commit_alone(&commit).await?;
    if committed.is_nothing() {
        return Ok(Err(Refused::Changed));
    }
    let Committed {
        last_seq, generation, ..
    } = committed;
    // Where another process stored something in between, that one will merge it.
    if last_seq == seq + 1 {
        // A page that cannot be read is there all the same.
        let readable = readers.readable(&page, state.clone()).await;
        let Readable { content, text } = readable.unwrap_or_else(|_| Readable {
            content: serde_json::Value::Null,
            text: String::new(),
        });
        let snapshot = Snapshot {
            seq: last_seq,
            state,
            state_vector,
            content,
            text,
        };
        store.compact(&page, Some(&generation), &snapshot).await?;
    }
    for permission in &permissions {
        store.grant(permission).await?;
    }
    if deleted_at.is_some() {
        store.set_deleted(&page, deleted_at).await?;
    }
    Ok(Ok(fate))
}

/// A page with what has come.
struct Merged {
    fate: Fate,
    /// What is to be stored.
    update: Bytes,
    /// The last row that was there.
    seq: u64,
    state: Bytes,
    state_vector: Bytes,
}

fn merge(stored: Option<StoredPage>, update: Bytes, is_deleted: bool) -> Result<Merged, Refused> {
    let limits = crdt::Limits::default();
    let in_trash = |stored: &StoredPage| stored.record.deleted_at.is_some();
    if stored.as_ref().is_some_and(in_trash) && !is_deleted {
        return Err(Refused::InTrash);
    }
    // By itself first, so that it is known whose fault it is.
    let update = match open_document(limits, None, vec![row(1, update.clone())]) {
        Ok(_) => update,
        Err(error) => {
            let first = crdt::first_of_second_encoding(&update).map_err(|_| Refused::Update(error))?;
            let first = Bytes::from(first);
            open_document(limits, None, vec![row(1, first.clone())]).map_err(Refused::Update)?;
            first
        }
    };
    let ended = stored.as_ref().map(ended_clients).transpose();
    if let Some(ended) = ended.map_err(Refused::Unknown)? {
        let parsed = Update::parse(update.clone(), &limits);
        if parsed.map_or(!ended.is_empty(), |parsed| ended.are_named_in(&parsed)) {
            return Err(Refused::Rebuilt);
        }
    }
    let seq = stored.as_ref().map_or(0, |stored| stored.record.seq);
    let (snapshot, mut log) = stored.map_or((None, Vec::new()), |stored| (stored.snapshot, stored.log));
    let before = match seq {
        0 => None,
        _ => {
            let document = open_document(limits, snapshot.clone(), log.clone());
            Some(document.map_err(Refused::Damaged)?.encode()?)
        }
    };
    log.push(row(seq + 1, update.clone()));
    let mut document = open_document(limits, snapshot, log).map_err(Refused::Update)?;
    let crdt::Snapshot { state, state_vector } = document.snapshot()?;
    let fate = match &before {
        None => Fate::New,
        Some(before) if *before == state => Fate::Known,
        Some(_) => Fate::Merged,
    };
    Ok(Merged {
        fate,
        update,
        seq,
        state,
        state_vector,
    })
}

fn row(seq: u64, data: Bytes) -> LoggedUpdate {
    LoggedUpdate {
        seq,
        data,
        user: None,
    }
}

fn permission(page: &PageId, permitted: &Permitted) -> Result<Permission, Refused> {
    if Role::from_name(&permitted.role).is_none() {
        return Err(Refused::Role(permitted.role.clone()));
    }
    Ok(Permission {
        page: page.as_str().to_owned(),
        user: permitted.user.clone(),
        role: permitted.role.clone(),
        expires_at: permitted.expires_at.as_deref().map(time).transpose()?,
    })
}

fn time(text: &str) -> Result<SystemTime, Refused> {
    humantime::parse_rfc3339(text).map_err(|_| Refused::Time(text.to_owned()))
}
