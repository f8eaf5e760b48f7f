-- What is to be told to webhooks, and what has been told. Times are milliseconds since 1970 (UTC).

-- Since when there are webhooks here: what happened before is told nobody.
CREATE TABLE webhook_baseline (
    id    bigint NOT NULL PRIMARY KEY CHECK (id = 1),
    since bigint NOT NULL
);

-- What was told of a page last. It is compared with the page's head, and rewritten in the transaction that puts the difference into the
-- outbox: so whatever is stored is told, once, although commits know nothing of this table.
CREATE TABLE webhook_marks (
    page_id    text COLLATE "C" NOT NULL PRIMARY KEY,
    generation text             NOT NULL,
    created_at bigint           NOT NULL,
    seq        bigint           NOT NULL,
    -- Since when the page was in the trash; NULL when it was not.
    deleted_at bigint
) WITH (fillfactor = 70);

-- Events that have not been delivered, one row for each target; and those that never were.
CREATE TABLE webhook_outbox (
    -- The order of the events of a page.
    number     bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Names a delivery, the same in every attempt: its time, and what nobody can guess.
    id         text COLLATE "C" NOT NULL UNIQUE DEFAULT
        lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
        || left(replace(gen_random_uuid()::text, '-', ''), 20),
    page_id    text COLLATE "C" NOT NULL,
    target     text COLLATE "C" NOT NULL,
    event      text COLLATE "C" NOT NULL,
    generation text,
    seq        bigint,
    -- What else the event says: an object in JSON.
    detail     text             NOT NULL,
    at         bigint           NOT NULL,
    -- Since when it waits to be delivered.
    since      bigint           NOT NULL,
    -- `pending` or `dead`.
    state      text COLLATE "C" NOT NULL,
    attempts   bigint           NOT NULL DEFAULT 0,
    last_error text,
    -- Since when it is dead.
    ended_at   bigint
) WITH (fillfactor = 90);
CREATE INDEX webhook_outbox_in_order ON webhook_outbox (page_id, target, number) WHERE state = 'pending';
CREATE INDEX webhook_outbox_by_state ON webhook_outbox (state, number);

-- One row for each page and target with pending events, of which the first is delivered at `next_at`. Whoever adds to a queue or takes
-- from it holds its row lock. Who delivers is its `owner` until then; after that, anybody may.
CREATE TABLE webhook_queues (
    page_id text COLLATE "C" NOT NULL,
    target  text COLLATE "C" NOT NULL,
    -- Pending events.
    depth   bigint           NOT NULL,
    next_at bigint           NOT NULL,
    owner   text COLLATE "C",
    PRIMARY KEY (page_id, target)
) WITH (fillfactor = 70);
CREATE INDEX webhook_queues_by_time ON webhook_queues (target, next_at);

-- When webhooks were told of a version.
ALTER TABLE page_versions ADD COLUMN told_at bigint;
CREATE INDEX page_versions_untold ON page_versions (page_id) WHERE told_at IS NULL;
