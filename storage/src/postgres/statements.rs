//! What is said to PostgreSQL.

macro_rules! append {
    () => {
        r#"
    WITH entry AS (
        SELECT page_id, added, size_bytes, generation
        FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[])
            AS entry (page_id, added, size_bytes, generation)
    ), head AS (
        INSERT INTO page_heads AS h (page_id, seq, size_bytes)
        SELECT page_id, added, size_bytes FROM entry
        WHERE CASE
            WHEN generation IS NOT NULL
                THEN generation = (SELECT known.generation FROM page_heads known WHERE known.page_id = entry.page_id)
            WHEN added > 0
                THEN (SELECT former.alias FROM page_aliases former WHERE former.alias = entry.page_id) IS NULL
            ELSE (SELECT known.seq FROM page_heads known WHERE known.page_id = entry.page_id) IS NOT NULL
        END
        ORDER BY page_id COLLATE "C"
        ON CONFLICT (page_id) DO UPDATE SET
            seq = h.seq + excluded.seq,
            size_bytes = coalesce(excluded.size_bytes, h.size_bytes),
            updated_at = CASE WHEN excluded.seq > 0 THEN excluded.updated_at ELSE h.updated_at END
        RETURNING page_id, generation, seq
    ), appended AS (
        INSERT INTO page_updates (page_id, seq, data, user_id)
        SELECT head.page_id, head.seq - r.from_last, r.data, r.user_id
        FROM unnest($5::text[], $6::bigint[], $7::bytea[], $8::text[]) AS r (page_id, from_last, data, user_id)
        JOIN head ON head.page_id = r.page_id
    )
    SELECT page_id, head.generation, seq,
        CASE WHEN head.generation <> entry.generation THEN pageroom_begin_again() END
    FROM head JOIN entry USING (page_id)"#
    };
}

/// Moves the heads of pages `$1` on by `$2` rows each and sets their sizes to `$3`, where they have the generations `$4`; then appends
/// rows: pages `$5`, distances from the page's last row `$6`, data `$7`, users `$8`. Answers with the heads. (Not `EXISTS`, for which a
/// plan made for a young table reads it whole and is kept when the table has grown.)
pub(super) const APPEND: &str = append!();

/// [`APPEND`] that also announces the pages and their last rows to those who listen. (A function in FROM is called for each row.)
pub(super) const APPEND_AND_NOTIFY: &str = concat!(
    append!(),
    ", pg_notify('pageroom_pages', json_build_object('pageId', page_id, 'seq', seq)::text) AS notified"
);

/// Appends rows of pages whose heads have been moved in this transaction. Parameters as `$5` to `$8` of [`APPEND`], then the generations
/// that the pages have to have.
pub(super) const APPEND_MORE: &str = "
    INSERT INTO page_updates (page_id, seq, data, user_id)
    SELECT head.page_id, head.seq - r.from_last, r.data, r.user_id
    FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::text[], $5::text[])
        AS r (page_id, from_last, data, user_id, generation)
    JOIN page_heads head ON head.page_id = r.page_id AND head.generation = coalesce(r.generation, head.generation)";

/// Which of the pages `$1` nobody holds. (Whoever asks holds them no longer than the statement takes.)
pub(super) const FREE: &str =
    "SELECT page_id FROM page_heads WHERE page_id = ANY($1::text[]) FOR NO KEY UPDATE SKIP LOCKED";

/// Which of the pages `$1` have been stored.
pub(super) const KNOWN: &str = "SELECT page_id FROM page_heads WHERE page_id = ANY($1::text[])";

/// Writes the snapshot of page `$1` if it covers more than the stored one and no more than there is, and takes the rows that it covers
/// out of the log, with `$7` into the history. `$2` is the number of the last row covered, then come state, state vector, content and
/// text; `$8` are its words, and `$9` the generation that the page has to have. Behind [`TURN_OF_MANY`]. Answers
/// with a number if the snapshot was written. The snapshot that is replaced becomes a base where the rows since the last one
/// have grown as long as it is, or are not kept.
pub(super) const COMPACT: &str = "
    WITH replaced AS (
        SELECT s.page_id, s.seq, s.state FROM page_snapshots s LEFT JOIN page_histories k ON k.page_id = s.page_id
        WHERE $7 AND s.page_id = $1 AND s.seq < $2::bigint
            AND (k.page_id IS NULL OR k.last_seq <> s.seq OR k.since_base >= greatest(262144, octet_length(s.state)))
    ), stored AS (
        INSERT INTO page_snapshots AS s (page_id, seq, state, state_vector, content, text)
        SELECT head.page_id, $2::bigint, $3::bytea, $4::bytea, $5::text::jsonb, $6::text
        FROM page_heads head
        WHERE head.page_id = $1 AND head.generation = coalesce($9::text, head.generation) AND $2::bigint BETWEEN 1 AND head.seq
        ON CONFLICT (page_id) DO UPDATE SET
            seq = excluded.seq, state = excluded.state, state_vector = excluded.state_vector,
            content = excluded.content, text = excluded.text, updated_at = excluded.updated_at
        WHERE excluded.seq > s.seq
        RETURNING page_id, seq
    ), found_by AS (
        INSERT INTO page_words (page_id, words) SELECT page_id, to_tsvector('simple', $8::text) FROM stored
        ON CONFLICT (page_id) DO UPDATE SET words = excluded.words
    ), swallowed AS (
        DELETE FROM page_updates u USING stored WHERE u.page_id = stored.page_id AND u.seq <= stored.seq
        RETURNING u.page_id, u.seq, u.data, u.user_id, u.created_at
    ), archived AS (
        INSERT INTO page_history (page_id, seq, data, user_id, created_at)
        SELECT page_id, seq, data, user_id, created_at FROM swallowed WHERE $7
    ), based AS (
        INSERT INTO page_bases (page_id, seq, state)
        SELECT replaced.page_id, replaced.seq, replaced.state FROM replaced JOIN stored USING (page_id)
        ON CONFLICT DO NOTHING
        RETURNING octet_length(state) AS bytes
    ), going AS (
        SELECT page_id, sum(octet_length(data) + 64)::bigint AS bytes, min(created_at) AS first_at,
            (SELECT coalesce(sum(bytes), 0)::bigint FROM based) AS base
        FROM swallowed WHERE $7 GROUP BY page_id
    ), noted AS (
        INSERT INTO page_histories AS k (page_id, last_seq, bytes, since_base, first_at)
        SELECT page_id, $2::bigint, bytes + base, bytes, first_at FROM going
        ON CONFLICT (page_id) DO UPDATE SET
            last_seq = excluded.last_seq,
            bytes = k.bytes + excluded.bytes,
            since_base = CASE WHEN excluded.bytes > excluded.since_base THEN 0 ELSE k.since_base END
                + excluded.since_base,
            first_at = coalesce(k.first_at, excluded.first_at)
    )
    SELECT 1 FROM stored";

