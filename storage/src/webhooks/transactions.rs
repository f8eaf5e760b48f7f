//! What SQL stores do for webhooks: the same steps for each database, each in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};
use sqlx::{FromRow, postgres::PgRow, sqlite::SqliteRow};

use super::{
    DeliveryClaim, DeliveryOutcome, DeliveryState, FinishedDelivery, MAX_WEBHOOK_ROWS_AT_ONCE, OutboxDepth,
    OutboxLimits, Statements, Telling, UntoldPages, WebhookDelivery, WebhookEvent,
    plan::{self, Event, Head, Queue, QueueKey},
    rows::{DeliveryRow, HeadRow, VersionRow},
};
use crate::{
    PageId,
    batch::number,
    rows::{count, milliseconds, time},
};

/// A value that is bound.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
}

/// Rows that either database answers with.
pub(crate) trait Decode:
    for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin
{
}

impl<R> Decode for R where R: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin {}

/// A transaction that is under way.
pub(crate) trait Transaction: Send {
    /// Runs a statement.
    fn ask<R: Decode>(
        &mut self,
        statement: &'static str,
        values: Vec<Value>,
    ) -> impl Future<Output = Result<Vec<R>, sqlx::Error>> + Send;
}

fn list(items: impl IntoIterator<Item = Json>) -> Value {
    Value::Text(Json::Array(items.into_iter().collect()).to_string())
}

fn key_items<'a>(keys: impl IntoIterator<Item = &'a QueueKey>) -> Value {
    list(keys.into_iter().map(|(page, target)| json!([page, target])))
}

/// For statements that answer with nothing.
type Nothing = (i64,);

/// See [`WebhookStore::begin_webhooks`](super::WebhookStore::begin_webhooks).
pub(crate) async fn begin(t: &mut impl Transaction, s: &Statements, now: i64) -> Result<(), sqlx::Error> {
    t.ask::<Nothing>(s.begin, vec![Value::Number(now)])
        .await
        .map(drop)
}

/// Since when there are webhooks; never, where nobody has said so.
async fn since(t: &mut impl Transaction, s: &Statements) -> Result<i64, sqlx::Error> {
    let since: Vec<(i64,)> = t.ask(s.since, Vec::new()).await?;
    Ok(since.first().map_or(i64::MAX, |(since,)| *since))
}

/// See [`WebhookStore::tell_webhooks`](super::WebhookStore::tell_webhooks).
pub(crate) async fn tell(
    t: &mut impl Transaction,
    s: &Statements,
    telling: &Telling,
) -> Result<u64, sqlx::Error> {
    let now = milliseconds(telling.now);
    let found = match telling.looks.is_empty() {
        true => Vec::new(),
        false => compare(t, s, telling, now).await?,
    };
    let events = plan::events(telling, found);
    if events.is_empty() || telling.targets.is_empty() {
        return Ok(0);
    }
    let keys = plan::keys(&events, &telling.targets);
    let mut queues = open_queues(t, s, &keys, now).await?;
    let placed = plan::place(events, &telling.targets, &mut queues);
    let told = placed.rows.len() + placed.replaced.len();
    if !placed.replaced.is_empty() {
        let items = placed
            .replaced
            .iter()
            .map(|(number, event)| json!([number, event.generation, event.seq, event.at]));
        t.ask::<Nothing>(s.replace, vec![list(items)]).await?;
    }
    if !placed.rows.is_empty() {
        let items = placed.rows.iter().map(|row| {
            let Event {
                page,
                event,
                generation,
                seq,
                detail,
                at,
            } = &row.event;
            let state = match row.problem {
                Some(_) => DeliveryState::Dead,
                None => DeliveryState::Pending,
            };
            json!([
                page,
                row.target,
                event.as_str(),
                generation,
                seq,
                detail,
                at,
                state.as_str(),
                row.problem
            ])
        });
        let values = vec![list(items), Value::Number(now), Value::Number(now)];
        t.ask::<Nothing>(s.add, values).await?;
    }
    if !placed.grown.is_empty() {
        let items = placed
            .grown
            .iter()
            .map(|((page, target), more)| json!([page, target, more]));
        t.ask::<Nothing>(s.grow, vec![list(items)]).await?;
    }
    Ok(told as u64)
}

