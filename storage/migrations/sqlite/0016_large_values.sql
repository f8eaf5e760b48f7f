-- Values of many megabytes, in parts: nobody who writes waits for more than one of them.
--
-- Where `page_updates.data`, `page_history.data`, `page_snapshots.state` or `page_bases.state` is a number, the bytes are those of the value
-- with this number. A value belongs to one row, and goes with its number where that is moved.
CREATE TABLE large_values (
    id        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    -- In bytes.
    size      INTEGER NOT NULL,
    -- Perhaps no row has it: it is being written, or the row that had it is gone or has another one.
    is_loose  INTEGER NOT NULL DEFAULT 1,
    -- The process that writes it, which alone knows whether it still does; NULL when a row has had it.
    writer    TEXT
);
CREATE INDEX large_values_loose ON large_values (id) WHERE is_loose;

CREATE TABLE large_value_parts (
    value_id INTEGER NOT NULL,
    part     INTEGER NOT NULL,
    bytes    BLOB    NOT NULL,
    PRIMARY KEY (value_id, part)
);

-- For finding out whether a row has a value.
CREATE INDEX page_updates_large ON page_updates (data) WHERE typeof(data) = 'integer';
CREATE INDEX page_history_large ON page_history (data) WHERE typeof(data) = 'integer';
CREATE INDEX page_snapshots_large ON page_snapshots (state) WHERE typeof(state) = 'integer';
CREATE INDEX page_bases_large ON page_bases (state) WHERE typeof(state) = 'integer';

CREATE TRIGGER page_updates_large_gone AFTER DELETE ON page_updates WHEN typeof(OLD.data) = 'integer'
BEGIN
    UPDATE large_values SET is_loose = 1, writer = NULL WHERE id = OLD.data;
END;

CREATE TRIGGER page_history_large_gone AFTER DELETE ON page_history WHEN typeof(OLD.data) = 'integer'
BEGIN
    UPDATE large_values SET is_loose = 1, writer = NULL WHERE id = OLD.data;
END;

CREATE TRIGGER page_snapshots_large_gone AFTER DELETE ON page_snapshots WHEN typeof(OLD.state) = 'integer'
BEGIN
    UPDATE large_values SET is_loose = 1, writer = NULL WHERE id = OLD.state;
END;

CREATE TRIGGER page_snapshots_large_replaced AFTER UPDATE OF state ON page_snapshots WHEN typeof(OLD.state) = 'integer'
BEGIN
    UPDATE large_values SET is_loose = 1, writer = NULL WHERE id = OLD.state;
END;

CREATE TRIGGER page_bases_large_gone AFTER DELETE ON page_bases WHEN typeof(OLD.state) = 'integer'
BEGIN
    UPDATE large_values SET is_loose = 1, writer = NULL WHERE id = OLD.state;
END;
