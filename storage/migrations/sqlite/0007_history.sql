-- What a page was before: the rows that snapshots have covered, states to begin from, and versions.
--
-- Times are milliseconds since 1970 (UTC).

-- Rows leave `page_updates` for here in the transaction that writes the snapshot which covers them, so the log stays short and a
-- commit touches nothing of this. Clustered by page, because a past state is read from a run of rows.
CREATE TABLE page_history (
    head_id    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    data       BLOB    NOT NULL,
    user_id    TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (head_id, seq)
) WITHOUT ROWID;

-- A past state is the nearest of these before it (or an empty page) and the rows from there on. Snapshots that are replaced become one
-- when the rows since the last one are as long as they are, and when the rows before them are not here.
CREATE TABLE page_bases (
    head_id INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    state   BLOB    NOT NULL,
    PRIMARY KEY (head_id, seq)
);

-- About the history of one page, so that neither a snapshot nor a description has to read it.
CREATE TABLE page_histories (
    head_id    INTEGER NOT NULL PRIMARY KEY,
    -- The last row that went into the history, or 0 when what follows needs a new base.
    last_seq   INTEGER NOT NULL,
    -- What rows and bases take, and the rows since the last base.
    bytes      INTEGER NOT NULL,
    since_base INTEGER NOT NULL,
    -- When the oldest row was stored; NULL when there is none.
    first_at   INTEGER
);
CREATE INDEX page_histories_by_age ON page_histories (first_at);
CREATE INDEX page_histories_by_size ON page_histories (bytes);

CREATE TABLE page_versions (
    id         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    head_id    INTEGER NOT NULL,
    -- The state after this row.
    seq        INTEGER NOT NULL,
    -- `automatic`, `named` or `restore`.
    kind       TEXT    NOT NULL,
    name       TEXT,
    user_id    TEXT,
    reason     TEXT,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
);
CREATE INDEX page_versions_of_page ON page_versions (head_id, id);
