-- Pages in the trash: nobody may open them, and nothing of them is lost until they are restored.

-- Since when, in milliseconds since 1970 (UTC); NULL for a page that is not there.
ALTER TABLE page_heads ADD COLUMN deleted_at INTEGER;
