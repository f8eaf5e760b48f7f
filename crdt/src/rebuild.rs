//! Rebuilding: a new document with what is live in another one, and nothing else.
//!
//! Every live item is written anew, in the order in which it is read: the root types by name, of each type first its list and then the
//! last value of each key, and what is in a type directly behind that. All is written by one client, with one clock after the other, each
//! item behind the one before it in the same list. What is deleted is not written, so neither is the place where it was.
//!
//! Content is copied as it stands, byte for byte: formatting, embedded objects and subdocuments too. Inside it are no ids of structs that
//! would have to follow: no kind of content names any. What an application keeps in its own content, relative positions for example,
//! points to items of the old document and finds nothing in the new one. A root type in which nothing is live is not in the new document:
//! it comes into being when it is asked for, as in any. In what order a replica enumerates the keys of a map follows from the order in which
//! they came to it, and may be another one.

use bytes::Bytes;
use thiserror::Error;

use crate::document::Document;
use crate::encoding::Write;
use crate::error::ApplyError;
use crate::id_set::IdSet;
use crate::limits::Limits;
use crate::past::{Item, List, Lists, NONE, Owner, PastError};
use crate::state_vector::{ClientId, MAX_CLOCK, StateVector};
use crate::update::{ANY, DELETED, HAS_KEY, HAS_ORIGIN, Id, JSON, STRING, TYPE, Update};

/// Why a document is not rebuilt. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RebuildError {
    /// Changes wait for others that have not arrived, and would be lost. Whoever wrote those has to send them, or what waits has to be
    /// given up.
    #[error(
        "{bytes} bytes of changes wait for others that have not arrived: a rebuilt document would lack them"
    )]
    Parked {
        /// How many bytes wait, with what is noted about each update.
        bytes: usize,
    },
    /// It would take too long to find out what stands where. The document can be used as before.
    #[error("the document is too entangled to be rebuilt")]
    TooMuchWork,
    /// All that is live together is more than one client can have written.
    #[error("the document has more than 2^30 ticks of live content, which one client cannot write")]
    TooLong,
    /// The live document broke. Not the caller's fault; load it again from what is stored.
    #[error(transparent)]
    Broken(#[from] ApplyError),
}

impl From<PastError> for RebuildError {
    fn from(error: PastError) -> Self {
        match error {
            PastError::TooMuchWork => Self::TooMuchWork,
            PastError::Broken(error) => Self::Broken(error),
            PastError::Malformed(_) | PastError::Damaged(_) | PastError::Inconsistent => {
                Self::Broken(ApplyError::Corrupt)
            }
        }
    }
}

impl Document {
    /// The update that makes, from nothing, a document with the same live content, written by `client` alone. The same document and
    /// client give the same bytes. `client` must be at most [`ClientId::MAX`], and should be one that no replica of the old
    /// document knows. It is smaller than the old one as a rule; where nothing was deleted it may be larger by some bytes for each place at
    /// which something stands within what was written in one go, which is in two pieces then. Takes time in proportion to the structs of the document, times the logarithm of their number.
    ///
    /// # Errors
    /// When something waits for changes that have not arrived, when the document is too entangled or too long, or when it broke.
    pub fn rebuilt(&mut self, client: ClientId) -> Result<Bytes, RebuildError> {
        // What is asleep may turn out to wait for something.
        self.store()?;
        match self.pending_bytes() {
            0 => {}
            bytes => return Err(RebuildError::Parked { bytes }),
        }
        let parse = |bytes| Update::parse(bytes, &Limits::trusted()).map_err(|_| ApplyError::Corrupt);
        let whole = parse(self.admitted_since(&StateVector::new())?)?;
        let mut deleted = IdSet::default();
        whole.each_delete(|found| deleted.insert(found.client, found.range));
        let mut lists = Lists::new(whole, parse(Bytes::from_static(&[0, 0]))?)?;
        for found in deleted.ranges() {
            lists.cut(found.client, found.range.start);
            lists.cut(found.client, found.range.end);
        }
        let mut writing = Writing::new(client);
        writing.write_all(&mut lists, &deleted)?;
        Ok(writing.finished())
    }
}

/// A chain of items that is being written.
#[derive(Debug, Clone, Copy)]
struct Chain {
    list: u32,
    /// The next item.
    at: u32,
    /// The type that it is in, when that is no root type.
    parent: Option<Id>,
    /// What was written before it of the chain.
    before: Option<Id>,
}

impl Chain {
    fn new(lists: &mut Lists, list: u32, parent: Option<Id>) -> Self {
        let (first, last, is_keyed) = lists.list(list).map_or((NONE, NONE, false), |list| {
            (list.first, list.last, list.key.is_some())
        });
        let at = match lists.item(last).filter(|_| is_keyed) {
            None => first,
            // A value is one tick. Where several stand in one struct, the last one is what the key has.
            Some(item) => {
                let Id { client, clock } = item.last_id();
                lists.cut(client, clock);
                lists.list(list).map_or(NONE, |list| list.last)
            }
        };
        Self {
            list,
            at,
            parent,
            before: None,
        }
    }
}

