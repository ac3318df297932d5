-- How live versions of rules did on their last mails, oldest first: x a failure, . none. Only of those with a failure.

CREATE TABLE rule_strikes (
    tenant TEXT NOT NULL,
    name   TEXT NOT NULL,
    hash   BLOB NOT NULL,
    last   TEXT NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;
