//! The `kv` of a rule within one decision: reads are recorded, and writes are held back until the decision commits.

use std::sync::Arc;

use crate::error::Stop;
use postroom_core::Limits;

/// The data source of a rule's `kv` during a decision. One value per tenant and rule.
pub trait Kv: Send + Sync {
    fn get(&self, key: &str) -> Result<Option<String>, KvError>;

    /// Returns the number of keys, and the bytes of keys and values. A `kv` that stores nothing returns zeros.
    fn usage(&self) -> Result<(u64, u64), KvError> {
        Ok((0, 0))
    }
}

/// The store behind `kv` failed. The decision is aborted with [`RuleTrouble::Kv`](crate::Trouble::Kv).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct KvError(pub String);

/// An empty `kv`, for rules without a store.
pub struct NoKv;

impl Kv for NoKv {
    fn get(&self, _key: &str) -> Result<Option<String>, KvError> {
        Ok(None)
    }
}

/// The state of `kv` as one decision sees it.
pub(crate) struct Memory {
    source: Arc<dyn Kv>,
    /// The store's results, in the order of the reads.
    pub(crate) reads: Vec<(String, Option<String>)>,
    /// The last write of each key, `None` for a deletion.
    pub(crate) writes: Vec<(String, Option<String>)>,
    /// Keys and bytes held with these writes, once known.
    held: Option<(u64, u64)>,
}

impl Memory {
    pub(crate) fn new(source: Arc<dyn Kv>) -> Self {
        Self {
            source,
            reads: Vec::new(),
            writes: Vec::new(),
            held: None,
        }
    }

    pub(crate) fn get(&mut self, key: String, limits: &Limits) -> Result<Option<String>, Stop> {
        // Nothing can be stored under such a key.
        if check_key(&key, limits).is_err() {
            return Ok(None);
        }
        if let Some(value) = find(&self.writes, &key).or_else(|| find(&self.reads, &key)) {
            return Ok(value.clone());
        }
        if self.keys() >= limits.kv_keys {
            return Err(Stop::Output(format!(
                "more than {} keys of kv in one decision",
                limits.kv_keys
            )));
        }
        let value = self
            .source
            .get(&key)
            .map_err(|error| Stop::Kv(error.to_string()))?;
        self.reads.push((key, value.clone()));
        Ok(value)
    }

    /// Sets a value. Returns the reason, the inner error, if it exceeds a limit.
    pub(crate) fn set(
        &mut self,
        key: String,
        value: String,
        limits: &Limits,
    ) -> Result<Result<(), String>, Stop> {
        if let Err(reason) = check_key(&key, limits) {
            return Ok(Err(reason));
        }
        if value.len() > limits.kv_value_bytes {
            return Ok(Err(format!(
                "the value has {} bytes, over the limit of {}",
                value.len(),
                limits.kv_value_bytes
            )));
        }
        self.write(key, Some(value), limits)
    }

    /// Deletes a key. The contract has no way to refuse a deletion, so a deletion over the limit ends the decision.
    pub(crate) fn delete(&mut self, key: String, limits: &Limits) -> Result<(), Stop> {
        match check_key(&key, limits) {
            Ok(()) => self.write(key, None, limits)?.map_err(Stop::Output),
            Err(_) => Ok(()),
        }
    }

    fn write(
        &mut self,
        key: String,
        value: Option<String>,
        limits: &Limits,
    ) -> Result<Result<(), String>, Stop> {
        let known = self.writes.iter().position(|(known, _)| *known == key);
        if known.is_none() && self.keys() >= limits.kv_keys {
            return Ok(Err(format!(
                "more than {} keys in one decision",
                limits.kv_keys
            )));
        }
        let held = self.held_with(&key, value.as_deref())?;
        if let Err(reason) = check_total(held, limits) {
            return Ok(Err(reason));
        }
        self.held = Some(held.now);
        match known {
            Some(index) => self.writes[index].1 = value,
            None => self.writes.push((key, value)),
        }
        Ok(Ok(()))
    }

