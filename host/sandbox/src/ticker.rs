//! The clock of all deadlines: one thread that advances the engines' epochs while a rule runs and sleeps when none does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// The precision of a deadline.
const TICK: Duration = Duration::from_millis(2);
/// The ticks without a running rule after which the thread sleeps. Waking it costs more than a small rule does.
const IDLE_TICKS: u32 = 250;

/// Owns the thread; dropping it stops and joins it.
pub(crate) struct Ticker {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
    handle: Thread,
}

/// Keeps epochs advancing while it is held.
pub(crate) struct Ticking<'a>(&'a State);

struct State {
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

impl Ticker {
    pub(crate) fn start(engines: Vec<Engine>) -> std::io::Result<Self> {
        let state = Arc::new(State {
            running: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let shared = state.clone();
        let thread = std::thread::Builder::new()
            .name("sandbox-clock".into())
            .spawn(move || tick(&shared, &engines))?;
        Ok(Self {
            state,
            handle: thread.thread().clone(),
            thread: Some(thread),
        })
    }

    pub(crate) fn run(&self) -> Ticking<'_> {
        // Sequentially consistent on both sides: either the thread sees this rule, or this code sees the thread asleep.
        self.state.running.fetch_add(1, Ordering::SeqCst);
        if self.state.asleep.load(Ordering::SeqCst) {
            self.handle.unpark();
        }
        Ticking(&self.state)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        self.handle.unpark();
        if let Some(thread) = self.thread.take() {
            // A panic of the clock thread has already been printed, and there is no caller to report it to.
            let _ = thread.join();
        }
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(state: &State, engines: &[Engine]) {
    let mut idle = 0;
    while !state.stop.load(Ordering::SeqCst) {
        idle = match state.running.load(Ordering::SeqCst) {
            0 => idle + 1,
            _ => 0,
        };
        if idle < IDLE_TICKS {
            std::thread::sleep(TICK);
            engines.iter().for_each(Engine::increment_epoch);
            continue;
        }
        state.asleep.store(true, Ordering::SeqCst);
        let needed = state.running.load(Ordering::SeqCst) > 0 || state.stop.load(Ordering::SeqCst);
        if !needed {
            std::thread::park();
        }
        state.asleep.store(false, Ordering::SeqCst);
        idle = 0;
    }
}
