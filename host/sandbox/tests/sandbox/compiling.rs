//! Components of tenants are compiled in a child process within limits, and a component whose compilation failed is not
//! tried again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use postroom_sandbox::{
    Compiler, Grants, Limits, LoadError, Rule, RuleSource, Sandbox, SandboxConfig,
};

use crate::bombs;
use crate::guests::rule;

const CHILD: &str = env!("CARGO_BIN_EXE_compile-component");
/// A program that does not exist, to tell components that are compiled from those that are not tried.
const NOBODY: &str = "/nowhere/compile-component";

fn sandbox(folder: &Path, program: impl Into<PathBuf>) -> Sandbox {
    Sandbox::new(SandboxConfig {
        cache_dir: Some(folder.join("cache")),
        workers: 1,
        compiler: Compiler::Child {
            program: program.into(),
            arguments: Vec::new(),
        },
        ..SandboxConfig::default()
    })
    .unwrap()
}

fn load(sandbox: &Sandbox, bytes: &[u8], limits: &Limits) -> Result<Rule, LoadError> {
    let source = RuleSource::Component {
        name: "rules/e.wasm",
        bytes,
    };
    sandbox.load(source, "{}", &Grants::default(), limits)
}

fn good() -> Vec<u8> {
    rule("", "(i32.const 16)")
}

/// Returns the files in the cache with this extension.
fn kept(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("cache")).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .collect()
}

#[test]
fn a_good_component_is_compiled_once_and_leaves_no_note() {
    let place = tempfile::tempdir().unwrap();
    let bytes = good();
    load(&sandbox(place.path(), CHILD), &bytes, &Limits::default()).unwrap();
    assert!(kept(place.path(), "note").is_empty());
    // The second start needs no compiler.
    load(&sandbox(place.path(), NOBODY), &bytes, &Limits::default()).unwrap();
}

#[test]
fn too_much_memory_is_refused_with_the_figure_and_not_tried_again() {
    let place = tempfile::tempdir().unwrap();
    let limits = Limits {
        compile_memory_bytes: 256 << 20,
        compile_time: Duration::from_secs(600),
        ..Limits::default()
    };
    for bytes in [
        bombs::blocks(5000, 5000),
        bombs::loops(5000, 5000),
        bombs::deep_loops(2000, 4000),
    ] {
        let refused = |program: &str, limits: &Limits| {
            load(&sandbox(place.path(), program), &bytes, limits)
                .unwrap_err()
                .to_string()
        };
        let message = refused(CHILD, &limits);
        assert!(
            message.starts_with("rules/e.wasm: compiling it needs more than 256 MiB of memory; "),
            "{message}"
        );
        assert_eq!(refused(NOBODY, &limits), message);
        // A higher limit allows another try.
        let more = Limits {
            compile_memory_bytes: 257 << 20,
            ..limits.clone()
        };
        assert!(refused(NOBODY, &more).contains("cannot be started"));
    }
    load(&sandbox(place.path(), CHILD), &good(), &limits).unwrap();
}

#[test]
fn too_much_time_is_refused_with_the_figure_and_not_tried_again() {
    let place = tempfile::tempdir().unwrap();
    let bytes = bombs::deep_loops(100, 4000);
    let limits = Limits {
        compile_time: Duration::from_millis(500),
        ..Limits::default()
    };
    for program in [CHILD, NOBODY] {
        let refused = load(&sandbox(place.path(), program), &bytes, &limits).unwrap_err();
        let message = refused.to_string();
        assert!(
            message.starts_with(
                "rules/e.wasm: compiling it takes more than 500ms of computing time; "
            ),
            "{message}"
        );
    }
}

#[test]
fn code_over_what_may_be_loaded_is_refused_and_not_kept() {
    let place = tempfile::tempdir().unwrap();
    let limits = Limits {
        loaded_bytes: 40 << 20,
        ..Limits::default()
    };
    // Each is a few hundred bytes, and 16 MiB of code.
    let small = bombs::sparse_data(1, 256);
    let large = bombs::sparse_data(3, 256);
    assert!(large.len() < 1000);
    let refused = load(&sandbox(place.path(), CHILD), &large, &limits).unwrap_err();
    assert!(
        matches!(refused, LoadError::CompileSize { .. }),
        "{refused}"
    );
    assert_eq!(
        refused.to_string(),
        "rules/e.wasm: its compiled code is over 40 MiB; make it smaller, or raise the limit `loaded`"
    );
    assert!(kept(place.path(), "component").is_empty());
    // A component within the limit is compiled, but is not a rule.
    let loaded = load(&sandbox(place.path(), CHILD), &small, &limits);
    assert!(
        matches!(loaded, Err(LoadError::WrongWorld { .. })),
        "{:?}",
        loaded.err()
    );
    assert_eq!(kept(place.path(), "component").len(), 1);
}

