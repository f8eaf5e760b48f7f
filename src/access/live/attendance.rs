//! Who takes seats and gives them back, for those who show who is there.

use std::sync::Arc;

use storage::PageId;

use crate::{auth::Identity, rooms::Departure};

/// How others see who has taken a seat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Viewer {
    /// The user; `None` for guests.
    pub user: Option<Arc<str>>,
    /// The user's name.
    pub name: Option<Arc<str>>,
    /// Address of a picture of the user.
    pub avatar_url: Option<Arc<str>>,
    /// What the client calls its connection, where it calls it anything.
    pub socket: Option<Arc<str>>,
}

impl Viewer {
    /// How others see a user over a connection.
    pub fn new(identity: &Identity, socket: Option<Arc<str>>) -> Self {
        let shown = |text: &Option<String>| text.as_deref().map(Arc::from);
        Self {
            user: identity.user.clone(),
            name: shown(&identity.profile.name),
            avatar_url: shown(&identity.profile.avatar_url),
            socket,
        }
    }
}

/// Hears of every seat that is taken in the room of a page. Must not wait.
pub trait Attendance: Send + Sync {
    /// Somebody has taken a seat, which has this number.
    fn came(&self, page: &PageId, seat: u64, viewer: Viewer);

    /// A seat was given back, or its holder was sent away. May be said more than once.
    fn went(&self, page: &PageId, seat: u64, departure: Departure);
}
