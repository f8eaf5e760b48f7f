-- Pages whose documents have been rebuilt.

CREATE TABLE page_ended_clients (
    page_id text COLLATE "C" NOT NULL PRIMARY KEY,
    -- The client ids of all former generations, as the server encodes them: whoever names one of them has another document.
    clients bytea            NOT NULL
);