/// Finds what is new of pages, and notes it as told.
async fn compare(
    t: &mut impl Transaction,
    s: &Statements,
    telling: &Telling,
    now: i64,
) -> Result<Vec<Event>, sqlx::Error> {
    let since = since(t, s).await?;
    let pages = || list(telling.looks.iter().map(|look| json!([look.page.as_str()])));
    t.ask::<Nothing>(s.lock_marks, vec![pages()]).await?;
    let heads: Vec<HeadRow> = t.ask(s.heads, vec![pages()]).await?;
    let heads: BTreeMap<String, Head> = heads
        .into_iter()
        .map(HeadRow::into_head)
        .map(|head| (head.page.clone(), head))
        .collect();
    let versions: Vec<VersionRow> = t.ask(s.told_versions, vec![pages(), Value::Number(now)]).await?;
    let mut versions: Vec<_> = versions.into_iter().map(VersionRow::into_version).collect();
    versions.sort_by_key(|(_, version)| version.id);
    let mut events: Vec<Event> = versions
        .iter()
        .filter_map(|(page, version)| heads.get(page)?.version(since, version))
        .collect();
    let mut marks = Vec::new();
    for look in &telling.looks {
        if let Some(head) = heads.get(look.page.as_str()) {
            let (new, mark) = head.compare(since, now, look.with_changes);
            events.extend(new);
            marks.push(json!([
                head.page,
                mark.generation,
                mark.created,
                mark.seq,
                mark.deleted
            ]));
        }
    }
    if !marks.is_empty() {
        t.ask::<Nothing>(s.keep_marks, vec![list(marks)]).await?;
    }
    Ok(events)
}

/// Locks queues, making those that are not there, and says how they are.
async fn open_queues(
    t: &mut impl Transaction,
    s: &Statements,
    keys: &BTreeSet<QueueKey>,
    now: i64,
) -> Result<BTreeMap<QueueKey, Queue>, sqlx::Error> {
    let depths: Vec<(String, String, i64)> = t
        .ask(s.lock_queues, vec![key_items(keys), Value::Number(now)])
        .await?;
    let mut queues: BTreeMap<QueueKey, Queue> = depths
        .into_iter()
        .map(|(page, target, depth)| {
            let queue = Queue {
                depth: count(depth),
                unsent_change: None,
            };
            ((page, target), queue)
        })
        .collect();
    let tails: Vec<(String, String, i64, String, i64)> = t.ask(s.tails, vec![key_items(keys)]).await?;
    for (page, target, number, event, attempts) in tails {
        let is_unsent = attempts == 0 && event == WebhookEvent::PageChanged.as_str();
        if let Some(queue) = queues.get_mut(&(page, target)).filter(|_| is_unsent) {
            queue.unsent_change = Some(number);
        }
    }
    Ok(queues)
}

/// See [`WebhookStore::untold_pages`](super::WebhookStore::untold_pages).
pub(crate) async fn untold(
    t: &mut impl Transaction,
    s: &Statements,
    after: Option<&str>,
    limit: usize,
) -> Result<UntoldPages, sqlx::Error> {
    let since = since(t, s).await?;
    let values = vec![
        Value::Text(after.unwrap_or_default().to_owned()),
        Value::Number(number(limit)),
        Value::Number(since),
    ];
    let rows: Vec<(String, i64)> = t.ask(s.untold, values).await?;
    let pages = rows.iter().filter(|(_, is_untold)| *is_untold != 0);
    Ok(UntoldPages {
        pages: pages.filter_map(|(page, _)| PageId::new(page).ok()).collect(),
        last: rows.into_iter().map(|(page, _)| page).max(),
    })
}

