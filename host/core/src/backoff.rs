//! Retry delays: growing and spread out, shared by everything that retries.

use std::time::Duration;

/// How the delay between two tries grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first failure; each later one doubles it.
    pub first: Duration,
    /// The longest delay, spread included.
    pub longest: Duration,
    /// The random part of a delay, in per cent (0 to 100), so that entries that failed together are not retried together.
    pub spread_percent: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(15 * 60),
            spread_percent: 25,
        }
    }
}

impl Backoff {
    /// Returns the delay after `attempts` failures (1 for the first). `seed` is any number of the thing retried, such as
    /// its row id: the same seed and attempts always give the same delay.
    pub fn delay(&self, attempts: u32, seed: u64) -> Duration {
        let doublings = attempts.saturating_sub(1).min(32);
        let full = self
            .first
            .saturating_mul(2u32.saturating_pow(doublings))
            .min(self.longest);
        let spread = full * self.spread_percent.min(100) / 100;
        let draw = mix(seed ^ (u64::from(attempts) << 32)) % 1_000;
        full - spread * draw as u32 / 1_000
    }
}

/// Returns the default delay after `attempts` failures; see [`Backoff::delay`].
pub fn backoff(attempts: u32, seed: u64) -> Duration {
    Backoff::default().delay(attempts, seed)
}

/// SplitMix64's finaliser: adjacent numbers give unrelated results.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_up_to_the_longest_and_never_overflows() {
        let plain = Backoff {
            spread_percent: 0,
            ..Backoff::default()
        };
        assert_eq!(plain.delay(1, 7), Duration::from_secs(1));
        assert_eq!(plain.delay(2, 7), Duration::from_secs(2));
        assert_eq!(plain.delay(5, 7), Duration::from_secs(16));
        assert_eq!(plain.delay(0, 7), Duration::from_secs(1));
        assert_eq!(plain.delay(u32::MAX, 7), plain.longest);
    }

    #[test]
    fn spread_stays_inside_its_bounds_and_differs_between_entries() {
        let delays: Vec<_> = (0..100).map(|id| backoff(4, id)).collect();
        assert!(
            delays
                .iter()
                .all(|d| (6_000..=8_000).contains(&d.as_millis()))
        );
        let mut distinct = delays.clone();
        distinct.sort();
        distinct.dedup();
        assert!(distinct.len() > 80, "only {} distinct", distinct.len());
        assert_eq!(backoff(4, 42), delays[42]);
    }
}
