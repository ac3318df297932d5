-- Outbox entries end by age, lanes know their head, and waiting entries are counted by tenant.

-- 1 while the entry is the oldest one waiting in its lane, or has no lane: only heads are ever due.
ALTER TABLE outbox ADD COLUMN head INTEGER NOT NULL DEFAULT 1;
-- When its age began, if that was not when it was created: it was retried by hand.
ALTER TABLE outbox ADD COLUMN since_ms INTEGER;
-- When a target that took other entries first refused this one.
ALTER TABLE outbox ADD COLUMN refused_ms INTEGER;
-- Who ended it by hand (state 3, dropped), and why.
ALTER TABLE outbox ADD COLUMN dropped_by TEXT;
ALTER TABLE outbox ADD COLUMN dropped_reason TEXT;

DROP INDEX outbox_due;
DROP INDEX outbox_lane;
CREATE INDEX outbox_lane ON outbox (lane, target, kind) WHERE state = 0 AND lane IS NOT NULL;

UPDATE outbox SET head = 0
WHERE state = 0 AND lane IS NOT NULL
  AND EXISTS (SELECT 1 FROM outbox e
              WHERE e.state = 0 AND e.lane = outbox.lane AND e.target = outbox.target AND e.kind = outbox.kind
                AND e.id < outbox.id);

CREATE INDEX outbox_due ON outbox (kind, target, due_ms) WHERE state = 0 AND head = 1;
CREATE INDEX outbox_turn ON outbox (kind, target, tenant, due_ms) WHERE state = 0 AND head = 1;
CREATE INDEX outbox_ended ON outbox (state, target) WHERE state > 1;

-- How many wait, by tenant and target. Kept by the triggers below.
CREATE TABLE outbox_waiting (
    tenant  INTEGER NOT NULL REFERENCES tenant,
    kind    INTEGER NOT NULL,
    target  TEXT NOT NULL,
    entries INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, target)
) STRICT, WITHOUT ROWID;
INSERT INTO outbox_waiting (tenant, kind, target, entries)
SELECT tenant, kind, target, count(*) FROM outbox WHERE state = 0 GROUP BY tenant, kind, target;

CREATE TRIGGER outbox_added AFTER INSERT ON outbox WHEN new.state = 0 BEGIN
    INSERT INTO outbox_waiting (tenant, kind, target, entries) VALUES (new.tenant, new.kind, new.target, 1)
    ON CONFLICT DO UPDATE SET entries = entries + 1;
END;
CREATE TRIGGER outbox_ended AFTER UPDATE OF state ON outbox WHEN old.state = 0 AND new.state <> 0 BEGIN
    UPDATE outbox_waiting SET entries = entries - 1
    WHERE tenant = new.tenant AND kind = new.kind AND target = new.target;
END;
CREATE TRIGGER outbox_revived AFTER UPDATE OF state ON outbox WHEN old.state <> 0 AND new.state = 0 BEGIN
    INSERT INTO outbox_waiting (tenant, kind, target, entries) VALUES (new.tenant, new.kind, new.target, 1)
    ON CONFLICT DO UPDATE SET entries = entries + 1;
END;

-- Goes up with each change by hand, so that a running service sees it.
INSERT INTO sequence (name, last) VALUES ('outbox_changed', 0);
