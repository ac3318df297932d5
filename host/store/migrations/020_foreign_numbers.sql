-- Ticket numbers of other systems in the subjects of a ticket's mails. In capitals.
CREATE TABLE foreign_number (
    tenant INTEGER NOT NULL REFERENCES tenant,
    number TEXT NOT NULL,
    ticket INTEGER NOT NULL,
    PRIMARY KEY (tenant, number, ticket)
) STRICT, WITHOUT ROWID;
