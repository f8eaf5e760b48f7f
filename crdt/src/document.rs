//! A live Yjs document as its structs, or, asleep, as its encoded state.

use bytes::Bytes;

use crate::error::{ApplyError, DecodeError, LoadError, Refusal};
use crate::id_set::IdSet;
use crate::limits::Limits;
use crate::pending::{self, Pending, PendingFull};
use crate::state_vector::{ClientId, StateVector};
use crate::structs::{StructStore, TakenIn};
use crate::update::{ClientRange, Update, merge, rest};

/// What an update needs before it can be admitted: that `client` is known up to `clock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// Whose changes are missing.
    pub client: ClientId,
    /// The state vector's clock has to be at least this.
    pub clock: u32,
}

/// What became of an update that was offered to a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The update, or what is new in it, is now part of the document. When all of it was new these are the bytes received, without the
    /// right origins that stand before where their structs go: replicas would find different places for those.
    New(Update),
    /// Nothing in it is new.
    Known,
    /// It depends on something that has not arrived. Nothing was changed.
    Early {
        /// The update, without what is known of it.
        update: Update,
        /// The first thing found missing.
        missing: Missing,
    },
    /// Some of it is new and part of the document now, the rest depends on something that has not arrived.
    Partly {
        /// What is part of the document now.
        new: Update,
        /// The rest.
        early: Update,
        /// The first thing found missing for the rest.
        missing: Missing,
    },
}

/// The state of a document for storing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The whole document as one update.
    pub state: Bytes,
    /// Its state vector.
    pub state_vector: Bytes,
}

/// A Yjs document that only takes what was checked.
///
/// It may be *asleep*: then only its encoded state is in memory, from which it can be served; it wakes by itself when
/// something needs more.
pub struct Document {
    limits: Limits,
    /// Of everything admitted, while the store is not there.
    slept_with: StateVector,
    store: Option<StructStore>,
    /// The encoded state, with what is parked; always there while asleep.
    encoded: Option<Bytes>,
    /// The same, taken apart, as soon as that was needed while asleep.
    parsed: Option<Update>,
    /// What was parked.
    pending: Pending,
    failed: bool,
    #[cfg(feature = "testing")]
    breaks: bool,
}

const EMPTY_UPDATE: &[u8] = &[0, 0];

impl Document {
    /// An empty document.
    pub fn new(limits: Limits) -> Self {
        Self::with_encoded(limits, Bytes::from_static(EMPTY_UPDATE), StateVector::new())
    }

    /// A document from what is stored: a snapshot and the log rows after it, or any updates in any order. What builds on something that
    /// is not there is parked.
    ///
    /// # Errors
    /// When a part cannot be a part of the document; says which.
    pub fn load(limits: Limits, parts: impl IntoIterator<Item = Bytes>) -> Result<Self, LoadError> {
        let mut document = Self {
            store: Some(StructStore::new(limits.keeps_deleted)),
            encoded: None,
            ..Self::new(limits)
        };
        for (part, bytes) in parts.into_iter().enumerate() {
            document.load_part(bytes).map_err(|source| source.of_part(part))?;
        }
        Ok(document)
    }

    fn load_part(&mut self, bytes: Bytes) -> Result<(), PartError> {
        let limits = self.limits.for_stored();
        let update = Update::parse(bytes, &limits)?;
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let clients: Vec<_> = update.ranges().map(|range| range.client).collect();
        let taken_in = store.take_in(update, &limits)?;
        for (part, missing) in taken_in.early {
            keep_new(&mut self.pending, part, missing);
        }
        if taken_in.new.is_some() {
            take_ready(store, &mut self.pending, clients, &limits, |_| {});
        }
        Ok(())
    }

    /// Takes in one more part of what is stored.
    ///
    /// # Errors
    /// When it cannot be a part of the document.
    pub fn take_in_stored(&mut self, bytes: Bytes) -> Result<(), LoadError> {
        let broken = |_| LoadError::Inconsistent {
            part: 0,
            source: ApplyError::Failed.into(),
        };
        self.store().map_err(broken)?;
        self.encoded = None;
        self.load_part(bytes).map_err(|source| source.of_part(0))
    }

    /// Takes in one more part of what is stored; gives what has been deleted since this was called last, from the second time on.
    pub(crate) fn load_more(&mut self, bytes: Bytes) -> Result<IdSet, LoadError> {
        self.take_in_stored(bytes)?;
        let store = self.store.as_mut();
        Ok(store.map(StructStore::take_newly_deleted).unwrap_or_default())
    }

