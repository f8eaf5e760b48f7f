//! What SQL databases are told and asked for webhooks: the same statements in either language.
//!
//! Lists travel as JSON, which both databases take apart. Statements differ in how they do that, in locks, and in how pages are kept.

/// The statements of one database.
pub(crate) struct Statements {
    pub(crate) begin: &'static str,
    pub(crate) since: &'static str,
    pub(crate) lock_marks: &'static str,
    pub(crate) heads: &'static str,
    pub(crate) told_versions: &'static str,
    pub(crate) keep_marks: &'static str,
    pub(crate) lock_queues: &'static str,
    pub(crate) tails: &'static str,
    pub(crate) add: &'static str,
    pub(crate) replace: &'static str,
    pub(crate) grow: &'static str,
    pub(crate) untold: &'static str,
    pub(crate) is_due: &'static str,
    pub(crate) due: &'static str,
    pub(crate) lease: &'static str,
    pub(crate) attempt: &'static str,
    pub(crate) owned: &'static str,
    pub(crate) remove: &'static str,
    pub(crate) give_up: &'static str,
    pub(crate) note_problem: &'static str,
    pub(crate) shrink: &'static str,
    pub(crate) drop_empty: &'static str,
    pub(crate) list: &'static str,
    pub(crate) find: &'static str,
    pub(crate) revive: &'static str,
    pub(crate) requeue: &'static str,
    pub(crate) depth: &'static str,
    pub(crate) orphans: &'static str,
    pub(crate) forget_dead: &'static str,
    pub(crate) bring_forward: &'static str,
}

