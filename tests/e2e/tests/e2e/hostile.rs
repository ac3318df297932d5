//! Hostile rules in the real line, all at once: each mail goes to the next rule and finally to `fallback`, and the line
//! keeps running.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use postroom_e2e::{PATIENCE, Room, Running, cases, mail, root};
use postroom_stand::{Stand, wait_for};
use serde_json::Value;

use crate::bombs;

/// A longer time limit than the default: a rule that should end for another reason must not time out on a busy machine.
const CONFIG: &str = "data_dir = \"data\"\n[limits]\ntime = \"1s\"\n";

/// The longest refusal: 4 KiB written by the rule, and our own text.
const MOST_MESSAGE: usize = 5 << 10;

/// One hostile rule with its own tenant and spool mailbox.
struct Case {
    name: String,
    /// The rule's file, relative to the room.
    rule: String,
    /// The content of the rule's file, and before it all files that it imports, relative to the room.
    files: Vec<(String, Vec<u8>)>,
    expected: Value,
}

impl Case {
    fn put(&self, room: &Room) {
        for (file, content) in &self.files {
            room.write(file, content);
        }
    }

    /// Returns a tenant and a spool mailbox for this case alone.
    fn config(&self) -> String {
        let Case { name, rule, .. } = self;
        let mut granted = String::new();
        for key in ["grants", "actions"] {
            if let Some(list) = self.expected[key].as_array() {
                let _ = writeln!(granted, "{key} = {}", Value::from(list.clone()));
            }
        }
        for (key, value) in self.expected["limits"].as_object().into_iter().flatten() {
            let _ = writeln!(granted, "limits.{key} = {value}");
        }
        format!(
            "[tenants.{name}]\n{granted}[mailboxes.{name}]\ntenant = \"{name}\"\nprotocol = \"spool\"\npath = \"spool/{name}\"\nevery = \"1s\"\nrules = [{rule:?}]\n"
        )
    }

    /// Returns the folder of its files.
    fn folder(&self) -> &str {
        self.rule.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    fn deliver(&self, room: &Room, number: u32) {
        let name = &self.name;
        room.write(
            &format!("spool/{name}/{number}.eml"),
            mail(&format!("{name} {number}"), "…"),
        );
    }
}

#[test]
fn every_hostile_rule_costs_its_mails_nothing() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let cases: Vec<Case> = scripts().into_iter().chain(components(&room)).collect();
    let mut config = next_door(&room);
    for case in &cases {
        config.push_str(&case.config());
        case.put(&room);
        for number in 1..=2 {
            case.deliver(&room, number);
        }
    }
    room.write("postroom.toml", config);
    room.once();

