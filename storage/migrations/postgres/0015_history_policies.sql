-- How long the past of which pages is kept, where the setting of the server does not say it.

CREATE TABLE history_policies (
    -- A page id, or a prefix of page ids with `*` behind it. The own policy of a page counts before that on the longest prefix.
    pages text COLLATE "C" NOT NULL PRIMARY KEY,
    -- `off`, `all`, `30 days`, `100 versions`, as in the setting.
    keep  text             NOT NULL
);

-- Histories are gone through by age.
DROP INDEX page_histories_by_age;
CREATE INDEX page_histories_by_age ON page_histories (first_at, page_id);
