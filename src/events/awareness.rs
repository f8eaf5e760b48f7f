//! The way from presence at pages to the awareness of their rooms, and to the readers that know where in a text a cursor is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use crdt::{ClientId, Format, Place};
use storage::PageId;
use tokio::sync::Semaphore;

use super::{
    Presence,
    mirror::{Change, Cost, Question, Turn},
    states,
    ticker::now,
};
use crate::{
    reader::Readers,
    rooms::{Onlooker, Registry, RoomName, Sight},
};

/// Questions that readers are asked about cursors at the same time. They have more to do than that.
const MAX_ASKING: usize = 4;

/// What awareness is reached by. Clones reach the same.
#[derive(Clone)]
pub(super) struct AwarenessLink {
    registry: Registry,
    readers: Readers,
    default_format: Format,
    asking: Arc<Semaphore>,
    presence: Weak<Presence>,
}

/// What is to be seen in the awareness of a page, read.
pub(super) struct Seen {
    pub(super) clients: BTreeMap<ClientId, Change>,
    pub(super) is_whole: bool,
    pub(super) is_edited: bool,
}

impl AwarenessLink {
    /// The way to the awareness of the rooms of a registry, for presence.
    pub(super) fn new(
        registry: Registry,
        readers: Readers,
        default_format: Format,
        presence: &Arc<Presence>,
    ) -> Self {
        Self {
            registry,
            readers,
            default_format,
            asking: Arc::new(Semaphore::new(MAX_ASKING)),
            presence: Arc::downgrade(presence),
        }
    }

    /// Presence looks at the awareness of a page from now on, or does not any more.
    pub(super) fn watch(&self, room: &RoomName, is_watched: bool) {
        let Ok(page) = PageId::new(room.id()) else { return };
        match (is_watched, self.presence.upgrade()) {
            (true, Some(presence)) => self.registry.watch(&page, Some(presence)),
            (true, None) | (false, _) => self.registry.watch(&page, None),
        }
    }

    /// Does what is to be done at a page, without waiting for anything.
    pub(super) fn take(&self, room: &RoomName, turn: Turn) {
        let Turn { states, question } = turn;
        let Ok(page) = PageId::new(room.id()) else { return };
        if !states.is_empty() {
            self.registry.show(&page, states);
        }
        if let Some(question) = question {
            tokio::spawn(self.clone().ask(page, room.clone(), question));
        }
    }

    async fn ask(self, page: PageId, room: RoomName, question: Question) {
        let answer = self.answer(&page, question.places()).await;
        if let Some(presence) = self.presence.upgrade() {
            presence.answered(&room, question, answer);
        }
    }

    /// The other form of places, as the page is now. `None` when that cannot be found out now.
    async fn answer(&self, page: &PageId, places: Vec<Place>) -> Option<(Vec<Option<Place>>, Cost)> {
        let _turn = self.asking.acquire().await.ok()?;
        let since = now();
        // Whether it is stored is nothing to a cursor.
        let whole = self.registry.look(page, |room| room.document().encode()).await?;
        let whole = whole.ok()?;
        let bytes = whole.len() as u64;
        let places = self.readers.places(page, whole, self.default_format, &places);
        match places.await {
            Ok(places) => {
                let time = now().saturating_duration_since(since);
                Some((places, Cost { time, bytes }))
            }
            Err(error) => {
                tracing::debug!(%page, %error, "cursors are not shown to programs of the other kind");
                None
            }
        }
    }
}

impl Onlooker for Presence {
    fn saw(&self, page: &PageId, sight: Sight) {
        let Sight {
            clients,
            is_whole,
            is_edited,
        } = sight;
        // Read before anything is locked.
        let read = |shown: Option<(_, Arc<str>)>| {
            let (member, state): (crate::rooms::MemberId, _) = shown?;
            let seen = states::read(&state);
            Some((member.0, state, seen))
        };
        let clients = clients.into_iter();
        let seen = Seen {
            clients: clients.map(|(client, shown)| (client, read(shown))).collect(),
            is_whole,
            is_edited,
        };
        self.see(&RoomName::of_page(page), seen);
    }
}