    /// Returns the rule's totals before and after a write. This query is not recorded as a read, since the rule does not see its
    /// result.
    fn held_with(&self, key: &str, value: Option<&str>) -> Result<Held, Stop> {
        let failed = |error: KvError| Stop::Kv(error.to_string());
        let before = match self.held {
            Some(held) => held,
            None => self.source.usage().map_err(failed)?,
        };
        let old = match find(&self.writes, key).or_else(|| find(&self.reads, key)) {
            Some(known) => known.clone(),
            None => self.source.get(key).map_err(failed)?,
        };
        let (mut keys, mut bytes) = before;
        if let Some(old) = old {
            keys = keys.saturating_sub(1);
            bytes = bytes.saturating_sub(entry_bytes(key, &old));
        }
        if let Some(new) = value {
            keys += 1;
            bytes += entry_bytes(key, new);
        }
        Ok(Held {
            before,
            now: (keys, bytes),
        })
    }

    /// Returns an upper bound: a key both read and written counts twice.
    fn keys(&self) -> usize {
        self.reads.len() + self.writes.len()
    }
}

/// Keys and bytes before and after one write.
#[derive(Clone, Copy)]
struct Held {
    before: (u64, u64),
    now: (u64, u64),
}

/// Fails if a write exceeds the limits. A write that does not increase the totals is never refused, so that a rule over a
/// lowered limit can recover.
fn check_total(held: Held, limits: &Limits) -> Result<(), String> {
    let (keys, bytes) = held.now;
    if keys > limits.kv_total_keys && keys > held.before.0 {
        return Err(format!(
            "the rule would hold {keys} keys in all, over the limit of {}; delete some first",
            limits.kv_total_keys
        ));
    }
    if bytes > limits.kv_total_bytes && bytes > held.before.1 {
        return Err(format!(
            "the rule would hold {bytes} bytes in all, over the limit of {}; delete some first",
            limits.kv_total_bytes
        ));
    }
    Ok(())
}

fn entry_bytes(key: &str, value: &str) -> u64 {
    (key.len() + value.len()) as u64
}

fn find<'a>(entries: &'a [(String, Option<String>)], key: &str) -> Option<&'a Option<String>> {
    entries
        .iter()
        .find(|(known, _)| known == key)
        .map(|(_, value)| value)
}

