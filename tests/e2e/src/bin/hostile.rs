//! `make hostile`: runs the test of each promise separately, bounded in time and memory, and prints the results.
//!
//! `hostile [--check] [WORD…]`: words select promises whose area, fault, sentence or test contains one of them. `--check`
//! runs nothing and fails if a test does not exist.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use postroom_e2e::promises::{self, Area, Promise};
use postroom_e2e::root;
use rustix::process::{Pid, Signal};
use serde_json::Value;

/// The time limit of one test.
const TIME: Duration = Duration::from_secs(300);
/// The interval of checks of time and memory.
const LOOK: Duration = Duration::from_millis(50);
/// The size of the end of a failed test's output that is printed.
const SHOWN_BYTES: usize = 4000;

/// A package and a target's name.
type Target = (String, String);

/// The result of a test.
struct Ran {
    /// The fault, if there was one.
    fault: Option<String>,
    took: Duration,
    peak_mib: u64,
    output: String,
}

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let only_check = words.iter().any(|word| word == "--check");
    words.retain(|word| word != "--check");
    let areas = promises::areas();
    let executables = executables(&areas);
    match only_check {
        true => check(&areas, &executables),
        false => run(&areas, &executables, &words),
    }
}

fn check(areas: &[Area], executables: &HashMap<Target, PathBuf>) -> ExitCode {
    let mut known: BTreeMap<&PathBuf, BTreeSet<String>> = BTreeMap::new();
    let (mut found, mut missing) = (0, 0);
    for promise in areas.iter().flat_map(|area| &area.promises) {
        let executable = executables.get(&target(promise));
        let is_there = executable.is_some_and(|path| {
            let tests = known.entry(path).or_insert_with(|| tests_of(path));
            tests.contains(&promise.test)
        });
        if is_there {
            found += 1;
        } else {
            missing += 1;
            eprintln!(
                "hostile: no test {} in {} of {}",
                promise.test, promise.target, promise.package
            );
        }
    }
    println!("promises: {found} with their test, {missing} without");
    ExitCode::from(u8::from(missing > 0))
}

fn run(areas: &[Area], executables: &HashMap<Target, PathBuf>, words: &[String]) -> ExitCode {
    let (mut held, mut broken) = (0, 0);
    let mut done: HashMap<(Target, String), bool> = HashMap::new();
    for area in areas {
        let mut is_headed = false;
        for promise in &area.promises {
            let matches = |word: &String| {
                let places = [&area.name, &promise.fault, &promise.promise, &promise.test];
                places.iter().any(|place| place.contains(word.as_str()))
            };
            if !words.is_empty() && !words.iter().any(matches) {
                continue;
            }
            if !std::mem::replace(&mut is_headed, true) {
                println!("\n{}\n", area.title);
                println!("  held   secs    MiB  promise");
            }
            let key = (target(promise), promise.test.clone());
            if let Some(ok) = done.get(&key) {
                // One test may prove several promises.
                println!("  {}      \"      \"  {}", mark(*ok), promise.promise);
                continue;
            }
            let ran = match executables.get(&key.0) {
                Some(executable) => run_one(executable, promise),
                None => Ran::failed("its test target was not built"),
            };
            let ok = ran.fault.is_none();
            println!(
                "  {} {:>6.1} {:>6}  {} ({})",
                mark(ok),
                ran.took.as_secs_f64(),
                ran.peak_mib,
                promise.promise,
                promise.fault
            );
            if let Some(fault) = &ran.fault {
                println!("         {fault}: {} {}", promise.package, promise.test);
                eprintln!("{}", ran.output);
            }
            done.insert(key, ok);
            match ok {
                true => held += 1,
                false => broken += 1,
            }
        }
    }
    println!("\n{held} passed, {broken} failed");
    ExitCode::from(u8::from(broken > 0 || held == 0))
}

fn mark(ok: bool) -> &'static str {
    if ok { "yes " } else { "NO  " }
}

fn target(promise: &Promise) -> Target {
    (promise.package.clone(), promise.target.clone())
}

/// Builds the tests of the named packages and returns the path of each target's executable.
fn executables(areas: &[Area]) -> HashMap<Target, PathBuf> {
    let all = areas.iter().flat_map(|area| &area.promises);
    let packages: BTreeSet<&str> = all.map(|promise| promise.package.as_str()).collect();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).args([
        "test",
        "--release",
        "--locked",
        "--no-run",
        "--workspace",
        "--message-format=json-render-diagnostics",
    ]);
    let built = cargo
        .stderr(Stdio::inherit())
        .output()
        .expect("starting cargo");
    assert!(built.status.success(), "the tests do not build");
    let lines = built.stdout.split(|byte| *byte == b'\n');
    let messages = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    messages
        .filter(|message| message["profile"]["test"] == true)
        .filter_map(|message| {
            let executable = message["executable"].as_str()?;
            let package = package_name(message["package_id"].as_str()?);
            let kinds = message["target"]["kind"].as_array()?;
            let target = match kinds.iter().any(|kind| kind == "lib") {
                true => "lib",
                false => message["target"]["name"].as_str()?,
            };
            packages
                .contains(package)
                .then(|| ((package.into(), target.into()), executable.into()))
        })
        .collect()
}