    let mut wrong = String::new();
    for case in &cases {
        for number in 1..=2 {
            let decision = room.decision(&format!("{} {number}", case.name));
            if decision.to_string().contains(SECRET) {
                let _ = writeln!(wrong, "{} {number} tells the victim's secret", case.name);
            }
            if let Err(problem) = judge(case, &decision) {
                let _ = writeln!(wrong, "{} {number}: {problem}\n{decision:#}", case.name);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    room.assert_balanced(2 * cases.len() as u64 + 2);
}

/// A text that nobody but the victim may ever see.
const SECRET: &str = "secret-of-the-victim";

/// Creates a tenant with something of everything that can be looked up, and returns its configuration.
fn next_door(room: &Room) -> String {
    let rule = format!(
        r#"export function decide(mail) {{
  if (mail.subject === "alert") return alert({{ key: "vault/door", state: "firing", host: "vault", summary: "{SECRET}" }});
  return ticket({{ title: "vault {SECRET}", requester: "vera@victim.example", fields: {{ code: "code-of-victim", word: "{SECRET}" }} }});
}}
"#
    );
    room.write("rules/victim.js", rule);
    room.write(
        "contacts.csv",
        format!("name,email,word\nVera,vera@victim.example,{SECRET}\n"),
    );
    room.write(
        "assets.toml",
        format!("[[assets]]\nname = \"vault\"\nserial = \"SN-VICTIM\"\nword = \"{SECRET}\"\n"),
    );
    let tenant = "[tenants.victim]\ncontacts = \"contacts.csv\"\nassets = \"assets.toml\"\n[mailboxes.victim]\ntenant = \"victim\"\nprotocol = \"spool\"\npath = \"spool/victim\"\nrules = [\"rules/victim.js\"]\n";
    let config = format!("{CONFIG}{tenant}");
    room.write("postroom.toml", &config);
    for subject in ["ticket", "alert"] {
        room.write(&format!("spool/victim/{subject}.eml"), mail(subject, "…"));
    }
    // The tenant has them before any rule looks.
    room.once();
    let items = room.items();
    assert_eq!(items.len(), 2, "{items:?}");
    assert!(items.iter().all(|item| item.to_string().contains(SECRET)));
    config
}

#[test]
fn what_a_rule_remembers_in_all_is_limited_by_the_configuration() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let rule = r#"export function decide(mail, ctx) {
  ctx.kv.set(mail.subject, "x".repeat(1000));
  return ignore("remembered");
}
"#;
    room.write("rules/hoard.js", rule);
    let mut config = String::new();
    for (name, limit) in [
        ("wide", "kv_keys = 3"),
        ("keys", "kv_keys = 2"),
        ("bytes", "kv_bytes = \"2KiB\""),
    ] {
        let _ = write!(
            config,
            "[tenants.{name}]\ngrants = [\"kv\"]\nlimits = {{ time = \"60s\", {limit} }}\n[mailboxes.{name}]\ntenant = \"{name}\"\nprotocol = \"spool\"\npath = \"spool/{name}\"\nrules = [\"rules/hoard.js\"]\n"
        );
        for number in 1..=3 {
            let subject = format!("{name} {number}");
            room.write(&format!("spool/{name}/{number}.eml"), mail(&subject, "…"));
        }
    }
    room.write("postroom.toml", config);
    room.once();
    // Each mail stores one more key; the order in the spool determines which is the third.
    for (name, refused) in [("wide", 0), ("keys", 1), ("bytes", 1)] {
        let decisions = (1..=3).map(|number| room.decision(&format!("{name} {number}")));
        let over: Vec<Value> = decisions.filter(|it| it["rule"] == "fallback").collect();
        assert_eq!(over.len(), refused, "{name}: {over:#?}");
        for decision in over {
            let message = text(&decision["troubles"][0]["message"]).to_owned();
            assert!(message.contains("in all, over the limit"), "{message}");
        }
    }
}

#[test]
fn the_previous_generation_serves_while_what_does_not_load_is_refused() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let mut cases: Vec<Case> = scripts().into_iter().chain(components(&room)).collect();
    cases.retain(|case| case.expected["load"].is_string());
    let good_component = built(&room, &root().join("target/guests/standard.wasm"));
    let good_script = "export function decide() { return ticket({ queue: \"good\" }); }\n";
    let mut config = String::from(CONFIG);
    for case in &cases {
        config.push_str(&case.config());
        match case.rule.ends_with(".wasm") {
            true => room.write(&case.rule, &good_component),
            false => room.write(&case.rule, good_script),
        }
        case.deliver(&room, 1);
    }
    room.write("postroom.toml", config);
    let running = room.start();
    room.await_any_decision();
    await_decisions(&room, &running, cases.len());

    for case in &cases {
        case.put(&room);
    }
    let refused = |case: &Case| {
        let tenant = format!("tenant={} ", case.name);
        let said = running.lines("ERROR", "rule not loaded: ");
        let mut mine = said.iter().filter(|line| line.contains(&tenant));
        mine.any(|line| judge_refusal(case, line).is_ok())
    };
    wait_for(PATIENCE, || cases.iter().all(&refused));
    let silent = cases.iter().filter(|case| !refused(case));
    let silent: Vec<&str> = silent.map(|case| case.name.as_str()).collect();
    assert!(silent.is_empty(), "{silent:?}\n{}", running.log());

    for case in &cases {
        case.deliver(&room, 2);
    }
    await_decisions(&room, &running, 2 * cases.len());
    for case in &cases {
        let [before, after] =
            [1, 2].map(|number| room.decision(&format!("{} {number}", case.name)));
        for key in ["rule", "rule_hash", "generation", "troubles", "outcome"] {
            assert_eq!(after[key], before[key], "{}: {after:#}", case.name);
        }
        assert_eq!(after["rule"], case.rule.as_str(), "{after:#}");
    }
    room.assert_balanced(2 * cases.len() as u64);
}

fn await_decisions(room: &Room, running: &Running, count: usize) {
    let decided = || room.decisions().len() >= count;
    assert!(wait_for(PATIENCE, decided), "{}", running.log());
}

