-- What Pageroom keeps of a page: its head, the log of its updates, and a merged snapshot of the older part of that log.
--
-- Page ids compare bytewise (COLLATE "C"), in every database and whatever its locale.

-- The head of a page's log. Whoever appends to a page updates its head first and holds its row lock until the commit, so
-- numbers have no holes and no two writers get the same ones. Rows are locked in the order of their ids: writers of
-- several pages cannot deadlock.
CREATE TABLE page_heads (
    page_id    text COLLATE "C" NOT NULL PRIMARY KEY,
    -- Changes only when the page's document is rebuilt, never by editing.
    generation text             NOT NULL DEFAULT replace(gen_random_uuid()::text, '-', ''),
    -- Number of the page's last row.
    seq        bigint           NOT NULL,
    -- Size of the encoded page as last told by a writer; NULL until one has told it.
    size_bytes bigint,
    created_at timestamptz      NOT NULL DEFAULT now(),
    updated_at timestamptz      NOT NULL DEFAULT now()
    -- Room for the next version of a row beside it: updating a head touches no index.
) WITH (fillfactor = 70);

-- The log: one row for each update, as it came. Rows that a snapshot covers are deleted in the transaction that writes
-- the snapshot, so the log of a page is short.
CREATE TABLE page_updates (
    page_id    text COLLATE "C" NOT NULL,
    seq        bigint           NOT NULL,
    data       bytea            NOT NULL,
    -- Who made it, where that is known.
    user_id    text,
    created_at timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (page_id, seq)
);

-- The merged page up to and including row `seq` of its log. A backend may read this table.
CREATE TABLE page_snapshots (
    page_id      text COLLATE "C" NOT NULL PRIMARY KEY,
    seq          bigint           NOT NULL,
    -- The document as one Yjs update (v1), and its state vector.
    state        bytea            NOT NULL,
    state_vector bytea            NOT NULL,
    -- For readers of the database: all root types by name, and the plain text. PostgreSQL cannot hold U+0000 in either,
    -- so it is kept as U+FFFD here; content that is nested too deeply or too large for jsonb is NULL. The document itself
    -- is in `state`.
    content      jsonb,
    text         text             NOT NULL,
    updated_at   timestamptz      NOT NULL DEFAULT now()
);

-- Updates that a document could not survive, for the operator to look at. The newest hundred are kept.
CREATE TABLE page_quarantine (
    id         bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    page_id    text COLLATE "C" NOT NULL,
    data       bytea            NOT NULL,
    user_id    text,
    reason     text             NOT NULL,
    created_at timestamptz      NOT NULL DEFAULT now()
);
