//! What the SQL stores read, row by row, and the values made of it.

use std::{
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde_json::Value;

use crate::{
    AddedVersion, AuditEntry, EventId, Found, Generation, HistoryCursor, HistoryRecord, IdRange, LastSeen,
    LoggedUpdate, NewVersion, OldHistory, PageChange, PageChanges, PageId, PageIdError, PageRecord, Past,
    Permission, ReadEvent, Seq, SharedRoom, Snapshot, StoreError, StoredPage, StoredSnapshot, UserRecord,
    Version, VersionKind, columns::columns,
};

columns! {
    /// The head of a page's log.
    pub(crate) struct HeadRow {
        page_id: String,
        generation: String,
        seq: i64,
        size_bytes: Option<i64>,
        created_ms: i64,
        updated_ms: i64,
        deleted_ms: Option<i64>,
    }
}

columns! {
    /// A row of a statement that reads a whole page at one moment: one row for head and snapshot, one for each row of the log.
    pub(crate) struct PageRow {
        /// Of the head, or of the row of the log.
        seq: i64,
        /// The state of the snapshot, or the update.
        data: Option<Vec<u8>>,
        /// The generation, or the user.
        label: Option<String>,
        size_bytes: Option<i64>,
        /// Only a head has it.
        created_ms: Option<i64>,
        updated_ms: Option<i64>,
        deleted_ms: Option<i64>,
        covered: Option<i64>,
        state_vector: Option<Vec<u8>>,
        ended_clients: Option<Vec<u8>>,
    }
}

columns! {
    /// A row of a statement that reads a part of a log: a first row without data says what the snapshot covers.
    pub(crate) struct LogRow {
        seq: i64,
        data: Option<Vec<u8>>,
        label: Option<String>,
    }
}

columns! {
    /// A snapshot with its readable columns.
    pub(crate) struct SnapshotRow {
        seq: i64,
        state: Vec<u8>,
        state_vector: Vec<u8>,
        content: Option<String>,
        text: String,
    }
}

impl HeadRow {
    pub(crate) fn into_record(self) -> Result<PageRecord, StoreError> {
        let page = PageId::new(&self.page_id).map_err(invalid_id)?;
        Ok(PageRecord {
            page,
            generation: Generation(self.generation.into()),
            seq: count(self.seq),
            size_bytes: self.size_bytes.map_or(0, count),
            created_at: time(self.created_ms),
            updated_at: time(self.updated_ms),
            deleted_at: self.deleted_ms.map(time),
        })
    }
}

impl SnapshotRow {
    pub(crate) fn into_snapshot(self, page: &PageId) -> Result<Snapshot, StoreError> {
        let seq = count(self.seq);
        let content = match self.content {
            Some(json) => Value::from_str(&json).map_err(|problem| StoreError::Corrupt {
                page: page.clone(),
                seq,
                problem: format!("its content is no JSON: {problem}"),
            })?,
            None => Value::Null,
        };
        Ok(Snapshot {
            seq,
            state: self.state.into(),
            state_vector: self.state_vector.into(),
            content,
            text: self.text,
        })
    }
}

/// Puts a page together from rows in any order, and checks that none is missing.
pub(crate) fn page(page: &PageId, rows: Vec<PageRow>) -> Result<Option<StoredPage>, StoreError> {
    let mut head = None;
    let mut log = Vec::with_capacity(rows.len().saturating_sub(1));
    for row in rows {
        if row.created_ms.is_some() {
            head = Some(row);
        } else {
            log.push(logged(row.seq, row.data, row.label));
        }
    }
    let Some(head) = head else {
        return Ok(None);
    };
    log.sort_unstable_by_key(|row| row.seq);
    let snapshot = match (head.covered, head.data, head.state_vector) {
        (Some(covered), Some(state), Some(state_vector)) => Some(StoredSnapshot {
            seq: count(covered),
            state: state.into(),
            state_vector: state_vector.into(),
        }),
        _ => None,
    };
    let ended_clients = head.ended_clients.map(Into::into);
    let seq = count(head.seq);
    let covered = snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
    if let Some(missing) = first_missing(covered, &log, seq) {
        return Err(StoreError::Corrupt {
            page: page.clone(),
            seq: missing,
            problem: format!(
                "the log between {covered} (its snapshot) and {seq} (its last row) does not have this row"
            ),
        });
    }
    let record = PageRecord {
        page: page.clone(),
        generation: Generation(head.label.unwrap_or_default().into()),
        seq,
        size_bytes: head.size_bytes.map_or(0, count),
        created_at: time(head.created_ms.unwrap_or_default()),
        updated_at: time(head.updated_ms.unwrap_or_default()),
        deleted_at: head.deleted_ms.map(time),
    };
    Ok(Some(StoredPage {
        record,
        snapshot,
        log,
        ended_clients,
    }))
}

/// The rows of a log after `after`; `None` when the snapshot has swallowed some of them.
pub(crate) fn log(rows: Vec<LogRow>, after: Seq) -> Option<Vec<LoggedUpdate>> {
    let mut log = Vec::with_capacity(rows.len().saturating_sub(1));
    for row in rows {
        if row.data.is_some() {
            log.push(logged(row.seq, row.data, row.label));
        } else if count(row.seq) > after {
            return None;
        }
    }
    log.sort_unstable_by_key(|row| row.seq);
    Some(log)
}

/// The smallest and the largest string that an id can be which starts with `prefix` and comes after `after`. `None` when
/// no id can.
pub(crate) fn id_range(prefix: &str, after: Option<&str>) -> Option<(String, String)> {
    // Ids have no control characters, and PostgreSQL does not compare with U+0000. An id follows "a\0b" when it follows "a".
    if prefix.contains('\0') {
        return None;
    }
    let first = match after.and_then(|after| after.split('\0').next()) {
        // For the same reason no id sorts between an id and the same with U+0001 behind it.
        Some(after) if after >= prefix => format!("{after}\u{1}"),
        _ => prefix.to_owned(),
    };
    // No id has more than 255 bytes, so none with the prefix comes after this.
    let last = prefix.to_owned() + &"\u{10ffff}".repeat(PageId::MAX_BYTES / 4 + 1);
    Some((first, last))
}

/// All ids that start so. `None` when no id can.
pub fn prefix_range(prefix: &str) -> Option<IdRange> {
    id_range(prefix, None)
}

fn logged(seq: i64, data: Option<Vec<u8>>, label: Option<String>) -> LoggedUpdate {
    LoggedUpdate {
        seq: count(seq),
        data: Bytes::from(data.unwrap_or_default()),
        user: label.map(Into::into),
    }
}

fn first_missing(covered: Seq, log: &[LoggedUpdate], last: Seq) -> Option<Seq> {
    let mut expected = covered + 1;
    for row in log {
        if row.seq != expected {
            return Some(expected);
        }
        expected += 1;
    }
    (expected != last + 1).then_some(expected)
}

/// A number or a count of a database, which has no unsigned ones.
pub(crate) fn count(number: i64) -> u64 {
    number.try_into().unwrap_or(0)
}

/// A row of `kept_events`: room, offset, event, payload, time.
pub(crate) type EventRow = (String, i64, String, String, i64);

pub(crate) fn events(rows: Vec<EventRow>) -> Vec<ReadEvent> {
    let events = rows
        .into_iter()
        .map(|(room, offset, event, payload, at)| ReadEvent {
            room,
            offset: count(offset),
            event,
            payload,
            at: time(at),
        });
    events.collect()
}

/// A row of `event_ids`: id, digest, how many were told, end.
pub(crate) type EventIdRow = (String, Vec<u8>, i64, i64);

/// The first of the rows. A digest of another length is none that could be compared with.
pub(crate) fn event_id(rows: Vec<EventIdRow>) -> Option<EventId> {
    let (id, digest, delivered, until) = rows.into_iter().next()?;
    Some(EventId {
        id,
        digest: digest.try_into().ok()?,
        delivered: count(delivered),
        until: time(until),
    })
}

/// A time as a database keeps it: milliseconds since 1970.
pub(crate) fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(i64::MAX)
}

