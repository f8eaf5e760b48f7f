//! `pageroom export`: writes a page to standard output or a file, straight from the store.

use std::{io::Write, path::PathBuf};

use clap::Args;
use storage::{PageId, PageIdError, StoreError};

use super::store::StoreArgs;
use crate::rooms::open_document;

/// What to export.
#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    /// The page.
    page: String,
    /// In which form: the merged document as one Yjs update (v1), all root types as JSON, or plain text.
    #[arg(long, value_name = "FORMAT", default_value = "update", value_parser = ["update", "json", "text"])]
    format: String,
    /// Only this root type, for `json` and `text`.
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Where to write it, instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
}

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportError {
    #[error(transparent)]
    Id(#[from] PageIdError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no page `{0}`")]
    Unknown(PageId),
    #[error("the page has no field `{0}`")]
    NoField(String),
    #[error("what is stored of the page does not fit together: {0}")]
    Damaged(#[from] crdt::LoadError),
    #[error("the page cannot be read: {0}")]
    Broken(#[from] crdt::ApplyError),
    #[error("the page cannot be read: {0}")]
    Unread(#[from] crdt::ViewError),
    #[error("the page cannot be read: reading it did not end")]
    Unfinished(#[from] tokio::task::JoinError),
    #[error("the output could not be written: {0}")]
    Output(#[from] std::io::Error),
}

pub(super) async fn run(args: &ExportArgs) -> Result<(), ExportError> {
    let page = PageId::new(&args.page)?;
    let store = args.store.open().await?;
    let stored = store
        .load(&page)
        .await?
        .ok_or_else(|| ExportError::Unknown(page.clone()))?;
    store.close().await;
    let mut document = open_document(crdt::Limits::default(), stored.snapshot, stored.log)?;
    let state = document.encode()?;
    let bytes = match args.format.as_str() {
        "update" => state,
        format => {
            let (is_json, field) = (format == "json", args.field.clone());
            // Whatever happens to this process, nobody is served by it. The thread has a large stack, unlike this one.
            let reading = tokio::task::spawn_blocking(move || read(&state, is_json, field));
            reading.await??.into()
        }
    };
    match &args.output {
        Some(file) => std::fs::write(file, &bytes)?,
        None => std::io::stdout().write_all(&bytes)?,
    }
    Ok(())
}

fn read(state: &[u8], is_json: bool, field: Option<String>) -> Result<String, ExportError> {
    let mut view = crdt::View::new(true);
    view.apply(state)?;
    let content = match is_json {
        true => view.json(field.as_deref())?.map(|json| json.to_string()),
        false => view.text(field.as_deref())?,
    };
    content.ok_or_else(|| ExportError::NoField(field.unwrap_or_default()))
}
