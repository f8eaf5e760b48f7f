-- What is to be told to webhooks, and what has been told. Times are milliseconds since 1970 (UTC).

-- Since when there are webhooks here: what happened before is told nobody.
CREATE TABLE webhook_baseline (
    id    INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    since INTEGER NOT NULL
);

-- What was told of a page last. It is compared with the page's head, and rewritten in the transaction that puts the difference into the
-- outbox: so whatever is stored is told, once, although commits know nothing of this table.
CREATE TABLE webhook_marks (
    page_id    TEXT    NOT NULL PRIMARY KEY,
    generation TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    -- Since when the page was in the trash; NULL when it was not.
    deleted_at INTEGER
) WITHOUT ROWID;

-- Events that have not been delivered, one row for each target; and those that never were.
CREATE TABLE webhook_outbox (
    -- The order of the events of a page.
    number     INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    -- Names a delivery, the same in every attempt: its time, and what nobody can guess.
    id         TEXT    NOT NULL UNIQUE DEFAULT (
        printf('%012x', CAST(unixepoch('subsec') * 1000 AS INTEGER)) || lower(hex(randomblob(10)))),
    page_id    TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    event      TEXT    NOT NULL,
    generation TEXT,
    seq        INTEGER,
    -- What else the event says: an object in JSON.
    detail     TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    -- Since when it waits to be delivered.
    since      INTEGER NOT NULL,
    -- `pending` or `dead`.
    state      TEXT    NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    -- Since when it is dead.
    ended_at   INTEGER
);
CREATE INDEX webhook_outbox_in_order ON webhook_outbox (page_id, target, number) WHERE state = 'pending';
CREATE INDEX webhook_outbox_by_state ON webhook_outbox (state, number);

-- One row for each page and target with pending events, of which the first is delivered at `next_at`. Who delivers is its `owner` until
-- then; after that, anybody may.
CREATE TABLE webhook_queues (
    page_id TEXT    NOT NULL,
    target  TEXT    NOT NULL,
    -- Pending events.
    depth   INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    owner   TEXT,
    PRIMARY KEY (page_id, target)
) WITHOUT ROWID;
CREATE INDEX webhook_queues_by_time ON webhook_queues (target, next_at);

-- When webhooks were told of a version.
ALTER TABLE page_versions ADD COLUMN told_at INTEGER;
CREATE INDEX page_versions_untold ON page_versions (head_id) WHERE told_at IS NULL;
