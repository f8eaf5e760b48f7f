//! Structs on their way to their places: where they are in the bytes, and what is needed of them.

use std::collections::BTreeMap;

use super::PastError;
use super::lists::Owner;
use crate::encoding::Reader;
use crate::limits::Limits;
use crate::state_vector::ClientId;
use crate::update::{Id, Parent, Section, Struct, Update, read_struct};

/// Where a struct is, and how many ticks of it come before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) is_second: bool,
    pub(super) at: u32,
    pub(super) offset: u32,
}

/// A struct that waits for its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) clock: u32,
    pub(super) source: Source,
}

/// What is needed of a struct to place it.
pub(super) struct Owned {
    pub(super) kind: u8,
    pub(super) length: u32,
    pub(super) origin: Option<Id>,
    pub(super) right_origin: Option<Id>,
    pub(super) owner: Option<Owner>,
    pub(super) key: Option<Box<str>>,
}

/// A struct without `offset` ticks at its start, in the place of which stands what comes before.
pub(super) fn owned(read: &Struct<'_>, offset: u32, id: Id) -> Owned {
    let is_cut = offset > 0;
    let before = id.clock.checked_sub(1).map(|clock| Id {
        client: id.client,
        clock,
    });
    let owner = match read.parent {
        Some(Parent::Root(name)) => Some(Owner::Root(name.into())),
        Some(Parent::Nested(parent)) => Some(Owner::Nested(parent)),
        None => None,
    };
    Owned {
        kind: read.kind(),
        length: read.length - offset,
        origin: if is_cut { before } else { read.origin },
        right_origin: read.right_origin,
        owner: owner.filter(|_| !is_cut),
        key: read.key.filter(|_| !is_cut).map(Into::into),
    }
}

/// Collects where the structs of a section are, from clock `from` on.
pub(super) fn collect(
    update: &Update,
    section: &Section,
    from: u32,
    is_second: bool,
    waiting: &mut BTreeMap<ClientId, Vec<Waiting>>,
) -> Result<(), PastError> {
    if section.end <= from {
        return Ok(());
    }
    let mut reader = Reader::starting_at(update.bytes(), section.first as usize);
    let mut clock = section.start;
    let of_client = waiting.entry(section.client).or_default();
    for _ in 0..section.count {
        let at = reader.position() as u32;
        let read = read_struct::<true>(&mut reader, &Limits::trusted())?;
        let end = clock + read.length;
        if end > from {
            let offset = from.saturating_sub(clock);
            let source = Source {
                is_second,
                at,
                offset,
            };
            of_client.push(Waiting {
                clock: clock + offset,
                source,
            });
        }
        clock = end;
    }
    Ok(())
}
