-- Generations were whole sets, one row a rule each. A rule's version is now one row for as long as it serves: from the
-- generation `since` to the one before `until`.

CREATE TABLE rule_version (
    tenant   TEXT NOT NULL,
    name     TEXT NOT NULL,
    since    INTEGER NOT NULL,
    until    INTEGER,
    hash     BLOB NOT NULL REFERENCES rule_bytes,
    settings TEXT NOT NULL,
    grants   TEXT NOT NULL,
    PRIMARY KEY (tenant, name, since)
) STRICT, WITHOUT ROWID;

WITH known AS (
    SELECT g.*, row_number() OVER run - generation AS stretch
    FROM generation_rule g
    WINDOW run AS (PARTITION BY tenant, name, hash, settings, grants ORDER BY generation)
)
INSERT INTO rule_version (tenant, name, since, until, hash, settings, grants)
SELECT tenant, name, min(generation),
       nullif(max(generation), (SELECT max(number) FROM generation)) + 1,
       hash, settings, grants
FROM known GROUP BY tenant, name, hash, settings, grants, stretch;

DROP TABLE generation_rule;
CREATE INDEX rule_version_hash ON rule_version (hash);
CREATE UNIQUE INDEX rule_version_live ON rule_version (tenant, name) WHERE until IS NULL;
CREATE INDEX rule_version_until ON rule_version (until) WHERE until IS NOT NULL;

-- How a generation came to be, and the hash of all that is in it.
ALTER TABLE generation ADD COLUMN cause TEXT NOT NULL DEFAULT 'saved';
ALTER TABLE generation ADD COLUMN hash BLOB;

-- Versions that must not go live again until their file changes.
CREATE TABLE rule_refused (
    tenant     TEXT NOT NULL,
    name       TEXT NOT NULL,
    hash       BLOB NOT NULL,
    reason     TEXT NOT NULL,
    refused_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, name, hash)
) STRICT, WITHOUT ROWID;