/// Makes the statements: `$list` takes the JSON in `$1` apart, `$lock` and `$skip` lock rows, and the others know how pages are kept.
macro_rules! statements {
    ($list:literal, $lock:literal, $skip:literal, heads: $heads:literal, versions: $versions:literal, untold: $untold:literal) => {
        $crate::webhooks::Statements {
            begin: "INSERT INTO webhook_baseline (id, since) VALUES (1, $1) ON CONFLICT (id) DO NOTHING",
            since: "SELECT since FROM webhook_baseline",
            lock_marks: concat!(
                "INSERT INTO webhook_marks (page_id, generation, created_at, seq) SELECT page_id, '', 0, 0
                 FROM page_heads WHERE page_id IN (SELECT CAST(list.value ->> 0 AS text) FROM ", $list, ")
                 ORDER BY page_id ON CONFLICT (page_id) DO UPDATE SET seq = webhook_marks.seq"
            ),
            heads: $heads,
            told_versions: $versions,
            keep_marks: concat!(
                "UPDATE webhook_marks SET generation = CAST(list.value ->> 1 AS text),
                     created_at = CAST(list.value ->> 2 AS bigint), seq = CAST(list.value ->> 3 AS bigint),
                     deleted_at = CAST(list.value ->> 4 AS bigint)
                 FROM ", $list, " WHERE page_id = CAST(list.value ->> 0 AS text)"
            ),
            lock_queues: concat!(
                "INSERT INTO webhook_queues (page_id, target, depth, next_at)
                 SELECT CAST(list.value ->> 0 AS text), CAST(list.value ->> 1 AS text), 0, $2 FROM ", $list, "
                 WHERE true ORDER BY 1, 2 ON CONFLICT (page_id, target) DO UPDATE SET depth = webhook_queues.depth
                 RETURNING page_id, target, depth"
            ),
            tails: concat!(
                "SELECT o.page_id, o.target, o.number, o.event, o.attempts FROM ", $list, " JOIN webhook_outbox o ON o.number = (
                     SELECT max(number) FROM webhook_outbox
                     WHERE page_id = CAST(list.value ->> 0 AS text) AND target = CAST(list.value ->> 1 AS text)
                         AND state = 'pending')"
            ),
            add: concat!(
                "INSERT INTO webhook_outbox
                     (page_id, target, event, generation, seq, detail, at, since, state, last_error, ended_at)
                 SELECT CAST(list.value ->> 0 AS text), CAST(list.value ->> 1 AS text), CAST(list.value ->> 2 AS text),
                     CAST(list.value ->> 3 AS text), CAST(list.value ->> 4 AS bigint), CAST(list.value ->> 5 AS text),
                     CAST(list.value ->> 6 AS bigint), $2, CAST(list.value ->> 7 AS text),
                     CAST(list.value ->> 8 AS text), CASE list.value ->> 7 WHEN 'dead' THEN $3 END
                 FROM ", $list
            ),
            replace: concat!(
                "UPDATE webhook_outbox SET generation = CAST(list.value ->> 1 AS text),
                     seq = CAST(list.value ->> 2 AS bigint), at = CAST(list.value ->> 3 AS bigint)
                 FROM ", $list, " WHERE number = CAST(list.value ->> 0 AS bigint)"
            ),
            grow: concat!(
                "UPDATE webhook_queues SET depth = depth + CAST(list.value ->> 2 AS bigint)
                 FROM ", $list, " WHERE page_id = CAST(list.value ->> 0 AS text) AND target = CAST(list.value ->> 1 AS text)"
            ),
            untold: $untold,
            is_due: "SELECT page_id FROM webhook_queues WHERE target = $1 AND next_at <= $2 LIMIT 1",
            due: concat!(
                "SELECT page_id FROM webhook_queues WHERE target = $1 AND next_at <= $2
                 ORDER BY next_at LIMIT $3", $skip
            ),
            lease: concat!(
                "UPDATE webhook_queues SET owner = $2, next_at = $3
                 WHERE target = $4 AND page_id IN (SELECT CAST(list.value ->> 0 AS text) FROM ", $list, ")"
            ),
            attempt: concat!(
                "UPDATE webhook_outbox SET attempts = attempts + 1 WHERE number IN (
                     SELECT (SELECT min(number) FROM webhook_outbox
                         WHERE page_id = CAST(list.value ->> 0 AS text) AND target = $2 AND state = 'pending')
                     FROM ", $list, ")
                 RETURNING number, id, page_id, target, event, generation, seq, detail, at, since, state, attempts,
                     last_error, ended_at"
            ),
            owned: concat!(
                "SELECT q.page_id, q.target FROM ", $list, " JOIN webhook_queues q
                     ON q.page_id = CAST(list.value ->> 0 AS text) AND q.target = CAST(list.value ->> 1 AS text)
                 WHERE q.owner = $2 ORDER BY q.page_id, q.target", $lock
            ),
            remove: concat!(
                "DELETE FROM webhook_outbox WHERE number IN (SELECT CAST(list.value ->> 0 AS bigint) FROM ", $list, ")"
            ),
            give_up: concat!(
                "UPDATE webhook_outbox SET state = 'dead', ended_at = $2, last_error = CAST(list.value ->> 1 AS text)
                 FROM ", $list, " WHERE number = CAST(list.value ->> 0 AS bigint)"
            ),
            note_problem: concat!(
                "UPDATE webhook_outbox SET last_error = CAST(list.value ->> 1 AS text)
                 FROM ", $list, " WHERE number = CAST(list.value ->> 0 AS bigint)"
            ),
            shrink: concat!(
                "UPDATE webhook_queues SET owner = NULL, next_at = CAST(list.value ->> 2 AS bigint),
                     depth = depth - CAST(list.value ->> 3 AS bigint)
                 FROM ", $list, " WHERE page_id = CAST(list.value ->> 0 AS text) AND target = CAST(list.value ->> 1 AS text)"
            ),
            drop_empty: concat!(
                "DELETE FROM webhook_queues WHERE depth <= 0 AND (page_id, target) IN (
                     SELECT CAST(list.value ->> 0 AS text), CAST(list.value ->> 1 AS text) FROM ", $list, ")"
            ),
            list: "SELECT number, id, page_id, target, event, generation, seq, detail, at, since, state, attempts,
                       last_error, ended_at
                   FROM webhook_outbox WHERE state = $1 AND number > $2 ORDER BY number LIMIT $3",
            find: "SELECT number, id, page_id, target, event, generation, seq, detail, at, since, state, attempts,
                       last_error, ended_at
                   FROM webhook_outbox WHERE id = $1",
            revive: concat!(
                "UPDATE webhook_outbox SET state = 'pending', since = $2, attempts = 0, ended_at = NULL
                 WHERE state = 'dead' AND number IN (SELECT CAST(list.value ->> 0 AS bigint) FROM ", $list, ")
                 RETURNING page_id, target"
            ),
            requeue: concat!(
                "INSERT INTO webhook_queues (page_id, target, depth, next_at)
                 SELECT CAST(list.value ->> 0 AS text), CAST(list.value ->> 1 AS text),
                     CAST(list.value ->> 2 AS bigint), $2 FROM ", $list, "
                 WHERE true ORDER BY 1, 2 ON CONFLICT (page_id, target) DO UPDATE SET
                     depth = webhook_queues.depth + excluded.depth,
                     next_at = CASE WHEN webhook_queues.owner IS NULL THEN excluded.next_at ELSE webhook_queues.next_at END"
            ),
            depth: "SELECT (SELECT count(*) FROM webhook_outbox WHERE state = 'pending'),
                        (SELECT count(*) FROM webhook_outbox WHERE state = 'dead'),
                        (SELECT since FROM webhook_outbox WHERE state = 'pending' ORDER BY number LIMIT 1)",
            orphans: concat!(
                "SELECT number, page_id, target FROM webhook_outbox
                 WHERE state = 'pending' AND since < $2
                     AND target NOT IN (SELECT CAST(list.value ->> 0 AS text) FROM ", $list, ")
                 ORDER BY number LIMIT $3"
            ),
            forget_dead: "DELETE FROM webhook_outbox WHERE number IN (
                     SELECT number FROM webhook_outbox WHERE state = 'dead' AND (ended_at < $1 OR number <= (
                         SELECT number FROM webhook_outbox WHERE state = 'dead' ORDER BY number DESC LIMIT 1 OFFSET $2))
                     ORDER BY number LIMIT $3) RETURNING number",
            bring_forward: "UPDATE webhook_queues SET next_at = $1 WHERE next_at > $2",
        }
    };
}
pub(crate) use statements;
