//! Reads `[alerts]` and `[[maintenance]]`: which changes of alerts reach the sinks.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use postroom_core::AlertPolicy;
use postroom_core::alert_state::{
    FlappingLimit, MaintenanceTime, MaintenanceWindow, REMEMBERED_CHANGES, StormLimit,
};
use toml::de::DeValue;

use super::reader::{Item, Section};

/// Allowed numbers of changes. One that fires and is resolved is not flapping.
const CHANGES: RangeInclusive<u64> = 3..=REMEMBERED_CHANGES as u64;
const STORM_ALERTS: RangeInclusive<u64> = 1..=1_000_000;
const WITHIN: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 60 * 60);
/// The most maintenance windows in one list, each of which is compared with each alert.
const MOST_WINDOWS: usize = 1000;
/// The most patterns of a window.
const MOST_PATTERNS: usize = 100;

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// How the alerts of all tenants are delivered.
#[derive(Debug, Default)]
pub struct AlertsConfig {
    policy: AlertPolicy,
    /// With the tenants that each is for; all if empty.
    maintenance: Vec<(Vec<String>, MaintenanceWindow)>,
}

/// Reads what applies to all tenants. A value that cannot be read keeps its default, and the problem is reported.
pub fn read(root: &Section, tenants: &[String]) -> AlertsConfig {
    let mut config = AlertsConfig::default();
    if let Some(section) = root.section("alerts", "the alerts") {
        let choices = [("record", false), ("deliver", true)];
        let item = section.item("resolved_without_firing");
        if let Some(deliver) = item.and_then(|it| it.choice(&choices, &[])) {
            config.policy.resolved_without_firing = deliver;
        }
        if let Some(limit) = damping(&section, "flapping", read_flapping) {
            config.policy.flapping = limit;
        }
        if let Some(limit) = damping(&section, "storm", read_storm) {
            config.policy.storm = limit;
        }
        section.finish();
    }
    config.maintenance = windows(root, Some(tenants));
    config
}

/// Returns the policy of a tenant: that of all tenants, and its own maintenance.
pub fn read_tenant(name: &str, tenant: &Section, all: &AlertsConfig) -> AlertPolicy {
    let of_all = all.maintenance.iter();
    let of_all = of_all
        .filter(|(tenants, _)| tenants.is_empty() || tenants.iter().any(|it| it.as_str() == name));
    let mut policy = all.policy.clone();
    policy.maintenance = of_all.map(|(_, window)| window.clone()).collect();
    let own = windows(tenant, None);
    policy.maintenance.extend(own.into_iter().map(|(_, it)| it));
    policy
}

/// Returns a limit, `Some(None)` for `"off"`.
fn damping<T>(
    section: &Section,
    key: &'static str,
    read: impl Fn(&Section) -> Option<T>,
) -> Option<Option<T>> {
    let item = section.item(key)?;
    if item.value().as_str() == Some("off") {
        return Some(None);
    }
    let table = item.section("a limit on alerts")?;
    let limit = read(&table);
    table.finish();
    limit.map(Some)
}

fn read_flapping(table: &Section) -> Option<FlappingLimit> {
    let usual = FlappingLimit::default();
    let changes = match table.item("changes") {
        Some(item) => item.integer(CHANGES),
        None => Some(usual.changes as u64),
    };
    let within_ms = within_ms(table, usual.within_ms);
    Some(FlappingLimit {
        changes: changes? as usize,
        within_ms: within_ms?,
    })
}

fn read_storm(table: &Section) -> Option<StormLimit> {
    let usual = StormLimit::default();
    let alerts = match table.item("alerts") {
        Some(item) => item.integer(STORM_ALERTS),
        None => Some(usual.alerts),
    };
    let within_ms = within_ms(table, usual.within_ms);
    Some(StormLimit {
        alerts: alerts?,
        within_ms: within_ms?,
    })
}

fn within_ms(table: &Section, default: i64) -> Option<i64> {
    match table.item("within") {
        Some(item) => Some(item.duration(WITHIN)?.as_millis() as i64),
        None => Some(default),
    }
}