fn check_key(key: &str, limits: &Limits) -> Result<(), String> {
    match key.len() {
        0 => Err("the key is empty".into()),
        size if size > limits.key_bytes => Err(format!(
            "the key has {size} bytes, over the limit of {}",
            limits.key_bytes
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Kv for Echo {
        fn get(&self, key: &str) -> Result<Option<String>, KvError> {
            match key {
                "broken" => Err(KvError("the disk is gone".into())),
                key => Ok(Some(key.to_uppercase())),
            }
        }
    }

    fn memory() -> (Memory, Limits) {
        let limits = Limits {
            kv_keys: 3,
            key_bytes: 8,
            kv_value_bytes: 4,
            ..Limits::default()
        };
        (Memory::new(Arc::new(Echo)), limits)
    }

    #[test]
    fn reads_what_it_wrote_and_records_only_what_the_store_said() {
        let (mut memory, limits) = memory();
        assert_eq!(memory.get("a".into(), &limits).unwrap().unwrap(), "A");
        memory
            .set("a".into(), "1".into(), &limits)
            .unwrap()
            .unwrap();
        assert_eq!(memory.get("a".into(), &limits).unwrap().unwrap(), "1");
        memory.delete("a".into(), &limits).unwrap();
        assert_eq!(memory.get("a".into(), &limits).unwrap(), None);
        assert_eq!(memory.reads, [("a".into(), Some("A".into()))]);
        assert_eq!(memory.writes, [("a".into(), None)]);
    }

    #[test]
    fn refuses_what_is_over_its_limits() {
        let (mut memory, limits) = memory();
        for (key, value) in [("", "v"), ("overlong!", "v"), ("k", "value")] {
            assert!(
                memory
                    .set(key.into(), value.into(), &limits)
                    .unwrap()
                    .is_err()
            );
        }
        assert_eq!(memory.get("overlong!".into(), &limits).unwrap(), None);
        for key in ["a", "b", "c"] {
            memory
                .set(key.into(), "v".into(), &limits)
                .unwrap()
                .unwrap();
        }
        assert!(
            memory
                .set("d".into(), "v".into(), &limits)
                .unwrap()
                .is_err()
        );
        assert!(matches!(
            memory.get("d".into(), &limits),
            Err(Stop::Output(_))
        ));
    }

    #[test]
    fn a_failing_store_is_not_an_empty_one() {
        let (mut memory, limits) = memory();
        assert!(matches!(
            memory.get("broken".into(), &limits),
            Err(Stop::Kv(_))
        ));
    }

    /// Contains the keys `old1` to `old3` with one byte each: 15 bytes.
    struct Filled;

    impl Kv for Filled {
        fn get(&self, key: &str) -> Result<Option<String>, KvError> {
            Ok(["old1", "old2", "old3"].contains(&key).then(|| "v".into()))
        }

        fn usage(&self) -> Result<(u64, u64), KvError> {
            Ok((3, 15))
        }
    }

    fn set(memory: &mut Memory, key: &str, value: &str, limits: &Limits) -> Result<(), String> {
        memory.set(key.into(), value.into(), limits).unwrap()
    }

    #[test]
    fn the_keys_of_all_mails_together_are_limited() {
        let limits = Limits {
            kv_total_keys: 4,
            ..Limits::default()
        };
        let mut memory = Memory::new(Arc::new(Filled));
        set(&mut memory, "a", "1", &limits).unwrap();
        let refused = set(&mut memory, "b", "1", &limits).unwrap_err();
        assert!(refused.contains("5 keys in all"), "{refused}");
        // Existing values may change, and deletions make room.
        set(&mut memory, "a", "2", &limits).unwrap();
        set(&mut memory, "old1", "longer", &limits).unwrap();
        memory.delete("absent".into(), &limits).unwrap();
        assert!(set(&mut memory, "b", "1", &limits).is_err());
        memory.delete("old2".into(), &limits).unwrap();
        memory.delete("old2".into(), &limits).unwrap();
        set(&mut memory, "b", "1", &limits).unwrap();
        assert!(set(&mut memory, "c", "1", &limits).is_err());
        assert!(memory.reads.is_empty());
    }

    #[test]
    fn the_bytes_of_all_mails_together_are_limited() {
        let limits = Limits {
            kv_total_bytes: 20,
            ..Limits::default()
        };
        let mut memory = Memory::new(Arc::new(Filled));
        set(&mut memory, "a", "1234", &limits).unwrap();
        let refused = set(&mut memory, "a", "12345", &limits).unwrap_err();
        assert!(refused.contains("21 bytes in all"), "{refused}");
        assert_eq!(memory.get("a".into(), &limits).unwrap().unwrap(), "1234");
        assert!(set(&mut memory, "b", "", &limits).is_err());
        set(&mut memory, "old1", "", &limits).unwrap();
        set(&mut memory, "b", "", &limits).unwrap();

        // Over a lowered limit it may still shrink.
        let lowered = Limits {
            kv_total_bytes: 10,
            kv_total_keys: 1,
            ..Limits::default()
        };
        let mut memory = Memory::new(Arc::new(Filled));
        set(&mut memory, "old1", "w", &lowered).unwrap();
        assert!(set(&mut memory, "old1", "ww", &lowered).is_err());
        memory.delete("old2".into(), &lowered).unwrap();
    }

    #[test]
    fn a_store_that_cannot_tell_its_usage_is_not_an_empty_one() {
        struct Broken;
        impl Kv for Broken {
            fn get(&self, _: &str) -> Result<Option<String>, KvError> {
                Ok(None)
            }

            fn usage(&self) -> Result<(u64, u64), KvError> {
                Err(KvError("the disk is gone".into()))
            }
        }
        let outcome = Memory::new(Arc::new(Broken)).set("a".into(), "".into(), &Limits::default());
        assert!(matches!(outcome, Err(Stop::Kv(_))));
    }
}
