//! The first content of pages out of an application's own tables.

use std::time::Duration;

use bytes::Bytes;
use crdt::{ClientId, Format, Save};
use futures_util::future::BoxFuture;
use serde_json::{Value as Json, value::RawValue};
use sha2::{Digest, Sha256};
use storage::{Application, PageId, StoreError};

use crate::{
    reader::{Change, Readers},
    rooms::{FirstContent, Refusal, RefusalCode},
};

/// How long the application's database may take to say what a page holds.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A state without anything.
const EMPTY: &[u8] = &[0, 0];

/// Asks an application's database with the application's query what a page holds.
pub struct ApplicationContent {
    application: Application,
    query: String,
    readers: Readers,
    default_format: Format,
}

impl ApplicationContent {
    /// Contents that a query on an application's database answers with; those without a format are in this one.
    ///
    /// # Errors
    /// When the address is none of a database.
    pub fn new(
        url: &str,
        query: String,
        readers: Readers,
        default_format: Format,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            application: Application::new(url, TIMEOUT)?,
            query,
            readers,
            default_format,
        })
    }

    async fn ask(&self, page: &PageId) -> Result<Option<Bytes>, Refusal> {
        let row = self.application.row(&self.query, &[page.as_str()]).await;
        let row = row.map_err(|error| {
            tracing::error!(%page, %error, "PAGEROOM_CONTENT_QUERY fails; the page is not opened until it is answered");
            Refusal::unavailable("what the page holds cannot be found out now, try again")
        })?;
        let Some([Some(content), format]) = row else {
            return Ok(None);
        };
        let format = match format.as_deref() {
            None => self.default_format,
            // Not with the name: a query with its columns the wrong way round answers with the content there.
            Some(name) => named(name)
                .ok_or_else(|| unusable(page, &"its format is none of text, html and prosemirror"))?,
        };
        let content = match format {
            Format::Prosemirror | Format::Blocknote | Format::Delta | Format::Json => {
                RawValue::from_string(content)
            }
            Format::Text | Format::Html | Format::Markdown => {
                RawValue::from_string(Json::String(content).to_string())
            }
        };
        let content = content.map_err(|error| unusable(page, &error))?;
        let change = Change::Save(Save {
            content: &*content,
            format: Some(format),
            default_format: format,
            field: None,
            had_current: false,
            candidates: Vec::new(),
        });
        let author = author(page, content.get());
        let merged = self
            .readers
            .merge(page, Bytes::from_static(EMPTY), author, &change)
            .await;
        let merged = merged.map_err(|error| {
            let refusal = error.refusal();
            match refusal.code.is_retryable() {
                true => refusal,
                false => unusable(page, &error),
            }
        })?;
        Ok((!merged.update.is_empty()).then_some(merged.update))
    }
}

impl FirstContent for ApplicationContent {
    fn of<'a>(&'a self, page: &'a PageId) -> BoxFuture<'a, Result<Option<Bytes>, Refusal>> {
        Box::pin(self.ask(page))
    }
}

fn named(name: &str) -> Option<Format> {
    match name {
        "text" => Some(Format::Text),
        "html" => Some(Format::Html),
        "prosemirror" => Some(Format::Prosemirror),
        _ => None,
    }
}

/// The client id under which the first content of a page is written: of one content always the same. Ids have 32 bits, as Yjs draws them.
fn author(page: &PageId, content: &str) -> ClientId {
    let mut digest = Sha256::new();
    for part in [page.as_str(), content] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let bits = digest.finalize().into_iter().take(4);
    ClientId(bits.fold(0, |id, byte| id << 8 | u64::from(byte)))
}

fn unusable(page: &PageId, error: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(%page, %error, "what PAGEROOM_CONTENT_QUERY answers cannot be the content of a page; the page is not opened");
    Refusal::new(
        RefusalCode::Internal,
        "what the application has of the page cannot be read",
    )
}
