//! A live Yjs document behind the gate.

use bytes::Bytes;

use crate::content::Content;
use crate::error::{ApplyError, DecodeError, LoadError, Refusal};
use crate::gate::{Gate, Verdict};
use crate::limits::Limits;
use crate::live::Live;
use crate::state_vector::{ClientId, StateVector};
use crate::update::{Update, diff, merge};

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
    /// The update, or what is new in it, is now part of the document and takes effect at the next [`Document::apply`].
    /// When all of it was new these are the bytes received.
    New(Update),
    /// Nothing in it is new.
    Known,
    /// It depends on something that has not arrived. Nothing was changed.
    Early {
        /// The update as it was offered.
        update: Update,
        /// The first thing found missing.
        missing: Missing,
    },
}

/// The state of a document for storing, checked by decoding it again.
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
    /// Of everything admitted, while the gate is not there.
    slept_with: StateVector,
    gate: Option<Gate>,
    live: Option<Live>,
    /// Admitted, not yet applied.
    queue: Vec<Update>,
    /// The encoded state of everything applied; always there while asleep.
    encoded: Option<Bytes>,
    /// About how large the encoded state is.
    size: usize,
    /// How many updates were applied since the live document was last compared with the gate.
    unverified: usize,
    failed: bool,
    #[cfg(feature = "testing")]
    panics: bool,
}

const EMPTY_UPDATE: &[u8] = &[0, 0];

impl Document {
    /// An empty document.
    pub fn new(limits: Limits) -> Self {
        Self::with_encoded(limits, Bytes::from_static(EMPTY_UPDATE), StateVector::new())
    }

    /// A document from what is stored: a snapshot and the log rows after it, or any updates in any order.
    ///
    /// # Errors
    /// When the parts do not make a complete document; says which part is to blame.
    pub fn load(limits: Limits, parts: impl IntoIterator<Item = Bytes>) -> Result<Self, LoadError> {
        let limits_for_stored = limits.for_stored();
        let mut gate = Gate::default();
        let mut queue = Vec::new();
        let mut early: Vec<(usize, Update, Missing)> = Vec::new();
        for (part, bytes) in parts.into_iter().enumerate() {
            let update = Update::parse(bytes, &limits_for_stored)
                .map_err(|source| LoadError::Malformed { part, source })?;
            offer(
                &mut gate,
                &limits_for_stored,
                part,
                update,
                &mut queue,
                &mut early,
            )?;
        }
        // Rows written by two processes may be interleaved: what was early may have become ready.
        loop {
            let (ready, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut early)
                .into_iter()
                .partition(|(_, _, missing)| gate.known().get(missing.client) >= missing.clock);
            early = waiting;
            if ready.is_empty() {
                break;
            }
            for (part, update, _) in ready {
                offer(
                    &mut gate,
                    &limits_for_stored,
                    part,
                    update,
                    &mut queue,
                    &mut early,
                )?;
            }
        }
        // A writer's rows are merged by author, so two of them may need each other; together they need nothing.
        if let Some(&(part, ..)) = early.first() {
            let together = merge(early.iter().map(|(_, update, _)| update));
            early.clear();
            offer(
                &mut gate,
                &limits_for_stored,
                part,
                together,
                &mut queue,
                &mut early,
            )?;
        }
        if let Some(&(part, _, Missing { client, clock })) = early.first() {
            return Err(LoadError::Incomplete { part, client, clock });
        }
        let mut document = Self::new(limits);
        document.size = queue.iter().map(Update::len).sum();
        document.gate = Some(gate);
        document.queue = queue;
        document.apply()?;
        Ok(document)
    }

    /// A sleeping document from a stored snapshot and its state vector, which are trusted until it wakes.
    ///
    /// # Errors
    /// When the state vector cannot be read.
    pub fn asleep(limits: Limits, state: Bytes, state_vector: &[u8]) -> Result<Self, DecodeError> {
        let known = StateVector::decode(state_vector, &Limits::trusted())?;
        Ok(Self::with_encoded(limits, state, known))
    }

    fn with_encoded(limits: Limits, encoded: Bytes, slept_with: StateVector) -> Self {
        Self {
            limits,
            slept_with,
            gate: None,
            live: None,
            queue: Vec::new(),
            size: encoded.len(),
            encoded: Some(encoded),
            unverified: 0,
            failed: false,
            #[cfg(feature = "testing")]
            panics: false,
        }
    }

