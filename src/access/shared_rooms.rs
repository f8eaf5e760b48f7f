//! Shared rooms: what one is, and who may be in it beside what the sources of roles say.
//!
//! A room that its members know by a code is there when the store keeps it (set through REST) or the application's query knows it, until it
//! expires. A user who was removed from it stays out, whatever tokens and sources say, until a backend grants a permission on exactly this
//! room. All of that is decided where roles are, so that it holds for those who are there as well, and when it cannot be found out nobody is
//! let in.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use storage::{PageId, SharedRoom, StoreError};

use super::{
    Access, Decision, Membership,
    answers::{Answer, Question},
};
use crate::{
    auth::Identity,
    rooms::{Refusal, RefusalCode, RoomKind, RoomName},
};

/// How a user who was removed from a room is refused. Programs compare these words.
pub const REMOVED: &str = "REMOVED_FROM_ROOM";

fn removed() -> Refusal {
    Refusal::new(RefusalCode::Forbidden, REMOVED)
}

fn unknown() -> Refusal {
    Refusal::new(RefusalCode::NotFound, "Room not found")
}

fn over() -> Refusal {
    Refusal::new(RefusalCode::NotFound, "Room has expired")
}

fn failed(error: &dyn fmt::Display) -> Refusal {
    tracing::error!(%error, "what a room is cannot be found out; nobody enters it until it can");
    Refusal::unavailable("what the room is cannot be found out now, try again")
}

impl Access {
    /// What a shared room is; `None` when neither the store nor the application knows it.
    ///
    /// # Errors
    /// When that cannot be found out now.
    pub async fn shared_room(&self, room: &RoomName) -> Result<Option<Arc<SharedRoom>>, Refusal> {
        let question = Question::Room(self.stamp(None), room.clone());
        let asking = async || {
            let kept = self.0.store.shared_room(room.as_str()).await;
            let known = match kept.map_err(|error| failed(&error))? {
                Some(kept) => Some(kept),
                None => self.ask_application(room).await?,
            };
            Ok(Answer::Room(known.map(Arc::new)))
        };
        match self.0.answers.get(question, asking).await? {
            Answer::Room(room) => Ok(room),
            Answer::Role(_)
            | Answer::User(..)
            | Answer::Whereabouts(_)
            | Answer::IsRemoved(_)
            | Answer::Drive(_) => Ok(None),
        }
    }

    async fn ask_application(&self, room: &RoomName) -> Result<Option<SharedRoom>, Refusal> {
        let Some((application, query)) = &self.0.rooms else {
            return Ok(None);
        };
        let row = application.row(query, &[room.as_str()]).await;
        let Some([name, max_members, expires_at]) = row.map_err(|error| failed(&error))? else {
            return Ok(None);
        };
        let read = read(max_members, expires_at).map_err(|error| failed(&error))?;
        Ok(Some(SharedRoom {
            room: room.as_str().to_owned(),
            name,
            max_members: read.0,
            expires_at: read.1,
        }))
    }

    /// What somebody may do in a room without a document.
    ///
    /// # Errors
    /// When it is nothing, or cannot be found out.
    pub async fn room_membership(
        &self,
        identity: Arc<Identity>,
        room: &RoomName,
    ) -> Result<Membership, Refusal> {
        let asked = room.asked().ok_or_else(unknown)?;
        self.member(identity, &asked, Some(room)).await
    }

    pub(super) async fn decide_room(
        &self,
        identity: &Identity,
        room: &RoomName,
        asked: &PageId,
        now: SystemTime,
    ) -> Result<Decision, Refusal> {
        if room.kind() != RoomKind::Shared {
            return self.decide(identity, asked, now).await;
        }
        if let Some(user) = &identity.user
            && self.is_removed(user, room).await?
        {
            return Err(removed());
        }
        let mut decision = self.decide(identity, asked, now).await?;
        let known = self.shared_room(room).await?.ok_or_else(unknown)?;
        if known.expires_at.is_some_and(|ends| ends <= now) {
            return Err(over());
        }
        decision.until = [decision.until, known.expires_at].into_iter().flatten().min();
        Ok(decision)
    }

    async fn is_removed(&self, user: &Arc<str>, room: &RoomName) -> Result<bool, Refusal> {
        let question = Question::IsRemoved(self.stamp(Some(user)), user.clone(), room.clone());
        let asking = async || {
            let asked = self.0.store.is_removed(room.as_str(), user).await;
            asked.map(Answer::IsRemoved).map_err(|error| failed(&error))
        };
        match self.0.answers.get(question, asking).await? {
            Answer::IsRemoved(removed) => Ok(removed),
            Answer::Role(_)
            | Answer::User(..)
            | Answer::Whereabouts(_)
            | Answer::Room(_)
            | Answer::Drive(_) => Ok(true),
        }
    }

    /// Keeps a user out of a shared room from now on. Its connections there are sent away by [`Self::send_away`].
    ///
    /// # Errors
    /// When that could not be stored: the user may come back.
    pub async fn keep_out(&self, room: &RoomName, user: &str) -> Result<(), StoreError> {
        self.0.store.remove_from_room(room.as_str(), user).await?;
        self.forget(Some(user));
        Ok(())
    }

    /// Forgets a shared room that a backend has deleted. `false` when it was not kept here.
    ///
    /// # Errors
    /// When that could not be stored.
    pub async fn forget_room(&self, room: &RoomName) -> Result<bool, StoreError> {
        let was_kept = self.0.store.forget_room(room.as_str()).await?;
        self.forget(None);
        Ok(was_kept)
    }
}

/// Reads what an application's query says of members and time. A time is one of PostgreSQL in UTC, one of RFC 3339, or a number of
/// milliseconds since 1970.
fn read(
    max_members: Option<String>,
    expires_at: Option<String>,
) -> Result<(Option<u32>, Option<SystemTime>), String> {
    let max_members = max_members.map(|max| max.trim().parse::<u32>());
    let max_members = max_members
        .transpose()
        .map_err(|_| "max_members is no number".to_owned())?;
    let Some(text) = expires_at else {
        return Ok((max_members, None));
    };
    if let Ok(milliseconds) = text.parse::<u64>() {
        return Ok((
            max_members,
            UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds)),
        ));
    }
    if text == "infinity" {
        return Ok((max_members, None));
    }
    let time = humantime::parse_rfc3339_weak(text.trim_end_matches("+00"));
    let time = time.map_err(|_| format!("expires_at is no time in UTC: {text}"))?;
    Ok((max_members, Some(time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_query_says_is_read_in_the_forms_that_databases_have() {
        let at = |milliseconds| Some(UNIX_EPOCH + Duration::from_millis(milliseconds));
        for (max, ends, expected) in [
            (None, None, Ok((None, None))),
            (Some("5"), Some("1500"), Ok((Some(5), at(1500)))),
            (
                None,
                Some("2000-01-01 00:00:00+00"),
                Ok((None, at(946_684_800_000))),
            ),
            (
                None,
                Some("2000-01-01 00:00:00.25+00"),
                Ok((None, at(946_684_800_250))),
            ),
            (
                None,
                Some("2000-01-01T00:00:00Z"),
                Ok((None, at(946_684_800_000))),
            ),
            (None, Some("infinity"), Ok((None, None))),
            (Some("many"), None, Err(())),
            (None, Some("soon"), Err(())),
            (None, Some("2000-01-01 00:00:00+02"), Err(())),
        ] {
            let found = read(max.map(str::to_owned), ends.map(str::to_owned));
            assert_eq!(found.map_err(drop), expected, "{max:?} {ends:?}");
        }
    }
}