#[test]
fn a_ticket_of_another_tenant_does_not_exist_for_a_rule() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let config = |rule: &str| {
        let mut config = String::from(CONFIG);
        for name in ["owner", "stranger"] {
            let _ = write!(
                config,
                "[tenants.{name}]\n[mailboxes.{name}]\ntenant = \"{name}\"\nprotocol = \"spool\"\npath = \"spool/{name}\"\nrules = [{rule:?}]\n"
            );
        }
        config
    };
    room.write("postroom.toml", config("standard"));
    room.write("spool/owner/1.eml", mail("the ticket", "…"));
    room.once();
    let ticket = room.decision("the ticket")["ticket"]
        .as_str()
        .expect("a ticket")
        .to_owned();

    room.write("postroom.toml", config("rules/note.js"));
    let rule = format!(
        "export function decide() {{ return note({{ ticket: \"{ticket}\", body: \"written\" }}); }}\n"
    );
    room.write("rules/note.js", rule);
    for name in ["owner", "stranger"] {
        room.write(
            &format!("spool/{name}/2.eml"),
            mail(&format!("{name}'s note"), "…"),
        );
    }
    room.once();
    let owner = room.decision("owner's note");
    assert_eq!(owner["outcome"], "note", "{owner:#}");
    let stranger = room.decision("stranger's note");
    assert_eq!(stranger["rule"], "fallback", "{stranger:#}");
    assert_eq!(stranger["outcome"], "ticket", "{stranger:#}");
    let trouble = &stranger["troubles"][0];
    assert_eq!(trouble["kind"], "nonsense", "{stranger:#}");
    assert_eq!(
        trouble["message"],
        format!("a note on {ticket}, which is not a ticket of stranger")
    );
    let notes = room
        .items()
        .into_iter()
        .filter(|item| item["kind"] == "note");
    assert_eq!(notes.count(), 1);
}

#[test]
fn a_hostile_rule_leaves_the_mail_to_the_next_one() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    room.write(
        "rules/loop.js",
        "export function decide() { while (true) {} }\n",
    );
    room.write(
        "rules/next.js",
        "export function decide() { return ticket({ queue: \"next\" }); }\n",
    );
    room.write(
        "postroom.toml",
        room.config(&["rules/loop.js", "rules/next.js"], ""),
    );
    room.deliver(mail("patience", "…"));
    room.once();
    let decision = room.decision("patience");
    assert_eq!(decision["rule"], "rules/next.js");
    assert_eq!(decision["troubles"][0]["rule"], "rules/loop.js");
    assert_eq!(decision["troubles"][0]["kind"], "deadline");
}

#[test]
fn limits_come_from_the_configuration_and_are_obeyed_and_violated() {
    /// A rule that needs something, a limit that suffices and one that does not, and the resulting trouble.
    struct Limit {
        key: &'static str,
        rule: &'static str,
        wide: &'static str,
        strict: &'static str,
        trouble: &'static str,
    }
    let limits = [
        Limit {
            key: "memory",
            rule: "const all = []; for (let i = 0; i < 8; i++) all.push(\"x\".repeat(1 << 20));",
            wide: "64MiB",
            strict: "6MiB",
            trouble: "memory",
        },
        Limit {
            key: "time",
            rule: "let n = 0; for (let i = 0; i < 1e7; i++) n += i;",
            wide: "60s",
            strict: "20ms",
            trouble: "deadline",
        },
        Limit {
            key: "output",
            rule: "return ticket({ body: \"x\".repeat(100000) });",
            wide: "1MiB",
            strict: "16KiB",
            trouble: "output",
        },
    ];
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let mut config = String::new();
    for limit in &limits {
        let key = limit.key;
        let rule = format!(
            "export function decide() {{ {} return ignore(\"done\"); }}\n",
            limit.rule
        );
        room.write(&format!("rules/{key}.js"), rule);
        for (way, value) in [("wide", limit.wide), ("strict", limit.strict)] {
            // Only the limit in question may end the rule.
            let time = if key == "time" {
                ""
            } else {
                "time = \"60s\"\n"
            };
            let _ = write!(
                config,
                "[tenants.{key}-{way}.limits]\n{time}{key} = {value:?}\n[mailboxes.{key}-{way}]\ntenant = \"{key}-{way}\"\nprotocol = \"spool\"\npath = \"spool/{key}-{way}\"\nrules = [\"rules/{key}.js\"]\n"
            );
            room.write(
                &format!("spool/{key}-{way}/1.eml"),
                mail(&format!("{key} {way}"), "…"),
            );
        }
    }
    room.write("postroom.toml", config);
    room.once();
    for limit in &limits {
        let obeyed = room.decision(&format!("{} wide", limit.key));
        assert_eq!(
            obeyed["rule"],
            format!("rules/{}.js", limit.key),
            "{obeyed:#}"
        );
        let violated = room.decision(&format!("{} strict", limit.key));
        assert_eq!(violated["rule"], "fallback", "{violated:#}");
        assert_eq!(
            violated["troubles"][0]["kind"], limit.trouble,
            "{violated:#}"
        );
    }
}

