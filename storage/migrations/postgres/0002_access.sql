-- What Pageroom knows of people: permissions on pages, who is signed out or blocked, and what was done.
--
-- Ids compare bytewise (COLLATE "C"), in every database and whatever its locale.

-- A role of a user on a page. `page_id` may be a prefix followed by `*`; the user `*` is everybody.
CREATE TABLE page_permissions (
    page_id    text COLLATE "C" NOT NULL,
    user_id    text COLLATE "C" NOT NULL,
    role       text             NOT NULL CHECK (role IN ('view', 'comment', 'edit', 'admin')),
    -- When it ends; NULL for never.
    expires_at timestamptz,
    updated_at timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (page_id, user_id)
);

-- Users of whom something is to be remembered. Not called `users`, which an application's own table usually is.
CREATE TABLE page_users (
    user_id       text COLLATE "C" NOT NULL PRIMARY KEY,
    -- Raised by every sign-out: tokens that name another version are refused. NULL before the first.
    token_version bigint,
    -- Tokens that name no version are refused when they were issued before this.
    signed_out_at timestamptz,
    blocked       boolean          NOT NULL DEFAULT false
);

-- What was done and refused. Rows are added, and deleted only when they are older than the retention time.
CREATE TABLE access_audit (
    id      bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz      NOT NULL,
    action  text             NOT NULL,
    outcome text             NOT NULL,
    user_id text COLLATE "C",
    page_id text COLLATE "C",
    address text,
    detail  text             NOT NULL
);
CREATE INDEX access_audit_by_time ON access_audit (at);
CREATE INDEX access_audit_by_user ON access_audit (user_id, id);

-- Every process hears of every change, whoever makes it. An application's own tables may have such triggers too.
CREATE FUNCTION pageroom_announce_permission() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM pg_notify('pageroom_access', json_build_object('userId', OLD.user_id, 'pageId', OLD.page_id)::text);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM pg_notify('pageroom_access', json_build_object('userId', NEW.user_id, 'pageId', NEW.page_id)::text);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER pageroom_announce AFTER INSERT OR UPDATE OR DELETE ON page_permissions
    FOR EACH ROW EXECUTE FUNCTION pageroom_announce_permission();

CREATE FUNCTION pageroom_announce_user() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('pageroom_access', json_build_object('userId', coalesce(NEW.user_id, OLD.user_id))::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER pageroom_announce AFTER INSERT OR UPDATE OR DELETE ON page_users
    FOR EACH ROW EXECUTE FUNCTION pageroom_announce_user();
