-- What user $1 may do in the room named $2, by the tables of PageSpace, and until when. The name is the id of a page, or one of
-- `drive:ID`, `dm:ID`, `conv:ID` and `session:ID`; a page's id that is a drive's is meant as the drive. No row: nothing.
WITH asked AS (
    SELECT $1::text AS member, spelled.kind,
        CASE spelled.kind WHEN 'page' THEN $2::text ELSE substr($2::text, strpos($2::text, ':') + 1) END AS id
    FROM (SELECT CASE strpos($2::text, ':') WHEN 0 THEN 'page' ELSE split_part($2::text, ':', 1) END AS kind) AS spelled
),
-- The page that decides: the one itself, or the one that a conversation is shared at.
wanted AS (
    SELECT id FROM asked WHERE kind = 'page'
    UNION ALL
    SELECT c."contextId" FROM asked JOIN conversations c ON asked.kind = 'conv' AND c.id = asked.id
    WHERE c."isShared" AND c.type::text = 'page'
),
-- Whoever is invited and has not accepted yet is no member.
member AS (
    SELECT m."driveId" AS drive, m.role::text AS role, m."customRoleId" AS custom
    FROM asked JOIN drive_members m ON m."userId" = asked.member
    WHERE m."acceptedAt" IS NOT NULL
),
permission AS (
    SELECT p."pageId" AS page, p."canView" AS views, p."canEdit" AS edits, p."expiresAt" AS ends
    FROM asked JOIN page_permissions p ON p."userId" = asked.member
    WHERE p."expiresAt" IS NULL OR p."expiresAt" > now()
),
page AS (
    SELECT p.id, p.type::text AS type, p."isPrivate" AS is_private, d."ownerId" = asked.member AS is_owner,
        member.role, member.drive, member.custom, permission.page AS permitted, permission.views, permission.edits,
        permission.ends,
        -- What a role says of the page counts before what it says of the whole drive, which has no private pages.
        coalesce(r.permissions -> p.id, CASE WHEN NOT p."isPrivate" THEN r.drive_wide_permissions END) AS said
    FROM asked CROSS JOIN wanted
        JOIN pages p ON p.id = wanted.id
        JOIN drives d ON d.id = p."driveId"
        LEFT JOIN member ON member.drive = d.id
        LEFT JOIN permission ON permission.page = p.id
        LEFT JOIN drive_roles r ON r.id = member.custom AND r."driveId" = d.id
    WHERE NOT p."isTrashed" AND NOT d."isTrashed"
),
decided AS (
    SELECT CASE
            WHEN is_owner OR role IN ('OWNER', 'ADMIN') THEN 'admin'
            WHEN permitted IS NOT NULL THEN CASE WHEN NOT views THEN NULL WHEN edits THEN 'edit' ELSE 'view' END
            WHEN custom IS NOT NULL THEN CASE
                WHEN NOT coalesce((said ->> 'canView')::boolean, false) THEN NULL
                WHEN coalesce((said ->> 'canEdit')::boolean, false) THEN 'edit'
                ELSE 'view' END
            WHEN drive IS NULL OR is_private THEN NULL
            WHEN type = 'CHANNEL' THEN 'edit'
            ELSE 'view'
        END AS role,
        CASE WHEN NOT is_owner AND role IS DISTINCT FROM 'OWNER' AND role IS DISTINCT FROM 'ADMIN' THEN ends END AS ends
    FROM page
    UNION ALL
    SELECT CASE
            WHEN d."ownerId" = asked.member OR member.role IN ('OWNER', 'ADMIN') THEN 'admin'
            WHEN member.drive IS NOT NULL THEN 'edit'
            WHEN asked.kind = 'drive' AND EXISTS (
                SELECT 1 FROM permission JOIN pages p ON p.id = permission.page
                WHERE p."driveId" = d.id AND permission.views
            ) THEN 'view'
        END, NULL
    FROM asked
        JOIN drives d ON d.id = asked.id
        LEFT JOIN member ON member.drive = d.id
    WHERE NOT d."isTrashed"
        AND (asked.kind = 'drive' OR (asked.kind = 'page' AND NOT EXISTS (SELECT 1 FROM pages p WHERE p.id = asked.id)))
    UNION ALL
    SELECT 'edit', NULL FROM asked JOIN dm_conversations c ON asked.kind = 'dm' AND c.id = asked.id
    WHERE asked.member IN (c."participant1Id", c."participant2Id")
    UNION ALL
    SELECT 'edit', NULL FROM asked JOIN conversations c ON asked.kind = 'conv' AND c.id = asked.id
    WHERE c."userId" = asked.member
    UNION ALL
    SELECT 'edit', NULL
    FROM asked
        JOIN agent_workspaces w ON asked.kind = 'session' AND w.id = asked.id
        LEFT JOIN drives d ON d.id = w."driveId"
        LEFT JOIN member ON member.drive = d.id
    WHERE (w."driveId" IS NULL AND w."ownerId" = asked.member)
        OR (NOT d."isTrashed" AND (d."ownerId" = asked.member OR member.drive IS NOT NULL))
)
SELECT role, (extract(epoch FROM ends) * 1000)::bigint
FROM decided
WHERE role IS NOT NULL
ORDER BY CASE role WHEN 'admin' THEN 0 WHEN 'edit' THEN 1 ELSE 2 END, ends DESC NULLS FIRST
