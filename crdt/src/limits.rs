//! How much one message or document may ask of us.

/// Bounds on what comes from outside. Sizes in bytes are bounded before, where frames are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many client ids may add something new in one update. Yjs places concurrent insertions in time quadratic
    /// in the number of clients that insert at one place.
    pub max_clients_per_update: usize,
    /// How many levels of shared types may be nested. The document library walks them recursively.
    pub max_nesting: u16,
    /// How many levels arrays and maps inside one plain value may be nested, for the same reason.
    pub max_any_depth: u16,
    /// How many clients a state vector from outside may name.
    pub max_clients_per_state_vector: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_clients_per_update: 4096,
            max_nesting: 512,
            max_any_depth: 64,
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
            max_clients_per_state_vector: usize::MAX,
        }
    }

    /// For what is stored: it was within the limits when it came in, but all changes of all time come at once.
    pub const fn for_stored(self) -> Self {
        Self {
            max_clients_per_update: usize::MAX,
            ..self
        }
    }
}
