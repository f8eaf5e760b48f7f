-- Pages are found by the words of their text.

-- The words of a snapshot, which the server makes out, because what a word is must not depend on the locale of the database. What was
-- stored before is found by the words that PostgreSQL makes out, until the next snapshot of the page. Never longer than a tsvector can be.
CREATE TABLE page_words (
    page_id text COLLATE "C" NOT NULL PRIMARY KEY,
    words   tsvector         NOT NULL
);
INSERT INTO page_words (page_id, words) SELECT page_id, to_tsvector('simple', left(text, 50000)) FROM page_snapshots;
CREATE INDEX page_words_by_word ON page_words USING gin (words);
