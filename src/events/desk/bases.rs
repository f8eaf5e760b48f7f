//! What the base of a save may be, among the contents that its author may have had.

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

/// Of what an author may have had the one that is nearest to what it saves: looked for here, so that a reader is not sent all of them.
pub(super) async fn nearest(mut contents: Vec<Content>, saved: Content) -> Option<Content> {
    if contents.len() < 2 {
        return contents.pop();
    }
    let looking = tokio::task::spawn_blocking(move || {
        let texts: Vec<String> = contents.iter().map(text).collect();
        let found = crdt::nearest(texts.iter().map(String::as_str), &text(&saved));
        found.map(|index| contents.swap_remove(index))
    });
    // Nothing in it panics; without a base nothing is deleted.
    looking.await.unwrap_or_default()
}

/// What is compared: of a text the text itself.
fn text(content: &Content) -> String {
    serde_json::from_str(content.get()).unwrap_or_else(|_| content.get().to_owned())
}
