//! The authors of whole contents of one page, and in which forms they write.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use crdt::ClientId;

use crate::reader::new_client;

use super::{
    Carried, Refusal, RefusalCode, Shape, SocketId, Wording,
    left::{Forms, Past},
};

/// Forms in which one page is saved at a time.
const MAX_SHAPES: usize = 4;
/// Users whose client ids are remembered at a page.
const MAX_CLIENTS: usize = 1000;

/// Who writes at a page, and what they have.
pub(super) struct State {
    pub(super) shapes: Forms,
    /// What the page was like in forms in which it has no author now.
    pub(super) left: Past,
    pub(super) authors: BTreeMap<SocketId, Author>,
    /// Who came and is to be sent what the page has.
    pub(super) arriving: BTreeSet<SocketId>,
    /// The client ids under which the users' saves are written: an id belongs to one user.
    pub(super) clients: BTreeMap<String, ClientId>,
    /// The state that was read last.
    pub(super) read: Option<Bytes>,
}

/// An author.
#[derive(Clone)]
pub(super) struct Author {
    /// How it is told.
    pub(super) wording: Wording,
    /// It had another connection before.
    pub(super) has_returned: bool,
    /// In which form it writes.
    pub(super) shape: Shape,
    /// The form in which it wrote before, and what it takes along from there.
    pub(super) before: Option<(Shape, Carried)>,
}

impl State {
    pub(super) fn new(left: Past) -> Self {
        Self {
            shapes: Forms::new(),
            left,
            authors: BTreeMap::new(),
            arriving: BTreeSet::new(),
            clients: BTreeMap::new(),
            read: None,
        }
    }

    pub(super) fn client_of(&mut self, user: &str) -> ClientId {
        if self.clients.len() >= MAX_CLIENTS && !self.clients.contains_key(user) {
            self.clients.clear();
        }
        *self.clients.entry(user.to_owned()).or_insert_with(new_client)
    }

    /// Gives whether there is an author left.
    pub(super) fn leave(&mut self, author: SocketId) -> bool {
        self.authors.remove(&author);
        self.arriving.remove(&author);
        self.leave_form(author);
        !self.authors.is_empty()
    }

    /// Nobody writes in a form any more: somebody may come back with what the page was like in it.
    fn leave_form(&mut self, author: SocketId) {
        for (shape, versions) in self.shapes.extract_if(.., |_, versions| !versions.went(author)) {
            let left = &mut self.left.forms;
            if left.len() >= MAX_SHAPES && !left.contains_key(&shape) {
                left.pop_first();
            }
            left.insert(shape, versions);
        }
    }

    pub(super) fn is_arriving(&self, author: SocketId) -> bool {
        self.arriving.contains(&author)
    }

    /// The author goes on in another form.
    pub(super) fn take_shape(&mut self, id: SocketId, shape: &Shape) -> Result<(), Refusal> {
        let author = self.authors.get_mut(&id);
        let author = author.ok_or_else(|| Refusal::new(RefusalCode::Conflict, "join the page first"))?;
        if author.shape == *shape {
            return Ok(());
        }
        if !self.shapes.contains_key(shape) && self.shapes.len() >= MAX_SHAPES {
            return Err(Refusal::new(
                RefusalCode::Conflict,
                "the page is being saved in too many forms",
            ));
        }
        let before = std::mem::replace(&mut author.shape, shape.clone());
        // Who has only just come has had nothing in any form yet.
        if self.arriving.insert(id) {
            let versions = self.shapes.get(&before);
            let carried = versions.map_or_else(Carried::nothing, |versions| versions.carried(id));
            author.before = Some((before, carried));
        }
        self.leave_form(id);
        Ok(())
    }
}
