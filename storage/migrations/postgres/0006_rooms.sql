-- Shared rooms: what they are, and who was removed from them.

CREATE TABLE shared_rooms (
    room        text COLLATE "C" NOT NULL PRIMARY KEY,
    -- For people.
    name        text,
    -- How many users may be there at once; NULL for as many as come.
    max_members bigint,
    -- When it ends; NULL for never.
    expires_at  timestamptz
);

-- Users who may not enter a room again until they are granted a permission on it.
CREATE TABLE room_removals (
    room    text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (room, user_id)
);

CREATE FUNCTION pageroom_readmit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM room_removals WHERE room = NEW.page_id AND user_id = NEW.user_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER pageroom_readmit AFTER INSERT OR UPDATE ON page_permissions
    FOR EACH ROW EXECUTE FUNCTION pageroom_readmit();

-- Every process hears of every change, whoever makes it.
CREATE FUNCTION pageroom_announce_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('pageroom_access', json_build_object('pageId', coalesce(NEW.room, OLD.room))::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER pageroom_announce AFTER INSERT OR UPDATE OR DELETE ON shared_rooms
    FOR EACH ROW EXECUTE FUNCTION pageroom_announce_room();

CREATE FUNCTION pageroom_announce_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('pageroom_access', json_build_object(
        'userId', coalesce(NEW.user_id, OLD.user_id), 'pageId', coalesce(NEW.room, OLD.room))::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER pageroom_announce AFTER INSERT OR DELETE ON room_removals
    FOR EACH ROW EXECUTE FUNCTION pageroom_announce_removal();
