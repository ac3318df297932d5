//! A small key-value store of this rule for this tenant. A rule that uses it loads only if `kv` is granted. Writes commit
//! together with the decision.

use crate::Failure;
use crate::bindings::postroom::plugin::kv;

pub fn get(key: &str) -> Option<String> {
    kv::get(key)
}

/// # Errors
/// Fails if the key, the value or the whole store is over its limit.
pub fn set(key: &str, value: &str) -> Result<(), Failure> {
    kv::set(key, value).map_err(Failure::from)
}

pub fn delete(key: &str) {
    kv::delete(key);
}
