-- The marks of mails that opened a ticket, added a note or reported an alert: a copy of one is not decided like a mail of its own.
CREATE TABLE mail_copy (
    tenant      INTEGER NOT NULL REFERENCES tenant,
    mark        BLOB NOT NULL,
    journal     INTEGER NOT NULL REFERENCES journal,
    -- Whether the trusted boundary confirmed its sender.
    confirmed   INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, mark, journal)
) STRICT, WITHOUT ROWID;
CREATE INDEX mail_copy_received ON mail_copy (received_ms);