/// See [`WebhookStore::claim_webhooks`](super::WebhookStore::claim_webhooks).
pub(crate) async fn claim(
    t: &mut impl Transaction,
    s: &Statements,
    claim: &DeliveryClaim,
) -> Result<Vec<WebhookDelivery>, sqlx::Error> {
    let due = vec![
        Value::Text(claim.target.clone()),
        Value::Number(milliseconds(claim.now)),
        Value::Number(number(claim.limit)),
    ];
    let pages: Vec<(String,)> = t.ask(s.due, due).await?;
    if pages.is_empty() {
        return Ok(Vec::new());
    }
    let items = || list(pages.iter().map(|(page,)| json!([page])));
    let lease = vec![
        items(),
        Value::Text(claim.owner.clone()),
        Value::Number(milliseconds(claim.until)),
        Value::Text(claim.target.clone()),
    ];
    t.ask::<Nothing>(s.lease, lease).await?;
    let rows: Vec<DeliveryRow> = t
        .ask(s.attempt, vec![items(), Value::Text(claim.target.clone())])
        .await?;
    let mut claimed: Vec<_> = rows.into_iter().map(DeliveryRow::into_delivery).collect();
    claimed.sort_by_key(|delivery| delivery.number);
    Ok(claimed)
}

/// Whether there is something to claim, without taking it.
pub(crate) async fn is_due(
    t: &mut impl Transaction,
    s: &Statements,
    claim: &DeliveryClaim,
) -> Result<bool, sqlx::Error> {
    let due = vec![
        Value::Text(claim.target.clone()),
        Value::Number(milliseconds(claim.now)),
    ];
    let pages: Vec<(String,)> = t.ask(s.is_due, due).await?;
    Ok(!pages.is_empty())
}

/// See [`WebhookStore::finish_webhooks`](super::WebhookStore::finish_webhooks).
pub(crate) async fn finish(
    t: &mut impl Transaction,
    s: &Statements,
    (owner, now): (&str, i64),
    finished: &[FinishedDelivery],
) -> Result<(), sqlx::Error> {
    let keys: BTreeSet<QueueKey> = finished
        .iter()
        .map(|done| (done.page.clone(), done.target.clone()))
        .collect();
    let owned = vec![key_items(&keys), Value::Text(owner.to_owned())];
    let owned: Vec<QueueKey> = t.ask(s.owned, owned).await?;
    let owned: BTreeSet<QueueKey> = owned.into_iter().collect();
    let (mut removed, mut dead, mut noted, mut queues) = (vec![], vec![], vec![], vec![]);
    for done in finished {
        if !owned.contains(&(done.page.clone(), done.target.clone())) {
            continue;
        }
        let (next_at, fewer) = match &done.outcome {
            DeliveryOutcome::Delivered => {
                removed.push(json!([done.number]));
                (now, 1)
            }
            DeliveryOutcome::Again { at, problem } => {
                noted.push(json!([done.number, problem]));
                (milliseconds(*at), 0)
            }
            DeliveryOutcome::Dead { problem } => {
                dead.push(json!([done.number, problem]));
                (now, 1)
            }
        };
        queues.push(json!([done.page, done.target, next_at, fewer]));
    }
    if !removed.is_empty() {
        t.ask::<Nothing>(s.remove, vec![list(removed)]).await?;
    }
    if !dead.is_empty() {
        t.ask::<Nothing>(s.give_up, vec![list(dead), Value::Number(now)])
            .await?;
    }
    if !noted.is_empty() {
        t.ask::<Nothing>(s.note_problem, vec![list(noted)]).await?;
    }
    if !queues.is_empty() {
        t.ask::<Nothing>(s.shrink, vec![list(queues.clone())]).await?;
        t.ask::<Nothing>(s.drop_empty, vec![list(queues)]).await?;
    }
    Ok(())
}

/// See [`WebhookStore::webhooks`](super::WebhookStore::webhooks).
pub(crate) async fn listed(
    t: &mut impl Transaction,
    s: &Statements,
    state: DeliveryState,
    after: u64,
    limit: usize,
) -> Result<Vec<WebhookDelivery>, sqlx::Error> {
    let values = vec![
        Value::Text(state.as_str().to_owned()),
        Value::Number(number(after)),
        Value::Number(number(limit)),
    ];
    let rows: Vec<DeliveryRow> = t.ask(s.list, values).await?;
    Ok(rows.into_iter().map(DeliveryRow::into_delivery).collect())
}