#[test]
fn a_component_counts_as_it_is_in_memory() {
    let place = tempfile::tempdir().unwrap();
    let bytes = bombs::fan_out(5, 10);
    assert!(bytes.len() < 500);
    let limits = Limits {
        loaded_bytes: 16 << 20,
        ..Limits::default()
    };
    // 100,000 instances: 1 MiB of compiled code, and 20 MiB once it is unpacked.
    let refused = load(&sandbox(place.path(), CHILD), &bytes, &limits).unwrap_err();
    assert!(matches!(refused, LoadError::Loaded { .. }), "{refused}");
    assert_eq!(kept(place.path(), "component").len(), 1);
}

/// Returns sections that add `instances` of one more module to a component with `modules`; each instance copies `pages` of
/// data, one over the other.
fn copies(modules: u32, instances: u32, pages: u32) -> Vec<u8> {
    let mut data = bombs::leb(pages);
    for _ in 0..pages {
        // At 0 + 0, which is known only when it is computed.
        data.extend([0x00, 0x41, 0x00, 0x41, 0x00, 0x6a, 0x0b]);
        data.extend(bombs::leb(1 << 16));
        data.extend([0x07; 1 << 16]);
    }
    let module = [
        bombs::MODULE,
        &bombs::section(5, &[0x01, 0x00, 0x01]),
        &bombs::section(11, &data),
    ]
    .concat();
    let mut made = bombs::leb(instances);
    for _ in 0..instances {
        made.push(0x00);
        made.extend(bombs::leb(modules));
        made.push(0x00);
    }
    [bombs::section(1, &module), bombs::section(2, &made)].concat()
}

/// Returns a component with these sections after its own.
fn with(sections: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let mut bytes = good();
    let payloads = wasmparser::Parser::new(0).parse_all(&bytes);
    let modules =
        payloads.filter(|payload| matches!(payload, Ok(wasmparser::Payload::ModuleSection { .. })));
    let modules = modules.count() as u32;
    bytes.extend(sections(modules));
    bytes
}

#[test]
fn what_starts_too_many_instances_or_copies_too_much_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let sandbox = sandbox(place.path(), CHILD);
    let many = |instances| with(|modules| copies(modules, instances, 0));
    load(&sandbox, &many(200), &Limits::default()).unwrap();
    let refused = load(&sandbox, &many(300), &Limits::default()).unwrap_err();
    assert!(refused.to_string().contains("instance count"), "{refused}");
    // 800 MiB, which no deadline interrupts.
    let copying = with(|modules| copies(modules, 200, 64));
    let limits = Limits {
        init_time: Duration::from_millis(20),
        ..Limits::default()
    };
    let refused = load(&sandbox, &copying, &limits).unwrap_err();
    assert!(
        matches!(refused, LoadError::InitDeadline { .. }),
        "{refused}"
    );
}

#[test]
fn reading_takes_time_in_proportion_to_the_size() {
    // A compiler that compares each import with all earlier ones takes hours.
    let bytes = bombs::many_imports(1_000_000);
    let found = postroom_sandbox::inspect(&bytes).unwrap();
    assert_eq!(found.imports.len(), 1_000_000);
}

#[test]
fn what_never_finished_is_given_up_after_three_attempts() {
    let place = tempfile::tempdir().unwrap();
    let bytes = good();
    // It dies without output, as if the machine had killed it.
    let dies = sandbox(place.path(), "/bin/false");
    for _ in 0..3 {
        let refused = load(&dies, &bytes, &Limits::default()).unwrap_err();
        assert!(refused.to_string().contains("exit status: 1"), "{refused}");
    }
    let child = sandbox(place.path(), CHILD);
    let refused = load(&child, &bytes, &Limits::default()).unwrap_err();
    assert!(
        refused.to_string().contains("3 attempts did not finish"),
        "{refused}"
    );
    for note in kept(place.path(), "note") {
        std::fs::remove_file(note).unwrap();
    }
    load(&child, &bytes, &Limits::default()).unwrap();
}

/// Returns the child processes of this process, by process id, and their process groups.
#[cfg(target_os = "linux")]
fn children() -> Vec<(u32, u32)> {
    let me = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap();
    let stats = processes.filter_map(|entry| {
        let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        let (pid, rest) = stat.split_once(' ')?;
        let (_, rest) = rest.rsplit_once(") ")?;
        let words: Vec<&str> = rest.split(' ').collect();
        let [state, parent, group, ..] = words.as_slice() else {
            return None;
        };
        (*parent == me && *state != "Z").then(|| Some((pid.parse().ok()?, group.parse().ok()?)))?
    });
    stats.collect()
}

