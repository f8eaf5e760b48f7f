-- What has been in the trash for long is found without looking at all pages.

-- Appending to a page changes nothing that is in this index.
CREATE INDEX page_heads_in_trash ON page_heads (deleted_at) WHERE deleted_at IS NOT NULL;
