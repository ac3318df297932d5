//! Slots of the scheduler in random orders: every caller that stays gets one, and no slot is lost or given twice.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use postroom_interleavings::fair::Work;
use postroom_interleavings::slots::{Slot, Slots};
use shuttle::future::{block_on, spawn, yield_now};
use shuttle::{check_pct, check_random, thread};

/// The number of schedules tried for each model.
const SCHEDULES: usize = 2_000;
/// The number of points at which a schedule of the PCT scheduler deviates from the threads' priorities.
const DEPTH: usize = 4;

/// Runs a model under both schedulers. A deadlock, which is a lost wakeup, makes it fail.
fn check(model: fn()) {
    check_random(model, SCHEDULES);
    check_pct(model, SCHEDULES, DEPTH);
}

/// Works on one mail, so that the tenant is no longer new.
fn work(slot: &mut Slot) {
    let mut left = 1;
    slot.work(|| std::mem::take(&mut left) == 1);
}

/// Fails if any slot is still held, or a place in the queue still waits.
fn all_are_free(slots: &Arc<Slots>) {
    block_on(async {
        let mut held = Vec::new();
        for _ in 0..slots.count() {
            held.push(slots.slot("known", Work::Decide).await);
        }
        let mut one_more = pin!(slots.slot("known", Work::Decide));
        let is_given =
            std::future::poll_fn(|cx| Poll::Ready(one_more.as_mut().poll(cx).is_ready()));
        assert!(!is_given.await, "more slots than there are");
    });
}

/// Makes a tenant known, so that it may hold several slots.
fn introduce(slots: &Arc<Slots>, tenant: &str) {
    block_on(async { work(&mut slots.slot(tenant, Work::Decide).await) });
}

#[test]
fn each_caller_gets_a_slot_and_no_more_are_held_than_there_are() {
    check(|| {
        let slots = Arc::new(Slots::new(2));
        introduce(&slots, "known");
        let held = Arc::new(AtomicUsize::new(0));
        let callers = [
            ("known", Work::Decide),
            ("known", Work::Parse),
            ("new", Work::Decide),
            ("new", Work::Decide),
        ];
        let threads = callers.map(|(tenant, kind)| {
            let (slots, held) = (slots.clone(), held.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    let mut slot = block_on(slots.slot(tenant, kind));
                    assert!(held.fetch_add(1, Ordering::SeqCst) < slots.count());
                    thread::yield_now();
                    work(&mut slot);
                    held.fetch_sub(1, Ordering::SeqCst);
                }
            })
        });
        for thread in threads {
            thread.join().expect("it did not panic");
        }
        all_are_free(&slots);
    });
}

#[test]
fn a_caller_that_leaves_at_any_time_loses_no_slot() {
    check(|| {
        let slots = Arc::new(Slots::new(2));
        introduce(&slots, "known");
        block_on(async {
            let stays = [0, 1].map(|_| {
                let slots = slots.clone();
                spawn(async move { work(&mut slots.slot("known", Work::Decide).await) })
            });
            let leaves = ["known", "new", "known"].map(|tenant| {
                let slots = slots.clone();
                spawn(async move { drop(slots.slot(tenant, Work::Decide).await) })
            });
            yield_now().await;
            for caller in &leaves {
                caller.abort();
            }
            for caller in stays {
                caller.await.expect("it was not aborted");
            }
            for caller in leaves {
                // Cancelled, or served before that.
                let _ = caller.await;
            }
        });
        all_are_free(&slots);
    });
}
