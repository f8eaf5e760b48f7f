//! Undoes what was inserted and what was deleted, as one update on top.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::lists::{Item, List, Lists, NONE, Owner};
use super::{Deeds, PastError};
use crate::encoding::Write;
use crate::id_set::{ClockRange, IdSet};
use crate::state_vector::ClientId;
use crate::update::{DELETED, HAS_KEY, HAS_ORIGIN, HAS_RIGHT_ORIGIN, Id, TYPE};

/// Where copies go.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// Beside what is left of what they are copies of.
    Beside,
    /// Into the copy of the type in which that was.
    Copy(Id),
}

/// The copies, as they are written.
struct Copies {
    client: ClientId,
    clock: u32,
    count: u64,
    out: Vec<u8>,
}

impl Copies {
    /// Writes a copy; gives the id of its last tick. `None` where the content is not known any more.
    fn write(
        &mut self,
        lists: &mut Lists,
        item: &Item,
        (origin, right_origin): (Option<Id>, Option<Id>),
        parent: Option<(Id, Option<&str>)>,
    ) -> Result<Option<Id>, PastError> {
        let mut content = Vec::new();
        let kind = lists.write_content(item, &mut content)?;
        if kind == DELETED {
            return Ok(None);
        }
        let parent = parent.filter(|_| origin.is_none() && right_origin.is_none());
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let key = parent.and_then(|(_, key)| key);
        self.out.put_byte(
            kind | flag(origin.is_some(), HAS_ORIGIN)
                | flag(right_origin.is_some(), HAS_RIGHT_ORIGIN)
                | flag(key.is_some(), HAS_KEY),
        );
        for id in [origin, right_origin].into_iter().flatten() {
            put_id(&mut self.out, id);
        }
        if let Some((parent, _)) = parent {
            self.out.put_byte(0);
            put_id(&mut self.out, parent);
        }
        if let Some(key) = key {
            self.out.put_string(key);
        }
        self.out.put_raw(&content);
        self.count += 1;
        self.clock += item.length;
        Ok(Some(Id {
            client: self.client,
            clock: self.clock - 1,
        }))
    }
}

fn put_id(out: &mut Vec<u8>, id: Id) {
    out.put_number(id.client.0);
    out.put_number(u64::from(id.clock));
}

/// The update of `client` that undoes what was done in a document, of which this is `deleted` now.
pub(super) fn revert(
    client: ClientId,
    mut lists: Lists,
    deleted: &IdSet,
    deeds: &Deeds,
) -> Result<Bytes, PastError> {
    // What was inserted as well is gone as before; what is there need not be put there.
    let mut again = IdSet::default();
    for of in deeds.deleted.ranges() {
        deeds.inserted.missing_from(of.client, of.range, |range| {
            deleted.common(of.client, range, |range| again.insert(of.client, range));
        });
    }
    for set in [&again, &deeds.inserted] {
        for of in set.ranges() {
            lists.cut(of.client, of.range.start);
            lists.cut(of.client, of.range.end);
        }
    }
    let clock = lists.state_vector().get(client);
    let mut copies = Copies {
        client,
        clock,
        count: 0,
        out: Vec::new(),
    };
    let revert = Revert {
        again: &again,
        inserted: &deeds.inserted,
    };
    let mut waiting = revert.beside(&lists, deleted);
    while let Some((list, target)) = waiting.pop_front() {
        revert.copy(&mut lists, list, target, &mut copies, &mut waiting)?;
    }
    let mut gone = IdSet::default();
    let known = lists.state_vector();
    for of in deeds.inserted.ranges() {
        let end = of.range.end.min(known.get(of.client));
        if of.range.start < end {
            let start = of.range.start;
            deleted.missing_from(of.client, ClockRange { start, end }, |range| {
                gone.insert(of.client, range)
            });
        }
    }
    let mut out = Vec::with_capacity(copies.out.len() + 32);
    out.put_number(u64::from(copies.count > 0));
    if copies.count > 0 {
        out.put_number(copies.count);
        out.put_number(client.0);
        out.put_number(u64::from(clock));
        out.put_raw(&copies.out);
    }
    gone.write(&mut out);
    Ok(out.into())
}

struct Revert<'a> {
    again: &'a IdSet,
    inserted: &'a IdSet,
}

impl Revert<'_> {
    /// The chains of roots, and of types that are there and stay, in which something is put again.
    fn beside(&self, lists: &Lists, deleted: &IdSet) -> VecDeque<(u32, Target)> {
        // Their items begin and end where what is put again does.
        let again = self.again.ranges().flat_map(|of| lists.beginning_in(of));
        let concerned: BTreeSet<u32> = again.map(|item| item.list).collect();
        let stays = |list: &List| match list.owner {
            Owner::Root(_) => true,
            Owner::Nested(Id { client, clock }) => {
                !deleted.contains(client, clock) && !self.inserted.contains(client, clock)
            }
        };
        let concerned = concerned.into_iter();
        let stay = concerned.filter(|list| lists.list(*list).is_some_and(stays));
        stay.map(|list| (list, Target::Beside)).collect()
    }

    fn is_again(&self, item: &Item) -> bool {
        self.again.contains(item.id.client, item.id.clock)
    }

    fn copy(
        &self,
        lists: &mut Lists,
        list: u32,
        target: Target,
        copies: &mut Copies,
        waiting: &mut VecDeque<(u32, Target)>,
    ) -> Result<(), PastError> {
        let Some(List { key, first, last, .. }) = lists.list(list) else {
            return Ok(());
        };
        let (key, mut at, mut last) = (key.clone(), *first, *last);
        let mut before = None;
        if key.is_some() {
            // The value that was there last, unless another one has come since that stays.
            at = last;
            while let Some(item) = lists.item(at)
                && self.inserted.contains(item.id.client, item.id.clock)
            {
                at = item.left;
            }
            let Some(item) = lists.item(at).filter(|item| self.is_again(item)) else {
                return Ok(());
            };
            // A value is one tick. Where several stand in one struct, as what waited may have brought them, the last one is what the key had.
            let Id { client, clock } = item.last_id();
            lists.cut(client, clock);
            at = lists.containing(item.last_id());
            last = lists.list(list).map_or(last, |list| list.last);
        }
        while let Some(item) = lists.item(at) {
            if self.is_again(&item) {
                let beside = match (target, &key) {
                    (Target::Beside, None) => {
                        (lists.item(item.left).map(|left| left.last_id()), Some(item.id))
                    }
                    (Target::Beside, Some(_)) => (lists.item(last).map(|last| last.last_id()), None),
                    (Target::Copy(_), _) => (before, None),
                };
                let parent = match target {
                    Target::Copy(parent) => Some((parent, key.as_deref())),
                    Target::Beside => None,
                };
                if let Some(copy) = copies.write(lists, &item, beside, parent)? {
                    before = Some(copy);
                    if item.kind == TYPE {
                        let within = lists.within(item.id).into_iter();
                        waiting.extend(within.map(|list| (list, Target::Copy(copy))));
                    }
                }
            }
            at = match key {
                Some(_) => NONE,
                None => item.right,
            };
        }
        Ok(())
    }
}