/// Reads a list of maintenance windows. `tenants` are those that a window may name.
fn windows(section: &Section, tenants: Option<&[String]>) -> Vec<(Vec<String>, MaintenanceWindow)> {
    let Some(list) = section.item("maintenance") else {
        return Vec::new();
    };
    if !list.value().is_array() {
        list.wrong_type(
            "a list of windows",
            "write [[…]] instead of […] above its keys",
        );
        return Vec::new();
    }
    let items = list.list().unwrap_or_default();
    if items.len() > MOST_WINDOWS {
        list.problem(
            format!("has more than {MOST_WINDOWS} windows"),
            "remove those that are over",
        );
        return Vec::new();
    }
    items
        .iter()
        .filter_map(|item| {
            let table = item.section("a maintenance window")?;
            let window = read_window(&table, tenants);
            table.finish();
            window
        })
        .collect()
}

fn read_window(
    table: &Section,
    tenants: Option<&[String]>,
) -> Option<(Vec<String>, MaintenanceWindow)> {
    let of = match (tenants, tenants.and_then(|_| table.item("tenants"))) {
        (Some(known), Some(item)) => item.each(|it| it.reference("tenant", "tenants", known)),
        _ => Some(Vec::new()),
    };
    let (keys, hosts) = (patterns(table, "keys"), patterns(table, "hosts"));
    let time = read_time(table);
    let window = MaintenanceWindow {
        keys: keys?,
        hosts: hosts?,
        time: time?,
    };
    Some((of?, window))
}

fn patterns(table: &Section, key: &'static str) -> Option<Vec<String>> {
    let Some(item) = table.item(key) else {
        return Some(Vec::new());
    };
    let patterns = item.each(|it| it.text().map(str::to_owned))?;
    if patterns.len() > MOST_PATTERNS {
        item.problem(
            format!("has more than {MOST_PATTERNS} patterns"),
            "write patterns with *, or another window",
        );
        return None;
    }
    Some(patterns)
}

fn read_time(table: &Section) -> Option<MaintenanceTime> {
    let days = table.item("days");
    let zone = table.item("zone").map(|item| read_zone(&item));
    let cure = "write when the maintenance begins and ends";
    let (from, until) = (table.required("from", cure), table.required("until", cure));
    let (from, until) = (from?, until?);
    let zone = match zone {
        Some(zone) => Some(zone?),
        None => None,
    };
    let Some(days) = days else {
        let from_ms = moment(&from, zone.as_ref())?;
        let until_ms = moment(&until, zone.as_ref())?;
        if until_ms <= from_ms {
            until.problem(
                "is not after `from`",
                "write the time at which the maintenance ends",
            );
            return None;
        }
        return Some(MaintenanceTime::Once { from_ms, until_ms });
    };
    let days = days.each(|day| day.choice(&DAYS, &[]));
    let (from, until) = (time_of_day(&from), time_of_day(&until));
    let Some(zone) = zone else {
        table.missing("zone", "write the time zone, such as \"Europe/Berlin\"");
        return None;
    };
    Some(MaintenanceTime::Weekly {
        days: days?,
        from: from?,
        until: until?,
        zone,
    })
}

fn read_zone(item: &Item) -> Option<TimeZone> {
    let name = item.text()?;
    let zone = TimeZone::get(name).ok();
    if zone.is_none() {
        item.problem(
            format!("\"{name}\" is not a time zone of this machine"),
            "write its name in the IANA database, such as \"Europe/Berlin\" or \"UTC\"",
        );
    }
    zone
}

/// Returns the text of a time, with or without quotes.
fn written(item: &Item) -> Option<String> {
    match item.value() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Datetime(at) => Some(at.to_string()),
        _ => None,
    }
}

fn moment(item: &Item, zone: Option<&TimeZone>) -> Option<i64> {
    let text = written(item).unwrap_or_default();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_millisecond());
    }
    let local = text.parse::<DateTime>().ok();
    let at = local.and_then(|at| at.to_zoned(zone?.clone()).ok());
    if at.is_none() {
        match local {
            Some(_) => item.problem(
                "is a local time without a time zone",
                "add zone = \"Europe/Berlin\", or write the time with its offset, such as \"2026-12-24T18:00:00+01:00\"",
            ),
            None => item.problem(
                "is not a date and time",
                "write it as \"2026-12-24T18:00\"; a window of each week also has days = [\"sat\"]",
            ),
        }
    }
    Some(at?.timestamp().as_millisecond())
}

fn time_of_day(item: &Item) -> Option<Time> {
    let time = written(item).and_then(|text| text.parse().ok());
    if time.is_none() {
        item.problem("is not a time of day", "write it as \"22:00\"");
    }
    time
}
