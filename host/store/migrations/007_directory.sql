-- The files of contacts and assets as they last were good, so that a start with a broken one serves what served before it.

CREATE TABLE directory_file (
    tenant TEXT NOT NULL,
    -- contacts or assets
    kind   TEXT NOT NULL,
    -- As the configuration names it.
    name   TEXT NOT NULL,
    hash   BLOB NOT NULL,
    bytes  BLOB NOT NULL,
    PRIMARY KEY (tenant, kind)
) STRICT;
