//! The cost of stored generations at a start: its store queries about rules, with one generation stored and with a
//! thousand.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use postroom_core::ContentHash;
use postroom_store::sqlite::SqliteStore;
use postroom_store::{GenerationCause, RuleRecord, Store, StoreError, Versions};

use crate::figures::{median, percentile, table, time};
use crate::room::target;

/// As many as a provider with a hundred clients has.
const RULES: usize = 300;
const GENERATIONS: usize = 1000;
const GOAL: Duration = Duration::from_millis(1);

/// Starts on both stores in turn, `rounds` times each, and prints the time of the queries.
pub fn run(rounds: usize) -> Result<()> {
    println!(
        "Generations: {RULES} rules, one of which changes with each of {GENERATIONS} generations; what a start asks of the store, {rounds} starts each"
    );
    let dir = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(target()?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let stores = [("1 generation", 1), ("1000 generations", GENERATIONS)];
    let mut saving = Vec::new();
    for (name, generations) in stores {
        let store = SqliteStore::open(&dir.path().join(name))?;
        for number in 1..=generations {
            let began = Instant::now();
            let saved = runtime.block_on(save(&store, rules(number)))?;
            saving.push(began.elapsed());
            ensure!(
                saved == number as u64,
                "generation {saved} came after {}",
                number - 1
            );
        }
        drop(store);
    }
    let mut starts = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for ((name, generations), times) in stores.iter().zip(&mut starts) {
            let store = SqliteStore::open(&dir.path().join(name))?;
            let live = rules(*generations);
            let began = Instant::now();
            let refused = store.listings().refused_rules()?;
            let strikes = runtime.block_on(store.strikes())?;
            let newest = runtime.block_on(store.newest_generation())?;
            let number = runtime.block_on(save(&store, live))?;
            times.push(began.elapsed());
            ensure!(
                refused.is_empty() && strikes.is_empty() && newest == number,
                "the start made a generation"
            );
            drop(store);
        }
    }
    let rows: Vec<Vec<String>> = stores
        .iter()
        .zip(&starts)
        .map(|((name, _), times)| {
            vec![
                (*name).to_owned(),
                time(median(times)),
                time(percentile(times, 0.95)),
            ]
        })
        .collect();
    table(&["stored", "median", "p95"], &rows);
    let [one, all] = &starts;
    let more = median(all).saturating_sub(median(one));
    println!(
        "  a thousand cost a start {} more (goal: <= {}); saving one took {}, median",
        time(more),
        time(GOAL),
        time(median(&saving))
    );
    Ok(())
}

async fn save(store: &SqliteStore, rules: Vec<RuleRecord>) -> Result<u64, StoreError> {
    let (others, cause) = (BTreeSet::new(), GenerationCause::Saved);
    store.save_generation(rules, others, cause).await
}

/// Returns the rules of a generation; one of them differs from the previous generation.
fn rules(generation: usize) -> Vec<RuleRecord> {
    (0..RULES)
        .map(|rule| {
            // The last generation in which it was this rule's turn to change.
            let version = (generation + RULES - rule) / RULES;
            let text = format!("export function decide() {{}} // {rule} {version}");
            RuleRecord {
                tenant: format!("tenant{}", rule / 3),
                name: format!("rules/{}.js", rule % 3),
                hash: ContentHash::of(text.as_bytes()),
                bytes: Bytes::from(text),
                settings_json: "{\"queue\":\"Service desk\"}".into(),
                grants_json: "{\"kv\":false}".into(),
            }
        })
        .collect()
}
