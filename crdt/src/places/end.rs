//! Where what a client has written ends: the place of a cursor that moves while it writes.
//!
//! It hangs on the last character or node of the client itself, so it stays there when others write behind it.

use yrs::branch::{BranchID, BranchPtr};
use yrs::{Any, Assoc, Out, ReadTxn, StickyIndex, Text, TextRef};

use super::{ItemId, RelativePosition, is_leaf};
use crate::content::xml;
use crate::state_vector::ClientId;

/// How many units from its end a text is searched for something of the client: others may have written behind it.
const MAX_BEHIND: u32 = 64;

impl RelativePosition {
    /// Behind an item.
    fn behind(item: ItemId) -> Self {
        Self {
            kind: None,
            tname: None,
            item: Some(item),
            assoc: -1,
        }
    }

    /// The end of a type that is in no root by itself.
    fn end_of(kind: ItemId) -> Self {
        Self {
            kind: Some(kind),
            tname: None,
            item: None,
            assoc: 0,
        }
    }
}

/// What a client has written from a clock on.
#[derive(Clone, Copy)]
pub(crate) struct Writing {
    client: u64,
    from: u32,
}

impl Writing {
    /// What a client writes from here on.
    pub(crate) fn begin(transaction: &impl ReadTxn, client: ClientId) -> Self {
        Self {
            client: client.0,
            from: written(transaction, client.0),
        }
    }

    fn has(self, item: ItemId) -> bool {
        item.client == self.client && item.clock >= self.from
    }

    /// The id of a type, if it is new.
    fn own(self, branch: BranchPtr) -> Option<ItemId> {
        match branch.id() {
            BranchID::Nested(id) => Some(ItemId::of(&id)).filter(|id| self.has(*id)),
            BranchID::Root(_) => None,
        }
    }

    /// Where it ends in a plain text, where one piece was written behind the other; `None` when nothing was.
    pub(crate) fn end_in_text(self, transaction: &impl ReadTxn) -> Option<RelativePosition> {
        let clock = written(transaction, self.client).checked_sub(1)?;
        let last = ItemId {
            client: self.client,
            clock,
        };
        self.has(last).then(|| RelativePosition::behind(last))
    }

    /// Where the last of it ends in rich text; `None` when there is nothing of it, or others have written much behind it. Nesting is
    /// bounded by the gate, so this may recurse.
    pub(crate) fn end_in_nodes(
        self,
        transaction: &impl ReadTxn,
        parent: BranchPtr,
    ) -> Option<RelativePosition> {
        let children: Vec<_> = xml::children(transaction, parent).collect();
        let mut ends = children.iter().rev().map(|child| match child {
            Out::YXmlElement(element) => {
                let branch = xml::branch(element);
                let id = self.own(branch);
                let is_empty = TextRef::from(branch).len(transaction) == 0;
                match id {
                    Some(id) if is_empty && is_leaf(element.tag()) => Some(RelativePosition::behind(id)),
                    id => self
                        .end_in_nodes(transaction, branch)
                        .or_else(|| id.map(RelativePosition::end_of)),
                }
            }
            Out::YXmlText(text) => {
                let branch = xml::branch(text);
                let end = self.end_in_characters(transaction, branch);
                end.or_else(|| self.own(branch).map(RelativePosition::end_of))
            }
            Out::Any(Any::String(_)) => self.end_in_characters(transaction, parent),
            Out::Any(_)
            | Out::YText(_)
            | Out::YArray(_)
            | Out::YMap(_)
            | Out::YXmlFragment(_)
            | Out::YDoc(_)
            | Out::UndefinedRef(_) => None,
        });
        ends.find_map(|end| end)
    }

    /// Behind the last new unit of a text.
    fn end_in_characters(self, transaction: &impl ReadTxn, branch: BranchPtr) -> Option<RelativePosition> {
        let length = TextRef::from(branch).len(transaction);
        let places = (length.saturating_sub(MAX_BEHIND)..length).rev();
        let mut items = places.filter_map(|at| {
            let found = StickyIndex::at(transaction, branch, at, Assoc::After)?;
            found.id().map(ItemId::of)
        });
        items.find(|item| self.has(*item)).map(RelativePosition::behind)
    }
}

/// How much a client has written.
fn written(transaction: &impl ReadTxn, client: u64) -> u32 {
    transaction.state_vector().get(&yrs::ClientID::new(client))
}
