//! The locks, clocks and threads of the scheduler. `tests/interleavings` compiles the scheduler with those of a model checker.

pub use std::sync::{Mutex, MutexGuard};
pub use std::time::Instant;

pub use postroom_sandbox::thread_time;

/// How much nicer a thread is that works for a slow tenant: beside a busy one it gets a tenth of a processor.
pub(super) const GIVES_WAY: i32 = 10;

/// Works on a thread that gives way to the others, so that they need not even wait for the processor that a slow tenant is on. A
/// thread may not take its priority back, so it ends with the slice. Answers nothing, and does nothing, when there is no thread to
/// be had.
pub fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("slow".into());
        let spawned = thread.spawn_scoped(scope, || {
            // Elsewhere it would be the whole process that gives way.
            #[cfg(target_os = "linux")]
            if let Err(error) = rustix::process::nice(GIVES_WAY) {
                tracing::debug!(%error, "a slow tenant's thread keeps its priority");
            }
            work()
        });
        let ended = spawned.ok()?.join();
        Some(ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
