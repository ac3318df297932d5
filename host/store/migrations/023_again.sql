-- Mails that a person had decided again: what was decided before, and by whom that was ended.

-- How often the mail was decided again; part of the keys and Message-IDs that its decision makes.
ALTER TABLE journal ADD COLUMN repetition INTEGER NOT NULL DEFAULT 0;
-- Set for a mail that a person released from quarantine.
ALTER TABLE pending ADD COLUMN released INTEGER NOT NULL DEFAULT 0;

CREATE TABLE earlier_decision (
    journal    INTEGER NOT NULL REFERENCES journal,
    repetition INTEGER NOT NULL,
    outcome    INTEGER NOT NULL,
    decided_ms INTEGER NOT NULL,
    record     TEXT NOT NULL,
    ended_ms   INTEGER NOT NULL,
    ended_by   TEXT NOT NULL,
    reason     TEXT,
    PRIMARY KEY (journal, repetition)
) STRICT, WITHOUT ROWID;

INSERT INTO sequence (name, last) VALUES ('mail_again', 0);
