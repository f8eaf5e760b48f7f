-- What a user may see is listed without looking at everybody else's permissions.

CREATE INDEX page_permissions_by_user ON page_permissions (user_id, page_id);
