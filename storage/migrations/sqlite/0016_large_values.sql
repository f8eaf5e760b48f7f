-- Values of many megabytes, in parts: nobody who writes waits for a whole one.
--
-- Where `page_updates.data`, `page_history.data`, `page_snapshots.state` or `page_bases.state` is a number, the bytes are those of the value
-- with this number. A value belongs to one row, and goes with its number where that is moved.
CREATE TABLE large_values (
    id     INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    -- In bytes.
    size   INTEGER NOT NULL,
    -- 'writing': no row has had it yet. 'kept': a row has it. 'unused': no row has it any more. 'going': its parts are being deleted, and
    -- no row can get it.
    status TEXT    NOT NULL DEFAULT 'writing' CHECK (status IN ('writing', 'kept', 'unused', 'going')),
    -- Of one that is being written: who does it, and alone knows whether it still goes on.
    writer TEXT
);
CREATE INDEX large_values_without_row ON large_values (status) WHERE status <> 'kept';

CREATE TABLE large_value_parts (
    value_id INTEGER NOT NULL,
    part     INTEGER NOT NULL,
    bytes    BLOB    NOT NULL,
    PRIMARY KEY (value_id, part)
);

CREATE TRIGGER large_value_parts_late BEFORE INSERT ON large_value_parts
WHEN NOT EXISTS (SELECT 1 FROM large_values WHERE id = NEW.value_id AND status = 'writing')
BEGIN
    SELECT RAISE(ABORT, 'a large value was deleted before all of it was written');
END;

CREATE INDEX page_updates_large ON page_updates (data) WHERE typeof(data) = 'integer';
CREATE INDEX page_history_large ON page_history (data) WHERE typeof(data) = 'integer';
CREATE INDEX page_snapshots_large ON page_snapshots (state) WHERE typeof(state) = 'integer';
CREATE INDEX page_bases_large ON page_bases (state) WHERE typeof(state) = 'integer';

-- The values that rows have.
CREATE VIEW large_value_rows AS
SELECT data AS value_id FROM page_updates WHERE typeof(data) = 'integer'
UNION ALL SELECT data FROM page_history WHERE typeof(data) = 'integer'
UNION ALL SELECT state FROM page_snapshots WHERE typeof(state) = 'integer'
UNION ALL SELECT state FROM page_bases WHERE typeof(state) = 'integer';

CREATE TRIGGER page_updates_large_kept AFTER INSERT ON page_updates WHEN typeof(NEW.data) = 'integer'
BEGIN
    UPDATE large_values SET status = 'kept', writer = NULL WHERE id = NEW.data AND status <> 'going';
    SELECT RAISE(ABORT, 'a large value was deleted before its row was written') WHERE changes() = 0;
END;

CREATE TRIGGER page_updates_large_replaced_by AFTER UPDATE OF data ON page_updates WHEN typeof(NEW.data) = 'integer'
BEGIN
    UPDATE large_values SET status = 'kept', writer = NULL WHERE id = NEW.data AND status <> 'going';
    SELECT RAISE(ABORT, 'a large value was deleted before its row was written') WHERE changes() = 0;
END;

CREATE TRIGGER page_updates_large_gone AFTER DELETE ON page_updates WHEN typeof(OLD.data) = 'integer'
BEGIN
    UPDATE large_values SET status = 'unused'
    WHERE id = OLD.data AND NOT EXISTS (SELECT 1 FROM large_value_rows WHERE value_id = OLD.data);
END;

CREATE TRIGGER page_updates_large_replaced AFTER UPDATE OF data ON page_updates WHEN typeof(OLD.data) = 'integer'
BEGIN
    UPDATE large_values SET status = 'unused'
    WHERE id = OLD.data AND NOT EXISTS (SELECT 1 FROM large_value_rows WHERE value_id = OLD.data);
END;

CREATE TRIGGER page_history_large_kept AFTER INSERT ON page_history WHEN typeof(NEW.data) = 'integer'
BEGIN
    UPDATE large_values SET status = 'kept', writer = NULL WHERE id = NEW.data AND status <> 'going';
    SELECT RAISE(ABORT, 'a large value was deleted before its row was written') WHERE changes() = 0;
