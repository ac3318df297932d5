-- The straight line: journal, decisions, items, outbox, acknowledgements, rule memory and generations.
-- Times are milliseconds since 1970 in UTC. Small hot rows and large cold ones live in tables of their own.

CREATE TABLE tenant (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE mailbox (
    id       INTEGER PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE,
    cursor   TEXT,
    state    TEXT,
    detail   TEXT,
    since_ms INTEGER
) STRICT;

-- One row a mail, never changed.
CREATE TABLE journal (
    id           INTEGER PRIMARY KEY,
    tenant       INTEGER NOT NULL REFERENCES tenant,
    mailbox      INTEGER NOT NULL REFERENCES mailbox,
    received_ms  INTEGER NOT NULL,
    size         INTEGER NOT NULL,
    whole        INTEGER NOT NULL,
    -- 64 bits of SHA-256 over tenant and message_id: what dedupe and threading look for first, then compare in full.
    message_key  INTEGER NOT NULL,
    content_hash BLOB NOT NULL,
    message_id   TEXT NOT NULL
) STRICT;
CREATE INDEX journal_message ON journal (message_key, content_hash);

CREATE TABLE raw (
    journal INTEGER PRIMARY KEY REFERENCES journal,
    bytes   BLOB NOT NULL
) STRICT;

-- The mails not decided yet: the line's work list.
CREATE TABLE pending (
    mailbox  INTEGER NOT NULL REFERENCES mailbox,
    journal  INTEGER NOT NULL REFERENCES journal,
    attempts INTEGER NOT NULL DEFAULT 0,
    error    TEXT,
    PRIMARY KEY (mailbox, journal)
) STRICT, WITHOUT ROWID;

-- What is still to be acknowledged on a server; due once decided, deleted once done.
-- AUTOINCREMENT: a late answer for a deleted row must never hit a newer one.
CREATE TABLE ack (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    mailbox  INTEGER NOT NULL REFERENCES mailbox,
    journal  INTEGER NOT NULL REFERENCES journal,
    position TEXT NOT NULL,
    due_ms   INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    error    TEXT,
    UNIQUE (mailbox, position)
) STRICT;
CREATE INDEX ack_due ON ack (mailbox, due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX ack_journal ON ack (journal);

-- One decision a mail: the primary key says so. outcome: 0 ticket, 1 note, 2 alert, 3 ignored, 4 quarantined.
CREATE TABLE decision (
    journal    INTEGER PRIMARY KEY REFERENCES journal,
    outcome    INTEGER NOT NULL,
    ticket     INTEGER,
    decided_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX decision_quarantined ON decision (journal) WHERE outcome = 4;

-- The reasons, as JSON.
CREATE TABLE decision_record (
    journal INTEGER PRIMARY KEY REFERENCES decision,
    record  TEXT NOT NULL
) STRICT;

CREATE TABLE sequence (
    name TEXT PRIMARY KEY,
    last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO sequence (name, last) VALUES ('ticket', 0);

-- kind: 0 ticket, 1 note, 2 alert. ticket: its own number, or the one a note belongs to.
CREATE TABLE item (
    id         INTEGER PRIMARY KEY,
    kind       INTEGER NOT NULL,
    tenant     INTEGER NOT NULL REFERENCES tenant,
    decision   INTEGER NOT NULL REFERENCES decision,
    ticket     INTEGER,
    alert_key  TEXT,
    state      TEXT NOT NULL,
    count      INTEGER NOT NULL DEFAULT 1,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    title      TEXT,
    priority   TEXT,
    queue      TEXT,
    detail     TEXT NOT NULL,
    body       TEXT
) STRICT;
CREATE UNIQUE INDEX item_ticket ON item (ticket) WHERE kind = 0;
CREATE UNIQUE INDEX item_alert ON item (tenant, alert_key) WHERE kind = 2;

-- Who may write to a ticket: its requester and everyone on its mails. Addresses in lower case.
CREATE TABLE participant (
    ticket INTEGER NOT NULL,
    email  TEXT NOT NULL,
    PRIMARY KEY (ticket, email)
) STRICT, WITHOUT ROWID;

-- The Message-IDs of mails sent for a ticket; those received are found by journal and decision.
CREATE TABLE sent (
    message_key INTEGER NOT NULL,
    message_id  TEXT NOT NULL,
    ticket      INTEGER NOT NULL,
    PRIMARY KEY (message_key, message_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE kv (
    tenant INTEGER NOT NULL REFERENCES tenant,
    rule   TEXT NOT NULL,
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (tenant, rule, key)
) STRICT, WITHOUT ROWID;

-- kind: 0 sink, 1 mail. state: 0 waiting, 1 delivered, 2 dead. lane: the item whose entries keep their order within a target.
CREATE TABLE outbox (
    id              INTEGER PRIMARY KEY,
    kind            INTEGER NOT NULL,
    target          TEXT NOT NULL,
    tenant          INTEGER NOT NULL REFERENCES tenant,
    decision        INTEGER NOT NULL REFERENCES decision,
    lane            INTEGER REFERENCES item,
    state           INTEGER NOT NULL DEFAULT 0,
    attempts        INTEGER NOT NULL DEFAULT 0,
    created_ms      INTEGER NOT NULL,
    due_ms          INTEGER NOT NULL,
    finished_ms     INTEGER,
    idempotency_key TEXT NOT NULL,
    receipt         TEXT,
    error           TEXT,
    payload         TEXT NOT NULL
) STRICT;
CREATE INDEX outbox_decision ON outbox (decision);
CREATE INDEX outbox_due ON outbox (target, due_ms) WHERE state = 0;
CREATE INDEX outbox_lane ON outbox (lane, target) WHERE state = 0 AND lane IS NOT NULL;

CREATE TABLE generation (
    number   INTEGER PRIMARY KEY,
    saved_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE rule_bytes (
    hash  BLOB PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE generation_rule (
    generation INTEGER NOT NULL REFERENCES generation,
    tenant     TEXT NOT NULL,
    name       TEXT NOT NULL,
    hash       BLOB NOT NULL REFERENCES rule_bytes,
    settings   TEXT NOT NULL,
    grants     TEXT NOT NULL,
    PRIMARY KEY (generation, tenant, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX generation_rule_hash ON generation_rule (hash);
CREATE INDEX generation_rule_name ON generation_rule (tenant, name, generation);

-- raw_purged: the journal id up to which old raw bytes were dropped.
CREATE TABLE watermark (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO watermark (name, value) VALUES ('raw_purged', 0);
