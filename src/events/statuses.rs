//! Who of a drive or a workspace is there, idle or away. Pure: time is an argument.
//!
//! A user counts by its liveliest connection, and for [`GRACE`] after the last one broke as it was before. Whoever joins hears of all
//! members at once, the others of those who have changed, at most once a second. Members are those who have ever joined, with the time when
//! they were last there; that time is to be stored at most once a minute.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use serde::Serialize;

use super::{GRACE, Letters, SocketId, event_text};
use crate::rooms::{Departure, RoomKind, RoomName};

/// Shortest time between two tellings.
const WINDOW: Duration = Duration::from_secs(1);
/// Shortest time between two times of a user that are stored.
const STORED_EVERY: Duration = Duration::from_secs(60);
/// Members that are read from the store, at most.
pub(super) const MAX_KNOWN: usize = 1000;

/// How a member is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It does something.
    Online,
    /// It is connected and does nothing.
    Idle,
    /// It is not connected.
    Offline,
}

/// The members of one drive or workspace.
#[derive(Debug, Default)]
pub struct Statuses {
    members: BTreeMap<Arc<str>, Member>,
    /// Those who are told, and whose they are.
    sockets: BTreeMap<SocketId, Arc<str>>,
    newcomers: BTreeSet<SocketId>,
    /// Members whose status may be another than was told.
    changed: BTreeSet<Arc<str>>,
    from: Option<Instant>,
    graces: BTreeSet<(Instant, Arc<str>)>,
    /// When the time of a member is to be stored.
    writes: BTreeSet<(Instant, Arc<str>)>,
}

#[derive(Debug)]
struct Member {
    /// Whether each of its connections is idle.
    idle: BTreeMap<SocketId, bool>,
    until: Option<Instant>,
    seen: SystemTime,
    told: Status,
    written: Option<Instant>,
    write_at: Option<Instant>,
    /// It may not be there any more, and is forgotten when that has been told.
    is_gone: bool,
}

impl Member {
    fn away(seen: SystemTime) -> Self {
        Self {
            idle: BTreeMap::new(),
            until: None,
            seen,
            told: Status::Offline,
            written: None,
            write_at: None,
            is_gone: false,
        }
    }

    fn status(&self) -> Status {
        if self.idle.values().any(|is_idle| !is_idle) {
            Status::Online
        } else if self.idle.is_empty() {
            Status::Offline
        } else {
            Status::Idle
        }
    }
}

impl Statuses {
    /// Members of before, with the times when they were last there.
    pub fn known(&mut self, members: impl IntoIterator<Item = (Arc<str>, SystemTime)>) {
        for (user, seen) in members {
            self.members.entry(user).or_insert_with(|| Member::away(seen));
        }
    }

    /// A user's connection has come, and hears of the members from now on. O(log + connections of the user).
    pub fn came(
        &mut self,
        (now, at): (Instant, SystemTime),
        socket: SocketId,
        user: &Arc<str>,
        is_idle: bool,
    ) {
        if self.sockets.insert(socket, user.clone()).is_some() {
            return;
        }
        self.newcomers.insert(socket);
        let member = self
            .members
            .entry(user.clone())
            .or_insert_with(|| Member::away(at));
        if let Some(until) = member.until.take() {
            self.graces.remove(&(until, user.clone()));
            member.idle.clear();
        }
        member.idle.insert(socket, is_idle);
        (member.seen, member.is_gone) = (at, false);
        self.changed.insert(user.clone());
        self.store_soon(now, user);
    }

    /// A connection has gone. O(log).
    pub fn went(&mut self, (now, at): (Instant, SystemTime), socket: SocketId, departure: Departure) {
        let Some(user) = self.sockets.remove(&socket) else {
            return;
        };
        self.newcomers.remove(&socket);
        let Some(member) = self.members.get_mut(&user) else {
            return;
        };
        member.seen = at;
        if departure == Departure::Lost && member.idle.len() == 1 {
            let until = now + GRACE;
            member.until = Some(until);
            self.graces.insert((until, user.clone()));
        } else {
            member.idle.remove(&socket);
            self.changed.insert(user.clone());
        }
        self.store_soon(now, &user);
    }

