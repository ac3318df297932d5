-- Alerts are ordered by when their mails were sent, and held at times; mails are expected; tickets are closed.

-- The earliest and the latest time at which an alert's mails were sent.
ALTER TABLE item ADD COLUMN first_seen_ms INTEGER;
ALTER TABLE item ADD COLUMN last_seen_ms INTEGER;
-- The state that the targets know; null if they never received the alert.
ALTER TABLE item ADD COLUMN announced TEXT;
-- The times of its last changes of state, as a JSON list.
ALTER TABLE item ADD COLUMN changes TEXT;
-- Why its changes are recorded only (maintenance, flapping, storm), and until when; null for ever.
ALTER TABLE item ADD COLUMN held TEXT;
ALTER TABLE item ADD COLUMN held_until_ms INTEGER;
CREATE INDEX item_held ON item (held_until_ms) WHERE held_until_ms IS NOT NULL;
UPDATE item SET first_seen_ms = created_ms, last_seen_ms = updated_ms, announced = CASE WHEN old THEN NULL ELSE state END
WHERE kind = 2;

-- When a ticket was closed, and why. Its state is open, pending or closed.
ALTER TABLE item ADD COLUMN closed_ms INTEGER;
ALTER TABLE item ADD COLUMN close_reason TEXT;
DROP INDEX item_open;
CREATE INDEX item_open ON item (tenant, ticket) WHERE kind = 0 AND state <> 'closed';

-- The mails that rules expect. journal: the mail that expected it last. overdue: 0 waiting, 1 its alert was raised, 2 its alert was
-- firing already when it became due.
CREATE TABLE expectation (
    tenant    INTEGER NOT NULL REFERENCES tenant,
    key       TEXT NOT NULL,
    journal   INTEGER NOT NULL REFERENCES journal,
    within_ms INTEGER NOT NULL,
    due_ms    INTEGER NOT NULL,
    overdue   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX expectation_due ON expectation (due_ms) WHERE overdue = 0;

-- The alerts of each tenant that began to fire lately. mailbox: where the storm's alert belongs.
CREATE TABLE alert_storm (
    tenant   INTEGER PRIMARY KEY REFERENCES tenant,
    mailbox  INTEGER NOT NULL REFERENCES mailbox,
    began_ms INTEGER NOT NULL,
    alerts   INTEGER NOT NULL,
    is_on    INTEGER NOT NULL,
    held     INTEGER NOT NULL,
    ends_ms  INTEGER NOT NULL
) STRICT;
CREATE INDEX alert_storm_on ON alert_storm (ends_ms) WHERE is_on = 1;
