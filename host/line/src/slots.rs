//! The slots in which mails are parsed and decided: given out by the policy of [`Fair`], held for one slice, returned when
//! dropped.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::fair::{Fair, SlotRequest, Work};
use super::sync::{Instant, Mutex, MutexGuard, aside, thread_time};

/// How long a slot is held, unless its first mail takes longer. Waiting for the next slot costs about 20 µs.
const SLICE: Duration = Duration::from_millis(2);

/// All slots of the process. The number of waiters is bounded: each mailbox asks for at most all slots, each shadow for one.
pub struct Slots {
    state: Mutex<State>,
    count: usize,
}

struct State {
    fair: Fair,
    /// The senders that wake the waiters.
    bells: HashMap<SlotRequest, oneshot::Sender<()>>,
}

/// One slot, or a place in the queue for one. Dropping it frees it for the next.
pub struct Slot {
    slots: Arc<Slots>,
    ticket: SlotRequest,
    mails: u32,
    spent: Duration,
}

impl Slots {
    /// Creates one slot per core, and two on a machine with one core.
    pub fn new(cores: usize) -> Self {
        let fair = Fair::new(cores);
        Self {
            count: fair.slots(),
            state: Mutex::new(State {
                fair,
                bells: HashMap::new(),
            }),
        }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Waits for a slot. A caller that stops waiting gives up its place.
    pub async fn slot(self: &Arc<Self>, tenant: &str, work: Work) -> Slot {
        let (bell, rung) = oneshot::channel();
        let slot = {
            let mut state = self.lock();
            let ticket = state.fair.ask(tenant, work);
            state.bells.insert(ticket, bell);
            state.give();
            Slot {
                slots: self.clone(),
                ticket,
                mails: 0,
                spent: Duration::ZERO,
            }
        };
        // A bell is dropped without ringing only together with its slot, which is held here.
        let _ = rung.await;
        slot
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn give(&mut self) {
        while let Some(ticket) = self.fair.give() {
            if let Some(bell) = self.bells.remove(&ticket) {
                // A waiter that has gone in the meantime returns the slot.
                let _ = bell.send(());
            }
        }
    }
}

impl Slot {
    /// Works mail by mail until the slice is over or `one` returns that none is left. Blocks.
    pub fn work(&mut self, mut one: impl FnMut() -> bool + Send) {
        let is_slow = self.slots.lock().fair.is_slow(self.ticket);
        let aside = is_slow.then(|| aside(|| slice(&mut one))).flatten();
        let (mails, spent) = aside.unwrap_or_else(|| slice(&mut one));
        self.mails += mails;
        self.spent += spent;
    }
}

/// Runs one slice and returns the number of mails and the time they took.
fn slice(one: &mut impl FnMut() -> bool) -> (u32, Duration) {
    // Measures computing time: no rule can wait for anything, and a tenant is not charged for a busy machine.
    let (started, before) = (Instant::now(), thread_time());
    let mut mails = 0;
    while one() {
        mails += 1;
        if started.elapsed() >= SLICE {
            break;
        }
    }
    (mails, thread_time().saturating_sub(before))
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.slots.lock();
        state.bells.remove(&self.ticket);
        state.fair.leave(self.ticket, self.mails, self.spent);
        state.give();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::super::sync::GIVES_WAY;
    use super::*;

    /// Polls once and returns whether the future is ready.
    fn poll<F: Future>(future: &mut std::pin::Pin<Box<F>>) -> Option<F::Output> {
        match future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    /// Returns two slots, both held by one tenant.
    fn all_held() -> (Arc<Slots>, [Slot; 2]) {
        let slots = Arc::new(Slots::new(2));
        let mut first = poll(&mut Box::pin(slots.slot("busy", Work::Decide))).unwrap();
        let mut fresh = true;
        first.work(|| std::mem::take(&mut fresh));
        drop(first);
        let held = [(); 2].map(|()| poll(&mut Box::pin(slots.slot("busy", Work::Decide))).unwrap());
        (slots, held)
    }

    #[test]
    fn a_dropped_slot_goes_to_who_waits() {
        let (slots, [one, _two]) = all_held();
        let mut waiting = Box::pin(slots.slot("quiet", Work::Decide));
        assert!(poll(&mut waiting).is_none());
        drop(one);
        assert!(poll(&mut waiting).is_some());
    }

    #[test]
    fn who_stops_waiting_gives_up_the_place() {
        let (slots, [one, _two]) = all_held();
        let mut gone = Box::pin(slots.slot("quiet", Work::Decide));
        assert!(poll(&mut gone).is_none());
        let mut next = Box::pin(slots.slot("other", Work::Decide));
        assert!(poll(&mut next).is_none());
        drop(gone);
        drop(one);
        assert!(poll(&mut next).is_some());
    }

    #[test]
    fn who_goes_away_with_a_slot_that_was_just_given_gives_it_back() {
        let (slots, [one, _two]) = all_held();
        let mut gone = Box::pin(slots.slot("quiet", Work::Decide));
        assert!(poll(&mut gone).is_none());
        let mut next = Box::pin(slots.slot("other", Work::Decide));
        assert!(poll(&mut next).is_none());
        // The slot is given to the first waiter, which never polls.
        drop(one);
        assert!(poll(&mut next).is_none());
        drop(gone);
        assert!(poll(&mut next).is_some());
        assert!(slots.lock().bells.is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_slow_tenant_gives_way_and_nobody_else() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let slots = Arc::new(Slots::new(2));
        let mut seen = Vec::new();
        for spins in [true, false] {
            let mut slot = poll(&mut Box::pin(slots.slot("slow", Work::Decide))).unwrap();
            let mut fresh = true;
            slot.work(|| {
                seen.push(niceness());
                let started = thread_time();
                while spins && thread_time() - started < Duration::from_millis(300) {}
                std::mem::take(&mut fresh) && spins
            });
        }
        // The tenant is not known to be slow at first, then it is.
        assert_eq!(seen, [before, before + GIVES_WAY]);
        assert_eq!(niceness(), before);
        let mut slot = poll(&mut Box::pin(slots.slot("quick", Work::Decide))).unwrap();
        slot.work(|| {
            assert_eq!(niceness(), before);
            false
        });
    }

    #[test]
    fn a_panic_aside_is_the_panic_of_who_works() {
        let panic = std::panic::catch_unwind(|| aside(|| panic!("as it is")));
        let text = panic.unwrap_err();
        assert_eq!(text.downcast_ref::<&str>(), Some(&"as it is"));
    }

    #[test]
    fn a_slice_ends_with_the_mail_during_which_its_time_ran_out() {
        let slots = Arc::new(Slots::new(2));
        let mut slot = poll(&mut Box::pin(slots.slot("slow", Work::Decide))).unwrap();
        slot.work(|| {
            std::thread::sleep(SLICE);
            true
        });
        assert_eq!(slot.mails, 1);
        let mut left = 3;
        slot.work(|| {
            let had = left > 0;
            left -= i32::from(had);
            had
        });
        assert_eq!(left, 0, "three mails that take no time are one slice");
    }
}
