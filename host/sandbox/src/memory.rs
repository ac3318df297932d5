//! A rule's `kv` within one decision: reads are recorded, writes are held back until the decision commits.

use std::sync::Arc;

use crate::error::Stop;
use crate::limits::Limits;

/// Where a rule's `kv` is read from when a mail is decided. One value per tenant and rule.
pub trait Kv: Send + Sync {
    fn get(&self, key: &str) -> Result<Option<String>, KvError>;
}

/// The store behind `kv` failed. The decision is broken off with [`Trouble::Kv`](crate::Trouble::Kv).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct KvError(pub String);

/// A `kv` without entries, for rules that have no store behind them.
pub struct NoKv;

impl Kv for NoKv {
    fn get(&self, _key: &str) -> Result<Option<String>, KvError> {
        Ok(None)
    }
}

/// The view of one decision.
pub(crate) struct Memory {
    source: Arc<dyn Kv>,
    /// What the store answered, in the order asked.
    pub(crate) reads: Vec<(String, Option<String>)>,
    /// The last write of each key, `None` for a deletion.
    pub(crate) writes: Vec<(String, Option<String>)>,
}

impl Memory {
    pub(crate) fn new(source: Arc<dyn Kv>) -> Self {
        Self {
            source,
            reads: Vec::new(),
            writes: Vec::new(),
        }
    }

    pub(crate) fn get(&mut self, key: String, limits: &Limits) -> Result<Option<String>, Stop> {
        // Nothing can have been stored under such a key.
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

    /// Refused with the reason when it is over a limit.
    pub(crate) fn set(
        &mut self,
        key: String,
        value: String,
        limits: &Limits,
    ) -> Result<(), String> {
        check_key(&key, limits)?;
        if value.len() > limits.kv_value_bytes {
            return Err(format!(
                "the value has {} bytes, over the limit of {}",
                value.len(),
                limits.kv_value_bytes
            ));
        }
        self.write(key, Some(value), limits)
    }

    /// The contract gives a deletion no way to be refused: over the limit it ends the decision.
    pub(crate) fn delete(&mut self, key: String, limits: &Limits) -> Result<(), Stop> {
        match check_key(&key, limits) {
            Ok(()) => self.write(key, None, limits).map_err(Stop::Output),
            Err(_) => Ok(()),
        }
    }

    fn write(&mut self, key: String, value: Option<String>, limits: &Limits) -> Result<(), String> {
        if let Some((_, held)) = self.writes.iter_mut().find(|(known, _)| *known == key) {
            *held = value;
            return Ok(());
        }
        if self.keys() >= limits.kv_keys {
            return Err(format!("more than {} keys in one decision", limits.kv_keys));
        }
        self.writes.push((key, value));
        Ok(())
    }

    /// An upper bound: a key both read and written counts twice.
    fn keys(&self) -> usize {
        self.reads.len() + self.writes.len()
    }
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
        memory.set("a".into(), "1".into(), &limits).unwrap();
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
            assert!(memory.set(key.into(), value.into(), &limits).is_err());
        }
        assert_eq!(memory.get("overlong!".into(), &limits).unwrap(), None);
        for key in ["a", "b", "c"] {
            memory.set(key.into(), "v".into(), &limits).unwrap();
        }
        assert!(memory.set("d".into(), "v".into(), &limits).is_err());
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
}
