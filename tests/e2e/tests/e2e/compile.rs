//! Components that are expensive to compile: refused by name with the figure, while the other rules run.

use postroom_e2e::{PATIENCE, Room, both, mail};
use postroom_stand::{Stand, wait_for};

use crate::bombs;

const EVIL: &str = "evil/e.wasm";
const CONFIG: &str = r#"[limits]
compile_memory = "512MiB"
compile_time = "30s"
[tenants.evil]
[mailboxes.evil]
tenant = "evil"
protocol = "spool"
path = "spool/evil"
every = "1s"
rules = ["evil/e.wasm", "standard"]
[tenants.victim]
[mailboxes.victim]
tenant = "victim"
protocol = "spool"
path = "spool/victim"
every = "1s"
rules = ["rules/victim.js"]
"#;
const VICTIM: &str = "export function decide(mail) { return ticket({ queue: \"served\" }); }\n";

/// Returns a room with its own cache, so that nothing was compiled or noted before.
fn room() -> Room<'static> {
    let mut room = Room::bare(Stand::shared().expect("the test stand"));
    let cache = room.path().join("cache-home");
    room.set_env("XDG_CACHE_HOME", &cache.display().to_string());
    room.write("postroom.toml", CONFIG);
    room.write("rules/victim.js", VICTIM);
    room
}

fn deliver(room: &Room, tenant: &str, number: u32) {
    room.write(
        &format!("spool/{tenant}/{number}.eml"),
        mail(&format!("{tenant} {number}"), "…"),
    );
}

#[test]
fn a_component_that_needs_too_much_memory_to_compile_is_refused_and_not_tried_again() {
    let room = room();
    room.write(EVIL, bombs::loops(20_000, 20_000));
    let refused = "compiling it needs more than 512 MiB of memory";
    let environment = [("RUST_LOG", "postroom=info,postroom_sandbox=debug")];
    let running = room.start_with(&environment);
    for number in 1..=2 {
        deliver(&room, "victim", number);
        let decision = room.await_decision(&format!("victim {number}"));
        assert_eq!(decision["actions"][0]["queue"], "served");
    }
    deliver(&room, "evil", 1);
    let decision = room.await_decision("evil 1");
    assert_eq!(decision["rule"], "standard");
    let why = decision["troubles"][0]["message"].as_str().unwrap();
    assert!(why.contains(EVIL) && why.contains(refused), "{why}");
    let tried = || running_count(&room);
    assert_eq!(tried(), 1, "{}", running.log());
    assert_eq!(running.stop(), Some(0));

    // It is reported by name, and costs nothing further.
    let running = room.start_with(&environment);
    deliver(&room, "evil", 2);
    let decision = room.await_decision("evil 2");
    let why = decision["troubles"][0]["message"].as_str().unwrap();
    assert!(why.contains(refused), "{why}");
    assert_eq!(tried(), 1, "{}", running.log());

    // A similar one saved while the service runs does not stop the other rules.
    room.write(EVIL, bombs::loops(20_001, 20_000));
    deliver(&room, "victim", 3);
    room.await_decision("victim 3");
    assert!(wait_for(PATIENCE, || tried() == 2), "{}", running.log());
    assert_eq!(running.stop(), Some(0));
}

/// Returns how often a component was compiled, over all starts: the log is appended to.
fn running_count(room: &Room) -> usize {
    let log = std::fs::read_to_string(room.path().join("run.log")).unwrap_or_default();
    log.matches("compiling in a child process").count()
}

#[test]
fn a_component_that_takes_too_long_to_compile_is_refused_until_the_limit_is_raised() {
    let room = room();
    room.write(EVIL, bombs::deep_loops(100, 1_500));
    let config = CONFIG.replace("\"512MiB\"", "\"4GiB\"");
    room.write("postroom.toml", config.replace("\"30s\"", "\"1s\""));
    for _ in 0..2 {
        let checked = room.postroom(&["check"]);
        assert_eq!(checked.status.code(), Some(1));
        let said = both(&checked);
        assert!(
            said.contains("compiling it takes more than 1s of computing time"),
            "{said}"
        );
    }
    room.write("postroom.toml", config.replace("\"30s\"", "\"10m\""));
    let said = both(&room.postroom(&["check"]));
    // It is compiled now, but is not a rule.
    assert!(said.contains("this is not a rule"), "{said}");
}

/// Returns whether a process exists and has not ended.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Returns the children of a process, whichever of its threads started them.
fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let lists = tasks
        .into_iter()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    let all: String = lists.collect();
    all.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

#[test]
fn a_service_that_is_killed_takes_its_compiler_with_it() {
    let room = room();
    room.write(
        "postroom.toml",
        CONFIG
            .replace("\"30s\"", "\"1h\"")
            .replace("512MiB", "900MiB"),
    );
    let running = room.start();
    deliver(&room, "victim", 1);
    room.await_decision("victim 1");
    room.write(EVIL, bombs::deep_loops(100, 6_000));
    let pid = running.pid();
    assert!(
        wait_for(PATIENCE, || !children(pid).is_empty()),
        "{}",
        running.log()
    );
    let compilers = children(pid);
    running.kill();
    assert!(wait_for(PATIENCE, || !compilers
        .iter()
        .any(|compiler| is_alive(*compiler))));
}

/// Returns a script that holds 12 MiB, and marks its tickets.
fn holding(word: &str) -> String {
    format!(
        "const held = \"x\".repeat(12 << 20);\nexport function decide() {{\n  return held && ticket({{ queue: \"{word}\" }});\n}}\n"
    )
}

#[test]
fn what_loaded_rules_hold_is_limited_and_versions_take_the_place_of_earlier_ones() {
    let room = room();
    let rules = ["rules/a.js", "rules/b.js"];
    room.write(
        "postroom.toml",
        CONFIG
            .replace(
                "[tenants.evil]",
                "[tenants.evil]\nlimits.loaded = \"20MiB\"",
            )
            .replace("\"evil/e.wasm\"", "\"rules/a.js\", \"rules/b.js\""),
    );
    for rule in rules {
        room.write(rule, holding("first"));
    }
    let running = room.start();
    deliver(&room, "evil", 1);
    // The first one decides; the second one is refused with the figures, and the other tenant's rules run.
    let decision = room.await_decision("evil 1");
    assert_eq!(decision["actions"][0]["queue"], "first");
    let refused = "rules/b.js: needs 12.";
    let why = "MiB once loaded, and the other rules of this tenant hold 12.";
    let log = running.log();
    let line = log.lines().find(|line| line.contains(refused));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(
        line.contains(why) && line.contains("the limit `loaded` of 20 MiB"),
        "{line}"
    );
    deliver(&room, "victim", 1);
    assert_eq!(
        room.await_decision("victim 1")["actions"][0]["queue"],
        "served"
    );
    // However often it is saved, only the live version counts.
    for number in 2..=6 {
        room.write("rules/a.js", holding(&format!("version {number}")));
        running.await_log(&format!("generation={number}"));
        deliver(&room, "evil", number);
        let decision = room.await_decision(&format!("evil {number}"));
        assert_eq!(decision["actions"][0]["queue"], format!("version {number}"));
    }
    // The memory that the first one releases is available to the second.
    room.write("rules/a.js", "export function decide() {}\n");
    running.await_log("generation=7");
    room.write("rules/b.js", holding("second"));
    running.await_log("generation=8");
    deliver(&room, "evil", 7);
    assert_eq!(
        room.await_decision("evil 7")["actions"][0]["queue"],
        "second"
    );
    assert_eq!(running.stop(), Some(0));
}
