//! The queue of the compiler: one component at a time, and tenants take turns, so that many components of one do not delay
//! the others.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub(super) struct Turns {
    queue: Mutex<Queue>,
    called: Condvar,
}

#[derive(Default)]
struct Queue {
    is_taken: bool,
    /// The waiting tickets of each tenant, tenants in the order of their next turn.
    waiting: VecDeque<(String, VecDeque<u64>)>,
    tickets: u64,
    /// The ticket that was called and has not started yet.
    called: Option<u64>,
}

/// The right to compile, released when dropped.
pub(super) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for the turn of a tenant's component.
    pub(super) fn wait(&self, tenant: &str) -> Turn<'_> {
        let mut queue = self.lock();
        if !queue.is_taken {
            queue.is_taken = true;
            return Turn(self);
        }
        let ticket = queue.enter(tenant);
        while queue.called != Some(ticket) {
            queue = self
                .called
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        queue.called = None;
        Turn(self)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn enter(&mut self, tenant: &str) -> u64 {
        let ticket = self.tickets;
        self.tickets += 1;
        match self.waiting.iter_mut().find(|(name, _)| name == tenant) {
            Some((_, tickets)) => tickets.push_back(ticket),
            None => self.waiting.push_back((tenant.to_owned(), [ticket].into())),
        }
        ticket
    }

    /// Calls the next tenant's oldest ticket; its others wait for their next turn.
    fn call_next(&mut self) {
        let next = self.waiting.pop_front().and_then(|(tenant, mut tickets)| {
            let ticket = tickets.pop_front();
            if !tickets.is_empty() {
                self.waiting.push_back((tenant, tickets));
            }
            ticket
        });
        self.is_taken = next.is_some();
        self.called = next;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().call_next();
        self.0.called.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_take_turns() {
        let turns = Turns::default();
        let order = Mutex::new(Vec::new());
        let first = turns.wait("many");
        std::thread::scope(|scope| {
            for (number, tenant) in ["many", "many", "many", "one", "other"].iter().enumerate() {
                let (turns, order) = (&turns, &order);
                scope.spawn(move || {
                    let _turn = turns.wait(tenant);
                    order.lock().unwrap().push((*tenant, number));
                });
                while turns.lock().tickets <= number as u64 {
                    std::thread::yield_now();
                }
            }
            drop(first);
        });
        assert_eq!(
            order.into_inner().unwrap(),
            [
                ("many", 0),
                ("one", 3),
                ("other", 4),
                ("many", 1),
                ("many", 2)
            ]
        );
        assert!(!turns.lock().is_taken);
    }
}
