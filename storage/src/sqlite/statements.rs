//! What is said to SQLite.
//!
//! Parameters are written `$1`: in a script, a statement that leaves out a number of `?1` and `?2` gets its parameters shifted.

use super::large_values::{size, whole};

/// Moves the heads of pages on and appends their rows. `$1` is a list of pages `[id, rows, size, generation]`, `$2` of rows `[id, distance
/// from the page's last row, offset, length, user, generation, large value]`, `$3` the bytes that offsets point into. What names a generation is
/// passed over where the page has another one.
macro_rules! append {
    () => {
        "INSERT INTO page_heads (page_id, seq, size_bytes)
         SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1)
         WHERE CASE
             WHEN value ->> 3 IS NOT NULL
                 THEN (SELECT generation FROM page_heads WHERE page_id = value ->> 0) = value ->> 3
             WHEN value ->> 1 > 0 THEN NOT EXISTS (SELECT 1 FROM page_aliases WHERE alias = value ->> 0)
             ELSE EXISTS (SELECT 1 FROM page_heads WHERE page_id = value ->> 0)
         END
         ON CONFLICT (page_id) DO UPDATE SET
             seq = seq + excluded.seq,
             size_bytes = coalesce(excluded.size_bytes, size_bytes),
             updated_at = iif(excluded.seq > 0, excluded.updated_at, updated_at);

         INSERT INTO page_updates (head_id, seq, data, user_id)
         SELECT h.id, seq - (value ->> 1), coalesce(value ->> 6, substr($3, value ->> 2, value ->> 3)), value ->> 4
         FROM json_each($2) CROSS JOIN page_heads h
             ON page_id = value ->> 0 AND generation = coalesce(value ->> 5, generation);"
    };
}

/// Answers with the heads `[id, generation, seq]` of the pages in `$1`: one row with a list, because each row that arrives
/// alone wakes the thread that waits for it.
macro_rules! answer {
    () => {
        "SELECT json_group_array(json_array(page_id, generation, seq))
         FROM json_each($1) CROSS JOIN page_heads
             ON page_id = value ->> 0 AND generation = coalesce(value ->> 3, generation);"
    };
}

/// Makes the write-ahead log as long as it gets between two checkpoints (1,000 pages of 4 KiB, and what the last transaction
/// before one may have over), without changing anything: what does not fit the cache is written into the log, and then rolled
/// back. Otherwise each commit would make the file longer, which has to be synced as well.
pub(super) const LENGTHEN_LOG: &str = "PRAGMA cache_size = 1;
    BEGIN IMMEDIATE;
    CREATE TABLE ballast (content BLOB);
    INSERT INTO ballast VALUES (zeroblob(5000000));
    ROLLBACK;
    PRAGMA cache_size = -2000;";

pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";

pub(super) const COMMIT: &str = "COMMIT";

/// A chunk of a larger batch, between [`BEGIN`] and [`COMMIT`].
pub(super) const STORE_CHUNK: &str = concat!(append!(), answer!());

/// A batch that fits one chunk, in one go: most do.
pub(super) const STORE_ROWS: &str = concat!("BEGIN IMMEDIATE;", append!(), answer!(), "COMMIT;");

