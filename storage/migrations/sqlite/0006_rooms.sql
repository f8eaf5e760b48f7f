-- Shared rooms: what they are, and who was removed from them.
--
-- Times are milliseconds since 1970 (UTC).

CREATE TABLE shared_rooms (
    room        TEXT    NOT NULL PRIMARY KEY,
    -- For people.
    name        TEXT,
    -- How many users may be there at once; NULL for as many as come.
    max_members INTEGER,
    -- When it ends; NULL for never.
    expires_at  INTEGER
) WITHOUT ROWID;

-- Users who may not enter a room again until they are granted a permission on it.
CREATE TABLE room_removals (
    room    TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (room, user_id)
) WITHOUT ROWID;

CREATE TRIGGER page_permissions_readmit_on_insert AFTER INSERT ON page_permissions
BEGIN
    DELETE FROM room_removals WHERE room = NEW.page_id AND user_id = NEW.user_id;
END;

CREATE TRIGGER page_permissions_readmit_on_update AFTER UPDATE ON page_permissions
BEGIN
    DELETE FROM room_removals WHERE room = NEW.page_id AND user_id = NEW.user_id;
END;