    /// A sleeping document from a stored snapshot and its state vector, which are trusted until it wakes. When something waits in the
    /// snapshot it is awake.
    ///
    /// # Errors
    /// When the snapshot or the state vector cannot be read.
    pub fn asleep(limits: Limits, state: Bytes, state_vector: &[u8]) -> Result<Self, LoadError> {
        let malformed = |source| LoadError::Malformed { part: 0, source };
        let known = StateVector::decode(state_vector, &Limits::trusted()).map_err(malformed)?;
        let update = Update::parse(state.clone(), &Limits::trusted()).map_err(malformed)?;
        if !update.is_within(&known) {
            return Self::load(limits, [state]);
        }
        Ok(Self {
            parsed: Some(update),
            ..Self::with_encoded(limits, state, known)
        })
    }

    fn with_encoded(limits: Limits, encoded: Bytes, slept_with: StateVector) -> Self {
        Self {
            limits,
            slept_with,
            store: None,
            encoded: Some(encoded),
            parsed: None,
            pending: Pending::default(),
            failed: false,
            #[cfg(feature = "testing")]
            breaks: false,
        }
    }

    /// Decides what is new in an update and whether it can enter the document, and takes it in. Takes time in proportion to the
    /// update's size, times the logarithm of the document's.
    ///
    /// # Errors
    /// When it must not enter; nothing was changed.
    pub fn admit(&mut self, update: Update) -> Result<Admission, Refusal> {
        let limits = self.limits;
        let taken_in = self.store()?.take_in(update, &limits)?;
        if taken_in.new.is_some() {
            self.encoded = None;
        }
        let early = match &taken_in.early[..] {
            [] => None,
            [(only, missing)] => Some((only.clone(), *missing)),
            [(_, missing), ..] => Some((merge(taken_in.early.iter().map(|(part, _)| part)), *missing)),
        };
        Ok(match (taken_in.new, early) {
            (None, None) => Admission::Known,
            (Some(update), None) => Admission::New(update),
            (None, Some((update, missing))) => Admission::Early { update, missing },
            (Some(new), Some((early, missing))) => Admission::Partly { new, early, missing },
        })
    }

    /// Keeps an update that was just found to be early until what it builds on is there. It is part of what is stored and told, as it is
    /// in Yjs: who has it may be the only one left when the missing comes. Says whether any of it did not wait already.
    ///
    /// # Errors
    /// When too much waits already, or the document broke.
    pub fn park(&mut self, update: Update) -> Result<bool, PendingFull> {
        let limits = self.limits;
        // Each part waits for something else.
        let taken_in = self.store().map_err(|_| PendingFull)?.take_in(update, &limits);
        let taken_in = taken_in.map_err(|_| PendingFull)?;
        debug_assert!(taken_in.new.is_none(), "what is parked was found to be early");
        let parts = taken_in.early.into_iter();
        let parts: Vec<_> = parts.filter_map(|part| self.pending.new_part(part)).collect();
        let size: usize = parts.iter().map(|(part, _)| pending::size(part)).sum();
        if size > 0 && self.pending.bytes().saturating_add(size) > limits.max_pending_bytes {
            return Err(PendingFull);
        }
        for (part, missing) in parts {
            self.pending.keep(part, missing);
            self.encoded = None;
        }
        Ok(size > 0)
    }

    /// Takes in what was parked and waited for something of `clients` that is there now; returns what became part of the document.
    ///
    /// # Errors
    /// When the document broke.
    pub fn take_ready(&mut self, clients: impl Iterator<Item = ClientId>) -> Result<Vec<Update>, ApplyError> {
        let mut new = Vec::new();
        if self.pending.is_empty() {
            return Ok(new);
        }
        // It was accepted when it came.
        let limits = self.limits.for_stored();
        self.store()?;
        let Self { store, pending, .. } = self;
        if let Some(store) = store {
            take_ready(store, pending, clients.collect(), &limits, |update| {
                new.push(update)
            });
        }
        if !new.is_empty() {
            self.encoded = None;
        }
        Ok(new)
    }

    /// The clients that wrote what is parked, or whose structs it deletes.
    pub fn parked_clients(&self) -> impl Iterator<Item = ClientId> {
        self.pending.clients()
    }

