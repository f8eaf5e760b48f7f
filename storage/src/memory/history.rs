//! The past of pages in memory.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{MemoryStore, Tables, now};
use crate::{
    AddedVersion, HistoryCursor, HistoryRecord, HistoryStore, LoggedUpdate, MAX_HISTORY_ROWS_AT_ONCE,
    MAX_NAMED_VERSIONS, NewVersion, OldHistory, PageChange, PageChanges, PageId, Past, Seq, StoreError,
    StoredSnapshot, Version, VersionKind,
    history::{MIN_BASE_BYTES, ROW_BYTES},
    readable,
};

/// A row and when it was stored.
#[derive(Clone, Debug)]
pub(super) struct StoredRow {
    pub(super) update: LoggedUpdate,
    pub(super) at: SystemTime,
}

impl StoredRow {
    fn weight(&self) -> u64 {
        self.update.data.len() as u64 + ROW_BYTES
    }

    pub(super) fn change(&self) -> PageChange {
        PageChange {
            seq: self.update.seq,
            user: self.update.user.clone(),
            at: self.at,
            bytes: self.update.data.len() as u64,
        }
    }
}

fn microseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros().try_into().unwrap_or(i64::MAX)
}

/// The past of one page.
#[derive(Clone, Debug, Default)]
pub(super) struct PageHistory {
    pub(super) rows: VecDeque<StoredRow>,
    bases: BTreeMap<Seq, Bytes>,
    versions: Vec<Version>,
    /// The last row that went into the history, or 0 when what follows needs a new base.
    last_seq: Seq,
    since_base: u64,
}

impl PageHistory {
    /// Takes rows that a snapshot has covered in the place of `replaced`.
    pub(super) fn archive(&mut self, rows: Vec<StoredRow>, replaced: Option<&StoredSnapshot>) {
        if let Some(replaced) = replaced
            && (self.last_seq != replaced.seq
                || self.since_base >= MIN_BASE_BYTES.max(replaced.state.len() as u64))
        {
            self.bases.insert(replaced.seq, replaced.state.clone());
            self.since_base = 0;
        }
        self.last_seq = rows.last().map_or(self.last_seq, |row| row.update.seq);
        self.since_base += rows.iter().map(StoredRow::weight).sum::<u64>();
        self.rows.extend(rows);
    }

    /// The nearest base at `seq` or before.
    pub(super) fn base(&self, seq: Seq) -> Option<(Seq, Bytes)> {
        let (seq, state) = self.bases.range(..=seq).next_back()?;
        Some((*seq, state.clone()))
    }

    pub(super) fn add_version(&mut self, id: u64, version: &NewVersion, at: SystemTime) -> AddedVersion {
        let is_wanted = |version: &NewVersion| version.kind != VersionKind::Automatic;
        let wanted = self.versions.iter().filter(|known| is_wanted(&known.version));
        if is_wanted(version) && wanted.count() >= MAX_NAMED_VERSIONS {
            return AddedVersion::TooMany;
        }
        let text = |text: &Option<String>| text.as_deref().map(|text| readable::text(text).into_owned());
        let version = NewVersion {
            name: text(&version.name),
            user: text(&version.user),
            reason: text(&version.reason),
            ..version.clone()
        };
        self.versions.push(Version { id, version, at });
        AddedVersion::Added(id)
    }

    pub(super) fn versions(&self, before: Option<u64>, limit: usize) -> Vec<Version> {
        let newest = self.versions.iter().rev();
        newest
            .filter(|version| before.is_none_or(|before| version.id < before))
            .take(limit)
            .cloned()
            .collect()
    }

    pub(super) fn version(&self, id: u64) -> Option<Version> {
        self.versions.iter().find(|version| version.id == id).cloned()
    }

    pub(super) fn record(&self, covered: Seq) -> HistoryRecord {
        let rows: u64 = self.rows.iter().map(StoredRow::weight).sum();
        let bases: u64 = self.bases.values().map(|state| state.len() as u64).sum();
        let first = self.rows.front();
        HistoryRecord {
            bytes: rows + bases,
            first_seq: first.map_or(covered, |row| row.update.seq.saturating_sub(1)),
        }
    }

