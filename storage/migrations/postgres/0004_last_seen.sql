-- When users were last seen in rooms that show who is there.

CREATE TABLE last_seen (
    room    text NOT NULL,
    user_id text NOT NULL,
    at      timestamptz NOT NULL,
    PRIMARY KEY (room, user_id)
);