    /// How many bytes of early updates wait, with what is noted about each.
    pub fn pending_bytes(&self) -> usize {
        self.pending.bytes()
    }

    /// Whether an update would bring nothing new: everything it inserts is there, or waits, and everything it deletes is deleted, or
    /// waits for that.
    ///
    /// # Errors
    /// When the document broke.
    pub fn contains(&mut self, update: &Update) -> Result<bool, ApplyError> {
        self.store()?;
        let Self { store, pending, .. } = self;
        let lacks_nothing = |store: &mut StructStore| store.contains(update, pending);
        Ok(store.as_mut().is_some_and(lacks_nothing))
    }

    /// The state vector of everything admitted.
    pub fn state_vector(&self) -> &StateVector {
        self.store.as_ref().map_or(&self.slept_with, StructStore::known)
    }

    /// What a replica with this state vector lacks, as one update, with what is parked. Takes time in proportion to the answer and to what
    /// is parked; asleep, to the document.
    ///
    /// # Errors
    /// When the document broke.
    pub fn diff(&mut self, state_vector: &StateVector) -> Result<Bytes, ApplyError> {
        if state_vector.is_empty() {
            return self.encode();
        }
        let admitted = self.admitted_since(state_vector)?;
        if self.pending.is_empty() {
            return Ok(admitted);
        }
        self.with_parked(admitted, &self.parked_since(state_vector))
    }

    /// What a replica with this state vector lacks of what is not parked.
    ///
    /// # Errors
    /// When the document broke.
    pub fn admitted_since(&mut self, state_vector: &StateVector) -> Result<Bytes, ApplyError> {
        self.check()?;
        if let Some(store) = &self.store {
            return Ok(Bytes::from(store.diff(state_vector)));
        }
        let stored = self.stored()?;
        let lacking = rest(&stored, state_vector).bytes().clone();
        self.parsed = Some(stored);
        Ok(lacking)
    }

    /// The whole document as one update, with what is parked; shared until the next change.
    ///
    /// # Errors
    /// When the document broke.
    pub fn encode(&mut self) -> Result<Bytes, ApplyError> {
        self.check()?;
        if let Some(encoded) = &self.encoded {
            return Ok(encoded.clone());
        }
        let mut encoded = self.store()?.encode();
        if !self.pending.is_empty() {
            encoded = self.with_parked(encoded, &self.parked_since(&StateVector::new()))?;
        }
        self.encoded = Some(encoded.clone());
        Ok(encoded)
    }

    /// What is parked, without what a replica with this state vector has, and without what is there by now: that stands as it was admitted,
    /// whatever else was said of the same ticks before.
    fn parked_since(&self, has: &StateVector) -> Update {
        let parked = self.pending.merged();
        let known = self.state_vector();
        let from = parked
            .ranges()
            .map(|ClientRange { client, .. }| (client, known.get(client).max(has.get(client))));
        rest(&parked, &from.collect())
    }

    fn with_parked(&self, admitted: Bytes, parked: &Update) -> Result<Bytes, ApplyError> {
        if parked.is_empty() {
            return Ok(admitted);
        }
        let admitted = Update::parse(admitted, &Limits::trusted()).map_err(|_| ApplyError::Corrupt)?;
        Ok(merge([&admitted, parked]).bytes().clone())
    }

    /// The whole document for storing.
    ///
    /// # Errors
    /// When the document broke.
    pub fn snapshot(&mut self) -> Result<Snapshot, ApplyError> {
        Ok(Snapshot {
            state: self.encode()?,
            state_vector: self.state_vector().encode(),
        })
    }

    /// A readable view of the document, for tests.
    ///
    /// # Errors
    /// When the document library does not read it.
    #[cfg(feature = "testing")]
    pub fn content(&mut self) -> Result<crate::View, crate::ViewError> {
        let mut view = crate::View::new(true);
        view.apply(&self.encode().map_err(|_| crate::ViewError::Failed)?)?;
        Ok(view)
    }

    /// Leaves only the encoded state in memory.
    ///
    /// # Errors
    /// When the document broke.
    pub fn sleep(&mut self) -> Result<(), ApplyError> {
        if !self.pending.is_empty() {
            return Ok(());
        }
        self.encode()?;
        if let Some(store) = self.store.take() {
            self.slept_with = store.known().clone();
        }
        Ok(())
    }

