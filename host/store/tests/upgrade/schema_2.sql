-- All that the store of commit 3213f17 wrote (schema 2), dumped as SQL by `.dump`; user_version is not part of a dump.
BEGIN TRANSACTION;
CREATE TABLE ack (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    mailbox  INTEGER NOT NULL REFERENCES mailbox,
    journal  INTEGER NOT NULL REFERENCES journal,
    position TEXT NOT NULL,
    due_ms   INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    error    TEXT,
    UNIQUE (mailbox, position)
) STRICT;
INSERT INTO "ack" VALUES(1,1,1,'INBOX/acme requester 0',1795716402049,0,NULL);
INSERT INTO "ack" VALUES(2,1,2,'INBOX/acme requester 1',1795716402057,0,NULL);
INSERT INTO "ack" VALUES(3,1,3,'INBOX/acme requester 2',1795716402065,0,NULL);
INSERT INTO "ack" VALUES(4,1,4,'INBOX/acme requester 3',1795716402073,0,NULL);
INSERT INTO "ack" VALUES(5,1,5,'INBOX/acme requester 4',1795716402081,0,NULL);
INSERT INTO "ack" VALUES(6,1,6,'INBOX/acme requester 5',1795716402089,0,NULL);
INSERT INTO "ack" VALUES(7,1,7,'INBOX/acme requester 6',1795716402093,0,NULL);
INSERT INTO "ack" VALUES(8,1,8,'INBOX/acme nobody',1795716402101,0,NULL);
INSERT INTO "ack" VALUES(9,1,9,'INBOX/acme fields',1795716402109,0,NULL);
INSERT INTO "ack" VALUES(10,2,10,'INBOX/bolt foreign',1795716402117,0,NULL);
INSERT INTO "ack" VALUES(11,1,11,'INBOX/note',1795716402125,0,NULL);
INSERT INTO "ack" VALUES(12,1,12,'INBOX/fires',1795716402133,0,NULL);
INSERT INTO "ack" VALUES(13,1,13,'INBOX/again',1795716402141,0,NULL);
INSERT INTO "ack" VALUES(14,1,14,'INBOX/cpu',1795716402149,0,NULL);
INSERT INTO "ack" VALUES(15,1,15,'INBOX/over',1795716402161,0,NULL);
INSERT INTO "ack" VALUES(16,1,16,'INBOX/remembers',1795716402165,0,NULL);
INSERT INTO "ack" VALUES(17,2,17,'INBOX/undecided',NULL,0,NULL);
CREATE TABLE decision (
    journal    INTEGER PRIMARY KEY REFERENCES journal,
    outcome    INTEGER NOT NULL,
    ticket     INTEGER,
    decided_ms INTEGER NOT NULL
) STRICT;
INSERT INTO "decision" VALUES(1,0,1,1795716402049);
INSERT INTO "decision" VALUES(2,0,2,1795716402057);
INSERT INTO "decision" VALUES(3,0,3,1795716402065);
INSERT INTO "decision" VALUES(4,0,4,1795716402073);
INSERT INTO "decision" VALUES(5,0,5,1795716402081);
INSERT INTO "decision" VALUES(6,0,6,1795716402089);
INSERT INTO "decision" VALUES(7,0,7,1795716402093);
INSERT INTO "decision" VALUES(8,0,8,1795716402101);
INSERT INTO "decision" VALUES(9,0,9,1795716402109);
INSERT INTO "decision" VALUES(10,0,10,1795716402117);
INSERT INTO "decision" VALUES(11,1,1,1795716402125);
INSERT INTO "decision" VALUES(12,2,NULL,1795716402133);
INSERT INTO "decision" VALUES(13,2,NULL,1795716402141);
INSERT INTO "decision" VALUES(14,2,NULL,1795716402149);
INSERT INTO "decision" VALUES(15,2,NULL,1795716402161);
INSERT INTO "decision" VALUES(16,3,NULL,1795716402165);
CREATE TABLE decision_record (
    journal INTEGER PRIMARY KEY REFERENCES decision,
    record  TEXT NOT NULL
) STRICT;
INSERT INTO "decision_record" VALUES(1,'{"from":{"email":"Ann@acme.example"},"subject":"About requester 0","rule":"rules/acme.js","rule_hash":"ab12","generation":3,"thread":null,"actions":[{"kind":"ticket","title":"requester 0","body":"It burns","requester":"Ann <Ann@Acme.example>"}],"refused":[],"troubles":[],"repairs":["no Date"],"log":[],"kv_reads":[],"elapsed_us":120}');
INSERT INTO "decision_record" VALUES(2,'{"from":{"email":"Ann@acme.example"},"subject":"About requester 1","rule":"rules/acme.js","rule_hash":"ab12","generation":3,"thread":null,"actions":[{"kind":"ticket","title":"requester 1","body":"It burns","requester":"bob@acme.example"}],"refused":[],"troubles":[],"repairs":["no Date"],"log":[],"kv_reads":[],"elapsed_us":120}');
INSERT INTO "decision_record" VALUES(3,'{"from":{"email":"Ann@acme.example"},"subject":"About requester 2","rule":"rules/acme.js","rule_hash":"ab12","generation":3,"thread":null,"actions":[{"kind":"ticket","title":"requester 2","body":"It burns","requester":"\"Doe <Sales>, Jo\" <Jo@Acme.example>"}],"refused":[],"troubles":[],"repairs":["no Date"],"log":[],"kv_reads":[],"elapsed_us":120}');
INSERT INTO "decision_record" VALUES(4,'{"from":{"email":"Ann@acme.example"},"subject":"About requester 3","rule":"rules/acme.js","rule_hash":"ab12","generation":3,"thread":null,"actions":[{"kind":"ticket","title":"requester 3","body":"It burns","requester":"Ärger@Müller.example"}],"refused":[],"troubles":[],"repairs":["no Date"],"log":[],"kv_reads":[],"elapsed_us":120}');
INSERT INTO "decision_record" VALUES(5,'{"from":{"email":"Ann@acme.example"},"subject":"About requester 4","rule":"rules/acme.js","rule_hash":"ab12","generation":3,"thread":null,"actions":[{"kind":"ticket","title":"requester 4","body":"It burns","requester":"\tTab@acme.example "}],"refused":[],"troubles":[],"repairs":["no Date"],"log":[],"kv_reads":[],"elapsed_us":120}');
INSERT INTO "decision_record" VALUES(6,'{"from":{"email":"Ann@acme.example"},"subject":"About requester 5","rule":"rules/acme.js","rule_hash":"ab12","generation":3,"thread":null,"actions":[{"kind":"ticket","title":"requester 5","body":"It burns","requester":"<odd@acme.example"}],"refused":[],"troubles":[],"repairs":["no Date"],"log":[],"kv_reads":[],"elapsed_us":120}');
INSERT INTO "decision_record" VALUES(7,'{"from":{"email":"Ann@acme.example"},"subject":"About requester 6","rule":"rules/acme.js","rule_hash":"ab12","generation":3,"thread":null,"actions":[{"kind":"ticket","title":"requester 6","body":"It burns","requester":"> back <back@acme.example>"}],"refused":[],"troubles":[],"repairs":["no Date"],"log":[],"kv_reads":[],"elapsed_us":120}');
INSERT INTO "decision_record" VALUES(8,'{"from":{"email":"Ann@acme.example"},"subject":"About nobody","rule":"rules/acme.js","rule_hash":"ab12","generation":3,"thread":null,"actions":[{"kind":"ticket","title":"nobody","body":"It burns"}],"refused":[],"troubles":[],"repairs":["no Date"],"log":[],"kv_reads":[],"elapsed_us":120}');
INSERT INTO "decision_record" VALUES(9,'{"from":{"email":"Ann@acme.example"},"subject":"About fields","rule":"rules/acme.js","rule_hash":"ab12","generation":3,"thread":null,"actions":[{"kind":"ticket","title":"fields","body":"It burns","requester":"Ann <ann@acme.example>","fields":{"":"no name","Größe":"Über","big":1e+21,"brackets[0]":"y","code":7,"deep":{"a":1},"dot.name":"x","empty":"","huge":18446744073709551615,"job":"nightly","just":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","list":[1],"long":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","minus":-0.0,"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn":"long name","no":false,"nothing":null,"one":1.0,"quoted \"name\"":"it''s","ratio":0.5,"tiny":1e-7,"yes":true}}],"refused":[],"troubles":[],"repairs":["no Date"],"log":[],"kv_reads":[],"elapsed_us":120}');
INSERT INTO "decision_record" VALUES(10,'{"from":{"email":"Ann@acme.example"},"subject":"About foreign","rule":"rules/acme.js","rule_hash":"ab12","generation":3,"thread":null,"actions":[{"kind":"ticket","title":"foreign","body":"It burns","requester":"Ann <ann@acme.example>","fields":{"job":"nightly"}}],"refused":[],"troubles":[],"repairs":["no Date"],"log":[],"kv_reads":[],"elapsed_us":120}');
INSERT INTO "decision_record" VALUES(11,'{"from":{"email":"Ann@acme.example"},"subject":"About note","rule":"rules/acme.js","rule_hash":"ab12","generation":3,"thread":{"ticket":"T-1","method":"message-id","authorised":true},"actions":[{"kind":"note","ticket":"T-1","body":"Still","visibility":"public"}],"refused":[],"troubles":[],"repairs":["no Date"],"log":[],"kv_reads":[],"elapsed_us":120}');
INSERT INTO "decision_record" VALUES(12,'{"from":{"email":"Ann@acme.example"},"subject":"About fires","rule":"rules/acme.js","rule_hash":"ab12","generation":3,"thread":null,"actions":[{"kind":"alert","key":"disk/db1","state":"firing","severity":"critical","host":"db1","summary":"disk/db1 is Firing"}],"refused":[],"troubles":[],"repairs":["no Date"],"log":[],"kv_reads":[],"elapsed_us":120}');
INSERT INTO "decision_record" VALUES(13,'{"from":{"email":"Ann@acme.example"},"subject":"About again","rule":"rules/acme.js","rule_hash":"ab12","generation":3,"thread":null,"actions":[{"kind":"alert","key":"disk/db1","state":"firing","severity":"critical","host":"db1","summary":"disk/db1 is Firing"}],"refused":[],"troubles":[],"repairs":["no Date"],"log":[],"kv_reads":[],"elapsed_us":120}');
INSERT INTO "decision_record" VALUES(14,'{"from":{"email":"Ann@acme.example"},"subject":"About cpu","rule":"rules/acme.js","rule_hash":"ab12","generation":3,"thread":null,"actions":[{"kind":"alert","key":"cpu/db1","state":"firing","severity":"critical","host":"db1","summary":"cpu/db1 is Firing"}],"refused":[],"troubles":[],"repairs":["no Date"],"log":[],"kv_reads":[],"elapsed_us":120}');
INSERT INTO "decision_record" VALUES(15,'{"from":{"email":"Ann@acme.example"},"subject":"About over","rule":"rules/acme.js","rule_hash":"ab12","generation":3,"thread":null,"actions":[{"kind":"alert","key":"cpu/db1","state":"resolved","host":"db1","summary":"cpu/db1 is Resolved"}],"refused":[],"troubles":[],"repairs":["no Date"],"log":[],"kv_reads":[],"elapsed_us":120}');
INSERT INTO "decision_record" VALUES(16,'{"from":{"email":"Ann@acme.example"},"subject":"About remembers","rule":"rules/acme.js","rule_hash":"ab12","generation":3,"thread":null,"actions":[{"kind":"ignore","reason":"spam"}],"refused":[],"troubles":[],"repairs":["no Date"],"log":[],"kv_reads":[],"elapsed_us":120}');
CREATE TABLE generation (
    number   INTEGER PRIMARY KEY,
    saved_ms INTEGER NOT NULL
) STRICT;
INSERT INTO "generation" VALUES(1,1795716402025);
INSERT INTO "generation" VALUES(2,1795716402026);
INSERT INTO "generation" VALUES(3,1795716402029);
INSERT INTO "generation" VALUES(4,1795716402033);
INSERT INTO "generation" VALUES(5,1795716402037);
INSERT INTO "generation" VALUES(6,1795716402041);
CREATE TABLE generation_rule (
    generation INTEGER NOT NULL REFERENCES generation,
    tenant     TEXT NOT NULL,
    name       TEXT NOT NULL,
    hash       BLOB NOT NULL REFERENCES rule_bytes,
    settings   TEXT NOT NULL,
    grants     TEXT NOT NULL,
    PRIMARY KEY (generation, tenant, name)
) STRICT, WITHOUT ROWID;
INSERT INTO "generation_rule" VALUES(1,'acme','rules/a.js',X'D0F80576EA5A97F99D711239A5F56001151A27C75CEDC8512AD089C85D3AE569','{"queue":"q"}','{"kv":true}');
INSERT INTO "generation_rule" VALUES(1,'bolt','rules/b.js',X'3A570C6287423978DAD8FCA54E5E4B9F85C738490C2A8342B65DDD670F777DDD','{"queue":"q"}','{"kv":true}');
INSERT INTO "generation_rule" VALUES(2,'acme','rules/a.js',X'00BFA182075D02B730398FBF181D41540C94B2FDE7AFEE5A2BDBEE72B86F26D8','{"queue":"q"}','{"kv":true}');
INSERT INTO "generation_rule" VALUES(3,'acme','rules/a.js',X'00BFA182075D02B730398FBF181D41540C94B2FDE7AFEE5A2BDBEE72B86F26D8','{"queue":"q"}','{"kv":true}');
INSERT INTO "generation_rule" VALUES(3,'bolt','rules/b.js',X'3A570C6287423978DAD8FCA54E5E4B9F85C738490C2A8342B65DDD670F777DDD','{"queue":"q"}','{"kv":true}');
INSERT INTO "generation_rule" VALUES(4,'acme','rules/a.js',X'D0F80576EA5A97F99D711239A5F56001151A27C75CEDC8512AD089C85D3AE569','{"queue":"q"}','{"kv":true}');
INSERT INTO "generation_rule" VALUES(4,'bolt','rules/b.js',X'3A570C6287423978DAD8FCA54E5E4B9F85C738490C2A8342B65DDD670F777DDD','{"queue":"q"}','{"kv":true}');
INSERT INTO "generation_rule" VALUES(5,'acme','rules/a.js',X'D0F80576EA5A97F99D711239A5F56001151A27C75CEDC8512AD089C85D3AE569','{"queue":"q"}','{"kv":true}');
INSERT INTO "generation_rule" VALUES(5,'bolt','rules/b.js',X'FFF2398067149D6F8AF4DC2BA6CD65C8C21E9710EE7C0A05556796A59BB88A5F','{"queue":"q"}','{"kv":true}');
INSERT INTO "generation_rule" VALUES(6,'acme','rules/a.js',X'35F71E19F513B3AF1087F0DD4E12BF929D8CF0B51C9E12A18408D29D9BB6DACC','{"queue":"q"}','{"kv":true}');
INSERT INTO "generation_rule" VALUES(6,'bolt','rules/b.js',X'FFF2398067149D6F8AF4DC2BA6CD65C8C21E9710EE7C0A05556796A59BB88A5F','{"queue":"q"}','{"kv":true}');
CREATE TABLE item (
    id         INTEGER PRIMARY KEY,
    kind       INTEGER NOT NULL,
    tenant     INTEGER NOT NULL REFERENCES tenant,
    decision   INTEGER NOT NULL REFERENCES decision,
    ticket     INTEGER,
    alert_key  TEXT,
    state      TEXT NOT NULL,
    count      INTEGER NOT NULL DEFAULT 1,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    title      TEXT,
    priority   TEXT,
    queue      TEXT,
    detail     TEXT NOT NULL,
    body       TEXT
) STRICT;
INSERT INTO "item" VALUES(1,0,1,1,1,NULL,'open',1,1795716402049,1795716402125,'requester 0',NULL,NULL,'{"fields":{},"requester":"Ann <Ann@Acme.example>"}','It burns');
INSERT INTO "item" VALUES(2,0,1,2,2,NULL,'open',1,1795716402057,1795716402057,'requester 1',NULL,NULL,'{"fields":{},"requester":"bob@acme.example"}','It burns');
INSERT INTO "item" VALUES(3,0,1,3,3,NULL,'open',1,1795716402065,1795716402065,'requester 2',NULL,NULL,'{"fields":{},"requester":"\"Doe <Sales>, Jo\" <Jo@Acme.example>"}','It burns');
INSERT INTO "item" VALUES(4,0,1,4,4,NULL,'open',1,1795716402073,1795716402073,'requester 3',NULL,NULL,'{"fields":{},"requester":"Ärger@Müller.example"}','It burns');
INSERT INTO "item" VALUES(5,0,1,5,5,NULL,'open',1,1795716402081,1795716402081,'requester 4',NULL,NULL,'{"fields":{},"requester":"\tTab@acme.example "}','It burns');
INSERT INTO "item" VALUES(6,0,1,6,6,NULL,'open',1,1795716402089,1795716402089,'requester 5',NULL,NULL,'{"fields":{},"requester":"<odd@acme.example"}','It burns');
INSERT INTO "item" VALUES(7,0,1,7,7,NULL,'open',1,1795716402093,1795716402093,'requester 6',NULL,NULL,'{"fields":{},"requester":"> back <back@acme.example>"}','It burns');
INSERT INTO "item" VALUES(8,0,1,8,8,NULL,'open',1,1795716402101,1795716402101,'nobody',NULL,NULL,'{"fields":{}}','It burns');
INSERT INTO "item" VALUES(9,0,1,9,9,NULL,'open',1,1795716402109,1795716402109,'fields',NULL,NULL,'{"fields":{"":"no name","Größe":"Über","big":1e+21,"brackets[0]":"y","code":7,"deep":{"a":1},"dot.name":"x","empty":"","huge":18446744073709551615,"job":"nightly","just":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","list":[1],"long":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","minus":-0.0,"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn":"long name","no":false,"nothing":null,"one":1.0,"quoted \"name\"":"it''s","ratio":0.5,"tiny":1e-7,"yes":true},"requester":"Ann <ann@acme.example>"}','It burns');
INSERT INTO "item" VALUES(10,0,2,10,10,NULL,'open',1,1795716402117,1795716402117,'foreign',NULL,NULL,'{"fields":{"job":"nightly"},"requester":"Ann <ann@acme.example>"}','It burns');
INSERT INTO "item" VALUES(11,1,1,11,1,NULL,'public',1,1795716402125,1795716402125,'About note',NULL,NULL,'{"fields":{}}','Still');
INSERT INTO "item" VALUES(12,2,1,12,NULL,'disk/db1','firing',2,1795716402133,1795716402141,'disk/db1 is Firing','critical',NULL,'{"fields":{},"host":"db1"}',NULL);
INSERT INTO "item" VALUES(13,2,1,14,NULL,'cpu/db1','resolved',2,1795716402149,1795716402161,'cpu/db1 is Resolved','critical',NULL,'{"fields":{},"host":"db1"}',NULL);
CREATE TABLE journal (
    id           INTEGER PRIMARY KEY,
    tenant       INTEGER NOT NULL REFERENCES tenant,
    mailbox      INTEGER NOT NULL REFERENCES mailbox,
    received_ms  INTEGER NOT NULL,
    size         INTEGER NOT NULL,
    whole        INTEGER NOT NULL,
    -- 64 bits of SHA-256 over tenant and message_id: what dedupe and threading look for first, then compare in full.
    message_key  INTEGER NOT NULL,
    content_hash BLOB NOT NULL,
    message_id   TEXT NOT NULL
) STRICT;
INSERT INTO "journal" VALUES(1,1,1,1753012800000,52,1,1502932681243866858,X'90965C7CF10C4E9A8F2E8A7D5304BF728744D01C499BF8B209D8A2A4F5C5D445','acme requester 0@x');
INSERT INTO "journal" VALUES(2,1,1,1753012800000,52,1,-4426694057843598202,X'0C7DBEF3B8DD549C22D6058DD711C1E2ABE175E47A257D01252407DA5354D9AE','acme requester 1@x');
INSERT INTO "journal" VALUES(3,1,1,1753012800000,52,1,3381545309638484390,X'BBF0E30608DF86238EE653ADD9EBBC96A8A14D10FDD44F4BB1BA2939E2B1DCB3','acme requester 2@x');
INSERT INTO "journal" VALUES(4,1,1,1753012800000,52,1,9158841115118621999,X'2D397CB8F0967F6304A01DF55ABBFBF2EB3C5702E79A6C070685BEC1C63E6A63','acme requester 3@x');
INSERT INTO "journal" VALUES(5,1,1,1753012800000,52,1,-1340858101563881624,X'152D57587D8F98EF498F1D12677588F0814CAF705A5B1278E1F650E74376A1CB','acme requester 4@x');
INSERT INTO "journal" VALUES(6,1,1,1753012800000,52,1,781011130717345197,X'2B319D49747A92D1D881117A384B57590C4D37F8A5218D803780DB1F934335AC','acme requester 5@x');
INSERT INTO "journal" VALUES(7,1,1,1753012800000,52,1,-7888475424568014990,X'76682F7FEF8AE7A25D17EDFC0BCCEF9B59867B8C661E70E9EF3F21C5E3315D90','acme requester 6@x');
INSERT INTO "journal" VALUES(8,1,1,1753012800000,42,1,2107104005611385945,X'5679A29797FE79A3B2A6CB906AF2233550B82A1734006F7F245B0FEE8C71AEB0','acme nobody@x');
INSERT INTO "journal" VALUES(9,1,1,1753012800000,42,1,6659740533136089323,X'5244922A1A11B9E55236D7A90495FCC05E40CA71F334E08952F2B6154B12724E','acme fields@x');
INSERT INTO "journal" VALUES(10,2,2,1753012800000,44,1,-5981738918711482348,X'C80050E77B6BFA7E6FD1477AD8BF218119A8B6429A2D6545DAF696B29BEDF3D1','bolt foreign@x');
INSERT INTO "journal" VALUES(11,1,1,1753012800000,28,1,-7848259434298138190,X'3AEC56C5643CFC3AD412B017908DDEA57A8A0577369E74BBC535B74A7DB43738','note@x');
INSERT INTO "journal" VALUES(12,1,1,1753012800000,30,1,8421537611260338497,X'507785F10FA5B978251F5DCC07B77AE4F830EFBC9BEDE329F5BAD77E47A629E5','fires@x');
INSERT INTO "journal" VALUES(13,1,1,1753012800000,30,1,-1431461326657523053,X'3B3E89C74CFE35D464218CB61375FA7DAE9D998E899A0C493A86373868F0848B','again@x');
INSERT INTO "journal" VALUES(14,1,1,1753012800000,26,1,-2749814316134670711,X'2210466E3030571F311B46121DF9C8AF3DACE937DD5641109419A4B2F7227863','cpu@x');
INSERT INTO "journal" VALUES(15,1,1,1753012800000,28,1,4963784269859301817,X'C391C5403E0FB40DF78B5F6CDFBD213435E0F1FD5932CDF2821CAF7B5DD5121F','over@x');
INSERT INTO "journal" VALUES(16,1,1,1753012800000,38,1,7120553916906950774,X'36FF292D1F5AA090BC79178C43478533E21EE194DA77925EDD4E6916FDF41D6C','remembers@x');
INSERT INTO "journal" VALUES(17,2,2,1753012800000,38,1,-6386277748173100766,X'4C380438FCD52299063A53A419FB5BA7966D4F588211F32EC6CC43F87C102727','undecided@x');
CREATE TABLE kv (
    tenant INTEGER NOT NULL REFERENCES tenant,
    rule   TEXT NOT NULL,
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (tenant, rule, key)
) STRICT, WITHOUT ROWID;
INSERT INTO "kv" VALUES(1,'rules/a.js','seen','1');
CREATE TABLE mailbox (
    id       INTEGER PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE,
    cursor   TEXT,
    state    TEXT,
    detail   TEXT,
    since_ms INTEGER
) STRICT;
INSERT INTO "mailbox" VALUES(1,'acme-support','c',NULL,NULL,NULL);
INSERT INTO "mailbox" VALUES(2,'bolt-support','c',NULL,NULL,NULL);
CREATE TABLE outbox (
    id              INTEGER PRIMARY KEY,
    kind            INTEGER NOT NULL,
    target          TEXT NOT NULL,
    tenant          INTEGER NOT NULL REFERENCES tenant,
    decision        INTEGER NOT NULL REFERENCES decision,
    lane            INTEGER REFERENCES item,
    state           INTEGER NOT NULL DEFAULT 0,
    attempts        INTEGER NOT NULL DEFAULT 0,
    created_ms      INTEGER NOT NULL,
    due_ms          INTEGER NOT NULL,
    finished_ms     INTEGER,
    idempotency_key TEXT NOT NULL,
    receipt         TEXT,
    error           TEXT,
    payload         TEXT NOT NULL
) STRICT;
INSERT INTO "outbox" VALUES(1,0,'psa',1,1,1,0,0,1795716402049,1795716402049,NULL,'pr_1_0_psa',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.049Z","data":{"id":1,"kind":"ticket","tenant":"acme","ticket":"T-1","title":"requester 0","body":"It burns","priority":null,"queue":null,"fields":{},"state":"open","created":"2026-11-26T18:06:42.049Z","updated":"2026-11-26T18:06:42.049Z","requester":"Ann <Ann@Acme.example>","decision":1,"mailbox":"acme-support","message_id":"requester 0@x"}}');
INSERT INTO "outbox" VALUES(2,0,'chat',1,1,1,0,0,1795716402049,1795716402049,NULL,'pr_1_0_chat',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.049Z","data":{"id":1,"kind":"ticket","tenant":"acme","ticket":"T-1","title":"requester 0","body":"It burns","priority":null,"queue":null,"fields":{},"state":"open","created":"2026-11-26T18:06:42.049Z","updated":"2026-11-26T18:06:42.049Z","requester":"Ann <Ann@Acme.example>","decision":1,"mailbox":"acme-support","message_id":"requester 0@x"}}');
INSERT INTO "outbox" VALUES(3,0,'psa',1,2,2,0,0,1795716402057,1795716402057,NULL,'pr_2_0_psa',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.057Z","data":{"id":2,"kind":"ticket","tenant":"acme","ticket":"T-2","title":"requester 1","body":"It burns","priority":null,"queue":null,"fields":{},"state":"open","created":"2026-11-26T18:06:42.057Z","updated":"2026-11-26T18:06:42.057Z","requester":"bob@acme.example","decision":2,"mailbox":"acme-support","message_id":"requester 1@x"}}');
INSERT INTO "outbox" VALUES(4,0,'chat',1,2,2,0,0,1795716402057,1795716402057,NULL,'pr_2_0_chat',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.057Z","data":{"id":2,"kind":"ticket","tenant":"acme","ticket":"T-2","title":"requester 1","body":"It burns","priority":null,"queue":null,"fields":{},"state":"open","created":"2026-11-26T18:06:42.057Z","updated":"2026-11-26T18:06:42.057Z","requester":"bob@acme.example","decision":2,"mailbox":"acme-support","message_id":"requester 1@x"}}');
INSERT INTO "outbox" VALUES(5,0,'psa',1,3,3,0,0,1795716402065,1795716402065,NULL,'pr_3_0_psa',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.065Z","data":{"id":3,"kind":"ticket","tenant":"acme","ticket":"T-3","title":"requester 2","body":"It burns","priority":null,"queue":null,"fields":{},"state":"open","created":"2026-11-26T18:06:42.065Z","updated":"2026-11-26T18:06:42.065Z","requester":"\"Doe <Sales>, Jo\" <Jo@Acme.example>","decision":3,"mailbox":"acme-support","message_id":"requester 2@x"}}');
INSERT INTO "outbox" VALUES(6,0,'chat',1,3,3,0,0,1795716402065,1795716402065,NULL,'pr_3_0_chat',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.065Z","data":{"id":3,"kind":"ticket","tenant":"acme","ticket":"T-3","title":"requester 2","body":"It burns","priority":null,"queue":null,"fields":{},"state":"open","created":"2026-11-26T18:06:42.065Z","updated":"2026-11-26T18:06:42.065Z","requester":"\"Doe <Sales>, Jo\" <Jo@Acme.example>","decision":3,"mailbox":"acme-support","message_id":"requester 2@x"}}');
INSERT INTO "outbox" VALUES(7,0,'psa',1,4,4,0,0,1795716402073,1795716402073,NULL,'pr_4_0_psa',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.073Z","data":{"id":4,"kind":"ticket","tenant":"acme","ticket":"T-4","title":"requester 3","body":"It burns","priority":null,"queue":null,"fields":{},"state":"open","created":"2026-11-26T18:06:42.073Z","updated":"2026-11-26T18:06:42.073Z","requester":"Ärger@Müller.example","decision":4,"mailbox":"acme-support","message_id":"requester 3@x"}}');
INSERT INTO "outbox" VALUES(8,0,'chat',1,4,4,0,0,1795716402073,1795716402073,NULL,'pr_4_0_chat',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.073Z","data":{"id":4,"kind":"ticket","tenant":"acme","ticket":"T-4","title":"requester 3","body":"It burns","priority":null,"queue":null,"fields":{},"state":"open","created":"2026-11-26T18:06:42.073Z","updated":"2026-11-26T18:06:42.073Z","requester":"Ärger@Müller.example","decision":4,"mailbox":"acme-support","message_id":"requester 3@x"}}');
INSERT INTO "outbox" VALUES(9,0,'psa',1,5,5,0,0,1795716402081,1795716402081,NULL,'pr_5_0_psa',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.081Z","data":{"id":5,"kind":"ticket","tenant":"acme","ticket":"T-5","title":"requester 4","body":"It burns","priority":null,"queue":null,"fields":{},"state":"open","created":"2026-11-26T18:06:42.081Z","updated":"2026-11-26T18:06:42.081Z","requester":"\tTab@acme.example ","decision":5,"mailbox":"acme-support","message_id":"requester 4@x"}}');
INSERT INTO "outbox" VALUES(10,0,'chat',1,5,5,0,0,1795716402081,1795716402081,NULL,'pr_5_0_chat',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.081Z","data":{"id":5,"kind":"ticket","tenant":"acme","ticket":"T-5","title":"requester 4","body":"It burns","priority":null,"queue":null,"fields":{},"state":"open","created":"2026-11-26T18:06:42.081Z","updated":"2026-11-26T18:06:42.081Z","requester":"\tTab@acme.example ","decision":5,"mailbox":"acme-support","message_id":"requester 4@x"}}');
INSERT INTO "outbox" VALUES(11,0,'psa',1,6,6,0,0,1795716402089,1795716402089,NULL,'pr_6_0_psa',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.089Z","data":{"id":6,"kind":"ticket","tenant":"acme","ticket":"T-6","title":"requester 5","body":"It burns","priority":null,"queue":null,"fields":{},"state":"open","created":"2026-11-26T18:06:42.089Z","updated":"2026-11-26T18:06:42.089Z","requester":"<odd@acme.example","decision":6,"mailbox":"acme-support","message_id":"requester 5@x"}}');
INSERT INTO "outbox" VALUES(12,0,'chat',1,6,6,0,0,1795716402089,1795716402089,NULL,'pr_6_0_chat',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.089Z","data":{"id":6,"kind":"ticket","tenant":"acme","ticket":"T-6","title":"requester 5","body":"It burns","priority":null,"queue":null,"fields":{},"state":"open","created":"2026-11-26T18:06:42.089Z","updated":"2026-11-26T18:06:42.089Z","requester":"<odd@acme.example","decision":6,"mailbox":"acme-support","message_id":"requester 5@x"}}');
INSERT INTO "outbox" VALUES(13,0,'psa',1,7,7,0,0,1795716402093,1795716402093,NULL,'pr_7_0_psa',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.093Z","data":{"id":7,"kind":"ticket","tenant":"acme","ticket":"T-7","title":"requester 6","body":"It burns","priority":null,"queue":null,"fields":{},"state":"open","created":"2026-11-26T18:06:42.093Z","updated":"2026-11-26T18:06:42.093Z","requester":"> back <back@acme.example>","decision":7,"mailbox":"acme-support","message_id":"requester 6@x"}}');
INSERT INTO "outbox" VALUES(14,0,'chat',1,7,7,0,0,1795716402093,1795716402093,NULL,'pr_7_0_chat',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.093Z","data":{"id":7,"kind":"ticket","tenant":"acme","ticket":"T-7","title":"requester 6","body":"It burns","priority":null,"queue":null,"fields":{},"state":"open","created":"2026-11-26T18:06:42.093Z","updated":"2026-11-26T18:06:42.093Z","requester":"> back <back@acme.example>","decision":7,"mailbox":"acme-support","message_id":"requester 6@x"}}');
INSERT INTO "outbox" VALUES(15,0,'psa',1,8,8,0,0,1795716402101,1795716402101,NULL,'pr_8_0_psa',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.101Z","data":{"id":8,"kind":"ticket","tenant":"acme","ticket":"T-8","title":"nobody","body":"It burns","priority":null,"queue":null,"fields":{},"state":"open","created":"2026-11-26T18:06:42.101Z","updated":"2026-11-26T18:06:42.101Z","decision":8,"mailbox":"acme-support","message_id":"nobody@x"}}');
INSERT INTO "outbox" VALUES(16,0,'chat',1,8,8,0,0,1795716402101,1795716402101,NULL,'pr_8_0_chat',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.101Z","data":{"id":8,"kind":"ticket","tenant":"acme","ticket":"T-8","title":"nobody","body":"It burns","priority":null,"queue":null,"fields":{},"state":"open","created":"2026-11-26T18:06:42.101Z","updated":"2026-11-26T18:06:42.101Z","decision":8,"mailbox":"acme-support","message_id":"nobody@x"}}');
INSERT INTO "outbox" VALUES(17,0,'psa',1,9,9,0,0,1795716402109,1795716402109,NULL,'pr_9_0_psa',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.109Z","data":{"id":9,"kind":"ticket","tenant":"acme","ticket":"T-9","title":"fields","body":"It burns","priority":null,"queue":null,"fields":{"":"no name","Größe":"Über","big":1e+21,"brackets[0]":"y","code":7,"deep":{"a":1},"dot.name":"x","empty":"","huge":18446744073709551615,"job":"nightly","just":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","list":[1],"long":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","minus":-0.0,"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn":"long name","no":false,"nothing":null,"one":1.0,"quoted \"name\"":"it''s","ratio":0.5,"tiny":1e-7,"yes":true},"state":"open","created":"2026-11-26T18:06:42.109Z","updated":"2026-11-26T18:06:42.109Z","requester":"Ann <ann@acme.example>","decision":9,"mailbox":"acme-support","message_id":"fields@x"}}');
INSERT INTO "outbox" VALUES(18,0,'chat',1,9,9,0,0,1795716402109,1795716402109,NULL,'pr_9_0_chat',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.109Z","data":{"id":9,"kind":"ticket","tenant":"acme","ticket":"T-9","title":"fields","body":"It burns","priority":null,"queue":null,"fields":{"":"no name","Größe":"Über","big":1e+21,"brackets[0]":"y","code":7,"deep":{"a":1},"dot.name":"x","empty":"","huge":18446744073709551615,"job":"nightly","just":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","list":[1],"long":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","minus":-0.0,"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn":"long name","no":false,"nothing":null,"one":1.0,"quoted \"name\"":"it''s","ratio":0.5,"tiny":1e-7,"yes":true},"state":"open","created":"2026-11-26T18:06:42.109Z","updated":"2026-11-26T18:06:42.109Z","requester":"Ann <ann@acme.example>","decision":9,"mailbox":"acme-support","message_id":"fields@x"}}');
INSERT INTO "outbox" VALUES(19,0,'psa',2,10,10,0,0,1795716402117,1795716402117,NULL,'pr_10_0_psa',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.117Z","data":{"id":10,"kind":"ticket","tenant":"bolt","ticket":"T-10","title":"foreign","body":"It burns","priority":null,"queue":null,"fields":{"job":"nightly"},"state":"open","created":"2026-11-26T18:06:42.117Z","updated":"2026-11-26T18:06:42.117Z","requester":"Ann <ann@acme.example>","decision":10,"mailbox":"bolt-support","message_id":"foreign@x"}}');
INSERT INTO "outbox" VALUES(20,0,'chat',2,10,10,0,0,1795716402117,1795716402117,NULL,'pr_10_0_chat',NULL,NULL,'{"type":"ticket.created","timestamp":"2026-11-26T18:06:42.117Z","data":{"id":10,"kind":"ticket","tenant":"bolt","ticket":"T-10","title":"foreign","body":"It burns","priority":null,"queue":null,"fields":{"job":"nightly"},"state":"open","created":"2026-11-26T18:06:42.117Z","updated":"2026-11-26T18:06:42.117Z","requester":"Ann <ann@acme.example>","decision":10,"mailbox":"bolt-support","message_id":"foreign@x"}}');
INSERT INTO "outbox" VALUES(21,0,'psa',1,11,1,0,0,1795716402125,1795716402125,NULL,'pr_11_0_psa',NULL,NULL,'{"type":"note.created","timestamp":"2026-11-26T18:06:42.125Z","data":{"id":11,"kind":"note","tenant":"acme","ticket":"T-1","title":"About note","body":"Still","priority":null,"queue":null,"fields":{},"state":"public","created":"2026-11-26T18:06:42.125Z","updated":"2026-11-26T18:06:42.125Z","decision":11,"mailbox":"acme-support","message_id":"note@x"}}');
INSERT INTO "outbox" VALUES(22,0,'chat',1,11,1,0,0,1795716402125,1795716402125,NULL,'pr_11_0_chat',NULL,NULL,'{"type":"note.created","timestamp":"2026-11-26T18:06:42.125Z","data":{"id":11,"kind":"note","tenant":"acme","ticket":"T-1","title":"About note","body":"Still","priority":null,"queue":null,"fields":{},"state":"public","created":"2026-11-26T18:06:42.125Z","updated":"2026-11-26T18:06:42.125Z","decision":11,"mailbox":"acme-support","message_id":"note@x"}}');
INSERT INTO "outbox" VALUES(23,0,'pager',1,12,12,0,0,1795716402133,1795716402133,NULL,'pr_12_0_pager',NULL,NULL,'{"type":"alert.firing","timestamp":"2026-11-26T18:06:42.133Z","data":{"id":12,"kind":"alert","tenant":"acme","ticket":null,"title":"disk/db1 is Firing","body":null,"priority":"critical","queue":null,"fields":{},"state":"firing","created":"2026-11-26T18:06:42.133Z","updated":"2026-11-26T18:06:42.133Z","alert_key":"disk/db1","count":1,"host":"db1","decision":12,"mailbox":"acme-support","message_id":"fires@x"}}');
INSERT INTO "outbox" VALUES(24,0,'pager',1,13,12,0,0,1795716402141,1795716402141,NULL,'pr_13_0_pager',NULL,NULL,'{"type":"alert.firing","timestamp":"2026-11-26T18:06:42.141Z","data":{"id":12,"kind":"alert","tenant":"acme","ticket":null,"title":"disk/db1 is Firing","body":null,"priority":"critical","queue":null,"fields":{},"state":"firing","created":"2026-11-26T18:06:42.133Z","updated":"2026-11-26T18:06:42.141Z","alert_key":"disk/db1","count":2,"host":"db1","decision":13,"mailbox":"acme-support","message_id":"again@x"}}');
INSERT INTO "outbox" VALUES(25,0,'pager',1,14,13,0,0,1795716402149,1795716402149,NULL,'pr_14_0_pager',NULL,NULL,'{"type":"alert.firing","timestamp":"2026-11-26T18:06:42.149Z","data":{"id":13,"kind":"alert","tenant":"acme","ticket":null,"title":"cpu/db1 is Firing","body":null,"priority":"critical","queue":null,"fields":{},"state":"firing","created":"2026-11-26T18:06:42.149Z","updated":"2026-11-26T18:06:42.149Z","alert_key":"cpu/db1","count":1,"host":"db1","decision":14,"mailbox":"acme-support","message_id":"cpu@x"}}');
INSERT INTO "outbox" VALUES(26,0,'pager',1,15,13,0,0,1795716402161,1795716402161,NULL,'pr_15_0_pager',NULL,NULL,'{"type":"alert.resolved","timestamp":"2026-11-26T18:06:42.161Z","data":{"id":13,"kind":"alert","tenant":"acme","ticket":null,"title":"cpu/db1 is Resolved","body":null,"priority":"critical","queue":null,"fields":{},"state":"resolved","created":"2026-11-26T18:06:42.149Z","updated":"2026-11-26T18:06:42.161Z","alert_key":"cpu/db1","count":2,"host":"db1","decision":15,"mailbox":"acme-support","message_id":"over@x"}}');
CREATE TABLE participant (
    ticket INTEGER NOT NULL,
    email  TEXT NOT NULL,
    PRIMARY KEY (ticket, email)
) STRICT, WITHOUT ROWID;
INSERT INTO "participant" VALUES(1,'ann@acme.example');
INSERT INTO "participant" VALUES(1,'bob@partner.example');
INSERT INTO "participant" VALUES(2,'ann@acme.example');
INSERT INTO "participant" VALUES(2,'bob@acme.example');
INSERT INTO "participant" VALUES(2,'bob@partner.example');
INSERT INTO "participant" VALUES(3,'ann@acme.example');
INSERT INTO "participant" VALUES(3,'bob@partner.example');
INSERT INTO "participant" VALUES(3,'jo@acme.example');
INSERT INTO "participant" VALUES(4,'ann@acme.example');
INSERT INTO "participant" VALUES(4,'bob@partner.example');
INSERT INTO "participant" VALUES(4,'ärger@müller.example');
INSERT INTO "participant" VALUES(5,'ann@acme.example');
INSERT INTO "participant" VALUES(5,'bob@partner.example');
INSERT INTO "participant" VALUES(5,'tab@acme.example');
INSERT INTO "participant" VALUES(6,'ann@acme.example');
INSERT INTO "participant" VALUES(6,'bob@partner.example');
INSERT INTO "participant" VALUES(6,'odd@acme.example');
INSERT INTO "participant" VALUES(7,'ann@acme.example');
INSERT INTO "participant" VALUES(7,'back@acme.example');
INSERT INTO "participant" VALUES(7,'bob@partner.example');
INSERT INTO "participant" VALUES(8,'ann@acme.example');
INSERT INTO "participant" VALUES(8,'bob@partner.example');
INSERT INTO "participant" VALUES(9,'ann@acme.example');
INSERT INTO "participant" VALUES(9,'bob@partner.example');
INSERT INTO "participant" VALUES(10,'ann@acme.example');
INSERT INTO "participant" VALUES(10,'bob@partner.example');
CREATE TABLE pending (
    mailbox  INTEGER NOT NULL REFERENCES mailbox,
    journal  INTEGER NOT NULL REFERENCES journal,
    attempts INTEGER NOT NULL DEFAULT 0,
    error    TEXT,
    PRIMARY KEY (mailbox, journal)
) STRICT, WITHOUT ROWID;
INSERT INTO "pending" VALUES(2,17,0,NULL);
CREATE TABLE raw (
    journal INTEGER PRIMARY KEY REFERENCES journal,
    bytes   BLOB NOT NULL
) STRICT;
INSERT INTO "raw" VALUES(1,X'4D6573736167652D49443A203C61636D6520726571756573746572203040783E0D0A0D0A61636D65207265717565737465722030');
INSERT INTO "raw" VALUES(2,X'4D6573736167652D49443A203C61636D6520726571756573746572203140783E0D0A0D0A61636D65207265717565737465722031');
INSERT INTO "raw" VALUES(3,X'4D6573736167652D49443A203C61636D6520726571756573746572203240783E0D0A0D0A61636D65207265717565737465722032');
INSERT INTO "raw" VALUES(4,X'4D6573736167652D49443A203C61636D6520726571756573746572203340783E0D0A0D0A61636D65207265717565737465722033');
INSERT INTO "raw" VALUES(5,X'4D6573736167652D49443A203C61636D6520726571756573746572203440783E0D0A0D0A61636D65207265717565737465722034');
INSERT INTO "raw" VALUES(6,X'4D6573736167652D49443A203C61636D6520726571756573746572203540783E0D0A0D0A61636D65207265717565737465722035');
INSERT INTO "raw" VALUES(7,X'4D6573736167652D49443A203C61636D6520726571756573746572203640783E0D0A0D0A61636D65207265717565737465722036');
INSERT INTO "raw" VALUES(8,X'4D6573736167652D49443A203C61636D65206E6F626F647940783E0D0A0D0A61636D65206E6F626F6479');
INSERT INTO "raw" VALUES(9,X'4D6573736167652D49443A203C61636D65206669656C647340783E0D0A0D0A61636D65206669656C6473');
INSERT INTO "raw" VALUES(10,X'4D6573736167652D49443A203C626F6C7420666F726569676E40783E0D0A0D0A626F6C7420666F726569676E');
INSERT INTO "raw" VALUES(11,X'4D6573736167652D49443A203C6E6F746540783E0D0A0D0A6E6F7465');
INSERT INTO "raw" VALUES(12,X'4D6573736167652D49443A203C666972657340783E0D0A0D0A6669726573');
INSERT INTO "raw" VALUES(13,X'4D6573736167652D49443A203C616761696E40783E0D0A0D0A616761696E');
INSERT INTO "raw" VALUES(14,X'4D6573736167652D49443A203C63707540783E0D0A0D0A637075');
INSERT INTO "raw" VALUES(15,X'4D6573736167652D49443A203C6F76657240783E0D0A0D0A6F766572');
INSERT INTO "raw" VALUES(16,X'4D6573736167652D49443A203C72656D656D6265727340783E0D0A0D0A72656D656D62657273');
INSERT INTO "raw" VALUES(17,X'4D6573736167652D49443A203C756E6465636964656440783E0D0A0D0A756E64656369646564');
CREATE TABLE rule_bytes (
    hash  BLOB PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;
INSERT INTO "rule_bytes" VALUES(X'D0F80576EA5A97F99D711239A5F56001151A27C75CEDC8512AD089C85D3AE569',X'6578706F72742066756E6374696F6E206465636964652829207B2072657475726E207469636B6574287B2071756575653A20226122207D29207D0A');
INSERT INTO "rule_bytes" VALUES(X'3A570C6287423978DAD8FCA54E5E4B9F85C738490C2A8342B65DDD670F777DDD',X'6578706F72742066756E6374696F6E206465636964652829207B2072657475726E207469636B6574287B2071756575653A20227822207D29207D0A');
INSERT INTO "rule_bytes" VALUES(X'00BFA182075D02B730398FBF181D41540C94B2FDE7AFEE5A2BDBEE72B86F26D8',X'6578706F72742066756E6374696F6E206465636964652829207B2072657475726E207469636B6574287B2071756575653A20226222207D29207D0A');
INSERT INTO "rule_bytes" VALUES(X'FFF2398067149D6F8AF4DC2BA6CD65C8C21E9710EE7C0A05556796A59BB88A5F',X'6578706F72742066756E6374696F6E206465636964652829207B2072657475726E207469636B6574287B2071756575653A20227922207D29207D0A');
INSERT INTO "rule_bytes" VALUES(X'35F71E19F513B3AF1087F0DD4E12BF929D8CF0B51C9E12A18408D29D9BB6DACC',X'6578706F72742066756E6374696F6E206465636964652829207B2072657475726E207469636B6574287B2071756575653A20226322207D29207D0A');
CREATE TABLE sent (
    message_key INTEGER NOT NULL,
    message_id  TEXT NOT NULL,
    ticket      INTEGER NOT NULL,
    PRIMARY KEY (message_key, message_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE sequence (
    name TEXT PRIMARY KEY,
    last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "sequence" VALUES('ticket',10);
CREATE TABLE tenant (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO "tenant" VALUES(1,'acme');
INSERT INTO "tenant" VALUES(2,'bolt');
CREATE INDEX journal_message ON journal (message_key, content_hash);
CREATE INDEX ack_due ON ack (mailbox, due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX ack_journal ON ack (journal);
CREATE INDEX decision_quarantined ON decision (journal) WHERE outcome = 4;
CREATE UNIQUE INDEX item_ticket ON item (ticket) WHERE kind = 0;
CREATE UNIQUE INDEX item_alert ON item (tenant, alert_key) WHERE kind = 2;
CREATE INDEX outbox_decision ON outbox (decision);
CREATE INDEX outbox_due ON outbox (target, due_ms) WHERE state = 0;
CREATE INDEX outbox_lane ON outbox (lane, target) WHERE state = 0 AND lane IS NOT NULL;
CREATE INDEX generation_rule_hash ON generation_rule (hash);
CREATE INDEX generation_rule_name ON generation_rule (tenant, name, generation);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('ack',17);
COMMIT;
