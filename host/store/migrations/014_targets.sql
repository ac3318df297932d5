-- Events wait in a form of their own, which each target renders; what a target calls an item is kept.

UPDATE outbox SET payload = json_object(
    'kind', payload ->> '$.type',
    'timestamp', payload ->> '$.timestamp',
    'item', json_remove(payload, '$.data.decision', '$.data.mailbox', '$.data.message_id') -> '$.data',
    'decision', payload ->> '$.data.decision',
    'mailbox', payload ->> '$.data.mailbox',
    'message_id', payload ->> '$.data.message_id')
WHERE kind = 0 AND CASE WHEN json_valid(payload) THEN coalesce(json_type(payload, '$.data'), '') = 'object' ELSE 0 END;

-- A ticket, note or alert as a target knows it: its id there, the number that people there use, its address.
CREATE TABLE external_ref (
    item   INTEGER NOT NULL REFERENCES item,
    target TEXT NOT NULL,
    id     TEXT NOT NULL,
    number TEXT,
    url    TEXT,
    PRIMARY KEY (item, target)
) STRICT, WITHOUT ROWID;
