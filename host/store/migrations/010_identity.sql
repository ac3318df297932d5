-- Identity: the installation, where each mail was first seen, what was seen again, and how the last run ended.

-- One row. The secret is base64; a copy of both lies outside the data folder.
CREATE TABLE installation (
    id     TEXT PRIMARY KEY,
    secret TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- 64 bits of SHA-256 over the position at which the mail was first seen; none for mail journalled before this step.
ALTER TABLE journal ADD COLUMN place INTEGER;

-- A mail that came again at another place, and was not decided again. One row a place.
CREATE TABLE repeat (
    journal INTEGER NOT NULL REFERENCES journal,
    place   INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL,
    PRIMARY KEY (journal, place)
) STRICT, WITHOUT ROWID;

-- running: 1 while a service runs. crashes: runs in a row that did not stop cleanly. clock: the last time that was confirmed, in ms.
CREATE TABLE state (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO state (name, value) VALUES ('running', 0), ('crashes', 0);
