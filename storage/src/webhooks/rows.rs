//! What SQL stores read for webhooks, row by row, and the values made of it.

use super::{
    DeliveryState, WebhookDelivery,
    plan::{Head, Mark},
};
use crate::{
    NewVersion, Version, VersionKind,
    columns::columns,
    rows::{count, time},
};

columns! {
    /// A head, and the mark beside it.
    pub(super) struct HeadRow {
        page_id: String,
        generation: String,
        seq: i64,
        created_ms: i64,
        updated_ms: i64,
        deleted_ms: Option<i64>,
        told_generation: Option<String>,
        told_created: Option<i64>,
        told_seq: Option<i64>,
        told_deleted: Option<i64>,
    }
}

impl HeadRow {
    pub(super) fn into_head(self) -> Head {
        let mark = self.told_generation.map(|generation| Mark {
            generation,
            created: self.told_created.unwrap_or_default(),
            seq: self.told_seq.unwrap_or_default(),
            deleted: self.told_deleted,
        });
        Head {
            page: self.page_id,
            generation: self.generation,
            seq: self.seq,
            created: self.created_ms,
            updated: self.updated_ms,
            deleted: self.deleted_ms,
            // One that has just been made says nothing.
            mark: mark.filter(|mark| !mark.generation.is_empty()),
        }
    }
}

columns! {
    /// A version that has just been told of.
    pub(super) struct VersionRow {
        page_id: String,
        id: i64,
        seq: i64,
        kind: String,
        name: Option<String>,
        user_id: Option<String>,
        reason: Option<String>,
        created_ms: i64,
    }
}

impl VersionRow {
    pub(super) fn into_version(self) -> (String, Version) {
        let version = Version {
            id: count(self.id),
            version: NewVersion {
                seq: count(self.seq),
                kind: VersionKind::parse(&self.kind),
                name: self.name,
                user: self.user_id,
                reason: self.reason,
            },
            at: time(self.created_ms),
        };
        (self.page_id, version)
    }
}

columns! {
    /// A row of the outbox.
    pub(super) struct DeliveryRow {
        number: i64,
        id: String,
        page_id: String,
        target: String,
        event: String,
        generation: Option<String>,
        seq: Option<i64>,
        detail: String,
        at: i64,
        since: i64,
        state: String,
        attempts: i64,
        last_error: Option<String>,
        ended_at: Option<i64>,
    }
}

impl DeliveryRow {
    pub(super) fn into_delivery(self) -> WebhookDelivery {
        WebhookDelivery {
            number: count(self.number),
            id: self.id,
            page: self.page_id,
            target: self.target,
            event: self.event,
            generation: self.generation,
            seq: self.seq.map(count),
            detail: self.detail,
            at: time(self.at),
            since: time(self.since),
            state: DeliveryState::parse(&self.state).unwrap_or(DeliveryState::Dead),
            attempts: count(self.attempts),
            last_error: self.last_error,
            ended_at: self.ended_at.map(time),
        }
    }
}