#[test]
fn a_log_is_cut_at_its_configured_limit() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let rule = "export function decide() { for (let i = 0; i < 100; i++) console.log(\"x\".repeat(80)); return ignore(\"done\"); }\n";
    room.write("rules/talk.js", rule);
    let mut config = String::new();
    for (name, log) in [("wide", "64KiB"), ("strict", "1KiB")] {
        let _ = write!(
            config,
            "[tenants.{name}.limits]\nlog = {log:?}\ntime = \"60s\"\n[mailboxes.{name}]\ntenant = \"{name}\"\nprotocol = \"spool\"\npath = \"spool/{name}\"\nrules = [\"rules/talk.js\"]\n"
        );
        room.write(&format!("spool/{name}/1.eml"), mail(name, "…"));
    }
    room.write("postroom.toml", config);
    room.once();
    let log = |name: &str| room.decision(name)["log"].as_array().map_or(0, Vec::len);
    assert_eq!(log("wide"), 100);
    assert!((1..30).contains(&log("strict")), "{} lines", log("strict"));
}

fn judge(case: &Case, decision: &Value) -> Result<(), String> {
    let expected = &case.expected;
    if let Some(outcome) = expected["decision"].as_str() {
        let same = decision["outcome"] == outcome && decision["rule"] == case.rule.as_str();
        return same
            .then_some(())
            .ok_or(format!("not {outcome} by the rule"));
    }
    if decision["rule"] != "fallback" || decision["outcome"] != "ticket" {
        return Err("not a ticket by fallback".into());
    }
    if decision["actions"][0]["tags"][0] != "postroom-fallback" {
        return Err("the ticket is not flagged".into());
    }
    let trouble = &decision["troubles"][0];
    let (kind, message) = (text(&trouble["kind"]), text(&trouble["message"]));
    if expected["load"].is_string() {
        return match kind {
            "not-loaded" => judge_refusal(case, message),
            _ => Err("loaded".into()),
        };
    }
    let kinds = match &expected["trouble"] {
        Value::Array(kinds) => kinds.iter().map(text).collect(),
        one => vec![text(one)],
    };
    if !kinds.contains(&kind) {
        return Err(format!("trouble {kind}, not one of {kinds:?}"));
    }
    let wanted = text(&expected["message"]);
    if !message.contains(wanted) {
        return Err(format!("the message does not say {wanted:?}"));
    }
    if let Some(place) = expected["location"].as_str() {
        let place = format!("{}/{place}", case.folder());
        if !text(&trouble["location"]).starts_with(&place) {
            return Err(format!("the location is not {place}"));
        }
    }
    Ok(())
}

/// Checks that a rule that does not load is refused for the right reason, with its position.
fn judge_refusal(case: &Case, message: &str) -> Result<(), String> {
    let expected = &case.expected;
    let load = text(&expected["load"]);
    if message.len() > MOST_MESSAGE {
        return Err(format!("{load}: a message of {} bytes", message.len()));
    }
    for wanted in [words(load), text(&expected["message"])] {
        if !message.contains(wanted) {
            return Err(format!("{load}: the message does not say {wanted:?}"));
        }
    }
    if let Some(line) = expected["line"].as_u64() {
        let file = match expected["file"].as_str() {
            Some(file) => format!("{}/{file}", case.folder()),
            None => case.rule.clone(),
        };
        let place = format!("{file}:{line}:{}", expected["column"]);
        if !message.contains(&place) {
            return Err(format!("the message does not name {place}"));
        }
    }
    Ok(())
}