    /// A user may not be there any more: it is no member as soon as none of its connections is there. Gives whether that is so.
    pub fn forget(&mut self, user: &Arc<str>) -> bool {
        let Some(member) = self.members.get_mut(user) else {
            return true;
        };
        member.is_gone = member.idle.is_empty();
        if member.is_gone {
            // Looked at when the others are told, whether or not they know already that it is away.
            self.changed.insert(user.clone());
        }
        if let Some(at) = member.write_at.take_if(|_| member.is_gone) {
            self.writes.remove(&(at, user.clone()));
        }
        member.is_gone
    }

    /// A connection does nothing, or does something again.
    pub fn set_idle(&mut self, at: SystemTime, socket: SocketId, is_idle: bool) {
        if let Some(user) = self.sockets.get(&socket)
            && let Some(member) = self.members.get_mut(user)
        {
            if !is_idle {
                member.seen = at;
            }
            let before = member.idle.insert(socket, is_idle);
            if before != Some(is_idle) {
                self.changed.insert(user.clone());
            }
        }
    }

    fn store_soon(&mut self, now: Instant, user: &Arc<str>) {
        if let Some(member) = self.members.get_mut(user)
            && member.write_at.is_none()
        {
            let at = member
                .written
                .map_or(now, |written| now.max(written + STORED_EVERY));
            member.write_at = Some(at);
            self.writes.insert((at, user.clone()));
        }
    }

    /// The times that are to be stored now. O(what is due · log).
    pub fn take_writes(&mut self, now: Instant, at: SystemTime) -> Vec<(Arc<str>, SystemTime)> {
        let mut due = Vec::new();
        while let Some((when, user)) = self.writes.first().cloned()
            && when <= now
        {
            self.writes.pop_first();
            let Some(member) = self.members.get_mut(&user) else {
                continue;
            };
            (member.write_at, member.written) = (None, Some(now));
            let is_there = !member.idle.is_empty() && member.until.is_none();
            if is_there {
                member.seen = at;
            }
            due.push((user.clone(), member.seen));
            if is_there {
                self.store_soon(now, &user);
            }
        }
        due
    }

    /// When something is to be told or stored. O(1).
    pub fn next_deadline(&self) -> Option<Instant> {
        let told = (!self.changed.is_empty()).then_some(self.from).flatten();
        let grace = self.graces.first().map(|(until, _)| *until);
        let write = self.writes.first().map(|(at, _)| *at);
        [told, grace, write].into_iter().flatten().min()
    }

    /// Whether nobody is there, and everything is stored.
    pub fn is_idle(&self) -> bool {
        self.sockets.is_empty() && self.graces.is_empty() && self.writes.is_empty()
    }

    /// Tells what is due. O(members) when somebody has joined, and else O(sockets + changes).
    pub fn tell(&mut self, now: Instant, room: &RoomName, told: &mut Letters) {
        while let Some((until, user)) = self.graces.first().cloned()
            && until <= now
        {
            self.graces.pop_first();
            if let Some(member) = self.members.get_mut(&user) {
                member.until = None;
                member.idle.clear();
                self.changed.insert(user);
            }
        }
        let newcomers = std::mem::take(&mut self.newcomers);
        if !newcomers.is_empty() {
            let text = self.text(room, self.members.keys());
            told.extend(newcomers.iter().map(|socket| (*socket, text.clone())));
        }
        if self.changed.is_empty() || self.from.is_some_and(|from| now < from) {
            return;
        }
        let mut changed = std::mem::take(&mut self.changed);
        let gone = |user: &&Arc<str>| self.members.get(*user).is_some_and(|member| member.is_gone);
        let gone: Vec<_> = changed.iter().filter(gone).cloned().collect();
        changed.retain(|user| {
            let member = self.members.get_mut(user);
            member.is_some_and(|member| {
                let status = member.status();
                std::mem::replace(&mut member.told, status) != status
            })
        });
        if !changed.is_empty() {
            self.from = Some(now + WINDOW);
            let text = self.text(room, changed.iter());
            let others = self.sockets.keys().filter(|socket| !newcomers.contains(socket));
            told.extend(others.map(|socket| (*socket, text.clone())));
        }
        for user in gone {
            self.members.remove(&user);
        }
    }

