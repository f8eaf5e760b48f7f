//! What the base of a save may be, among the contents that its author may have had.

use crdt::Nearest;
use storage::Seq;

use super::{Bases, Content, Refusal, RefusalCode, Versions};

/// The base that a client names.
pub(super) fn known_base(versions: &Versions, base: Seq) -> Result<Bases, Refusal> {
    let content = versions.at(base).ok_or_else(|| {
        Refusal::new(
            RefusalCode::Conflict,
            "the version that this was made from is not known any more",
        )
    })?;
    Ok(Bases {
        contents: vec![content.clone()],
        are_certain: true,
    })
}

/// Of what an author may have had the one that is nearest to what it saves, and whether it is certain: looked for here, so that a reader is
/// not sent all of them.
pub(super) async fn nearest(bases: Bases, saved: Content) -> Option<(Content, bool)> {
    let Bases {
        mut contents,
        are_certain,
    } = bases;
    if contents.len() < 2 {
        return Some((contents.pop()?, are_certain));
    }
    let looking = tokio::task::spawn_blocking(move || nearest_of(contents, &saved));
    // Nothing in it panics; without a base nothing is deleted.
    let (content, is_certain) = looking.await.unwrap_or_default()?;
    Some((content, is_certain && are_certain))
}

/// The same at once.
pub(in crate::events) fn nearest_of(mut contents: Vec<Content>, saved: &Content) -> Option<(Content, bool)> {
    let texts: Vec<String> = contents.iter().map(text).collect();
    let Nearest { index, is_certain } = crdt::nearest(texts.iter().map(String::as_str), &text(saved))?;
    Some((contents.swap_remove(index), is_certain))
}

/// What is compared: of a text the text itself.
fn text(content: &Content) -> String {
    serde_json::from_str(content.get()).unwrap_or_else(|_| content.get().to_owned())
}