/// A row of `page_permissions`: page, user, role, end.
pub(crate) type PermissionRow = (String, String, String, Option<i64>);

pub(crate) fn permissions(rows: Vec<PermissionRow>) -> Vec<Permission> {
    let read = |(page, user, role, expires)| Permission {
        page,
        user,
        role,
        expires_at: Option::map(expires, time),
    };
    rows.into_iter().map(read).collect()
}

/// A row of `last_seen`: room, user, time.
pub(crate) type SeenRow = (String, String, i64);

pub(crate) fn seen(rows: Vec<SeenRow>) -> Vec<LastSeen> {
    let read = |(room, user, at)| LastSeen {
        room,
        user,
        at: time(at),
    };
    rows.into_iter().map(read).collect()
}

/// A row of `shared_rooms`: room, name, members at most, time of the end.
pub(crate) type SharedRoomRow = (String, Option<String>, Option<i64>, Option<i64>);

pub(crate) fn shared_room(rows: Vec<SharedRoomRow>) -> Option<SharedRoom> {
    let (room, name, max_members, expires) = rows.into_iter().next()?;
    Some(SharedRoom {
        room,
        name,
        max_members: max_members.map(|max| u32::try_from(max).unwrap_or(u32::MAX)),
        expires_at: expires.map(time),
    })
}

