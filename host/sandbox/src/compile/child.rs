//! The child process that compiles one component: it limits itself, reads the component from standard input, and writes the
//! code to standard output.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The first byte of a result that is compiled code.
pub(super) const CODE: u8 = 0;
/// The first byte of a result that is a reason, as text for people.
pub(super) const INVALID: u8 = 1;
pub(super) const OUT_OF_MEMORY: u8 = 2;
/// The last of the file descriptors that the parent passes to a child.
#[cfg(target_os = "linux")]
const STANDARD_ERROR: i32 = 2;
/// The longest reason.
const REASON_BYTES: usize = 4 << 10;
/// The time between the limit of CPU time and the kill of a process that ignores it.
const GRACE_SECS: u64 = 5;

/// Compiles the component on standard input for the process that started this one.
pub fn compile_for_parent(memory_bytes: u64, cpu_secs: u64) -> ExitCode {
    match confine(memory_bytes, cpu_secs).and_then(|()| answer()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Limits this process, before anything is read.
fn confine(memory_bytes: u64, cpu_secs: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    close_inherited()?;
    limit(Resource::As, memory_bytes, memory_bytes)?;
    limit(Resource::Cpu, cpu_secs, cpu_secs.saturating_add(GRACE_SECS))?;
    // An abort is the expected end of a hostile component: no core file is written.
    limit(Resource::Core, 0, 0)?;
    // Mail has priority.
    let _ = rustix::process::nice(10);
    #[cfg(target_os = "linux")]
    {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // If the machine's memory runs out nevertheless, this is the process to kill.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    }
    Ok(())
}

/// Sets a limit, which may only become stricter than the inherited one.
fn limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit {
        current: Some(soft.min(most)),
        maximum: Some(hard.min(most)),
    };
    Ok(setrlimit(resource, limit)?)
}

/// Closes inherited file descriptors. Files that the program opens itself close when it starts another one; inherited files
/// do not.
#[cfg(target_os = "linux")]
fn close_inherited() -> io::Result<()> {
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > STANDARD_ERROR)
        .collect();
    for fd in open {
        // SAFETY: the process has just started. It has opened only this listing, which is closed again, so nothing owns
        // these descriptors.
        #[allow(unsafe_code)]
        unsafe {
            rustix::io::close(fd);
        }
    }
    Ok(())
}

fn answer() -> io::Result<()> {
    let bytes = read()?;
    let engine = crate::engine::compiling().map_err(io::Error::other)?;
    let (kind, content) = match engine.precompile_component(&bytes) {
        Ok(code) => (CODE, code),
        Err(error) if is_out_of_memory(&error) => (OUT_OF_MEMORY, Vec::new()),
        Err(error) => {
            let mut reason = format!("{error:#}");
            reason.truncate(reason.floor_char_boundary(REASON_BYTES));
            (INVALID, reason.into_bytes())
        }
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(&[kind])?;
    stdout.write_all(&content)?;
    stdout.flush()
}

/// Reads the whole component. Fails on a partial one: the parent is gone then.
fn read() -> io::Result<Vec<u8>> {
    let mut stdin = io::stdin().lock();
    let mut length = [0; 8];
    stdin.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut bytes = Vec::new();
    stdin.take(length).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == length {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn is_out_of_memory(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| {
        let of_system = cause.downcast_ref::<io::Error>();
        of_system.is_some_and(|error| error.kind() == io::ErrorKind::OutOfMemory)
            || cause.downcast_ref::<rustix::io::Errno>() == Some(&rustix::io::Errno::NOMEM)
    })
}
