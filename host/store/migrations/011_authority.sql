-- Old mail is decided and listed, and sent nowhere; automatic mail is counted.

-- Whether a mail is older than its mailbox's first contact, or was imported as old.
ALTER TABLE journal ADD COLUMN old INTEGER NOT NULL DEFAULT 0;
-- Whether only old mail made the item.
ALTER TABLE item ADD COLUMN old INTEGER NOT NULL DEFAULT 0;

-- The replies and forwards of the last hour, one row a recipient. Addresses in lower case.
CREATE TABLE automatic (
    id      INTEGER PRIMARY KEY,
    tenant  INTEGER NOT NULL REFERENCES tenant,
    email   TEXT NOT NULL,
    -- Which of the mail's recipients: mails are counted by their first.
    nth     INTEGER NOT NULL,
    ticket  INTEGER,
    sent_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX automatic_email ON automatic (tenant, email);
CREATE INDEX automatic_ticket ON automatic (tenant, ticket) WHERE ticket IS NOT NULL;
CREATE INDEX automatic_sent ON automatic (sent_ms);

-- What a limit of automatic mail holds back, and since when: the log names it once an hour.
CREATE TABLE braked (
    tenant   INTEGER NOT NULL REFERENCES tenant,
    what     TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, what)
) STRICT, WITHOUT ROWID;