/// Writes the snapshot of page `$1` if it covers more than the stored one and no more than there is, and takes the rows that it covers
/// out of the log, with `$7` into the history. `$2` is the number of the last row covered, then come state, state vector, content and
/// text; `$8` are its words, and `$9` the generation that the page has to have. Answers with a row if the snapshot was written. (What is
/// empty is bound as NULL.)
///
/// What goes into the history is noted before anything is changed: the snapshot that is replaced, where it is to be a base, and the size of
/// the rows. A base weighs what is noted beyond them.
pub(super) const COMPACT: &str = concat!(
    "BEGIN IMMEDIATE;
    INSERT INTO page_bases (head_id, seq, state)
    SELECT h.id, s.seq, s.state
    FROM page_heads h CROSS JOIN page_snapshots s ON s.page_id = h.page_id
        LEFT JOIN page_histories k ON k.head_id = h.id
    WHERE $7 AND h.page_id = $1 AND h.generation = coalesce($9, h.generation) AND $2 > s.seq AND $2 <= h.seq
        AND (k.head_id IS NULL OR k.last_seq <> s.seq OR k.since_base >= max(262144, ",
    size!("s.state"),
    "))
    ON CONFLICT DO NOTHING;
    INSERT INTO page_histories (head_id, last_seq, bytes, since_base, first_at)
    SELECT going.head_id, $2, going.bytes + coalesce(",
    size!("b.state"),
    ", 0), going.bytes, going.first_at
    FROM (SELECT u.head_id, min(u.seq) AS first, sum(",
    size!("u.data"),
    " + 64) AS bytes, min(u.created_at) AS first_at
        FROM page_heads h CROSS JOIN page_updates u ON u.head_id = h.id AND u.seq <= $2
        WHERE $7 AND h.page_id = $1 AND h.generation = coalesce($9, h.generation) AND $2 <= h.seq
        GROUP BY u.head_id) going
        LEFT JOIN page_bases b ON b.head_id = going.head_id AND b.seq = going.first - 1
    WHERE true
    ON CONFLICT (head_id) DO UPDATE SET
        last_seq = excluded.last_seq,
        bytes = bytes + excluded.bytes,
        since_base = iif(excluded.bytes > excluded.since_base, 0, since_base) + excluded.since_base,
        first_at = coalesce(first_at, excluded.first_at);
    INSERT INTO page_snapshots (page_id, seq, state, state_vector, content, text)
    SELECT page_id, $2, coalesce($3, x''), coalesce($4, x''), $5, coalesce($6, '')
    FROM page_heads WHERE page_id = $1 AND generation = coalesce($9, generation) AND $2 BETWEEN 1 AND seq
    ON CONFLICT (page_id) DO UPDATE SET
        seq = excluded.seq, state = excluded.state, state_vector = excluded.state_vector,
        content = excluded.content, text = excluded.text, updated_at = excluded.updated_at
    WHERE excluded.seq > page_snapshots.seq
    RETURNING 1;
    INSERT OR REPLACE INTO page_words (rowid, words)
    SELECT h.id, coalesce($8, '') FROM page_snapshots s CROSS JOIN page_heads h ON h.page_id = s.page_id
    WHERE s.page_id = $1 AND s.seq = $2 AND h.generation = coalesce($9, h.generation);
    INSERT INTO page_history (head_id, seq, data, user_id, created_at)
    SELECT u.head_id, u.seq, u.data, u.user_id, u.created_at
    FROM page_snapshots s CROSS JOIN page_heads h ON h.page_id = s.page_id
        CROSS JOIN page_updates u ON u.head_id = h.id AND u.seq <= s.seq
    WHERE $7 AND s.page_id = $1 ORDER BY u.seq;
    DELETE FROM page_updates WHERE id IN (
        SELECT u.id
        FROM page_snapshots s CROSS JOIN page_heads h ON h.page_id = s.page_id
        CROSS JOIN page_updates u ON u.head_id = h.id AND u.seq <= s.seq
        WHERE s.page_id = $1
    );
    COMMIT;"
);

pub(super) const LOAD: &str = concat!(
    "SELECT h.seq, ",
    whole!("s.state"),
    " AS data, h.generation AS label, h.size_bytes, h.created_at AS created_ms,
        h.updated_at AS updated_ms, h.deleted_at AS deleted_ms, s.seq AS covered, s.state_vector,
        e.clients AS ended_clients
    FROM page_heads h LEFT JOIN page_snapshots s ON s.page_id = h.page_id
        LEFT JOIN page_ended_clients e ON e.head_id = h.id
    WHERE h.page_id = $1
    UNION ALL
    SELECT seq, ",
    whole!("data"),
    ", user_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM page_updates
    WHERE head_id = (SELECT id FROM page_heads WHERE page_id = $1)"
);

pub(super) const LOG: &str = concat!(
    "SELECT coalesce((SELECT seq FROM page_snapshots WHERE page_id = $1), 0) AS seq, NULL AS data, NULL AS label
    UNION ALL
    SELECT seq, ",
    whole!("data"),
    ", user_id FROM (SELECT seq, data, user_id FROM page_updates
        WHERE head_id = (SELECT id FROM page_heads WHERE page_id = $1) AND seq > $2 ORDER BY seq LIMIT $3)"
);

/// The heads of the pages in the list `$1`.
pub(super) const HEADS: &str =
    "SELECT page_id, generation, seq, size_bytes, created_at AS created_ms, updated_at AS updated_ms,
        deleted_at AS deleted_ms
    FROM page_heads WHERE page_id IN (SELECT value FROM json_each($1))";

pub(super) const PAGES: &str =
    "SELECT page_id, generation, seq, size_bytes, created_at AS created_ms, updated_at AS updated_ms,
        deleted_at AS deleted_ms
    FROM page_heads WHERE page_id BETWEEN $1 AND $2 ORDER BY page_id LIMIT $3";

/// Moves page `$1` to the trash at time `$2`, or out of it at none.
pub(super) const SET_DELETED: &str = "UPDATE page_heads SET deleted_at = $2
    WHERE page_id = $1 AND (deleted_at IS NULL) <> ($2 IS NULL) RETURNING 1";

pub(super) const SNAPSHOT: &str = concat!(
    "SELECT seq, ",
    whole!("state"),
    " AS state, state_vector, content, text FROM page_snapshots WHERE page_id = $1"
);

/// Random, because SQLite does not write what has not changed.
pub(super) const CHECK: &str =
    "INSERT INTO store_health (id, checked_at, padding) VALUES (1, unixepoch(), randomblob(16384))
    ON CONFLICT (id) DO UPDATE SET checked_at = excluded.checked_at, padding = excluded.padding";
