-- The ids that pages had before they were renamed.

CREATE TABLE page_aliases (
    -- The former id, under which no page is stored.
    alias   text COLLATE "C" NOT NULL PRIMARY KEY,
    -- The id that the page has now.
    page_id text COLLATE "C" NOT NULL
);
CREATE INDEX page_aliases_of_page ON page_aliases (page_id);

-- Ends a statement that began before a page was renamed or rebuilt, and would now write to what it has become: it is to be run once more.
CREATE FUNCTION pageroom_begin_again() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a page was renamed or rebuilt meanwhile' USING ERRCODE = 'serialization_failure';
END
$$;

-- Whoever appends to a page looks for aliases before waiting for whoever holds it. A rename that ends meanwhile is noticed here.
CREATE FUNCTION pageroom_check_alias() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM page_aliases WHERE alias = NEW.page_id) THEN
        PERFORM pageroom_begin_again();
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER pageroom_check_alias AFTER INSERT ON page_heads
    FOR EACH ROW EXECUTE FUNCTION pageroom_check_alias();