    pub(super) fn version_from_newest(&self, count: u32) -> Option<Seq> {
        let version = self.versions.iter().rev().nth(count.saturating_sub(1) as usize)?;
        Some(version.version.seq)
    }

    pub(super) fn last_before(&self, before: SystemTime) -> Option<Seq> {
        let last = self.rows.back()?.update.seq;
        let kept = self.rows.iter().find(|row| row.at >= before);
        Some(kept.map_or(last, |row| row.update.seq - 1))
    }

    /// Up to which row it is to be forgotten, where it takes more than `bytes`.
    pub(super) fn too_large(&self, bytes: u64) -> Option<Seq> {
        let (first, last) = (self.rows.front()?.update.seq, self.rows.back()?.update.seq);
        let base = |from| self.bases.range(from..).map(|(seq, _)| *seq);
        let cut = base(first.midpoint(last))
            .next()
            .or_else(|| base(first).next_back());
        (self.record(0).bytes > bytes).then(|| cut.unwrap_or(last))
    }

    pub(super) fn keep_base(&mut self, seq: Seq, state: &Bytes) {
        self.bases.insert(seq, state.clone());
    }

    pub(super) fn forget(&mut self, upto: Seq, covered: Seq) -> u64 {
        let has_base = self.bases.contains_key(&upto);
        if !has_base && covered > upto {
            return 0;
        }
        let old = self.rows.iter().take_while(|row| row.update.seq <= upto).count();
        let forgotten = old.min(MAX_HISTORY_ROWS_AT_ONCE);
        self.rows.drain(..forgotten);
        let is_kept = |version: &Version| version.version.kind != VersionKind::Automatic;
        self.versions
            .retain(|version| is_kept(version) || version.version.seq >= upto);
        let kept: Vec<Seq> = self.versions.iter().map(|version| version.version.seq).collect();
        self.bases.retain(|seq, _| *seq >= upto || kept.contains(seq));
        if !has_base {
            self.last_seq = 0;
        }
        forgotten as u64
    }
}

impl Tables {
    /// See [`HistoryStore::past`].
    pub fn past(&self, page: &PageId, from: Seq, to: Seq) -> Option<Past> {
        let stored = self.pages.get(page).filter(|stored| to <= stored.record.seq)?;
        let snapshot = stored.covering().filter(|snapshot| snapshot.seq <= from);
        let snapshot = snapshot.map(|snapshot| (snapshot.seq, snapshot.state));
        let bases = [stored.history.base(from), snapshot];
        let base = bases.into_iter().flatten().max_by_key(|(seq, _)| *seq);
        let covered = base.as_ref().map_or(0, |(seq, _)| *seq);
        let rows: Vec<LoggedUpdate> = stored
            .rows()
            .filter(|row| row.update.seq > covered && row.update.seq <= to)
            .map(|row| row.update.clone())
            .collect();
        (rows.len() as u64 == to.saturating_sub(covered)).then(|| Past {
            generation: stored.record.generation.clone(),
            base: base.map(|(_, state)| state),
            covered,
            rows,
        })
    }

    /// See [`HistoryStore::changes`].
    pub fn changes(&self, page: &PageId, after: Seq, limit: usize) -> Option<PageChanges> {
        let stored = self.pages.get(page)?;
        let rows = stored.rows().filter(|row| row.update.seq > after);
        Some(PageChanges {
            last: stored.record.seq,
            rows: rows.take(limit).map(StoredRow::change).collect(),
        })
    }

    /// See [`HistoryStore::add_version`].
    pub fn add_version(&mut self, now: SystemTime, page: &PageId, version: &NewVersion) -> AddedVersion {
        let stored = self.pages.get_mut(page);
        let Some(stored) = stored.filter(|stored| version.seq <= stored.record.seq) else {
            return AddedVersion::Unknown;
        };
        self.last_version += 1;
        stored.history.add_version(self.last_version, version, now)
    }

