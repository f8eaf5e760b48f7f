//! What is seen of a room's presence from outside, and what is shown there from outside: the way between awareness and programs that know
//! none.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crdt::ClientId;
use storage::PageId;

use super::MemberId;

/// The member that shows what the server shows itself. It has no seat.
pub const SERVER: MemberId = MemberId(0);

/// What has changed in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Clients with the member whose they are and what they show; `None` for one that has gone. None of them is shown by the server.
    pub clients: BTreeMap<ClientId, Option<(MemberId, Arc<str>)>>,
    /// These are all that there are, and nothing is shown yet of what was shown before.
    pub is_whole: bool,
    /// The document has changed.
    pub is_edited: bool,
}

/// States that the server shows by their clients; `None` for one that has gone.
pub type ShownStates = BTreeMap<ClientId, Option<Arc<str>>>;

/// Hears what is to be seen in rooms that it looks at. Must not wait.
pub trait Onlooker: Send + Sync {
    /// Something has changed in the room of a page.
    fn saw(&self, page: &PageId, sight: Sight);
}

/// What is wanted of a room by who looks at it, in this order.
#[derive(Default)]
pub(super) struct Wanted {
    /// Whoever has looked at it does not any more.
    pub(super) is_over: bool,
    /// Who looks at it from now on.
    pub(super) onlooker: Option<Arc<dyn Onlooker>>,
    /// What is shown. Bounded by the clients that the onlooker has.
    pub(super) shown: ShownStates,
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted")
            .field("shown", &self.shown.len())
            .finish_non_exhaustive()
    }
}
