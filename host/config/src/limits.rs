//! Reads `[limits]` and a tenant's own: the limits of rules and of the line.

use std::ops::RangeInclusive;
use std::time::Duration;

use postroom_core::{
    AutomaticLimits, KEPT_GENERATION_BYTES, KEPT_GENERATIONS, LOADED_BYTES, Limits, ParseLimits,
    StrikeLimits, TestLimits,
};

use super::reader::Section;
use super::{FreshnessObjective, LineLimits, SizeLimits, freshness};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Allowed memory of a rule. Below the lower bound no script engine starts.
const MEMORY: RangeInclusive<u64> = 4 * MIB..=Limits::MOST_MEMORY as u64;
const TIME: RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_secs(60);
/// Allowed memory for compiling. Below the lower bound not even a small component compiles.
const COMPILE_MEMORY: RangeInclusive<u64> = 128 * MIB..=64 * GIB;
const COMPILE_TIME: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// Allowed memory of loaded rules. Below the lower bound not even an empty script loads.
const LOADED: RangeInclusive<u64> = MIB..=1024 * GIB;
const MODULES: RangeInclusive<u64> = 1..=1000;
const SOURCE: RangeInclusive<u64> = KIB..=64 * MIB;
const OUTPUT: RangeInclusive<u64> = KIB..=64 * MIB;
const LOG: RangeInclusive<u64> = 0..=MIB;
/// Allowed size of a rule's `kv`. The store reads all of it to determine the size.
const KV: RangeInclusive<u64> = KIB..=256 * MIB;
const COUNT: RangeInclusive<u64> = 1..=100_000;
const TEST_CASES: RangeInclusive<u64> = 1..=100_000;
const TEST_TIME: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const MAILS_PER_MINUTE: RangeInclusive<u64> = 1..=1_000_000;
/// Allowed limits on a mail's size. SQLite holds no value over 2 GiB, and memory must hold a mail several times.
const MAIL: RangeInclusive<u64> = 64 * KIB..=GIB;
/// Allowed ages. A delivery survives at least a night.
const OUTBOX_AGE: RangeInclusive<Duration> =
    Duration::from_secs(12 * 60 * 60)..=Duration::from_secs(365 * 24 * 60 * 60);
const OUTBOX_ENTRIES: RangeInclusive<u64> = 1..=10_000_000;
/// Allowed bytes in flight. A mail larger than the limit is fetched while no other mail is in flight.
const IN_FLIGHT: RangeInclusive<u64> = MIB..=64 * GIB;
/// Allowed numbers of generations: the newest, and at least one to roll back to.
const GENERATIONS: RangeInclusive<u64> = 2..=100_000;
const GENERATION_BYTES: RangeInclusive<u64> = MIB..=64 * GIB;
const DIALS_PER_HOST: RangeInclusive<u64> = 1..=1000;
const DIALS_PER_SECOND: RangeInclusive<u64> = 1..=10_000;
const FETCHES: RangeInclusive<u64> = 1..=1000;
const DRAIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
const LINE_KEYS: &[&str] = &[
    "message_bytes",
    "raw_bytes",
    "mime_depth",
    "parts",
    "batch_mails",
    "batch_bytes",
    "in_flight_bytes",
    "attempts",
    "outbox_age",
    "outbox_entries",
    "strikes",
    "strikes_of",
    "generations",
    "generation_bytes",
    "automatic",
    "loaded_total",
    "drain",
    "fresh",
    "dials_per_host",
    "dials_per_second",
    "fetches_per_tenant",
];

/// The limits of the line that a mailbox may set for itself.
const MAILBOX_KEYS: &[&str] = &["message_bytes", "raw_bytes"];

impl Default for LineLimits {
    fn default() -> Self {
        Self {
            message_bytes: 50 * MIB,
            raw_bytes: 256 * MIB,
            mime_depth: 32,
            parts: 1000,
            batch_mails: 256,
            batch_bytes: 8 * MIB,
            in_flight_bytes: 512 * MIB,
            attempts: 5,
            outbox_age: Duration::from_secs(14 * 24 * 60 * 60),
            outbox_entries: 100_000,
            strikes: StrikeLimits::default(),
            generations: KEPT_GENERATIONS,
            generation_bytes: KEPT_GENERATION_BYTES,
            automatic: AutomaticLimits::default(),
            loaded_total: LOADED_BYTES,
            // Less than the 90 s after which systemd kills, and as long as one attempt at a webhook may take.
            drain: Duration::from_secs(30),
            // Longer than a restart of a server or an outage of its network that nobody needs to act on.
            fresh: FreshnessObjective::Within(Duration::from_secs(30 * 60)),
            // Signing in to Microsoft 365 takes about half a second: 2,000 mailboxes are connected within a minute.
            dials_per_host: 20,
            dials_per_second: 100,
            // With full batches, half of the bytes in flight.
            fetches_per_tenant: 32,
        }
    }
}