/// A row of `page_users`: version, time of the last sign-out, blocked.
pub(crate) type UserRow = (Option<i64>, Option<i64>, bool);

pub(crate) fn user(rows: Vec<UserRow>) -> UserRecord {
    rows.into_iter()
        .next()
        .map_or_else(UserRecord::default, |(version, signed_out, blocked)| UserRecord {
            token_version: version.map(count),
            signed_out_at: signed_out.map(time),
            blocked,
        })
}

/// A row of `access_audit`: number, time, action, outcome, user, page, address, detail.
pub(crate) type AuditRow = (
    i64,
    i64,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    String,
);

pub(crate) fn audit(rows: Vec<AuditRow>) -> Vec<(u64, AuditEntry)> {
    let read = |(number, at, action, outcome, user, page, address, detail)| {
        let entry = AuditEntry {
            at: time(at),
            action,
            outcome,
            user,
            page,
            address,
            detail,
        };
        (count(number), entry)
    };
    rows.into_iter().map(read).collect()
}

columns! {
    /// A row of the past: the head's row has the generation, the base and the page's last number; the others are rows of the log.
    pub(crate) struct PastRow {
        seq: i64,
        data: Option<Vec<u8>>,
        label: Option<String>,
        last: Option<i64>,
    }
}

/// Puts a stretch of the past up to row `to` together from rows in any order; `None` when one is missing.
pub(crate) fn past(rows: Vec<PastRow>, to: Seq) -> Option<Past> {
    let mut head = None;
    let mut log = Vec::with_capacity(rows.len().saturating_sub(1));
    for row in rows {
        match row.last {
            Some(_) => head = Some(row),
            None => log.push(logged(row.seq, row.data, row.label)),
        }
    }
    let head = head?;
    log.sort_unstable_by_key(|row| row.seq);
    let covered = count(head.seq);
    let is_whole = count(head.last.unwrap_or_default()) >= to && first_missing(covered, &log, to).is_none();
    is_whole.then(|| Past {
        generation: Generation(head.label.unwrap_or_default().into()),
        base: (covered > 0).then(|| head.data.unwrap_or_default().into()),
        covered,
        rows: log,
    })
}

/// A row of a list of changes: number, user, time, length. The head's row has no time, and the number of the page's last row.
pub(crate) type ChangeRow = (i64, Option<String>, Option<i64>, i64);