/// The structs of the new document, as they are written.
#[derive(Debug)]
struct Writing {
    client: ClientId,
    clock: u32,
    count: u64,
    out: Vec<u8>,
    /// The kind of the last struct and its ticks, while others may still become part of it; its head is written.
    open: Option<(u8, u32)>,
    /// Its content: text, or values.
    content: Vec<u8>,
}

impl Writing {
    fn new(client: ClientId) -> Self {
        Self {
            client,
            clock: 0,
            count: 0,
            out: Vec::new(),
            open: None,
            content: Vec::new(),
        }
    }

    fn write_all(&mut self, lists: &mut Lists, deleted: &IdSet) -> Result<(), RebuildError> {
        // Types may be nested deeper than calls: what is open is kept in a list, the innermost chain last.
        let of_roots = lists.of_roots().into_iter().rev();
        let mut open: Vec<_> = of_roots.map(|list| Chain::new(lists, list, None)).collect();
        while let Some(chain) = open.last_mut() {
            let Some(item) = lists.item(chain.at) else {
                open.pop();
                continue;
            };
            chain.at = item.right;
            if item.kind == DELETED || deleted.contains(item.id.client, item.id.clock) {
                continue;
            }
            let written = self.write(lists, &item, chain)?;
            chain.before = Some(written);
            if item.kind == TYPE {
                let within = lists.within(item.id).into_iter().rev();
                open.extend(within.map(|list| Chain::new(lists, list, Some(written))));
            }
        }
        Ok(())
    }

    /// Writes an item behind what was written before it of its chain; gives the id of its last tick.
    fn write(&mut self, lists: &mut Lists, item: &Item, chain: &Chain) -> Result<Id, RebuildError> {
        let client = self.client;
        let last = self.clock.checked_sub(1).map(|clock| Id { client, clock });
        let is_typed_on = chain.before.is_some() && chain.before == last;
        let open = self.open.filter(|(kind, _)| is_typed_on && *kind == item.kind);
        if let Some((kind, ticks)) = open {
            lists.copy_content(item, &mut self.content)?;
            self.open = Some((kind, ticks + item.length));
        } else {
            self.close();
            let list = lists.list(chain.list).ok_or(ApplyError::Corrupt)?;
            self.write_head(item.kind, list, chain)?;
            self.count += 1;
            match item.kind {
                STRING | ANY | JSON => {
                    lists.copy_content(item, &mut self.content)?;
                    self.open = Some((item.kind, item.length));
                }
                _ => drop(lists.copy_content(item, &mut self.out)?),
            }
        }
        // Neither is more than 2^30.
        self.clock += item.length;
        if self.clock > MAX_CLOCK {
            return Err(RebuildError::TooLong);
        }
        let clock = self.clock - 1;
        Ok(Id { client, clock })
    }

    /// Only what stands before all else of its chain names where it belongs.
    fn write_head(&mut self, kind: u8, list: &List, chain: &Chain) -> Result<(), ApplyError> {
        if let Some(before) = chain.before {
            self.out.put_byte(kind | HAS_ORIGIN);
            self.put_id(before);
            return Ok(());
        }
        let flag = if list.key.is_some() { HAS_KEY } else { 0 };
        self.out.put_byte(kind | flag);
        match (chain.parent, &list.owner) {
            (Some(id), _) => {
                self.out.put_byte(0);
                self.put_id(id);
            }
            (None, Owner::Root(name)) => {
                self.out.put_byte(1);
                self.out.put_string(name);
            }
            // Only those of root types are begun without one.
            (None, Owner::Nested(_)) => return Err(ApplyError::Corrupt),
        }
        if let Some(key) = &list.key {
            self.out.put_string(key);
        }
        Ok(())
    }

    fn put_id(&mut self, id: Id) {
        self.out.put_number(id.client.0);
        self.out.put_number(u64::from(id.clock));
    }

    fn close(&mut self) {
        let Some((kind, ticks)) = self.open.take() else {
            return;
        };
        let count = match kind {
            STRING => self.content.len() as u64,
            _ => u64::from(ticks),
        };
        self.out.put_number(count);
        self.out.put_raw(&self.content);
        self.content.clear();
    }

    /// The structs as one update without deletes.
    fn finished(mut self) -> Bytes {
        self.close();
        let mut out = Vec::with_capacity(self.out.len() + 24);
        out.put_number(u64::from(self.count > 0));
        if self.count > 0 {
            out.put_number(self.count);
            out.put_number(self.client.0);
            out.put_number(0);
            out.put_raw(&self.out);
        }
        out.put_number(0);
        out.into()
    }
}
