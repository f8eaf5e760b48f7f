-- Pages in the trash: nobody may open them, and nothing of them is lost until they are restored.

-- Since when; NULL for a page that is not there.
ALTER TABLE page_heads ADD COLUMN deleted_at timestamptz;

-- Every process hears of it, whoever does it, and sends its members away.
CREATE FUNCTION pageroom_announce_page() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('pageroom_access', json_build_object('pageId', NEW.page_id)::text);
    RETURN NULL;
END
$$;

-- Appending to a page names other columns, and does not come by here.
CREATE TRIGGER pageroom_announce AFTER UPDATE OF deleted_at ON page_heads
    FOR EACH ROW WHEN (OLD.deleted_at IS DISTINCT FROM NEW.deleted_at) EXECUTE FUNCTION pageroom_announce_page();
