-- What rules look up: open tickets by their words, firing alerts, and since when an alert is in its state.

-- name: '' for the requester's bare address in lower case, else the name of a field. Short values only.
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

INSERT OR IGNORE INTO ticket_word (tenant, name, value, ticket)
SELECT tenant, '',
       lower(trim(CASE WHEN requester LIKE '%<%>%'
                       THEN substr(requester, instr(requester, '<') + 1, instr(requester, '>') - instr(requester, '<') - 1)
                       ELSE requester END)),
       ticket
FROM (SELECT tenant, ticket, CASE WHEN json_valid(detail) THEN detail ->> '$.requester' END AS requester
      FROM item WHERE kind = 0)
WHERE octet_length(requester) BETWEEN 1 AND 400;

INSERT OR IGNORE INTO ticket_word (tenant, name, value, ticket)
SELECT i.tenant, f.key,
       CASE f.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(f.value AS TEXT) END,
       i.ticket
FROM item i, json_each(CASE WHEN json_valid(i.detail) THEN i.detail ELSE '{}' END, '$.fields') f
WHERE i.kind = 0 AND f.type IN ('text', 'integer', 'real', 'true', 'false')
  AND octet_length(f.key) BETWEEN 1 AND 200 AND octet_length(f.atom) <= 200;
