//! What the base of a save may be, among the contents that its author may have had.

use std::sync::Arc;

use serde_json::Value as Json;
use storage::Seq;

use super::{Refusal, RefusalCode, Versions};

/// The base that a client names.
pub(super) fn known_base(versions: &Versions, base: Seq) -> Result<crdt::Candidate, Refusal> {
    let content = versions.at(base).ok_or_else(|| {
        Refusal::new(
            RefusalCode::Conflict,
            "the version that this was made from is not known any more",
        )
    })?;
    Ok(crdt::Candidate {
        content: Json::clone(content),
        is_certain: true,
    })
}

/// Of what an author may have had the one that is nearest to what it saves: looked for here, so that a reader is not sent all of them.
pub(super) async fn nearest(mut candidates: Vec<crdt::Candidate>, saved: Arc<Json>) -> Vec<crdt::Candidate> {
    if candidates.len() < 2 {
        return candidates;
    }
    let looking = tokio::task::spawn_blocking(move || {
        let text = |content: &Json| match content {
            Json::String(text) => text.clone(),
            other @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_)) => {
                other.to_string()
            }
        };
        let texts: Vec<String> = candidates.iter().map(|one| text(&one.content)).collect();
        let found = crdt::nearest(texts.iter().map(String::as_str), &text(&saved));
        match found {
            Some(index) => vec![candidates.swap_remove(index)],
            None => Vec::new(),
        }
    });
    // Nothing in it panics; without a base nothing is deleted.
    looking.await.unwrap_or_default()
}
