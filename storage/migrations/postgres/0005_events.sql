-- What is kept of rooms without a document: events that rules keep, the ids that backends gave to events, and last states.

-- Names this database: offsets of another one say nothing here.
CREATE TABLE event_epoch (
    epoch text COLLATE "C" NOT NULL
);
INSERT INTO event_epoch (epoch) VALUES (left(replace(gen_random_uuid()::text, '-', ''), 16));

-- Offsets grow with time, and are given by the server that tells the event.
CREATE TABLE kept_events (
    room         text COLLATE "C" NOT NULL,
    event_offset bigint           NOT NULL,
    event        text COLLATE "C" NOT NULL,
    -- JSON as it was told, byte for byte.
    payload      text             NOT NULL,
    at           timestamptz      NOT NULL,
    -- When it is deleted.
    keep_until   timestamptz      NOT NULL,
    PRIMARY KEY (room, event_offset)
);
-- For counting the events of a name in a room.
CREATE INDEX kept_events_by_name ON kept_events (room, event, event_offset);
CREATE INDEX kept_events_by_end ON kept_events (keep_until);
CREATE INDEX kept_events_by_offset ON kept_events (event_offset);

-- What a backend called an event, so that it can be sent again and is told once.
CREATE TABLE event_ids (
    id         text COLLATE "C" NOT NULL PRIMARY KEY,
    digest     bytea            NOT NULL,
    delivered  bigint           NOT NULL,
    keep_until timestamptz      NOT NULL
);
CREATE INDEX event_ids_by_end ON event_ids (keep_until);

-- The last state of what a room is about, for those who enter later.
CREATE TABLE event_states (
    room  text COLLATE "C" NOT NULL PRIMARY KEY,
    state text             NOT NULL
);
