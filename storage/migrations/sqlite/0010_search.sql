-- Pages are found by the words of their text.

-- The words, which the server makes out, by the `id` of the page's head. The text itself is in the snapshot, and not here again. What was
-- stored before is found by the words that SQLite makes out, until the next snapshot of the page.
CREATE VIRTUAL TABLE page_words USING fts5 (words, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 0');
INSERT INTO page_words (rowid, words)
SELECT h.id, substr(s.text, 1, 50000) FROM page_snapshots s JOIN page_heads h ON h.page_id = s.page_id;