pub(crate) fn changes(found: Vec<ChangeRow>, limit: usize) -> Option<PageChanges> {
    let (mut last, mut rows) = (None, Vec::with_capacity(found.len().saturating_sub(1)));
    for (seq, user, at, bytes) in found {
        match at {
            Some(at) => rows.push(PageChange {
                seq: count(seq),
                user: user.map(Into::into),
                at: time(at),
                bytes: count(bytes),
            }),
            None => last = Some(count(seq)),
        }
    }
    rows.sort_unstable_by_key(|row| row.seq);
    rows.truncate(limit);
    Some(PageChanges { last: last?, rows })
}

/// A row of `page_versions`: number, row of the log, kind, name, user, reason, time.
pub(crate) type VersionRow = (
    i64,
    i64,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    i64,
);

pub(crate) fn versions(rows: Vec<VersionRow>) -> Vec<Version> {
    let read = |(id, seq, kind, name, user, reason, at): VersionRow| Version {
        id: count(id),
        version: NewVersion {
            seq: count(seq),
            kind: VersionKind::parse(&kind),
            name,
            user,
            reason,
        },
        at: time(at),
    };
    rows.into_iter().map(read).collect()
}

/// What became of a version: its number, 0 for too many, nothing for an unknown row.
pub(crate) fn added(number: Option<i64>) -> AddedVersion {
    match number.map(count) {
        None => AddedVersion::Unknown,
        Some(0) => AddedVersion::TooMany,
        Some(id) => AddedVersion::Added(id),
    }
}

pub(crate) fn history(rows: Vec<(i64, i64)>) -> HistoryRecord {
    let (bytes, first_seq) = rows.into_iter().next().unwrap_or_default();
    HistoryRecord {
        bytes: count(bytes),
        first_seq: count(first_seq),
    }
}

/// The only number of an answer, if there is one.
pub(crate) fn number(rows: Vec<(Option<i64>,)>) -> Option<u64> {
    let (number,) = rows.into_iter().next()?;
    number.map(count)
}

/// Histories as databases list them: the page, when its oldest row was stored, and where the listing goes on behind it.
pub(crate) fn old_histories(rows: Vec<(String, i64, i64, String)>) -> Result<Vec<OldHistory>, StoreError> {
    let read = |(page, first_at, at, key): (String, i64, i64, String)| {
        Ok(OldHistory {
            page: PageId::new(&page).map_err(invalid_id)?,
            first_at: time(first_at),
            cursor: HistoryCursor { at, key },
        })
    };
    rows.into_iter().map(read).collect()
}

pub(crate) fn long(rows: Vec<(String, i64)>) -> Vec<(PageId, Seq)> {
    let read = |(page, seq): (String, i64)| Some((PageId::new(&page).ok()?, count(seq)));
    rows.into_iter().filter_map(read).collect()
}

/// A page that has what is looked for, and how well it answers.
pub(crate) fn found(rows: Vec<(String, f64)>) -> Result<Vec<Found>, StoreError> {
    let read = |(page, score): (String, f64)| {
        let page = PageId::new(&page).map_err(invalid_id)?;
        Ok(Found { page, score })
    };
    rows.into_iter().map(read).collect()
}

pub(crate) fn searched_text(rows: Vec<(i64, String)>) -> Option<(Seq, String)> {
    let (seq, text) = rows.into_iter().next()?;
    Some((count(seq), text))
}

pub(crate) fn page_ids(rows: Vec<(String,)>) -> Result<Vec<PageId>, StoreError> {
    let ids = rows
        .into_iter()
        .map(|(page,)| PageId::new(&page).map_err(invalid_id));
    ids.collect()
}

fn invalid_id(problem: PageIdError) -> StoreError {
    StoreError::Statement {
        reason: format!("a stored page has no valid id: {problem}"),
    }
}

pub(crate) fn time(milliseconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(count(milliseconds))
}
