//! Storms: too many alerts of one tenant that begin to fire at the same time are one alert for the targets.

/// More alerts than this that begin to fire within this time are a storm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StormLimit {
    pub alerts: u64,
    pub within_ms: i64,
}

/// The alerts of one tenant that began to fire lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StormWindow {
    pub began_ms: i64,
    /// Alerts in this window.
    pub alerts: u64,
    /// Whether the targets know of a storm.
    pub is_on: bool,
    /// Alerts that were held in this storm.
    pub held: u64,
    /// When the storm ends if nothing else begins to fire.
    pub ends_ms: i64,
}

/// The treatment of an alert that begins to fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    pub is_held: bool,
    /// Whether the storm begins with it.
    pub begins: bool,
    /// Whether an earlier storm was over before it.
    pub ended: bool,
}

impl Default for StormLimit {
    fn default() -> Self {
        Self {
            alerts: 200,
            within_ms: 5 * 60 * 1000,
        }
    }
}

impl StormWindow {
    /// Counts an alert that begins to fire.
    pub fn admit(&mut self, limit: StormLimit, now_ms: i64) -> Admission {
        let age_ms = now_ms.saturating_sub(self.began_ms);
        let mut ended = false;
        // A window that began in the future belongs to a clock that was set back.
        if age_ms < 0 || age_ms >= limit.within_ms {
            let was_quiet = age_ms < 0
                || age_ms >= limit.within_ms.saturating_mul(2)
                || self.alerts <= limit.alerts;
            ended = self.is_on && was_quiet;
            *self = Self {
                began_ms: now_ms,
                is_on: self.is_on && !was_quiet,
                held: if was_quiet { 0 } else { self.held },
                ..Self::default()
            };
        }
        self.alerts += 1;
        let is_held = self.is_on || self.alerts > limit.alerts;
        let begins = is_held && !self.is_on;
        self.is_on |= is_held;
        self.held += u64::from(is_held);
        let windows = 1 + i64::from(self.alerts > limit.alerts);
        self.ends_ms = self
            .began_ms
            .saturating_add(limit.within_ms.saturating_mul(windows));
        Admission {
            is_held,
            begins,
            ended,
        }
    }

    /// Ends a storm that is over. Returns whether it was one.
    pub fn end(&mut self, now_ms: i64) -> bool {
        let is_over = self.is_on && self.ends_ms <= now_ms;
        if is_over {
            *self = Self::default();
        }
        is_over
    }
}

/// Returns the key of the alert that stands for a tenant's storm.
pub fn storm_key(tenant: &str) -> String {
    format!("postroom/tenant/{tenant}/storm")
}
