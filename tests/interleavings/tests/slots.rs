//! Slots of the scheduler in random orders: every caller that stays gets one, no slot is lost or given twice, and no quick tenant waits
//! for a slow one.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use postroom_interleavings::fair::Work;
use postroom_interleavings::slots::{Slot, Slots};
use postroom_interleavings::sync::pass;
use shuttle::future::{block_on, spawn, yield_now};
use shuttle::sync::{Condvar, Mutex};
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

/// A mail that takes all the time that a rule may have: its tenant is slow after it.
const SLOW_MAIL: Duration = Duration::from_millis(250);

/// Works on one mail, so that the tenant is no longer new.
fn work(slot: &mut Slot) {
    work_for(slot, Duration::ZERO);
}

/// Works on one mail that takes so long.
fn work_for(slot: &mut Slot, time: Duration) {
    let mut left = 1;
    slot.work(|| {
        let had = std::mem::take(&mut left) == 1;
        if had {
            pass(time);
        }
        had
    });
}

/// Fails if any slot is still held, or a place in the queue still waits.
fn all_are_free(slots: &Arc<Slots>) {
    introduce(slots, "known");
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
    introduce_with(slots, tenant, Duration::ZERO);
}

/// Makes a tenant known by a mail that takes so long.
fn introduce_with(slots: &Arc<Slots>, tenant: &str, time: Duration) {
    block_on(async { work_for(&mut slots.slot(tenant, Work::Decide).await, time) });
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

#[test]
fn slow_tenants_never_hold_all_slots_however_time_passes() {
    check(|| {
        let slots = Arc::new(Slots::new(3));
        for slow in ["slow", "sluggish"] {
            introduce_with(&slots, slow, SLOW_MAIL);
        }
        introduce(&slots, "quick");
        let held_slow = Arc::new(AtomicUsize::new(0));
        let callers = ["slow", "slow", "sluggish", "sluggish", "quick", "new"];
        let threads = callers.map(|tenant| {
            let (slots, held_slow) = (slots.clone(), held_slow.clone());
            let is_slow = tenant.starts_with("sl");
            thread::spawn(move || {
                let mut slot = block_on(slots.slot(tenant, Work::Decide));
                if is_slow {
                    let others = held_slow.fetch_add(1, Ordering::SeqCst);
                    assert!(others + 1 < slots.count(), "slow tenants hold every slot");
                }
                thread::yield_now();
                let time = if is_slow { SLOW_MAIL } else { Duration::ZERO };
                work_for(&mut slot, time);
                if is_slow {
                    held_slow.fetch_sub(1, Ordering::SeqCst);
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
fn quick_tenants_are_served_while_slow_ones_keep_what_they_hold() {
    check(|| {
        let slots = Arc::new(Slots::new(2));
        for slow in ["slow", "sluggish"] {
            introduce_with(&slots, slow, SLOW_MAIL);
        }
        introduce(&slots, "quick");
        // Slow callers keep their slots until every quick one was served: if they held all, none ever would be.
        let served = Arc::new((Mutex::new(0), Condvar::new()));
        let slow = ["slow", "sluggish"].map(|tenant| {
            let (slots, served) = (slots.clone(), served.clone());
            thread::spawn(move || {
                let mut slot = block_on(slots.slot(tenant, Work::Decide));
                let (count, bell) = &*served;
                let mut count = count.lock().expect("nobody panics");
                while *count < 3 {
                    count = bell.wait(count).expect("nobody panics");
                }
                drop(count);
                work_for(&mut slot, SLOW_MAIL);
            })
        });
        let quick = ["quick", "quick", "new"].map(|tenant| {
            let (slots, served) = (slots.clone(), served.clone());
            thread::spawn(move || {
                work(&mut block_on(slots.slot(tenant, Work::Decide)));
                let (count, bell) = &*served;
                *count.lock().expect("nobody panics") += 1;
                bell.notify_all();
            })
        });
        for thread in slow.into_iter().chain(quick) {
            thread.join().expect("it did not panic");
        }
        all_are_free(&slots);
    });
}

#[test]
fn a_tenant_that_is_quick_again_may_hold_every_slot() {
    check(|| {
        let slots = Arc::new(Slots::new(2));
        introduce_with(&slots, "mended", SLOW_MAIL);
        // Each quick mail makes up for 2 ms, and 200 ms are allowed.
        for _ in 0..25 {
            introduce(&slots, "mended");
        }
        // Each waits for the other with the slot in its hand.
        let arrived = Arc::new((Mutex::new(0), Condvar::new()));
        let threads = [(); 2].map(|()| {
            let (slots, arrived) = (slots.clone(), arrived.clone());
            thread::spawn(move || {
                let mut slot = block_on(slots.slot("mended", Work::Decide));
                let (count, bell) = &*arrived;
                let mut count = count.lock().expect("nobody panics");
                *count += 1;
                bell.notify_all();
                while *count < 2 {
                    count = bell.wait(count).expect("nobody panics");
                }
                drop(count);
                work(&mut slot);
            })
        });
        for thread in threads {
            thread.join().expect("it did not panic");
        }
        all_are_free(&slots);
    });
}
