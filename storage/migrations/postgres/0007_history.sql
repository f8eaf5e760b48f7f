-- What a page was before: the rows that snapshots have covered, states to begin from, and versions.

-- Rows leave `page_updates` for here in the transaction that writes the snapshot which covers them, so the log stays short and a
-- commit touches nothing of this.
CREATE TABLE page_history (
    page_id    text COLLATE "C" NOT NULL,
    seq        bigint           NOT NULL,
    data       bytea            NOT NULL,
    user_id    text,
    created_at timestamptz      NOT NULL,
    PRIMARY KEY (page_id, seq)
);

-- A past state is the nearest of these before it (or an empty page) and the rows from there on. Snapshots that are replaced become one
-- when the rows since the last one are as long as they are, and when the rows before them are not here.
CREATE TABLE page_bases (
    page_id text COLLATE "C" NOT NULL,
    seq     bigint           NOT NULL,
    state   bytea            NOT NULL,
    PRIMARY KEY (page_id, seq)
);

-- About the history of one page, so that neither a snapshot nor a description has to read it.
CREATE TABLE page_histories (
    page_id    text COLLATE "C" NOT NULL PRIMARY KEY,
    -- The last row that went into the history, or 0 when what follows needs a new base.
    last_seq   bigint           NOT NULL,
    -- What rows and bases take, and the rows since the last base.
    bytes      bigint           NOT NULL,
    since_base bigint           NOT NULL,
    -- When the oldest row was stored; NULL when there is none.
    first_at   timestamptz
);
CREATE INDEX page_histories_by_age ON page_histories (first_at);
CREATE INDEX page_histories_by_size ON page_histories (bytes);

CREATE TABLE page_versions (
    id         bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    page_id    text COLLATE "C" NOT NULL,
    -- The state after this row.
    seq        bigint           NOT NULL,
    -- `automatic`, `named` or `restore`.
    kind       text             NOT NULL,
    name       text,
    user_id    text,
    reason     text,
    created_at timestamptz      NOT NULL DEFAULT now()
);
CREATE INDEX page_versions_of_page ON page_versions (page_id, id);
