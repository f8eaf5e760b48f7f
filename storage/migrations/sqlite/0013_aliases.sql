-- The ids that pages had before they were renamed.

CREATE TABLE page_aliases (
    -- The former id, under which no page is stored.
    alias   TEXT NOT NULL PRIMARY KEY,
    -- The id that the page has now.
    page_id TEXT NOT NULL
);
CREATE INDEX page_aliases_of_page ON page_aliases (page_id);
