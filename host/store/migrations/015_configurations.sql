-- The configurations that a service applied, newest last, and the texts of their files from one configuration up to another.

CREATE TABLE configuration (
    number     INTEGER PRIMARY KEY,
    applied_ms INTEGER NOT NULL,
    changes    TEXT NOT NULL
) STRICT;

CREATE TABLE configuration_file (
    name  TEXT NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER,
    text  TEXT NOT NULL,
    PRIMARY KEY (name, since)
) STRICT, WITHOUT ROWID;