    fn text<'a>(&'a self, room: &'a RoomName, users: impl Iterator<Item = &'a Arc<str>>) -> Bytes {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Entry<'a> {
            user_id: &'a str,
            status: Status,
            last_seen: String,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct All<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            drive_id: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            workspace_id: Option<&'a str>,
            members: Vec<Entry<'a>>,
        }
        let members = users.filter_map(|user| {
            let member = self.members.get(user)?;
            Some(Entry {
                user_id: user,
                status: member.status(),
                last_seen: humantime::format_rfc3339_millis(member.seen).to_string(),
            })
        });
        let is_drive = room.kind() == RoomKind::Drive;
        let all = All {
            drive_id: is_drive.then(|| room.id()),
            workspace_id: (!is_drive).then(|| room.id()),
            members: members.collect(),
        };
        let name = match is_drive {
            true => "presence:drive",
            false => "presence:workspace",
        };
        event_text(name, &all)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    struct Stage {
        statuses: Statuses,
        room: RoomName,
        begin: Instant,
        now: Instant,
    }

    impl Stage {
        fn new() -> Self {
            let now = crate::events::ticker::now();
            Self {
                statuses: Statuses::default(),
                room: RoomName::parse("drive:d").expect("a room"),
                begin: now,
                now,
            }
        }

        fn at(&self) -> (Instant, SystemTime) {
            (self.now, SystemTime::UNIX_EPOCH + (self.now - self.begin))
        }

        fn comes(&mut self, socket: u64, user: &str) {
            self.statuses
                .came(self.at(), SocketId(socket), &user.into(), false);
        }

        fn goes(&mut self, socket: u64, departure: Departure) {
            self.statuses.went(self.at(), SocketId(socket), departure);
        }

        fn idles(&mut self, socket: u64, is_idle: bool) {
            self.statuses.set_idle(self.at().1, SocketId(socket), is_idle);
        }

        fn passes(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }

        /// What a socket hears: users with their statuses.
        fn hears(&mut self, socket: u64) -> Vec<Vec<(String, String)>> {
            let mut told = Letters::new();
            self.statuses.tell(self.now, &self.room, &mut told);
            let told = told.into_iter().filter(|(to, _)| *to == SocketId(socket));
            told.map(|(_, text)| {
                let (name, body): (String, Json) = serde_json::from_slice(&text[2..]).expect("an event");
                assert_eq!((name.as_str(), &body["driveId"]), ("presence:drive", &json!("d")));
                let text = |value: &Json| value.as_str().expect("a text").to_owned();
                let members = body["members"].as_array().expect("a list").iter();
                members
                    .map(|member| (text(&member["userId"]), text(&member["status"])))
                    .collect()
            })
            .collect()
        }

        fn writes(&mut self) -> Vec<(String, u64)> {
            let (now, at) = self.at();
            let writes = self.statuses.take_writes(now, at).into_iter();
            writes
                .map(|(user, at)| {
                    let since = at.duration_since(SystemTime::UNIX_EPOCH).expect("later");
                    (user.to_string(), since.as_secs())
                })
                .collect()
        }
    }

    fn members(members: &[(&str, &str)]) -> Vec<Vec<(String, String)>> {
        let members = members
            .iter()
            .map(|(user, status)| ((*user).to_owned(), (*status).to_owned()));
        vec![members.collect()]
    }

    #[test]
    fn a_newcomer_hears_of_all_and_the_others_of_who_has_changed() {
        let mut stage = Stage::new();
        stage.statuses.known([("cleo".into(), SystemTime::UNIX_EPOCH)]);
        stage.comes(1, "ada");
        let heard = stage.hears(1);
        assert_eq!(heard, members(&[("ada", "online"), ("cleo", "offline")]));
        stage.writes();
        stage.passes(1);
        stage.comes(2, "ben");
        assert_eq!(stage.hears(1), members(&[("ben", "online")]));
        stage.comes(3, "cleo");
        stage.goes(3, Departure::Clean);
        stage.idles(2, true);
        assert_eq!(
            stage.hears(1),
            Vec::<Vec<_>>::new(),
            "so soon after the last time"
        );
        assert_eq!(
            stage.statuses.next_deadline(),
            Some(stage.now),
            "the times of two are to be stored"
        );
        stage.writes();
        assert_eq!(stage.statuses.next_deadline(), Some(stage.now + WINDOW));
        stage.passes(1);
        assert_eq!(
            stage.hears(1),
            members(&[("ben", "idle")]),
            "who came and went is no change"
        );
    }

    #[test]
    fn the_liveliest_connection_counts_and_a_lost_one_has_a_grace() {
        let mut stage = Stage::new();
        stage.comes(9, "watcher");
        stage.comes(1, "ada");
        stage.comes(2, "ada");
        stage.hears(9);
        stage.passes(1);
        stage.idles(1, true);
        assert_eq!(stage.hears(9), Vec::<Vec<_>>::new(), "another window is in use");
        stage.idles(2, true);
        assert_eq!(stage.hears(9), members(&[("ada", "idle")]));
        stage.passes(1);
        stage.goes(1, Departure::Lost);
        stage.goes(2, Departure::Lost);
        assert_eq!(stage.hears(9), Vec::<Vec<_>>::new());
        stage.passes(2);
        stage.comes(3, "ada");
        assert_eq!(stage.hears(9), members(&[("ada", "online")]));
        stage.goes(3, Departure::Lost);
        stage.passes(2);
        assert_eq!(stage.hears(9), Vec::<Vec<_>>::new());
        stage.passes(1);
        assert_eq!(stage.hears(9), members(&[("ada", "offline")]));
    }

    #[test]
    fn who_is_known_to_be_away_and_may_not_come_back_is_forgotten() {
        let mut stage = Stage::new();
        stage.comes(9, "watcher");
        stage.comes(1, "eve");
        stage.hears(9);
        stage.passes(1);
        stage.goes(1, Departure::Clean);
        assert_eq!(stage.hears(9), members(&[("eve", "offline")]));
        assert!(stage.statuses.forget(&"eve".into()));
        stage.passes(1);
        assert_eq!(stage.hears(9), Vec::<Vec<_>>::new(), "that is known");
        stage.comes(3, "ada");
        assert_eq!(
            stage.hears(3),
            members(&[("ada", "online"), ("watcher", "online")])
        );
    }

    #[test]
    fn whoever_may_not_be_there_any_more_is_told_to_be_away_and_forgotten() {
        let mut stage = Stage::new();
        stage.comes(9, "watcher");
        stage.comes(1, "eve");
        stage.comes(2, "eve");
        stage.hears(9);
        stage.writes();
        stage.passes(1);
        stage.goes(1, Departure::Clean);
        assert!(
            !stage.statuses.forget(&"eve".into()),
            "she is there over another connection"
        );
        stage.goes(2, Departure::Clean);
        assert!(stage.statuses.forget(&"eve".into()));
        assert_eq!(stage.hears(9), members(&[("eve", "offline")]));
        stage.passes(60);
        assert_eq!(stage.writes(), [("watcher".to_owned(), 61)]);
        stage.comes(3, "ada");
        assert_eq!(
            stage.hears(3),
            members(&[("ada", "online"), ("watcher", "online")])
        );
    }

    #[test]
    fn a_time_is_stored_at_once_and_then_once_a_minute_for_as_long_as_somebody_is_there() {
        let mut stage = Stage::new();
        stage.comes(1, "ada");
        assert_eq!(stage.writes(), [("ada".to_owned(), 0)]);
        for _ in 0..59 {
            stage.passes(1);
            stage.goes(1, Departure::Clean);
            stage.comes(1, "ada");
            assert_eq!(stage.writes(), []);
        }
        stage.passes(1);
        assert_eq!(stage.writes(), [("ada".to_owned(), 60)]);
        stage.passes(30);
        stage.goes(1, Departure::Clean);
        stage.passes(30);
        assert!(!stage.statuses.is_idle());
        assert_eq!(stage.writes(), [("ada".to_owned(), 90)], "when it went");
        stage.hears(1);
        assert!(stage.statuses.is_idle());
        assert_eq!(stage.statuses.next_deadline(), None);
    }
}