    /// See [`HistoryStore::old_histories`].
    pub fn old_histories(
        &self,
        before: SystemTime,
        after: Option<&HistoryCursor>,
        limit: usize,
    ) -> Vec<OldHistory> {
        let old = self.pages.iter().filter_map(|(page, stored)| {
            let first_at = stored.history.rows.front()?.at;
            let at = microseconds(first_at);
            let key = page.as_str();
            let is_behind = after.is_none_or(|after| (at, key) > (after.at, after.key.as_str()));
            (first_at < before && is_behind).then(|| OldHistory {
                page: page.clone(),
                first_at,
                cursor: HistoryCursor {
                    at,
                    key: key.to_owned(),
                },
            })
        });
        let mut old: Vec<_> = old.collect();
        old.sort_by(|one, other| (one.cursor.at, &one.cursor.key).cmp(&(other.cursor.at, &other.cursor.key)));
        old.truncate(limit);
        old
    }

    /// See [`HistoryStore::large_histories`].
    pub fn large_histories(&self, bytes: u64, limit: usize) -> Vec<(PageId, Seq)> {
        let pages = self.pages.iter();
        let large = pages.filter_map(|(page, stored)| Some((page.clone(), stored.history.too_large(bytes)?)));
        large.take(limit).collect()
    }

    /// See [`HistoryStore::forget_history`].
    pub fn forget_history(&mut self, page: &PageId, upto: Seq) -> u64 {
        let stored = self.pages.get_mut(page);
        stored.map_or(0, |stored| stored.history.forget(upto, stored.covered()))
    }
}

#[async_trait]
impl HistoryStore for MemoryStore {
    async fn past(&self, page: &PageId, from: Seq, to: Seq) -> Result<Option<Past>, StoreError> {
        Ok(self.tables().past(page, from, to))
    }

    async fn changes(
        &self,
        page: &PageId,
        after: Seq,
        limit: usize,
    ) -> Result<Option<PageChanges>, StoreError> {
        Ok(self.tables().changes(page, after, limit))
    }

    async fn add_version(&self, page: &PageId, version: &NewVersion) -> Result<AddedVersion, StoreError> {
        Ok(self.tables().add_version(now(), page, version))
    }

    async fn versions(
        &self,
        page: &PageId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Version>, StoreError> {
        let tables = self.tables();
        let stored = tables.pages.get(page);
        Ok(stored.map_or_else(Vec::new, |stored| stored.history.versions(before, limit)))
    }

    async fn version(&self, page: &PageId, id: u64) -> Result<Option<Version>, StoreError> {
        let tables = self.tables();
        Ok(tables
            .pages
            .get(page)
            .and_then(|stored| stored.history.version(id)))
    }

    async fn history(&self, page: &PageId) -> Result<HistoryRecord, StoreError> {
        let tables = self.tables();
        let stored = tables.pages.get(page);
        Ok(stored.map_or_else(HistoryRecord::default, |stored| {
            stored.history.record(stored.covered())
        }))
    }

    async fn version_from_newest(&self, page: &PageId, count: u32) -> Result<Option<Seq>, StoreError> {
        let tables = self.tables();
        let stored = tables.pages.get(page);
        Ok(stored.and_then(|stored| stored.history.version_from_newest(count)))
    }

    async fn old_histories(
        &self,
        before: SystemTime,
        after: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Vec<OldHistory>, StoreError> {
        Ok(self.tables().old_histories(before, after, limit))
    }

    async fn last_before(&self, page: &PageId, before: SystemTime) -> Result<Option<Seq>, StoreError> {
        let tables = self.tables();
        let stored = tables.pages.get(page);
        Ok(stored.and_then(|stored| stored.history.last_before(before)))
    }

    async fn large_histories(&self, bytes: u64, limit: usize) -> Result<Vec<(PageId, Seq)>, StoreError> {
        Ok(self.tables().large_histories(bytes, limit))
    }

    async fn keep_base(&self, page: &PageId, seq: Seq, state: &Bytes) -> Result<(), StoreError> {
        if let Some(stored) = self.tables().pages.get_mut(page) {
            stored.history.keep_base(seq, state);
        }
        Ok(())
    }

    async fn forget_history(&self, page: &PageId, upto: Seq) -> Result<u64, StoreError> {
        Ok(self.tables().forget_history(page, upto))
    }
}
