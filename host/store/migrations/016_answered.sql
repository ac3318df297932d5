-- The conversations in which a person had an answer that is sent only once, by the Message-IDs of their mails.
CREATE TABLE answered (
    tenant      INTEGER NOT NULL REFERENCES tenant,
    -- In lower case.
    person      TEXT NOT NULL,
    message_id  TEXT NOT NULL,
    answered_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, person, message_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX answered_when ON answered (answered_ms);