/// See [`WebhookStore::webhook`](super::WebhookStore::webhook).
pub(crate) async fn find(
    t: &mut impl Transaction,
    s: &Statements,
    id: &str,
) -> Result<Option<WebhookDelivery>, sqlx::Error> {
    let rows: Vec<DeliveryRow> = t.ask(s.find, vec![Value::Text(id.to_owned())]).await?;
    Ok(rows.into_iter().next().map(DeliveryRow::into_delivery))
}

/// See [`WebhookStore::replay_webhooks`](super::WebhookStore::replay_webhooks).
pub(crate) async fn replay(
    t: &mut impl Transaction,
    s: &Statements,
    now: i64,
    numbers: &[u64],
) -> Result<u64, sqlx::Error> {
    let items = list(numbers.iter().map(|number| json!([number])));
    let revived: Vec<QueueKey> = t.ask(s.revive, vec![items, Value::Number(now)]).await?;
    let mut counts: BTreeMap<&QueueKey, u64> = BTreeMap::new();
    for key in &revived {
        *counts.entry(key).or_default() += 1;
    }
    if !counts.is_empty() {
        let items = counts
            .into_iter()
            .map(|((page, target), count)| json!([page, target, count]));
        t.ask::<Nothing>(s.requeue, vec![list(items), Value::Number(now)])
            .await?;
    }
    Ok(revived.len() as u64)
}

/// See [`WebhookStore::outbox_depth`](super::WebhookStore::outbox_depth).
pub(crate) async fn depth(t: &mut impl Transaction, s: &Statements) -> Result<OutboxDepth, sqlx::Error> {
    let rows: Vec<(i64, i64, Option<i64>)> = t.ask(s.depth, Vec::new()).await?;
    let (pending, dead, oldest) = rows.into_iter().next().unwrap_or_default();
    Ok(OutboxDepth {
        pending: count(pending),
        dead: count(dead),
        oldest: oldest.map(time),
    })
}

/// Why an event is dead that nobody tried to deliver any more.
pub(super) const NO_TARGET: &str = "nobody delivers to this target any more";

/// See [`WebhookStore::forget_webhooks`](super::WebhookStore::forget_webhooks).
pub(crate) async fn forget(
    t: &mut impl Transaction,
    s: &Statements,
    limits: &OutboxLimits,
) -> Result<u64, sqlx::Error> {
    let now = milliseconds(limits.now);
    let at_once = Value::Number(number(MAX_WEBHOOK_ROWS_AT_ONCE));
    let latest = vec![Value::Number(now), Value::Number(milliseconds(limits.latest))];
    t.ask::<Nothing>(s.bring_forward, latest).await?;
    let targets = list(limits.targets.iter().map(|target| json!([target])));
    let before = Value::Number(milliseconds(limits.pending_before));
    let orphans: Vec<(i64, String, String)> =
        t.ask(s.orphans, vec![targets, before, at_once.clone()]).await?;
    if !orphans.is_empty() {
        let mut counts: BTreeMap<QueueKey, u64> = BTreeMap::new();
        for (_, page, target) in &orphans {
            *counts.entry((page.clone(), target.clone())).or_default() += 1;
        }
        // Queues are locked before their events, as everywhere.
        let queues = || {
            let items = counts.iter();
            list(items.map(|((page, target), count)| json!([page, target, now, count])))
        };
        t.ask::<Nothing>(s.shrink, vec![queues()]).await?;
        let items = orphans.iter().map(|(number, ..)| json!([number, NO_TARGET]));
        t.ask::<Nothing>(s.give_up, vec![list(items), Value::Number(now)])
            .await?;
        t.ask::<Nothing>(s.drop_empty, vec![queues()]).await?;
    }
    let dead = vec![
        Value::Number(milliseconds(limits.dead_before)),
        Value::Number(number(limits.dead_count)),
        at_once,
    ];
    let forgotten: Vec<Nothing> = t.ask(s.forget_dead, dead).await?;
    Ok((orphans.len() + forgotten.len()) as u64)
}
