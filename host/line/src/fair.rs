//! Fair queueing: slots go to tenants by the time they have used, and slow tenants together never hold the last slot.
//!
//! This is the policy only, without clocks or threads: [`super::slots`] does the waiting.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// A mail's time beyond this counts as its tenant's slow time. A mail cannot be interrupted, so others may wait this long.
const QUICK_MAIL: Duration = Duration::from_millis(5);
/// Slow time forgiven per mail.
const FORGIVEN: Duration = Duration::from_millis(2);
/// A tenant with more slow time than this is slow: one mail's full time limit, not a hiccup of the machine or a cold start.
const SLOW: Duration = Duration::from_millis(200);
/// The most slow time that is remembered, so that a hundred quick mails make up for any past.
const MOST_SLOW: Duration = Duration::from_millis(400);
/// The time reserved for a slice until its real time is known.
const PLEDGE: Duration = Duration::from_millis(2);
/// The most that a tenant that cannot be served falls behind the others: it catches up by this much and no more.
const CREDIT: Duration = Duration::from_millis(100);

/// The purpose of a slot. A tenant may be quick at one and slow at the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    Parse,
    Decide,
}

/// A request for a slot, numbered in the order of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotRequest(u64);

/// The slots with their holders and waiters. Keeps one entry for each tenant that ever asked.
pub struct Fair {
    slots: usize,
    held: usize,
    held_slow: usize,
    tenants: Vec<Tenant>,
    by_name: HashMap<String, usize>,
    /// Tenants that wait for a slot.
    lined_up: BTreeSet<usize>,
    tickets: HashMap<SlotRequest, Place>,
    asked: u64,
    /// The current virtual time: the usage of the tenant served last, at which a new tenant starts.
    reached: Duration,
}

#[derive(Default)]
struct Tenant {
    /// Computing time charged, including the time reserved for slices in progress.
    used: Duration,
    held: usize,
    held_unproven: usize,
    waiting: [VecDeque<SlotRequest>; 2],
    /// Slow time not yet made up for, for each kind of work; `None` before the first mail.
    slow: [Option<Duration>; 2],
}

/// The state of a request.
struct Place {
    tenant: usize,
    work: Work,
    /// Whether it holds a slot, and as a quick or slow tenant; `None` while it waits.
    held: Option<Speed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speed {
    Unproven,
    Quick,
    Slow,
}

impl Fair {
    /// Creates at least two slots, so that there is always one that no slow tenant holds.
    pub fn new(slots: usize) -> Self {
        Self {
            slots: slots.max(2),
            held: 0,
            held_slow: 0,
            tenants: Vec::new(),
            by_name: HashMap::new(),
            lined_up: BTreeSet::new(),
            tickets: HashMap::new(),
            asked: 0,
            reached: Duration::ZERO,
        }
    }

    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Queues a request for one slot.
    pub fn ask(&mut self, tenant: &str, work: Work) -> SlotRequest {
        let index = self.index(tenant);
        let reached = self.reached;
        let ticket = SlotRequest(self.asked);
        self.asked += 1;
        let tenant = &mut self.tenants[index];
        if tenant.held == 0 && !tenant.waits() {
            // A tenant without mail does not save up time.
            tenant.used = tenant.used.max(reached);
        }
        tenant.waiting[work as usize].push_back(ticket);
        self.lined_up.insert(index);
        let place = Place {
            tenant: index,
            work,
            held: None,
        };
        self.tickets.insert(ticket, place);
        ticket
    }

    /// Gives one free slot to the request whose turn it is. Call it again until it returns `None`.
    pub fn give(&mut self) -> Option<SlotRequest> {
        if self.held == self.slots {
            return None;
        }
        let (_, ticket) = self
            .lined_up
            .iter()
            .filter_map(|&index| self.candidate(&self.tenants[index]))
            .min()?;
        let place = self.tickets.get_mut(&ticket)?;
        let (index, work) = (place.tenant, place.work);
        let tenant = &mut self.tenants[index];
        let speed = tenant.speed(work);
        place.held = Some(speed);
        tenant.waiting[work as usize].pop_front();
        let start = tenant.used.max(self.reached.saturating_sub(CREDIT));
        tenant.used = start + PLEDGE;
        tenant.held += 1;
        tenant.held_unproven += usize::from(speed == Speed::Unproven);
        if !tenant.waits() {
            self.lined_up.remove(&index);
        }
        self.held += 1;
        self.held_slow += usize::from(speed == Speed::Slow);
        self.reached = self.reached.max(start);
        Some(ticket)
    }

    /// Returns whether this request's slot was given to a slow tenant.
    pub fn is_slow(&self, ticket: SlotRequest) -> bool {
        let place = self.tickets.get(&ticket);
        place.is_some_and(|place| place.held == Some(Speed::Slow))
    }

    /// Ends a request. A held slot is freed and charged for the mails it served and the time they took; a waiting request is
    /// withdrawn.
    pub fn leave(&mut self, ticket: SlotRequest, mails: u32, spent: Duration) {
        let Some(place) = self.tickets.remove(&ticket) else {
            return;
        };
        let tenant = &mut self.tenants[place.tenant];
        let Some(speed) = place.held else {
            tenant.waiting[place.work as usize].retain(|waiting| *waiting != ticket);
            if !tenant.waits() {
                self.lined_up.remove(&place.tenant);
            }
            return;
        };
        tenant.used = tenant.used.saturating_sub(PLEDGE) + spent;
        tenant.held -= 1;
        tenant.held_unproven -= usize::from(speed == Speed::Unproven);
        self.held -= 1;
        self.held_slow -= usize::from(speed == Speed::Slow);
        if mails > 0 {
            tenant.learn(place.work, mails, spent);
        }
    }

    /// Returns the tenant's oldest request that may be served now, with the time that the tenant has used.
    fn candidate(&self, tenant: &Tenant) -> Option<(Duration, SlotRequest)> {
        let first = [Work::Parse, Work::Decide].into_iter().filter_map(|work| {
            let ticket = tenant.waiting[work as usize].front()?;
            self.may_start(tenant, work).then_some(*ticket)
        });
        let used = tenant.used.max(self.reached.saturating_sub(CREDIT));
        first.min().map(|ticket| (used, ticket))
    }

    fn may_start(&self, tenant: &Tenant, work: Work) -> bool {
        match tenant.speed(work) {
            Speed::Quick => true,
            Speed::Slow => self.held_slow + 1 < self.slots,
            Speed::Unproven => tenant.held_unproven == 0,
        }
    }

    fn index(&mut self, tenant: &str) -> usize {
        if let Some(index) = self.by_name.get(tenant) {
            return *index;
        }
        let index = self.tenants.len();
        self.tenants.push(Tenant::default());
        self.by_name.insert(tenant.to_owned(), index);
        index
    }
}

impl Tenant {
    fn waits(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.is_empty())
    }

    fn speed(&self, work: Work) -> Speed {
        match self.slow[work as usize] {
            None => Speed::Unproven,
            Some(slow) if slow > SLOW => Speed::Slow,
            Some(_) => Speed::Quick,
        }
    }

    fn learn(&mut self, work: Work, mails: u32, spent: Duration) {
        let slow = &mut self.slow[work as usize];
        let more = spent.saturating_sub(QUICK_MAIL * mails);
        let left = (slow.unwrap_or_default() + more).saturating_sub(FORGIVEN * mails);
        *slow = Some(left.min(MOST_SLOW));
    }
}

#[cfg(test)]
mod tests;