END;

CREATE TRIGGER page_history_large_replaced_by AFTER UPDATE OF data ON page_history WHEN typeof(NEW.data) = 'integer'
BEGIN
    UPDATE large_values SET status = 'kept', writer = NULL WHERE id = NEW.data AND status <> 'going';
    SELECT RAISE(ABORT, 'a large value was deleted before its row was written') WHERE changes() = 0;
END;

CREATE TRIGGER page_history_large_gone AFTER DELETE ON page_history WHEN typeof(OLD.data) = 'integer'
BEGIN
    UPDATE large_values SET status = 'unused'
    WHERE id = OLD.data AND NOT EXISTS (SELECT 1 FROM large_value_rows WHERE value_id = OLD.data);
END;

CREATE TRIGGER page_history_large_replaced AFTER UPDATE OF data ON page_history WHEN typeof(OLD.data) = 'integer'
BEGIN
    UPDATE large_values SET status = 'unused'
    WHERE id = OLD.data AND NOT EXISTS (SELECT 1 FROM large_value_rows WHERE value_id = OLD.data);
END;

CREATE TRIGGER page_snapshots_large_kept AFTER INSERT ON page_snapshots WHEN typeof(NEW.state) = 'integer'
BEGIN
    UPDATE large_values SET status = 'kept', writer = NULL WHERE id = NEW.state AND status <> 'going';
    SELECT RAISE(ABORT, 'a large value was deleted before its row was written') WHERE changes() = 0;
END;

CREATE TRIGGER page_snapshots_large_replaced_by AFTER UPDATE OF state ON page_snapshots WHEN typeof(NEW.state) = 'integer'
BEGIN
    UPDATE large_values SET status = 'kept', writer = NULL WHERE id = NEW.state AND status <> 'going';
    SELECT RAISE(ABORT, 'a large value was deleted before its row was written') WHERE changes() = 0;
END;

CREATE TRIGGER page_snapshots_large_gone AFTER DELETE ON page_snapshots WHEN typeof(OLD.state) = 'integer'
BEGIN
    UPDATE large_values SET status = 'unused'
    WHERE id = OLD.state AND NOT EXISTS (SELECT 1 FROM large_value_rows WHERE value_id = OLD.state);
END;

CREATE TRIGGER page_snapshots_large_replaced AFTER UPDATE OF state ON page_snapshots WHEN typeof(OLD.state) = 'integer'
BEGIN
    UPDATE large_values SET status = 'unused'
    WHERE id = OLD.state AND NOT EXISTS (SELECT 1 FROM large_value_rows WHERE value_id = OLD.state);
END;

CREATE TRIGGER page_bases_large_kept AFTER INSERT ON page_bases WHEN typeof(NEW.state) = 'integer'
BEGIN
    UPDATE large_values SET status = 'kept', writer = NULL WHERE id = NEW.state AND status <> 'going';
    SELECT RAISE(ABORT, 'a large value was deleted before its row was written') WHERE changes() = 0;
END;

CREATE TRIGGER page_bases_large_replaced_by AFTER UPDATE OF state ON page_bases WHEN typeof(NEW.state) = 'integer'
BEGIN
    UPDATE large_values SET status = 'kept', writer = NULL WHERE id = NEW.state AND status <> 'going';
    SELECT RAISE(ABORT, 'a large value was deleted before its row was written') WHERE changes() = 0;
END;

CREATE TRIGGER page_bases_large_gone AFTER DELETE ON page_bases WHEN typeof(OLD.state) = 'integer'
BEGIN
    UPDATE large_values SET status = 'unused'
    WHERE id = OLD.state AND NOT EXISTS (SELECT 1 FROM large_value_rows WHERE value_id = OLD.state);
END;

CREATE TRIGGER page_bases_large_replaced AFTER UPDATE OF state ON page_bases WHEN typeof(OLD.state) = 'integer'
BEGIN
    UPDATE large_values SET status = 'unused'
    WHERE id = OLD.state AND NOT EXISTS (SELECT 1 FROM large_value_rows WHERE value_id = OLD.state);
END;
