-- What Pageroom knows of people: permissions on pages, who is signed out or blocked, and what was done.
--
-- Times are milliseconds since 1970 (UTC). Ids compare bytewise (BINARY is SQLite's default).

-- A role of a user on a page. `page_id` may be a prefix followed by `*`; the user `*` is everybody.
CREATE TABLE page_permissions (
    page_id    TEXT    NOT NULL,
    user_id    TEXT    NOT NULL,
    role       TEXT    NOT NULL CHECK (role IN ('view', 'comment', 'edit', 'admin')),
    -- When it ends; NULL for never.
    expires_at INTEGER,
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    PRIMARY KEY (page_id, user_id)
) WITHOUT ROWID;

-- Users of whom something is to be remembered. Not called `users`, which an application's own table usually is.
CREATE TABLE page_users (
    user_id       TEXT    NOT NULL PRIMARY KEY,
    -- Raised by every sign-out: tokens that name another version are refused. NULL before the first.
    token_version INTEGER,
    -- Tokens that name no version are refused when they were issued before this.
    signed_out_at INTEGER,
    blocked       INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- What was done and refused. Rows are added, and deleted only when they are older than the retention time.
CREATE TABLE access_audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    action  TEXT    NOT NULL,
    outcome TEXT    NOT NULL,
    user_id TEXT,
    page_id TEXT,
    address TEXT,
    detail  TEXT    NOT NULL
);
CREATE INDEX access_audit_by_time ON access_audit (at);
CREATE INDEX access_audit_by_user ON access_audit (user_id, id);
