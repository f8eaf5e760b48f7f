//! What the base of a save may be, among the contents that its author may have had.

use crdt::Nearest;
use serde_json::value::RawValue;
use storage::Seq;

use super::{Bases, Content, Desks, Refusal, RefusalCode, Shape, lock, page::Desk};

impl Desk {
    /// The base that a client names: kept here, or in the page's history.
    pub(super) async fn known_base(&self, desks: &Desks, shape: &Shape, base: Seq) -> Result<Bases, Refusal> {
        let kept = {
            let state = lock(&self.state);
            let versions = state.shapes.get(shape);
            versions.and_then(|versions| versions.at(base).cloned())
        };
        let content = match kept {
            Some(content) => content,
            None => {
                let older = self.older(desks, shape, base.saturating_add(1), 1).await?;
                let at_base = older.contents.into_iter().find(|(seq, _)| *seq == base);
                let (_, content) = at_base.ok_or_else(|| {
                    Refusal::new(
                        RefusalCode::Conflict,
                        "the version that this was made from is not known any more",
                    )
                })?;
                content
            }
        };
        Ok(Bases {
            contents: vec![content],
            are_certain: true,
            ..Bases::none()
        })
    }
}

/// Of what an author may have had the one that is nearest to what it saves, and whether it is certain: looked for here, so that a reader is
/// not sent all of them.
pub(super) async fn nearest(bases: Bases, saved: Content) -> Option<(Content, bool)> {
    if bases.contents.is_empty() {
        return None;
    }
    let looking = tokio::task::spawn_blocking(move || nearest_of(bases, &saved));
    // Nothing in it panics; without a base nothing is deleted.
    looking.await.unwrap_or_default()
}

/// The same at once.
pub(in crate::events) fn nearest_of(bases: Bases, saved: &Content) -> Option<(Content, bool)> {
    let Bases {
        mut contents,
        has_nothing,
        are_certain,
        lacks_some,
    } = bases;
    // Who may have had a copy that is not known here had that rather than nothing.
    if has_nothing && are_certain && !contents.is_empty() {
        contents.push(nothing_like(saved));
    }
    if contents.len() < 2 {
        return Some((contents.pop()?, are_certain && !lacks_some));
    }
    let texts: Vec<String> = contents.iter().map(text).collect();
    let Nearest { index, is_certain } = crdt::nearest(texts.iter().map(String::as_str), &text(saved))?;
    // Where the oldest of them is the nearest, an older one that was forgotten may have been nearer still.
    let is_known = !lacks_some || index + 1 < contents.len();
    Some((contents.swap_remove(index), is_certain && are_certain && is_known))
}

/// What an author shows of an empty page who saves contents like this one.
fn nothing_like(saved: &Content) -> Content {
    let nothing = match saved.get().starts_with('{') {
        true => r#"{"type":"doc","content":[]}"#,
        false => r#""""#,
    };
    RawValue::from_string(nothing.to_owned()).map_or_else(|_| saved.clone(), Content::from)
}

/// What is compared: of a text the text itself.
fn text(content: &Content) -> String {
    serde_json::from_str(content.get()).unwrap_or_else(|_| content.get().to_owned())
}
