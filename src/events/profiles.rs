//! The vocabularies that are spoken: which application an event is of, and what is done with it.

use std::{fmt, str::FromStr, sync::Arc};

use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};

use super::{
    Answer, Broadcast, Call, EventServices, EventSocket, Told, components, gestures, inbox, indexer,
    not_found, pagespace, patio,
};
use crate::{
    protocols::events::is_of_documents,
    rooms::{Departure, Refusal, RoomName},
};

/// The vocabulary of one application.
pub struct Profile {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Whether an event is one of its own.
    pub speaks: fn(&str) -> bool,
    /// Whether an event enters rooms, and so may say up to where its author has heard of them.
    pub enters: fn(&str) -> bool,
    /// A client has connected.
    pub connected: fn(&EventSocket),
    /// Does what an event wants. Events of a socket are done one after the other.
    pub handle: fn(Arc<EventSocket>, Call) -> BoxFuture<'static, Answer>,
    /// Does what an event of a backend wants, where that is more than to be told.
    pub broadcast: fn(&EventServices, &Broadcast) -> Option<BroadcastWork>,
    /// Says what is wrong with what an event of a backend wants done, before anything is done.
    pub check: fn(&Broadcast) -> Result<(), Refusal>,
    /// Tells a client that does not wait for an answer why its event was refused, in the application's own words.
    pub refused: fn(&EventSocket, &Call, &Refusal),
    /// The field of acknowledgements that lists kept events: it is the text of JSON, which is written byte for byte.
    pub lists: Option<&'static str>,
    /// Adds to the body of an acknowledgement what the application's clients look for beside `ok`.
    pub answers: fn(&EventSocket, &Call, &Answer, &mut Json),
    /// A client was sent out of a room, and has not been told yet.
    pub removed: fn(&EventSocket, &RoomName, &Refusal),
    /// A client has come back after the loss of its connection, and is in its rooms again.
    pub returned: fn(Arc<EventSocket>) -> BoxFuture<'static, ()>,
    /// A client's connection has ended. Also called for one whose end was told before.
    pub disconnected: fn(&EventSocket, Departure),
}

/// What an event of a backend has done.
pub type BroadcastWork = BoxFuture<'static, Result<Told, Refusal>>;

impl Profile {
    /// One that speaks nothing, for others to be made of.
    pub(super) const SILENT: Self = Self {
        name: "",
        speaks: |_| false,
        enters: |_| false,
        connected: |_| {},
        handle: |_, _| Box::pin(async { Err(not_found("there is no such event")) }),
        broadcast: |_, _| None,
        check: |_| Ok(()),
        refused: |socket, call, refusal| {
            let body =
                json!({ "event": call.name, "code": refusal.code.as_str(), "message": refusal.message });
            socket.tell("error", &body);
        },
        lists: None,
        answers: |_, _, _, _| {},
        removed: |_, _, _| {},
        returned: |_| Box::pin(async {}),
        disconnected: |_, _| {},
    };
}

/// All vocabularies that there are.
static ALL: [&Profile; 4] = [
    &pagespace::PROFILE,
    &patio::PROFILE,
    &indexer::PROFILE,
    &components::PROFILE,
];

/// Vocabularies of the server's own, which are always spoken.
static OWN: [&Profile; 2] = [&inbox::PROFILE, &gestures::PROFILE];

/// The vocabularies that are spoken, as they are configured: names separated by commas.
#[derive(Clone)]
pub struct Profiles(Arc<[&'static Profile]>);

/// There is no profile of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no profile `{0}`; there are {all}", all = names())]
pub struct UnknownProfile(String);

fn names() -> String {
    ALL.map(|profile| profile.name).join(", ")
}

impl Default for Profiles {
    fn default() -> Self {
        Self(ALL.into())
    }
}

impl FromStr for Profiles {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, UnknownProfile> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let profiles = names.map(|name| {
            let found = ALL.iter().find(|profile| profile.name == name).copied();
            found.ok_or_else(|| UnknownProfile(name.to_owned()))
        });
        profiles.collect::<Result<_, _>>().map(Self)
    }
}

impl Profiles {
    /// The profile that an event is of.
    pub fn of(&self, event: &str) -> Option<&'static Profile> {
        let mut all = self.0.iter().chain(&OWN);
        all.find(|profile| (profile.speaks)(event)).copied()
    }

    /// Whether an event is one of the server's own or of any vocabulary that there is.
    pub fn is_known(event: &str) -> bool {
        let mut all = ALL.iter().chain(&OWN);
        is_of_documents(event) || all.any(|profile| (profile.speaks)(event))
    }

    /// What an event of a backend wants done, where that is more than to be told.
    pub fn broadcast(&self, services: &EventServices, broadcast: &Broadcast) -> Option<BroadcastWork> {
        self.0
            .iter()
            .find_map(|profile| (profile.broadcast)(services, broadcast))
    }

    /// Says what is wrong with what an event of a backend wants done.
    ///
    /// # Errors
    /// When it cannot be done, whatever is there.
    pub fn check(&self, broadcast: &Broadcast) -> Result<(), Refusal> {
        self.0.iter().try_for_each(|profile| (profile.check)(broadcast))
    }

    /// A client has connected.
    pub fn connected(&self, socket: &EventSocket) {
        for profile in self.0.iter() {
            (profile.connected)(socket);
        }
    }

    /// A client was sent out of a room.
    pub fn removed(&self, socket: &EventSocket, room: &RoomName, refusal: &Refusal) {
        for profile in self.0.iter() {
            (profile.removed)(socket, room, refusal);
        }
    }

    /// A client has come back after the loss of its connection.
    pub async fn returned(&self, socket: &Arc<EventSocket>) {
        for profile in self.0.iter() {
            (profile.returned)(socket.clone()).await;
        }
    }

    /// A client's connection has ended.
    pub fn disconnected(&self, socket: &EventSocket, departure: Departure) {
        for profile in self.0.iter() {
            (profile.disconnected)(socket, departure);
        }
    }
}

impl fmt::Debug for Profiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|profile| profile.name);
        formatter.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_named_in_the_configuration() {
        assert_eq!(
            format!("{:?}", Profiles::default()),
            r#"["pagespace", "patio", "indexer", "components"]"#
        );
        let none: Profiles = "".parse().expect("none");
        assert!(none.of("join_channel").is_none());
        assert!(none.of("typing_start").is_some(), "it is of documents");
        let one: Profiles = " pagespace ,".parse().expect("one");
        assert!(one.of("join_channel").is_some());
        let unknown = "pagespace,pagespcae".parse::<Profiles>().err();
        assert_eq!(unknown, Some(UnknownProfile("pagespcae".to_owned())));
    }
}
