//! A page as a server keeps it, into which saves are merged.

use bytes::Bytes;
use pageroom_crdt::{
    Candidate, ClientId, ComponentChange, Document, Format, Limits, MergeError, MergeRefusal, Merged, Save,
    Update, View,
};
use serde_json::Value;

pub(crate) fn certain(content: impl Into<Value>) -> Candidate {
    Candidate {
        content: content.into(),
        is_certain: true,
    }
}

pub(crate) fn uncertain(content: impl Into<Value>) -> Candidate {
    Candidate {
        content: content.into(),
        is_certain: false,
    }
}

pub(crate) fn save(content: Value, format: Format) -> Save {
    Save {
        content,
        format: Some(format),
        default_format: Format::Text,
        field: None,
        candidates: Vec::new(),
        had_current: false,
    }
}

pub(crate) fn conflict(held: &str) -> MergeError {
    MergeRefusal::Conflict {
        held: held.to_owned(),
    }
    .into()
}

pub(crate) struct Page {
    document: Document,
    saves: u64,
}

impl Page {
    pub(crate) fn new() -> Self {
        Self {
            document: Document::new(Limits::default()),
            saves: 0,
        }
    }

    /// The same page, saves of which are none of the other's.
    pub(crate) fn copy(&mut self) -> Self {
        let mut copy = Self::new();
        copy.apply(&self.encode());
        copy
    }

    pub(crate) fn encode(&mut self) -> Bytes {
        self.document.encode().unwrap()
    }

    pub(crate) fn view(&mut self) -> View {
        self.document.content().unwrap()
    }

    pub(crate) fn apply(&mut self, update: &[u8]) {
        let update = Update::parse(Bytes::copy_from_slice(update), &Limits::default()).unwrap();
        self.document.admit(update).unwrap();
    }

    /// Merges a save and puts its edits into the page.
    pub(crate) fn save(&mut self, save: &Save) -> Merged {
        self.try_save(save).unwrap()
    }

    pub(crate) fn try_save(&mut self, save: &Save) -> Result<Merged, MergeError> {
        self.saves += 1;
        let merged = self.view().merge(ClientId(1000 + self.saves), save)?;
        self.take(&merged);
        Ok(merged)
    }

    pub(crate) fn change(&mut self, change: &ComponentChange) -> Result<Merged, MergeError> {
        self.saves += 1;
        let merged = self.view().merge_component(ClientId(1000 + self.saves), change)?;
        self.take(&merged);
        Ok(merged)
    }

    /// Merges a change into the page as it is, without putting its edits in.
    pub(crate) fn merged_apart(&mut self, change: &ComponentChange) -> Merged {
        self.saves += 1;
        self.view()
            .merge_component(ClientId(1000 + self.saves), change)
            .unwrap()
    }

    fn take(&mut self, merged: &Merged) {
        if !merged.update.is_empty() {
            self.apply(&merged.update);
        }
    }

    pub(crate) fn text(&mut self, field: &str) -> String {
        self.view().text(Some(field)).unwrap().unwrap_or_default()
    }

    pub(crate) fn component(&mut self) -> Value {
        self.view().component().unwrap()
    }
}
