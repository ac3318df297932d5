-- The positions of journalled mail, for mailboxes whose source asks which positions are known: POP3 has no cursor that says so.
CREATE TABLE known_position (
    mailbox  INTEGER NOT NULL REFERENCES mailbox,
    position TEXT NOT NULL,
    PRIMARY KEY (mailbox, position)
) STRICT, WITHOUT ROWID;
