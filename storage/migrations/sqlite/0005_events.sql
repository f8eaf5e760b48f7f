-- What is kept of rooms without a document: events that rules keep, the ids that backends gave to events, and last states.
--
-- Times are milliseconds since 1970 (UTC).

-- Names this database: offsets of another one say nothing here.
CREATE TABLE event_epoch (
    epoch TEXT NOT NULL
);
INSERT INTO event_epoch (epoch) VALUES (lower(hex(randomblob(8))));

-- Offsets grow with time, and are given by the server that tells the event.
CREATE TABLE kept_events (
    room         TEXT    NOT NULL,
    event_offset INTEGER NOT NULL,
    event        TEXT    NOT NULL,
    -- JSON as it was told, byte for byte.
    payload      TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    -- When it is deleted.
    keep_until   INTEGER NOT NULL,
    PRIMARY KEY (room, event_offset)
) WITHOUT ROWID;
-- For counting the events of a name in a room.
CREATE INDEX kept_events_by_name ON kept_events (room, event, event_offset);
CREATE INDEX kept_events_by_end ON kept_events (keep_until);
CREATE INDEX kept_events_by_offset ON kept_events (event_offset);

-- What a backend called an event, so that it can be sent again and is told once.
CREATE TABLE event_ids (
    id         TEXT    NOT NULL PRIMARY KEY,
    digest     BLOB    NOT NULL,
    delivered  INTEGER NOT NULL,
    keep_until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX event_ids_by_end ON event_ids (keep_until);

-- The last state of what a room is about, for those who enter later.
CREATE TABLE event_states (
    room  TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL
) WITHOUT ROWID;
