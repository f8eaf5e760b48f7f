-- How long the past of which pages is kept, where the setting of the server does not say it.

CREATE TABLE history_policies (
    -- A page id, or a prefix of page ids with `*` behind it. The own policy of a page counts before that on the longest prefix.
    pages TEXT NOT NULL PRIMARY KEY,
    -- `off`, `all`, `30 days`, `100 versions`, as in the setting.
    keep  TEXT NOT NULL
);
