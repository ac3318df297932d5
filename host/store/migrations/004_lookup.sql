-- What rules look up: open tickets by their words, firing alerts, and since when an alert is in its state.

-- name: '' for the requester's bare address in lower case, else the name of a field. Short values only. Those of tickets that
-- are there already are noted by the program, by the same code as those of new ones.
CREATE TABLE ticket_word (
    tenant INTEGER NOT NULL REFERENCES tenant,
    name   TEXT NOT NULL,
    value  TEXT NOT NULL,
    ticket INTEGER NOT NULL,
    PRIMARY KEY (tenant, name, value, ticket)
) STRICT, WITHOUT ROWID;

CREATE INDEX item_open ON item (tenant, ticket) WHERE kind = 0 AND state = 'open';
CREATE INDEX item_firing ON item (tenant, id) WHERE kind = 2 AND state = 'firing';

-- Null while an alert never changed its state: then it is so since it was created.
ALTER TABLE item ADD COLUMN since_ms INTEGER;