impl LineLimits {
    /// Returns the limits that apply to parsing.
    pub fn parsing(&self) -> ParseLimits {
        ParseLimits {
            depth: self.mime_depth,
            parts: self.parts,
            ..ParseLimits::default()
        }
    }
}

/// The limits of a tenant.
#[derive(Debug, Clone, Default)]
pub struct TenantLimits {
    /// The limits of each of its rules.
    pub rule: Limits,
    /// The limits of the tests of each of its rules.
    pub tests: TestLimits,
    /// The most mails decided in a minute; any number by default.
    pub mails_per_minute: Option<u32>,
}

/// Returns the limits of all tenants and of the line. A value that cannot be read keeps its default, and the problem is
/// reported.
pub fn read(root: &Section) -> (TenantLimits, LineLimits) {
    let mut tenants = TenantLimits::default();
    let mut line = LineLimits::default();
    let Some(section) = root.section("limits", "the limits") else {
        return (tenants, line);
    };
    tenants.read(&section);
    read_line(&section, &mut line);
    if line.message_bytes > line.raw_bytes {
        section.problem(
            "message_bytes is larger than raw_bytes, so that mails would be parsed which were cut",
            "make raw_bytes at least as large as message_bytes",
        );
    }
    if line.strikes.failures > line.strikes.mails {
        section.problem(
            "strikes is larger than strikes_of, so no rule would ever be rolled back",
            "make strikes_of at least as large as strikes; strikes = 0 turns automatic rollback off",
        );
    }
    section.finish();
    (tenants, line)
}

/// Returns a tenant's limits: those of all tenants, except for those it sets itself.
pub fn read_tenant(tenant: &Section, all: &TenantLimits) -> TenantLimits {
    let mut limits = all.clone();
    if let Some(section) = tenant.section("limits", "a tenant's limits") {
        limits.read(&section);
        section.misplaced(
            LINE_KEYS,
            "is a limit of the line, which all tenants share",
            "move it to [limits]",
        );
        section.finish();
    }
    limits
}

/// Returns the limits of a mailbox: those of the line, except for those it sets itself.
pub fn read_mailbox(mailbox: &Section, line: &LineLimits) -> SizeLimits {
    let mut size = SizeLimits {
        message_bytes: line.message_bytes,
        raw_bytes: line.raw_bytes,
    };
    let Some(section) = mailbox.section("limits", "a mailbox's limits") else {
        return size;
    };
    let has_own = section.item("message_bytes").is_some();
    set_size(&section, "message_bytes", MAIL, &mut size.message_bytes);
    set_size(&section, "raw_bytes", MAIL, &mut size.raw_bytes);
    if size.message_bytes > size.raw_bytes {
        match has_own {
            true => section.problem(
                "message_bytes is larger than raw_bytes, so that mails would be parsed which were cut",
                "set raw_bytes here too, at least as large as message_bytes",
            ),
            false => size.message_bytes = size.raw_bytes,
        }
    }
    let others = LINE_KEYS.iter().copied();
    let others: Vec<_> = others.filter(|key| !MAILBOX_KEYS.contains(key)).collect();
    section.misplaced(
        &others,
        "is a limit of the line, which all mailboxes share",
        "move it to [limits]",
    );
    section.finish();
    size
}

impl TenantLimits {
    fn read(&mut self, section: &Section) {
        read_rule(section, &mut self.rule);
        set_count(section, "test_cases", TEST_CASES, &mut self.tests.cases);
        let time = section.item("test_time");
        if let Some(time) = time.and_then(|item| item.duration(TEST_TIME)) {
            self.tests.time = time;
        }
        let rate = section.item("mails_per_minute");
        if let Some(rate) = rate.and_then(|item| item.integer(MAILS_PER_MINUTE)) {
            self.mails_per_minute = u32::try_from(rate).ok();
        }
    }
}

