-- From which generation on a tenant's rules are known, where older versions of them were dropped.
CREATE TABLE rule_history (
    tenant TEXT PRIMARY KEY,
    since  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What a generation changed is looked up by both ends of its versions; `until` has its index.
CREATE INDEX rule_version_since ON rule_version (since);