#[test]
#[cfg(target_os = "linux")]
fn the_child_is_confined_and_a_stop_ends_it_without_a_note() {
    use std::os::fd::AsFd;

    let place = tempfile::tempdir().unwrap();
    // Like a file that the program inherited at its start.
    let inherited = std::fs::File::open("/dev/null").unwrap();
    let inherited = rustix::io::dup(inherited.as_fd()).unwrap();
    let sandbox = sandbox(place.path(), CHILD);
    let bytes = bombs::deep_loops(100, 5000);
    let limits = Limits {
        compile_memory_bytes: 900 << 20,
        compile_time: Duration::from_secs(3000),
        ..Limits::default()
    };
    let lines =
        |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let limit = |pid: u32, name: &str| {
        let lines = lines(pid);
        let line = lines.lines().find(|line| line.starts_with(name))?;
        line[name.len()..]
            .split_whitespace()
            .next()
            .map(str::to_owned)
    };
    let cpu_secs = || Some("3000".to_owned());
    std::thread::scope(|scope| {
        let loads = [0, 1].map(|_| scope.spawn(|| load(&sandbox, &bytes, &limits)));
        let (pid, group) = loop {
            let mut found = children().into_iter();
            // Other tests of this process have their own children.
            if let Some(found) = found.find(|(pid, _)| limit(*pid, "Max cpu time") == cpu_secs()) {
                break found;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let address_space = limit(pid, "Max address space");
        let held: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        // Before anything else can fail, so that the loads end.
        sandbox.stop();
        for load in loads {
            let refused = load.join().unwrap().unwrap_err();
            assert!(matches!(refused, LoadError::Stopped { .. }), "{refused}");
        }
        assert_eq!(address_space, Some((900 << 20).to_string()));
        // A signal from the terminal goes to our group.
        assert_eq!(group, pid);
        let standard = |fd: &String| ["0", "1", "2"].contains(&fd.as_str());
        assert!(held.iter().all(standard), "{held:?}");
    });
    assert!(kept(place.path(), "note").is_empty());
    drop(inherited);
}

#[test]
fn loaded_rules_are_limited_by_tenant_and_in_total() {
    let place = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new(SandboxConfig {
        cache_dir: Some(place.path().join("cache")),
        loaded_bytes: 40 << 20,
        ..SandboxConfig::default()
    })
    .unwrap();
    let limits = Limits {
        loaded_bytes: 20 << 20,
        ..Limits::default()
    };
    let text = "const held = \"x\".repeat(8 << 20);\nexport function decide() { return held.length === 8 << 20 ? undefined : ignore(\"\"); }";
    let load = |tenant: &str, name: &str| {
        let source = RuleSource::Script { name, text };
        sandbox.load_for(tenant, source, "{}", &Grants::default(), &limits)
    };
    let refused = |loaded: Result<Rule, LoadError>, limit: &str| {
        let message = loaded.expect_err("a refusal").to_string();
        assert!(message.contains(limit), "{message}");
        assert!(message.contains(" MiB once loaded"), "{message}");
        message
    };
    let own = "the other rules of this tenant hold";
    let first = load("acme", "a.js").unwrap();
    let second = load("acme", "b.js").unwrap();
    let message = refused(load("acme", "c.js"), own);
    assert!(message.starts_with("c.js: needs "), "{message}");
    assert!(
        message.contains("the limit `loaded` of 20 MiB"),
        "{message}"
    );
    // A saved version replaces the previous one, which batches may still use.
    let replaced = load("acme", "a.js").unwrap();
    drop(first);
    let again = load("acme", "a.js").unwrap();
    // Others have their own limits, until the total is used up.
    let other = load("beta", "a.js").unwrap();
    let message = refused(
        load("gamma", "a.js").and_then(|_one| load("delta", "a.js")),
        "the other rules of all tenants hold",
    );
    assert!(
        message.contains("the limit `loaded_total` of 40 MiB"),
        "{message}"
    );
    // A version that is no longer loaded no longer counts; a clone in a batch counts like the rule itself.
    let batch = again.clone();
    drop((again, replaced, second));
    load("acme", "b.js").unwrap();
    drop((batch, other));
    let _all = ["a.js", "b.js"].map(|name| load("delta", name).unwrap());
    refused(load("delta", "c.js"), own);
}