/// Waits for whoever makes something else of page `$1`, or of its id: purges, renames, rebuilds, writes a snapshot. What came of that is seen
/// by the next statement, and not by this one. (Not by its row: who appends holds that, too.)
pub(super) const TURN: &str =
    "SELECT NULL::int FROM pg_advisory_xact_lock(hashtextextended('pageroom:' || $1::text, 0))";

/// The same, for those who do not exclude each other.
pub(super) const TURN_OF_MANY: &str =
    "SELECT NULL::int FROM pg_advisory_xact_lock_shared(hashtextextended('pageroom:' || $1::text, 0))";

/// Limits the time of the statements that follow on this connection.
pub(super) const LIMIT_TIME: &str = "SELECT set_config('statement_timeout', $1, false)";

pub(super) const LOAD: &str = "
    SELECT h.seq, s.state AS data, h.generation AS label, h.size_bytes,
        (extract(epoch FROM h.created_at) * 1000)::bigint AS created_ms,
        (extract(epoch FROM h.updated_at) * 1000)::bigint AS updated_ms,
        (extract(epoch FROM h.deleted_at) * 1000)::bigint AS deleted_ms, s.seq AS covered, s.state_vector,
        e.clients AS ended_clients
    FROM page_heads h LEFT JOIN page_snapshots s ON s.page_id = h.page_id
        LEFT JOIN page_ended_clients e ON e.page_id = h.page_id
    WHERE h.page_id = $1
    UNION ALL
    SELECT seq, data, user_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM page_updates WHERE page_id = $1";

pub(super) const LOG: &str = "
    SELECT coalesce((SELECT seq FROM page_snapshots WHERE page_id = $1), 0) AS seq, NULL::bytea AS data, NULL AS label
    UNION ALL
    (SELECT seq, data, user_id FROM page_updates WHERE page_id = $1 AND seq > $2 ORDER BY seq LIMIT $3)";

/// The heads of the pages in the list `$1`.
pub(super) const HEADS: &str = "
    SELECT page_id, generation, seq, size_bytes, (extract(epoch FROM created_at) * 1000)::bigint AS created_ms,
        (extract(epoch FROM updated_at) * 1000)::bigint AS updated_ms,
        (extract(epoch FROM deleted_at) * 1000)::bigint AS deleted_ms
    FROM page_heads WHERE page_id = ANY($1::text[])";

pub(super) const PAGES: &str = "
    SELECT page_id, generation, seq, size_bytes, (extract(epoch FROM created_at) * 1000)::bigint AS created_ms,
        (extract(epoch FROM updated_at) * 1000)::bigint AS updated_ms,
        (extract(epoch FROM deleted_at) * 1000)::bigint AS deleted_ms
    FROM page_heads WHERE page_id BETWEEN $1 AND $2 ORDER BY page_id LIMIT $3";

/// Moves page `$1` to the trash at time `$2`, or out of it at none.
pub(super) const SET_DELETED: &str = "
    UPDATE page_heads SET deleted_at = to_timestamp($2::bigint / 1000.0)
    WHERE page_id = $1 AND (deleted_at IS NULL) <> ($2::bigint IS NULL) RETURNING 1";

pub(super) const SNAPSHOT: &str =
    "SELECT seq, state, state_vector, content::text AS content, text FROM page_snapshots WHERE page_id = $1";

/// Asks whether transactions are read-only, as a standby and a server with its disk protected say, and which rights the role lacks of
/// those that a commit needs, and to read each of the tables.
pub(super) const CHECK: &str = "
    SELECT current_setting('transaction_read_only')::bool, (
        SELECT string_agg(privilege || ' on ' || name, ', ' ORDER BY name, privilege)
        FROM (
            SELECT unnest(ARRAY[
                'access_audit', 'event_epoch', 'event_ids', 'event_states', 'history_policies', 'kept_events', 'last_seen', 'page_aliases',
                'page_bases', 'page_ended_clients', 'page_heads', 'page_histories', 'page_history', 'page_permissions', 'page_quarantine',
                'page_snapshots', 'page_updates', 'page_users', 'page_versions', 'page_words', 'room_removals', 'shared_rooms',
                'webhook_baseline', 'webhook_marks', 'webhook_outbox', 'webhook_queues'
            ]) AS name, 'SELECT' AS privilege
            UNION ALL VALUES ('page_heads', 'INSERT'), ('page_heads', 'UPDATE'), ('page_updates', 'INSERT')
        ) AS needed
        WHERE NOT has_table_privilege(name, privilege)
    )";
