-- Shadows: a candidate that decides a mailbox's next mails beside the rule that serves.

-- state: 0 running, 1 to be promoted, 2 finished, 3 stopped, 4 promoted, 5 failed.
-- newest: the journal's last mail when it began; of those up to it only what was decided later is meant.
-- reached: up to this mail the mailbox's are all decided, and looked at.
-- AUTOINCREMENT: a late result must never hit a newer shadow.
CREATE TABLE shadow (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant       TEXT NOT NULL,
    mailbox      TEXT NOT NULL,
    rule         TEXT NOT NULL,
    hash         BLOB NOT NULL,
    replaces     BLOB NOT NULL,
    limit_us     INTEGER NOT NULL,
    limit_memory INTEGER NOT NULL,
    wanted       INTEGER NOT NULL,
    promote      INTEGER NOT NULL,
    began_ms     INTEGER NOT NULL,
    ended_ms     INTEGER,
    newest       INTEGER NOT NULL,
    reached      INTEGER NOT NULL,
    state        INTEGER NOT NULL DEFAULT 0,
    reason       TEXT,
    same         INTEGER NOT NULL DEFAULT 0,
    changed      INTEGER NOT NULL DEFAULT 0,
    failed       INTEGER NOT NULL DEFAULT 0,
    mended       INTEGER NOT NULL DEFAULT 0,
    unrecorded   INTEGER NOT NULL DEFAULT 0,
    -- How many for which reason, as JSON.
    skipped      TEXT NOT NULL DEFAULT '{}',
    kept         INTEGER NOT NULL DEFAULT 0,
    kept_bytes   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX shadow_active ON shadow (mailbox) WHERE state < 2;

-- The candidate itself, for as long as it may still be promoted.
CREATE TABLE shadow_bytes (
    shadow INTEGER PRIMARY KEY REFERENCES shadow ON DELETE CASCADE,
    bytes  BLOB NOT NULL
) STRICT;

-- One row a mail: the primary key says that none counts twice. result: 0 same, 1 changed, 2 failed, 3 mended, 4 skipped.
-- words: what changed, or why it was skipped.
CREATE TABLE shadow_mail (
    shadow     INTEGER NOT NULL REFERENCES shadow ON DELETE CASCADE,
    journal    INTEGER NOT NULL,
    result     INTEGER NOT NULL,
    words      TEXT,
    unrecorded INTEGER NOT NULL,
    elapsed_us INTEGER,
    memory     INTEGER,
    trouble    TEXT,
    difference TEXT,
    PRIMARY KEY (shadow, journal)
) STRICT, WITHOUT ROWID;