fn read_rule(section: &Section, limits: &mut Limits) {
    set_size(section, "memory", MEMORY, &mut limits.memory_bytes);
    set_duration(section, "time", &mut limits.time);
    set_duration(section, "init_time", &mut limits.init_time);
    set_size(
        section,
        "compile_memory",
        COMPILE_MEMORY,
        &mut limits.compile_memory_bytes,
    );
    if let Some(time) = section
        .item("compile_time")
        .and_then(|item| item.duration(COMPILE_TIME))
    {
        limits.compile_time = time;
    }
    set_size(section, "loaded", LOADED, &mut limits.loaded_bytes);
    set_count(section, "modules", MODULES, &mut limits.modules);
    set_size(section, "source", SOURCE, &mut limits.source_bytes);
    set_size(section, "output", OUTPUT, &mut limits.output_bytes);
    set_count(section, "actions", COUNT, &mut limits.actions);
    set_size(section, "log", LOG, &mut limits.log_bytes);
    set_count(section, "patterns", COUNT, &mut limits.patterns);
    set_count(section, "matches", COUNT, &mut limits.matches);
    set_count(section, "kv_keys", COUNT, &mut limits.kv_total_keys);
    set_size(section, "kv_bytes", KV, &mut limits.kv_total_bytes);
    set_count(section, "lookups", COUNT, &mut limits.lookups);
    set_count(section, "lookup_rows", 1..=1000, &mut limits.lookup_rows);
    set_size(section, "lookup_bytes", OUTPUT, &mut limits.lookup_bytes);
}

fn read_line(section: &Section, limits: &mut LineLimits) {
    set_size(section, "message_bytes", MAIL, &mut limits.message_bytes);
    set_size(section, "raw_bytes", MAIL, &mut limits.raw_bytes);
    set_count(section, "mime_depth", 1..=100, &mut limits.mime_depth);
    set_count(section, "parts", COUNT, &mut limits.parts);
    set_count(section, "batch_mails", 1..=1000, &mut limits.batch_mails);
    set_size(section, "batch_bytes", MAIL, &mut limits.batch_bytes);
    set_size(
        section,
        "in_flight_bytes",
        IN_FLIGHT,
        &mut limits.in_flight_bytes,
    );
    set_count(section, "attempts", 1..=100, &mut limits.attempts);
    if let Some(age) = section
        .item("outbox_age")
        .and_then(|item| item.duration(OUTBOX_AGE))
    {
        limits.outbox_age = age;
    }
    set_count(
        section,
        "outbox_entries",
        OUTBOX_ENTRIES,
        &mut limits.outbox_entries,
    );
    let strikes = &mut limits.strikes;
    set_count(section, "strikes", 0..=1000, &mut strikes.failures);
    set_count(section, "strikes_of", 1..=1000, &mut strikes.mails);
    set_count(section, "generations", GENERATIONS, &mut limits.generations);
    set_size(
        section,
        "generation_bytes",
        GENERATION_BYTES,
        &mut limits.generation_bytes,
    );
    set_size(section, "loaded_total", LOADED, &mut limits.loaded_total);
    if let Some(drain) = section.item("drain").and_then(|it| it.duration(DRAIN)) {
        limits.drain = drain;
    }
    if let Some(fresh) = section.item("fresh").and_then(|it| freshness::read(&it)) {
        limits.fresh = fresh;
    }
    set_count(
        section,
        "dials_per_host",
        DIALS_PER_HOST,
        &mut limits.dials_per_host,
    );
    set_count(
        section,
        "dials_per_second",
        DIALS_PER_SECOND,
        &mut limits.dials_per_second,
    );
    set_count(
        section,
        "fetches_per_tenant",
        FETCHES,
        &mut limits.fetches_per_tenant,
    );
    if let Some(section) = section.section("automatic", "the limits of automatic mail") {
        let automatic = &mut limits.automatic;
        set_count(&section, "per_address", COUNT, &mut automatic.per_address);
        set_count(&section, "per_ticket", COUNT, &mut automatic.per_ticket);
        set_count(&section, "per_tenant", COUNT, &mut automatic.per_tenant);
        section.finish();
    }
}

fn set_size<T: TryFrom<u64>>(
    section: &Section,
    key: &'static str,
    range: RangeInclusive<u64>,
    limit: &mut T,
) {
    let size = section.item(key).and_then(|item| item.size(range));
    if let Some(size) = size.and_then(|size| size.try_into().ok()) {
        *limit = size;
    }
}

fn set_count<T: TryFrom<u64>>(
    section: &Section,
    key: &'static str,
    range: RangeInclusive<u64>,
    limit: &mut T,
) {
    let count = section.item(key).and_then(|item| item.integer(range));
    if let Some(count) = count.and_then(|count| count.try_into().ok()) {
        *limit = count;
    }
}

fn set_duration(section: &Section, key: &'static str, limit: &mut Duration) {
    if let Some(time) = section.item(key).and_then(|item| item.duration(TIME)) {
        *limit = time;
    }
}
