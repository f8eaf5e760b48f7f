-- When users were last seen in rooms that show who is there.

CREATE TABLE last_seen (
    room    TEXT NOT NULL,
    user_id TEXT NOT NULL,
    -- In milliseconds since 1970 (UTC).
    at      INTEGER NOT NULL,
    PRIMARY KEY (room, user_id)
) WITHOUT ROWID;
