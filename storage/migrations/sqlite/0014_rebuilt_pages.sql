-- Pages whose documents have been rebuilt.

CREATE TABLE page_ended_clients (
    -- The `id` of the page's head.
    head_id INTEGER NOT NULL PRIMARY KEY,
    -- The client ids of all former generations, as the server encodes them: whoever names one of them has another document.
    clients BLOB    NOT NULL
);
