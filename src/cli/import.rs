//! `pageroom import`: merges pages from elsewhere into the store: an archive, a folder of updates, or the tables of another server.
//!
//! What a page holds already is not stored again, so an import that was cut short is simply made again.

use std::{
    io::{self, Write},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use clap::Args;
use crdt::Update;
use indicatif::{HumanBytes, ProgressBar};
use storage::{
    Generation, LoggedUpdate, NewUpdate, PageCommit, PageId, PageIdError, Permission, Seq, SharedStore,
    Snapshot, StoreError, StoredPage,
};
use tokio::sync::mpsc;

use super::{
    archive::Permitted,
    source::{self, Incoming, MAX_READ_AHEAD, Rows, SourceError, UnreadError},
    store::StoreArgs,
    yhub,
};
use crate::{
    reader::{ReaderConfig, Readers},
    rooms::{Readable, Refusal, Role, ended_clients, open_document},
};

/// What one process may take that reads pages, in bytes and in time.
const READER_MEMORY: u64 = 4 << 30;
const READER_TIME: Duration = Duration::from_secs(60);

/// From where, and how.
#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    /// An archive (`export-all`), a folder of files that each hold an update (`.update`, `.yjs`, `.ydoc`, `.bin`; the path in the folder is the
    /// page), the folder of a y-sweet server, or a database (`postgres://…`, `sqlite://FILE`).
    source: String,
    /// For a database: gives the name of a document and an update of it, a row each, several to a document if there are. Without it, what
    /// Hocuspocus stores: `SELECT name, data FROM documents`.
    #[arg(long, value_name = "SQL")]
    query: Option<String>,
    /// For the PostgreSQL of y/hub: reads its table. A page is called ORGANISATION/DOCUMENT, as in the address of its clients, and a branch
    /// other than `main` ORGANISATION/DOCUMENT#BRANCH.
    #[arg(long, conflicts_with = "query")]
    yhub: bool,
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
    #[error(transparent)]
    Source(#[from] SourceError),
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
    #[error(transparent)]
    Unread(#[from] UnreadError),
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    New,
    Merged,
    /// All of it was there.
    Known,
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
    let rows = match args.yhub {
        true => Rows::Yhub,
        false => Rows::Query(args.query.clone()),
    };
    let reading = tokio::spawn(source::read(args.source.clone(), rows, pages));
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
    if args.yhub {
        let _ = writeln!(io::stderr(), "{}", yhub::UNREAD);
    }
    Ok(refused)
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
    let (fate, is_new) = (merged.fate, merged.is_new());
    if is_dry || (fate == Fate::Known && !is_new) {
        return Ok(Ok(fate));
    }
    // Before the page is there, so that all of it is done where an import was cut short and is made again.
    for permission in &permissions {
        store.grant(permission).await?;
    }
    let Some((last_seq, generation)) = append(store, &page, generation, &merged).await? else {
        return Ok(Err(Refused::Changed));
    };
    // Who has the page here has not put it into the trash.
    if is_new && deleted_at.is_some() {
        store.set_deleted(&page, deleted_at).await?;
    }
    // Where another process stored something in between, that one will merge it.
    if last_seq == merged.seq_then() {
        let snapshot = snapshot(readers, &page, last_seq, merged).await;
        store.compact(&page, Some(&generation), &snapshot).await?;
    }
    Ok(Ok(fate))
}

/// Stores what has come, unless it is there; gives the page's last row and its generation. `None` when it is another page by now.
async fn append(
    store: &SharedStore,
    page: &PageId,
    generation: Option<Generation>,
    merged: &Merged,
) -> Result<Option<(Seq, Generation)>, StoreError> {
    if let (Fate::Known, Some(generation)) = (merged.fate, &generation) {
        return Ok(Some((merged.seq, generation.clone())));
    }
    let commit = PageCommit {
        page: page.clone(),
        size_bytes: Some(merged.state.len() as u64),
        updates: vec![NewUpdate {
            data: merged.update.clone(),
            user: None,
        }],
        generation,
    };
    let committed = store.commit_alone(&commit).await?;
    Ok((!committed.is_nothing()).then_some((committed.last_seq, committed.generation)))
}

async fn snapshot(readers: &Readers, page: &PageId, seq: Seq, merged: Merged) -> Snapshot {
    let Merged {
        state, state_vector, ..
    } = merged;
    // A page that cannot be read is there all the same.
    let readable = readers.readable(page, state.clone()).await;
    let Readable { content, text, .. } = readable.unwrap_or_default();
    Snapshot {
        seq,
        state,
        state_vector,
        content,
        text,
    }
}

/// A page with what has come.
struct Merged {
    fate: Fate,
    /// What is to be stored.
    update: Bytes,
    /// The last row that was there.
    seq: Seq,
    /// That row is the only one, and nothing was made of it: so an import leaves a page that is cut short.
    is_alone: bool,
    state: Bytes,
    state_vector: Bytes,
}

impl Merged {
    /// Whether all of the page comes from here.
    fn is_new(&self) -> bool {
        match self.fate {
            Fate::New => true,
            Fate::Known => self.is_alone,
            Fate::Merged => false,
        }
    }

    /// The last row when what has come is stored.
    fn seq_then(&self) -> Seq {
        match self.fate {
            Fate::New | Fate::Merged => self.seq + 1,
            Fate::Known => self.seq,
        }
    }
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
    let is_alone = stored
        .as_ref()
        .is_some_and(|stored| seq == 1 && stored.snapshot.is_none());
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
        is_alone,
        state,
        state_vector,
    })
}

fn row(seq: Seq, data: Bytes) -> LoggedUpdate {
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
