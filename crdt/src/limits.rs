//! How much one message or document may ask of us.

/// Bounds on what comes from outside. Sizes in bytes are bounded before, where frames are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many client ids may add something new in one update: each takes about 200 bytes of memory, and as few as seven on the wire.
    pub max_clients_per_update: usize,
    /// How many levels of shared types may be nested. Programs walk them recursively.
    pub max_nesting: u16,
    /// How many levels arrays and maps inside one plain value may be nested, for the same reason.
    pub max_any_depth: u16,
    /// How many bytes of updates may wait for what they build on, with what is noted about each.
    pub max_pending_bytes: usize,
    /// What contradicts itself is refused. Not so what is stored: it was accepted once.
    pub refuses_contradictions: bool,
    /// Deleted content stays, for programs that show earlier versions.
    pub keeps_deleted: bool,
    /// How many clients a state vector from outside may name: each takes about 50 bytes of memory, and as few as two on the wire.
    pub max_clients_per_state_vector: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_clients_per_update: 100_000,
            max_nesting: 512,
            max_any_depth: 1000,
            max_pending_bytes: 16 << 20,
            refuses_contradictions: true,
            keeps_deleted: false,
            max_clients_per_state_vector: 1 << 20,
        }
    }
}

impl Limits {
    /// For bytes that have passed once: only what keeps the program itself safe.
    pub(crate) const fn trusted() -> Self {
        Self {
            max_clients_per_update: usize::MAX,
            max_nesting: u16::MAX,
            max_any_depth: u16::MAX,
            max_pending_bytes: usize::MAX,
            refuses_contradictions: false,
            keeps_deleted: false,
            max_clients_per_state_vector: usize::MAX,
        }
    }

    /// For what is stored: it was within the limits when it came in, but all changes of all time come at once.
    pub const fn for_stored(self) -> Self {
        Self {
            max_clients_per_update: usize::MAX,
            max_pending_bytes: usize::MAX,
            refuses_contradictions: false,
            max_clients_per_state_vector: usize::MAX,
            ..self
        }
    }
}