/// Returns the text of a load error of this kind.
fn words(load: &str) -> &'static str {
    match load {
        "init-deadline" => "its start took longer",
        "init-memory" => "bytes of memory",
        "compile-memory" => "compiling it needs more than",
        "compile-time" => "compiling it takes more than",
        "compile-size" => "its compiled code is over",
        "loaded" => "once loaded, and the other rules of this tenant hold",
        "not-granted" => "not granted to this tenant",
        "wrong-world" => "this is not a rule",
        "unknown-import" => "which no rule may use",
        "core-module" => "this is a core module, not a component; run `postroom plugin build",
        "damaged" => "not a complete WebAssembly component",
        "other-contract" => {
            "but this Postroom supports postroom:plugin@2.0; build it against that version"
        }
        "source-size" => "shorten it, or raise the limit `source`",
        "script" => "",
        other => panic!("unknown load error {other}"),
    }
}

fn scripts() -> Vec<Case> {
    let folders = cases("tests/hostile/scripts");
    folders
        .iter()
        .map(|folder| {
            let name = format!("script-{}", name_of(folder));
            let expected = expected(folder);
            let mut files = files_of(folder);
            let is_rule = |file: &&String| file.starts_with("rule.");
            let rule = files.keys().find(is_rule).expect("a rule").clone();
            let mut text = files.remove(&rule).expect("the rule");
            if let Some(bytes) = expected["source_bytes"].as_u64() {
                text.resize(usize::try_from(bytes).expect("a size"), b' ');
            }
            let rule = format!("rules/{name}/{rule}");
            let imported = files
                .into_iter()
                .map(|(file, content)| (format!("rules/{name}/{file}"), content));
            Case {
                files: imported.chain([(rule.clone(), text)]).collect(),
                expected,
                name,
                rule,
            }
        })
        .collect()
}

fn components(room: &Room) -> Vec<Case> {
    let folders = cases("tests/hostile/components");
    folders
        .iter()
        .map(|folder| {
            let name = format!("component-{}", name_of(folder));
            let rule = format!("rules/{name}.wasm");
            let expected = expected(folder);
            let guest = expected["guest"]
                .as_str()
                .map_or(name_of(folder), str::to_owned);
            if let Some(bytes) = bomb(&expected["bomb"]) {
                return Case {
                    files: vec![(rule.clone(), bytes)],
                    expected,
                    name,
                    rule,
                };
            }
            let core = root().join(format!("target/guests/hostile/{guest}.wasm"));
            let bytes = match expected["as"].as_str() {
                None => built(room, &core),
                Some("core") => std::fs::read(core).expect("a guest"),
                Some("half") => {
                    let mut bytes = built(room, &core);
                    bytes.truncate(bytes.len() / 2);
                    bytes
                }
                Some(other) => panic!("{name}: unknown \"as\": {other}"),
            };
            Case {
                files: vec![(rule.clone(), bytes)],
                expected,
                name,
                rule,
            }
        })
        .collect()
}

/// Returns a generated component, if the case has one.
fn bomb(expected: &Value) -> Option<Vec<u8>> {
    let bomb = expected.as_object()?;
    let number = |key: &str| {
        let number = bomb.get(key).and_then(Value::as_u64);
        u32::try_from(number.unwrap_or_else(|| panic!("no {key}"))).expect("a small number")
    };
    Some(match text(&bomb["of"]) {
        "blocks" => bombs::blocks(number("locals"), number("blocks")),
        "loops" => bombs::loops(number("locals"), number("loops")),
        "deep loops" => bombs::deep_loops(number("locals"), number("loops")),
        "sparse data" => bombs::sparse_data(number("modules") as usize, number("pages")),
        "fan out" => bombs::fan_out(number("levels"), number("width")),
        "many imports" => bombs::many_imports(number("modules")),
        other => panic!("unknown bomb {other:?}"),
    })
}

/// Returns the component that `plugin build` makes of a core module.
fn built(room: &Room, core: &Path) -> Vec<u8> {
    room.ok(&[
        "plugin",
        "build",
        core.to_str().unwrap(),
        "-o",
        "built.wasm",
    ]);
    std::fs::read(room.path().join("built.wasm")).expect("a component")
}

/// Returns all files of a folder and its subfolders, by relative path.
fn files_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = name_of(&path);
        if path.is_dir() {
            let below = files_of(&path).into_iter();
            files.extend(below.map(|(file, content)| (format!("{name}/{file}"), content)));
        } else {
            files.insert(name, std::fs::read(path).expect("a file"));
        }
    }
    files
}

fn expected(folder: &Path) -> Value {
    let file: PathBuf = folder.join("expected.json");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn name_of(folder: &Path) -> String {
    folder.file_name().unwrap().to_string_lossy().into_owned()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