    /// Decides what is new in an update and whether it can enter the document.
    ///
    /// # Errors
    /// When it must not enter; nothing was changed.
    pub fn admit(&mut self, update: Update) -> Result<Admission, Refusal> {
        let limits = self.limits;
        let verdict = self.gate()?.admit(update, &limits)?;
        Ok(match verdict {
            Verdict::New(update) => {
                self.size += update.len();
                self.queue.push(update.clone());
                Admission::New(update)
            }
            Verdict::Known => Admission::Known,
            Verdict::Early(update, missing) => Admission::Early { update, missing },
        })
    }

    /// Whether an update would bring nothing new: everything it inserts is there, and everything it deletes is deleted.
    ///
    /// # Errors
    /// When the document broke.
    pub fn contains(&mut self, update: &Update) -> Result<bool, ApplyError> {
        Ok(self.gate()?.contains(update))
    }

    /// Applies everything admitted since the last call in one transaction; says whether there was anything.
    ///
    /// # Errors
    /// When the document broke. It is unusable from then on.
    pub fn apply(&mut self) -> Result<bool, ApplyError> {
        if self.failed {
            return Err(ApplyError::Failed);
        }
        if self.queue.is_empty() {
            return Ok(false);
        }
        let applied = self.apply_queue();
        self.failed = applied.is_err();
        applied.map(|()| true)
    }

    fn apply_queue(&mut self) -> Result<(), ApplyError> {
        let queue = std::mem::take(&mut self.queue);
        self.unverified += queue.len();
        #[cfg(feature = "testing")]
        let panics = std::mem::take(&mut self.panics);
        self.prepare_for_subdocuments()?;
        let live = self.wake()?;
        #[cfg(feature = "testing")]
        if panics {
            return crate::live::guarded(|| std::panic::panic_any("a panic was asked for"));
        }
        let mut applied = live.apply(merge(&queue).bytes())?;
        self.gate()?.learn_deleted(&mut applied.deleted);
        self.encoded = None;
        // Comparing takes time in the number of clients, so it is done after about as many updates.
        let due = cfg!(debug_assertions) || self.unverified >= self.state_vector().len().max(64);
        if due {
            self.verify()?;
        }
        Ok(())
    }

    /// When the first subdocument is about to enter, the live document is built anew so that it can hold one.
    fn prepare_for_subdocuments(&mut self) -> Result<(), ApplyError> {
        let needed = self.gate()?.has_subdocuments();
        if let Some(live) = self.live.as_ref().filter(|live| needed && !live.collects_later()) {
            if self.encoded.is_none() {
                self.encoded = Some(Bytes::from(live.diff(&StateVector::new())?));
            }
            self.live = None;
        }
        Ok(())
    }

    /// Compares the live document with what was admitted.
    fn verify(&mut self) -> Result<(), ApplyError> {
        self.unverified = 0;
        match &self.live {
            Some(live) if live.state_vector()? != *self.state_vector() => Err(ApplyError::Diverged),
            _ => Ok(()),
        }
    }

    /// The state vector of everything admitted.
    pub fn state_vector(&self) -> &StateVector {
        self.gate.as_ref().map_or(&self.slept_with, Gate::known)
    }

    /// What a replica with this state vector lacks, as one update.
    ///
    /// # Errors
    /// When the document broke.
    pub fn diff(&mut self, state_vector: &StateVector) -> Result<Bytes, ApplyError> {
        self.apply()?;
        if state_vector.is_empty() {
            return self.encode();
        }
        if let Some(live) = &self.live {
            let diff = live.diff(state_vector);
            self.failed = diff.is_err();
            return diff.map(Bytes::from);
        }
        let stored = self.stored()?;
        Ok(diff(&stored, state_vector))
    }

    /// The whole document as one update; shared until the next change.
    ///
    /// # Errors
    /// When the document broke.
    pub fn encode(&mut self) -> Result<Bytes, ApplyError> {
        self.apply()?;
        if let Some(encoded) = &self.encoded {
            return Ok(encoded.clone());
        }
        let encoded = match self.wake()?.diff(&StateVector::new()) {
            Ok(mut encoded) => {
                // It is kept, so it should not keep the room in which it grew.
                encoded.shrink_to_fit();
                Bytes::from(encoded)
            }
            Err(error) => {
                self.failed = true;
                return Err(error);
            }
        };
        self.size = encoded.len();
        self.encoded = Some(encoded.clone());
        Ok(encoded)
    }

    /// The whole document for storing, checked by decoding it again.
    ///
    /// # Errors
    /// When the document broke, or does not survive being decoded again.
    pub fn snapshot(&mut self) -> Result<Snapshot, ApplyError> {
        let state = self.encode()?;
        let state_vector = self.state_vector().encode();
        if self.live.is_some() && self.verify_encoded(&state).is_err() {
            self.failed = true;
            return Err(ApplyError::Diverged);
        }
        Ok(Snapshot { state, state_vector })
    }