/// Returns the name in a package id: `path+file:///…/host/store#postroom-store@0.1.0`, or without it if the folder has that
/// name.
fn package_name(id: &str) -> &str {
    let (place, version) = id.rsplit_once('#').unwrap_or((id, ""));
    match version.split_once('@') {
        Some((name, _)) => name,
        None => place.rsplit('/').next().unwrap_or(place),
    }
}

fn tests_of(executable: &PathBuf) -> BTreeSet<String> {
    let listed = Command::new(executable)
        .arg("--list")
        .output()
        .expect("listing tests");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    text.lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect()
}

impl Ran {
    fn failed(fault: &str) -> Self {
        Self {
            fault: Some(fault.into()),
            took: Duration::ZERO,
            peak_mib: 0,
            output: String::new(),
        }
    }
}

/// Runs one test in its own process group, and kills the group when a bound is reached.
fn run_one(executable: &PathBuf, promise: &Promise) -> Ran {
    let began = Instant::now();
    let package = package_folder(promise);
    let child = Command::new(executable)
        .args(["--exact", &promise.test, "--nocapture", "--test-threads=1"])
        .current_dir(package)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return Ran::failed(&format!("it does not start: {error}")),
    };
    let readers = [
        child.stdout.take().map(reader),
        child.stderr.take().map(reader),
    ];
    let (mut peak_mib, mut fault) = (0, None);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) => {}
            Err(_) => break None,
        }
        peak_mib = peak_mib.max(resident_mib(child.id()));
        if peak_mib > promise.memory_mib {
            fault = Some(format!("over {} MiB of memory", promise.memory_mib));
        } else if began.elapsed() > TIME {
            fault = Some(format!("no end after {} s", TIME.as_secs()));
        }
        if fault.is_some() {
            end(&mut child);
            break None;
        }
        std::thread::sleep(LOOK);
    };
    let took = began.elapsed();
    let parts = readers.into_iter().flatten().map(|it| it.join());
    let output: String = parts.map(Result::unwrap_or_default).collect();
    if fault.is_none() {
        // A name that matches no test runs none and succeeds.
        let passed = output.contains("test result: ok. 1 passed");
        fault = match status.is_some_and(|status| status.success()) && passed {
            true => None,
            false => Some("it failed".into()),
        };
    }
    let mut cut = output.len().saturating_sub(SHOWN_BYTES);
    while !output.is_char_boundary(cut) {
        cut += 1;
    }
    Ran {
        fault,
        took,
        peak_mib,
        output: output[cut..].to_owned(),
    }
}

fn reader(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // Output before an error is printed nevertheless.
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Returns the folder of a package. Cargo runs tests there, and some read their cases from there.
fn package_folder(promise: &Promise) -> PathBuf {
    let short = promise
        .package
        .strip_prefix("postroom-")
        .unwrap_or("app")
        .to_owned();
    let folders = [
        root().join("host").join(&short),
        root().join("tests").join(&short),
    ];
    folders
        .into_iter()
        .find(|folder| folder.is_dir())
        .unwrap_or_else(root)
}

fn end(child: &mut Child) {
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

/// Returns the resident memory of a process with all its descendants.
fn resident_mib(root: u32) -> u64 {
    let mut parents: HashMap<u32, u32> = HashMap::new();
    let mut resident_kib: HashMap<u32, u64> = HashMap::new();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in entries {
        let Some(pid) = entry.file_name().to_str().and_then(|it| it.parse().ok()) else {
            continue;
        };
        // A process may end meanwhile.
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let number = |label: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(label))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        parents.insert(pid, number("PPid:").unwrap_or(0) as u32);
        resident_kib.insert(pid, number("VmRSS:").unwrap_or(0));
    }
    let is_below = |mut pid: u32| {
        for _ in 0..64 {
            if pid == root {
                return true;
            }
            match parents.get(&pid) {
                Some(parent) => pid = *parent,
                None => return false,
            }
        }
        false
    };
    let below = resident_kib.iter().filter(|(pid, _)| is_below(**pid));
    below.map(|(_, kib)| kib).sum::<u64>() / 1024
}