    /// Whether the document is unpacked in memory and need not be: nothing waits in it.
    pub fn can_sleep(&self) -> bool {
        self.store.is_some() && self.pending.is_empty()
    }

    /// Whether the document is unpacked in memory.
    pub fn is_awake(&self) -> bool {
        self.store.is_some()
    }

    /// How many bytes the encoded state has, without what is parked: never less, and more only by what long texts and lists are kept in
    /// pieces for, about one head of a struct in a kibibyte. Constant time, never an encode; the exact size is that of [`Self::encode`].
    pub fn encoded_size_estimate(&self) -> usize {
        let sleeping = || self.encoded.as_ref().map_or(0, Bytes::len);
        self.store
            .as_ref()
            .map_or_else(sleeping, StructStore::encoded_size)
    }

    /// Makes the document break when it is encoded next.
    #[cfg(feature = "testing")]
    pub fn break_at_next_encode(&mut self) {
        self.breaks = true;
    }

    fn check(&mut self) -> Result<(), ApplyError> {
        #[cfg(feature = "testing")]
        {
            self.failed |= std::mem::take(&mut self.breaks);
        }
        match self.failed {
            true => Err(ApplyError::Failed),
            false => Ok(()),
        }
    }

    /// The encoded state, parsed: once, however often it is asked for.
    fn stored(&mut self) -> Result<Update, ApplyError> {
        if let Some(parsed) = self.parsed.take() {
            return Ok(parsed);
        }
        let encoded = self.encoded.clone().ok_or(ApplyError::Failed)?;
        Update::parse(encoded, &Limits::trusted()).map_err(|_| ApplyError::Corrupt)
    }

    /// The store, built from the encoded state when there is none.
    pub(crate) fn store(&mut self) -> Result<&mut StructStore, ApplyError> {
        if self.failed {
            return Err(ApplyError::Failed);
        }
        if self.store.is_none() {
            let mut store = StructStore::new(self.limits.keeps_deleted);
            let taken_in = store.take_in(self.stored()?, &Limits::trusted());
            let Ok(TakenIn { early, .. }) = taken_in else {
                self.failed = true;
                return Err(ApplyError::Corrupt);
            };
            if *store.known() != self.slept_with {
                self.failed = true;
                return Err(ApplyError::Corrupt);
            }
            for (part, missing) in early {
                keep_new(&mut self.pending, part, missing);
            }
            self.slept_with = StateVector::new();
            return Ok(self.store.insert(store));
        }
        self.store.as_mut().ok_or(ApplyError::Failed)
    }
}

/// Keeps what does not wait yet of an early update.
pub(crate) fn keep_new(pending: &mut Pending, update: Update, missing: Missing) {
    if let Some((update, missing)) = pending.new_part((update, missing)) {
        pending.keep(update, missing);
    }
}

/// Takes into a store what was parked and waited for something of `clients`; calls `found` with what is new. What turns out to
/// contradict what is there is dropped.
pub(crate) fn take_ready(
    store: &mut StructStore,
    pending: &mut Pending,
    mut clients: Vec<ClientId>,
    limits: &Limits,
    mut found: impl FnMut(Update),
) {
    loop {
        let ready = pending.take_ready(store.known(), clients.drain(..));
        if ready.is_empty() {
            return;
        }
        for update in ready {
            let Ok(taken_in) = store.take_in(update, limits) else {
                continue;
            };
            for (part, missing) in taken_in.early {
                keep_new(pending, part, missing);
            }
            if let Some(new) = taken_in.new {
                clients.extend(new.ranges().map(|range| range.client));
                found(new);
            }
        }
    }
}

/// What can be wrong with a part of a stored document.
#[derive(Debug)]
enum PartError {
    Malformed(DecodeError),
    Inconsistent(Refusal),
}

impl PartError {
    fn of_part(self, part: usize) -> LoadError {
        match self {
            Self::Malformed(source) => LoadError::Malformed { part, source },
            Self::Inconsistent(source) => LoadError::Inconsistent { part, source },
        }
    }
}

impl From<DecodeError> for PartError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

impl From<Refusal> for PartError {
    fn from(refusal: Refusal) -> Self {
        Self::Inconsistent(refusal)
    }
}

impl std::fmt::Debug for Document {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Document")
            .field("state_vector", self.state_vector())
            .field("is_awake", &self.is_awake())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