    fn verify_encoded(&mut self, state: &Bytes) -> Result<(), ApplyError> {
        self.verify()?;
        let mut again = Self::load(self.limits, [state.clone()]).map_err(|_| ApplyError::Diverged)?;
        if again.state_vector() != self.state_vector() {
            return Err(ApplyError::Diverged);
        }
        let Some(decoded) = again.live.take() else {
            return Err(ApplyError::Diverged);
        };
        if decoded.diff(&StateVector::new())? == *state {
            return Ok(());
        }
        // Structs may be divided differently and mean the same.
        let content = self.content()?;
        if content.json(None)? == content.of(&decoded).json(None)? {
            return Ok(());
        }
        // All that was admitted is there, or the state vectors would differ. But somebody sent neighbours in an impossible
        // order, which Yjs places differently depending on what arrives first. What everybody who comes from now on
        // gets is what counts.
        self.live = Some(decoded);
        Ok(())
    }

    /// A readable view of the document.
    ///
    /// # Errors
    /// When the document broke.
    pub fn content(&mut self) -> Result<Content<'_>, ApplyError> {
        self.apply()?;
        self.gate()?;
        self.wake()?;
        match (&self.gate, &self.live) {
            (Some(gate), Some(live)) => Ok(Content::new(gate, live)),
            _ => Err(ApplyError::Failed),
        }
    }

    /// Leaves only the encoded state in memory.
    ///
    /// # Errors
    /// When the document broke.
    pub fn sleep(&mut self) -> Result<(), ApplyError> {
        self.encode()?;
        self.verify()?;
        if let Some(gate) = self.gate.take() {
            self.slept_with = gate.known().clone();
        }
        self.live = None;
        self.queue = Vec::new();
        Ok(())
    }

    /// Whether the document is unpacked in memory.
    pub fn is_awake(&self) -> bool {
        self.live.is_some()
    }

    /// About how many bytes the encoded state has; cheap, never an encode.
    pub fn encoded_size_estimate(&self) -> usize {
        self.size
    }

    /// Makes the next [`Document::apply`] fail as if the document library had panicked.
    #[cfg(feature = "testing")]
    pub fn panic_on_next_apply(&mut self) {
        self.panics = true;
    }

    /// The encoded state, parsed.
    fn stored(&self) -> Result<Update, ApplyError> {
        let encoded = self.encoded.clone().ok_or(ApplyError::Failed)?;
        Update::parse(encoded, &Limits::trusted()).map_err(|_| ApplyError::Corrupt)
    }

    /// The gate, built from the encoded state when there is none.
    fn gate(&mut self) -> Result<&mut Gate, ApplyError> {
        if self.failed {
            return Err(ApplyError::Failed);
        }
        if self.gate.is_none() {
            let mut gate = Gate::default();
            match gate.admit(self.stored()?, &Limits::trusted()) {
                Ok(Verdict::New(_) | Verdict::Known) if *gate.known() == self.slept_with => {}
                _ => {
                    self.failed = true;
                    return Err(ApplyError::Corrupt);
                }
            }
            self.slept_with = StateVector::new();
            return Ok(self.gate.insert(gate));
        }
        self.gate.as_mut().ok_or(ApplyError::Failed)
    }

    /// The live document, built from the encoded state when there is none.
    fn wake(&mut self) -> Result<&mut Live, ApplyError> {
        if self.failed {
            return Err(ApplyError::Failed);
        }
        if self.live.is_none() {
            let collects_later = self.gate()?.has_subdocuments();
            let encoded = self.encoded.as_ref().ok_or(ApplyError::Failed)?;
            let mut live = Live::new(collects_later);
            if encoded.as_ref() != EMPTY_UPDATE {
                live.apply(encoded)?;
            }
            return Ok(self.live.insert(live));
        }
        self.live.as_mut().ok_or(ApplyError::Failed)
    }
}

impl std::fmt::Debug for Document {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Document")
            .field("state_vector", self.state_vector())
            .field("queued", &self.queue.len())
            .field("is_awake", &self.is_awake())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

fn offer(
    gate: &mut Gate,
    limits: &Limits,
    part: usize,
    update: Update,
    queue: &mut Vec<Update>,
    early: &mut Vec<(usize, Update, Missing)>,
) -> Result<(), LoadError> {
    match gate
        .admit(update, limits)
        .map_err(|source| LoadError::Inconsistent { part, source })?
    {
        Verdict::New(update) => queue.push(update),
        Verdict::Known => {}
        Verdict::Early(update, missing) => early.push((part, update, missing)),
    }
    Ok(())
}
