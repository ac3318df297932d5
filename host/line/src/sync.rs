//! The locks, clocks and threads of the scheduler. `tests/interleavings` compiles the scheduler with those of a model checker
//! instead.

pub use std::sync::{Mutex, MutexGuard};
pub use std::time::Instant;

pub use postroom_sandbox::thread_time;

/// How much the nice value of a thread that works for a slow tenant is raised: next to a busy thread it gets a tenth of a
/// processor.
pub(super) const GIVES_WAY: i32 = 10;

/// Runs `work` on a thread with lower priority than the others, so that they do not even wait for the processor that a slow
/// tenant occupies. A thread cannot raise its priority again, so it ends with the slice. Returns `None`, without doing the work,
/// if no thread can be started.
pub fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("slow".into());
        let spawned = thread.spawn_scoped(scope, || {
            // On other systems, this would lower the priority of the whole process.
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
