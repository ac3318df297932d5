-- Alerts of Postroom itself, such as that of a mailbox that is not checked in time: no mail and no decision caused them.

ALTER TABLE item ALTER COLUMN decision DROP NOT NULL;
ALTER TABLE outbox ALTER COLUMN decision DROP NOT NULL;

-- The mailbox that an alert without a decision is about. All other items have the mailbox of their mail.
ALTER TABLE item ADD COLUMN mailbox INTEGER REFERENCES mailbox;
CREATE INDEX item_of_service ON item (id) WHERE mailbox IS NOT NULL;
