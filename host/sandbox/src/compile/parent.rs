//! The parent of the compiling child: starts it, sends it the component, and kills it if it takes too long or its result is
//! no longer needed.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Failure;
use super::child::{CODE, INVALID, OUT_OF_MEMORY};
use postroom_core::Limits;

/// The wall-clock limit of a child as a multiple of its CPU time: the child yields to everything else on the machine.
const MOST_WAIT: u32 = 10;
/// The least wall-clock limit, since a child with a short time limit also waits for the processor.
const LEAST_WAIT: Duration = Duration::from_secs(60);
/// The interval of checks for a stop.
const LOOK: Duration = Duration::from_millis(50);
/// The number of bytes kept of a child's standard error.
const WORDS: u64 = 4 << 10;
/// The number of the child's threads, regardless of the number of cores: each takes address space.
const THREADS: usize = 4;

pub(super) fn compile(
    program: &Path,
    arguments: &[String],
    bytes: &[u8],
    limits: &Limits,
    stopped: &AtomicBool,
) -> Result<Vec<u8>, Failure> {
    if stopped.load(Ordering::Acquire) {
        return Err(Failure::Stopped);
    }
    let failed = |error: io::Error| Failure::Crash(format!("it cannot be started: {error}"));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut child = Command::new(program)
        .arg0("postroom")
        .args(arguments)
        .arg(limits.compile_memory_bytes.to_string())
        .arg(whole_secs(limits.compile_time).to_string())
        .env_clear()
        .env("RAYON_NUM_THREADS", threads.min(THREADS).to_string())
        // glibc reserves 64 MiB of address space for each arena.
        .env("MALLOC_ARENA_MAX", "2")
        .current_dir("/")
        // Ctrl-C in the terminal is for the program, which ends its child when it no longer needs it.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let compiled = converse(&mut child, bytes, limits, stopped);
    // Whatever happened, nothing of the child is left behind.
    let _ = child.kill();
    let status = child.wait();
    let (answer, words) = compiled?;
    judge(answer, words, status)
}

/// Returns the child's result and what it wrote to its standard error.
fn converse(
    child: &mut Child,
    bytes: &[u8],
    limits: &Limits,
    stopped: &AtomicBool,
) -> Result<(Vec<u8>, String), Failure> {
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) = pipes else {
        return Err(Failure::Crash("it has no pipes".into()));
    };
    let (said, answered) = sync_channel(1);
    let most = limits.loaded_bytes.saturating_add(1);
    // The threads end with the child, because their pipes close then.
    thread::scope(|scope| {
        scope.spawn(move || {
            // A child that dies early does not read all of it; its exit status shows why.
            let _ = stdin
                .write_all(&(bytes.len() as u64).to_le_bytes())
                .and_then(|()| stdin.write_all(bytes));
        });
        let words = scope.spawn(move || {
            let mut words = Vec::new();
            let _ = (&mut stderr).take(WORDS).read_to_end(&mut words);
            let _ = io::copy(&mut stderr, &mut io::sink());
            String::from_utf8_lossy(&words).trim().to_owned()
        });
        scope.spawn(move || {
            let mut answer = Vec::new();
            // The first byte is the kind of the result.
            let read = (&mut stdout)
                .take(most.saturating_add(1) as u64)
                .read_to_end(&mut answer);
            let _ = said.send(read.map(|_| answer));
        });
        let wait = limits
            .compile_time
            .saturating_mul(MOST_WAIT)
            .max(LEAST_WAIT);
        let latest = Instant::now() + wait;
        let answer = loop {
            match answered.recv_timeout(LOOK) {
                Ok(Ok(answer)) if answer.len() > most => break Err(Failure::Size),
                Ok(Ok(answer)) => break Ok(answer),
                Ok(Err(error)) => break Err(Failure::Crash(error.to_string())),
                Err(RecvTimeoutError::Disconnected) => {
                    break Err(Failure::Crash("its result was lost".into()));
                }
                Err(RecvTimeoutError::Timeout) if stopped.load(Ordering::Acquire) => {
                    break Err(Failure::Stopped);
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() >= latest => {
                    break Err(Failure::Wait(wait));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        match answer {
            // The child has sent everything. If it has no exit status yet, it is about to end.
            Ok(answer) => {
                while matches!(child.try_wait(), Ok(None)) && Instant::now() < latest {
                    thread::sleep(Duration::from_millis(1));
                }
                let _ = child.kill();
                Ok((answer, words.join().unwrap_or_default()))
            }
            Err(failure) => {
                let _ = child.kill();
                Err(failure)
            }
        }
    })
}

fn judge(
    mut answer: Vec<u8>,
    words: String,
    status: io::Result<ExitStatus>,
) -> Result<Vec<u8>, Failure> {
    let status = status.map_err(|error| Failure::Crash(error.to_string()))?;
    let is = |signal: Signal| status.signal() == Some(signal.as_raw());
    if is(Signal::XCPU) {
        return Err(Failure::Time);
    }
    // The runtime aborts when an allocation fails.
    if is(Signal::ABORT) {
        return Err(Failure::Memory);
    }
    if !status.success() || answer.is_empty() {
        return Err(Failure::Crash(match words.as_str() {
            "" => status.to_string(),
            words => format!("{status}: {words}"),
        }));
    }
    let rest = answer.split_off(1);
    match answer[0] {
        CODE => Ok(rest),
        OUT_OF_MEMORY => Err(Failure::Memory),
        INVALID => Err(Failure::Invalid(
            String::from_utf8_lossy(&rest).into_owned(),
        )),
        other => Err(Failure::Crash(format!("it answered {other}"))),
    }
}

/// Returns whole seconds, as `RLIMIT_CPU` counts.
fn whole_secs(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
