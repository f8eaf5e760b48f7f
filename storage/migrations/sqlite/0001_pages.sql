-- What Pageroom keeps of a page: its head, the log of its updates, and a merged snapshot of the older part of that log.
--
-- Times are milliseconds since 1970 (UTC). Page ids compare bytewise (BINARY is SQLite's default).

-- The head of a page's log. Whoever appends to a page updates its head first and thereby gets the numbers of the new
-- rows, so numbers have no holes and no two writers get the same ones.
CREATE TABLE page_heads (
    id         INTEGER NOT NULL PRIMARY KEY,
    page_id    TEXT    NOT NULL UNIQUE,
    -- Changes only when the page's document is rebuilt, never by editing.
    generation TEXT    NOT NULL DEFAULT (lower(hex(randomblob(16)))),
    -- Number of the page's last row.
    seq        INTEGER NOT NULL,
    -- Size of the encoded page as last told by a writer; NULL until one has told it.
    size_bytes INTEGER,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
);

-- The log: one row for each update, as it came. Rows that a snapshot covers are deleted in the transaction that writes
-- the snapshot, so the log of a page is short. A commit with rows of two hundred pages puts them side by side at the end of
-- the table and touches but a few leaves of the narrow index; clustered by page it would rewrite a block for every page.
CREATE TABLE page_updates (
    id         INTEGER NOT NULL PRIMARY KEY,
    -- The `id` of the page's head.
    head_id    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    data       BLOB    NOT NULL,
    -- Who made it, where that is known.
    user_id    TEXT,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
);
CREATE UNIQUE INDEX page_updates_in_order ON page_updates (head_id, seq);

-- The merged page up to and including row `seq` of its log.
CREATE TABLE page_snapshots (
    page_id      TEXT    NOT NULL PRIMARY KEY,
    seq          INTEGER NOT NULL,
    -- The document as one Yjs update (v1), and its state vector.
    state        BLOB    NOT NULL,
    state_vector BLOB    NOT NULL,
    -- For readers of the database: all root types by name as JSON, and the plain text. U+0000 is kept as U+FFFD here;
    -- content that is nested too deeply or too large for a reader is NULL. The document itself is in `state`.
    content      TEXT,
    text         TEXT    NOT NULL,
    updated_at   INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
);

-- Updates that a document could not survive, for the operator to look at. The newest hundred are kept.
CREATE TABLE page_quarantine (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    page_id    TEXT    NOT NULL,
    data       BLOB    NOT NULL,
    user_id    TEXT,
    reason     TEXT    NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
);

-- One row that is rewritten to find out whether the file can be written. It is as large as a few small commits, because a
-- disk that is full may still have room for less.
CREATE TABLE store_health (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    checked_at INTEGER NOT NULL,
    padding    BLOB    NOT NULL
);
