//! What the store in memory knows of people, as plain tables.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    time::SystemTime,
};

use super::{
    AuditEntry, AuditQuery, EVERYBODY, LastSeen, MAX_FORGOTTEN_AT_ONCE, MAX_MEMORY_AUDIT_ROWS, Permission,
    UserRecord, matching_patterns,
};
use crate::PageId;

/// The rules of [`AccessStore`](super::AccessStore) on plain data: no clock, no waiting.
#[derive(Clone, Debug, Default)]
pub struct AccessTables {
    permissions: BTreeMap<(String, String), Permission>,
    users: BTreeMap<String, UserRecord>,
    audit: VecDeque<(u64, AuditEntry)>,
    audit_rows: u64,
    /// By room and user.
    seen: BTreeMap<(String, String), SystemTime>,
}

impl AccessTables {
    /// See [`AccessStore::permissions_for`](super::AccessStore::permissions_for).
    pub fn permissions_for(&self, user: &str, page: &PageId) -> Vec<Permission> {
        let names = matching_patterns(page).into_iter();
        let keys = names.flat_map(|name| [user, EVERYBODY].map(|user| (name.clone(), user.to_owned())));
        keys.filter_map(|key| self.permissions.get(&key).cloned())
            .collect()
    }

    /// See [`AccessStore::permitted`](super::AccessStore::permitted).
    pub fn permitted(&self, user: &str, limit: usize) -> Vec<String> {
        let own = self.permissions.keys();
        let own = own.filter(|(_, holder)| holder == user || holder == EVERYBODY);
        let names: BTreeSet<_> = own.map(|(name, _)| name.clone()).collect();
        names.into_iter().take(limit).collect()
    }

    /// See [`AccessStore::permissions_on`](super::AccessStore::permissions_on).
    pub fn permissions_on(&self, page: &str, after: Option<&str>, limit: usize) -> Vec<Permission> {
        let start = match after {
            Some(user) => Bound::Excluded((page.to_owned(), user.to_owned())),
            None => Bound::Included((page.to_owned(), String::new())),
        };
        self.permissions
            .range((start, Bound::Unbounded))
            .take_while(|((name, _), _)| name == page)
            .take(limit)
            .map(|(_, permission)| permission.clone())
            .collect()
    }

    /// See [`AccessStore::grant`](super::AccessStore::grant).
    pub fn grant(&mut self, permission: &Permission) {
        let key = (permission.page.clone(), permission.user.clone());
        self.permissions.insert(key, permission.clone());
    }

    /// See [`AccessStore::revoke`](super::AccessStore::revoke).
    pub fn revoke(&mut self, page: &str, user: &str) -> bool {
        self.permissions
            .remove(&(page.to_owned(), user.to_owned()))
            .is_some()
    }

    /// Revokes all permissions on exactly this page.
    pub fn forget_page(&mut self, page: &str) {
        self.permissions.retain(|(on, _), _| on != page);
    }

    /// Gives the permissions on a page to another id, where users have none on that.
    pub(crate) fn rename_page(&mut self, from: &str, to: &str) {
        let all = std::mem::take(&mut self.permissions);
        let (moving, mut staying): (BTreeMap<_, _>, _) = all.into_iter().partition(|((on, _), _)| on == from);
        for ((_, user), permission) in moving {
            let permission = Permission {
                page: to.to_owned(),
                ..permission
            };
            staying.entry((to.to_owned(), user)).or_insert(permission);
        }
        self.permissions = staying;
    }

    /// See [`AccessStore::user`](super::AccessStore::user).
    pub fn user(&self, user: &str) -> UserRecord {
        self.users.get(user).copied().unwrap_or_default()
    }

    /// See [`AccessStore::sign_out`](super::AccessStore::sign_out).
    pub fn sign_out(&mut self, user: &str, at: SystemTime) -> u64 {
        let record = self.users.entry(user.to_owned()).or_default();
        let version = record.token_version.unwrap_or(0).saturating_add(1);
        record.token_version = Some(version);
        record.signed_out_at = record.signed_out_at.max(Some(at));
        version
    }

    /// See [`AccessStore::block`](super::AccessStore::block).
    pub fn block(&mut self, user: &str, blocked: bool) {
        self.users.entry(user.to_owned()).or_default().blocked = blocked;
    }

    /// See [`AccessStore::see`](super::AccessStore::see).
    pub fn see(&mut self, seen: &[LastSeen]) {
        for LastSeen { room, user, at } in seen {
            let known = self.seen.entry((room.clone(), user.clone())).or_insert(*at);
            *known = (*known).max(*at);
        }
    }

    /// See [`AccessStore::seen`](super::AccessStore::seen).
    pub fn seen(&self, room: &str, limit: usize) -> Vec<LastSeen> {
        let start = Bound::Included((room.to_owned(), String::new()));
        let of_room = self.seen.range((start, Bound::Unbounded));
        let of_room = of_room.take_while(|((name, _), _)| name == room);
        let mut seen: Vec<_> = of_room
            .map(|((room, user), at)| LastSeen {
                room: room.clone(),
                user: user.clone(),
                at: *at,
            })
            .collect();
        seen.sort_by(|one, other| other.at.cmp(&one.at).then_with(|| one.user.cmp(&other.user)));
        seen.truncate(limit);
        seen
    }

    /// See [`AccessStore::forget_seen`](super::AccessStore::forget_seen).
    pub fn forget_seen(&mut self, room: &str, user: &str) {
        self.seen.remove(&(room.to_owned(), user.to_owned()));
    }

    /// See [`AccessStore::audit`](super::AccessStore::audit). The newest [`MAX_MEMORY_AUDIT_ROWS`] are kept.
    pub fn audit(&mut self, entries: &[AuditEntry]) {
        for entry in entries {
            self.audit_rows += 1;
            self.audit.push_back((self.audit_rows, entry.clone()));
        }
        let surplus = self.audit.len().saturating_sub(MAX_MEMORY_AUDIT_ROWS);
        self.audit.drain(..surplus);
    }

    /// See [`AccessStore::audited`](super::AccessStore::audited).
    pub fn audited(&self, query: &AuditQuery) -> Vec<(u64, AuditEntry)> {
        let is =
            |wanted: &Option<String>, value: Option<&String>| wanted.is_none() || wanted.as_ref() == value;
        let wanted = |(number, entry): &&(u64, AuditEntry)| {
            query.before.is_none_or(|before| *number < before)
                && is(&query.user, entry.user.as_ref())
                && is(&query.action, Some(&entry.action))
                && is(&query.outcome, Some(&entry.outcome))
                && is(&query.page, entry.page.as_ref())
                && query.from.is_none_or(|from| entry.at >= from)
                && query.to.is_none_or(|to| entry.at < to)
        };
        self.audit
            .iter()
            .rev()
            .filter(wanted)
            .take(query.limit)
            .cloned()
            .collect()
    }

    /// See [`AccessStore::forget_audit`](super::AccessStore::forget_audit).
    pub fn forget_audit(&mut self, before: SystemTime) -> u64 {
        let kept = self.audit.len();
        let mut left = MAX_FORGOTTEN_AT_ONCE;
        self.audit.retain(|(_, entry)| {
            let stays = entry.at >= before || left == 0;
            left -= usize::from(!stays);
            stays
        });
        (kept - self.audit.len()) as u64
    }
}
