//! `pageroom export-all`: writes all pages into one archive, straight from the store.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
    time::SystemTime,
};

use clap::Args;
use indicatif::{HumanBytes, ProgressBar};
use storage::{PageId, PageRecord, Permission, SharedStore, StoreError};

use super::{
    archive::{Archive, Begun, Described, Permitted},
    store::StoreArgs,
};
use crate::rooms::open_document;

/// Pages and permissions that are read at once.
const ROWS_AT_ONCE: usize = 500;

/// What to export.
#[derive(Args, Debug)]
pub(super) struct ExportAllArgs {
    /// The archive. One that ends too early is gone on with. `-` is standard output.
    file: PathBuf,
    /// Only pages whose ids begin so.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    prefix: String,
    #[command(flatten)]
    store: StoreArgs,
}

/// Why not everything was exported.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportAllError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0} is complete already: export into another file")]
    Complete(PathBuf),
    #[error("{0} cannot be written: {1}")]
    Output(PathBuf, #[source] io::Error),
    #[error("what is stored of the page `{0}` does not fit together: {1}")]
    Damaged(PageId, #[source] crdt::LoadError),
    #[error("the page `{0}` cannot be read: {1}")]
    Broken(PageId, #[source] crdt::ApplyError),
}

pub(super) async fn run(args: &ExportAllArgs) -> Result<(), ExportAllError> {
    let failed = |error| ExportAllError::Output(args.file.clone(), error);
    let mut after = None;
    let output: Box<dyn Write> = if args.file.as_os_str() == "-" {
        Box::new(io::stdout().lock())
    } else if args.file.exists() {
        let begun = Begun::of(&args.file).map_err(failed)?;
        let begun = begun.ok_or_else(|| ExportAllError::Complete(args.file.clone()))?;
        let file = begun.go_on(&args.file).map_err(failed)?;
        after = begun.last;
        Box::new(file)
    } else {
        Box::new(File::create(&args.file).map_err(failed)?)
    };
    let store = args.store.open().await?;
    let mut archive = Archive::new(BufWriter::new(output));
    let bar = ProgressBar::new_spinner();
    let (mut count, mut bytes) = (0_u64, 0_u64);
    if let Some(last) = &after {
        bar.println(format!("going on behind {last}"));
    }
    loop {
        let last = after.as_ref().map(PageId::as_str);
        let records = store.pages(&args.prefix, last, ROWS_AT_ONCE).await?;
        let Some(last) = records.last() else { break };
        after = Some(last.page.clone());
        for record in &records {
            let Some((described, update)) = page(&store, record).await? else {
                continue;
            };
            archive.put(&described, &update).map_err(failed)?;
            count += 1;
            bytes += update.len() as u64;
            bar.set_message(so_many(count, bytes));
            bar.tick();
        }
    }
    archive.finish().map_err(failed)?;
    store.close().await;
    bar.finish_and_clear();
    let _ = writeln!(io::stderr(), "{}", so_many(count, bytes));
    Ok(())
}

/// How much has been written, for people.
fn so_many(pages: u64, bytes: u64) -> String {
    let noun = if pages == 1 { "page" } else { "pages" };
    format!("{pages} {noun}, {}", HumanBytes(bytes))
}

/// A page as it is stored; `None` when it has been purged meanwhile.
async fn page(
    store: &SharedStore,
    record: &PageRecord,
) -> Result<Option<(Described, bytes::Bytes)>, ExportAllError> {
    let id = &record.page;
    let Some(stored) = store.load(id).await? else {
        return Ok(None);
    };
    let record = stored.record;
    let document = open_document(crdt::Limits::default(), stored.snapshot, stored.log);
    let mut document = document.map_err(|error| ExportAllError::Damaged(id.clone(), error))?;
    let update = document.encode();
    let update = update.map_err(|error| ExportAllError::Broken(id.clone(), error))?;
    let mut permissions: Vec<Permission> = Vec::new();
    loop {
        let last = permissions.last().map(|last| last.user.clone());
        let more = store
            .permissions_on(id.as_str(), last.as_deref(), ROWS_AT_ONCE)
            .await?;
        if more.is_empty() {
            break;
        }
        permissions.extend(more);
    }
    let permissions = permissions.into_iter().map(|permission| Permitted {
        user: permission.user,
        role: permission.role,
        expires_at: permission.expires_at.map(timestamp),
    });
    let described = Described {
        page_id: id.as_str().to_owned(),
        seq: record.seq,
        created_at: Some(timestamp(record.created_at)),
        updated_at: Some(timestamp(record.updated_at)),
        deleted_at: record.deleted_at.map(timestamp),
        permissions: permissions.collect(),
    };
    Ok(Some((described, update)))
}

fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
