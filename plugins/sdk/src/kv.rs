//! A small memory of this rule for this tenant. A rule that uses it loads only where `kv` is granted.
//! Writes commit together with the decision.

use crate::Failure;
use crate::bindings::postroom::plugin::kv;

pub fn get(key: &str) -> Option<String> {
    kv::get(key)
}

/// # Errors
/// The key, the value or the whole is over its limit.
pub fn set(key: &str, value: &str) -> Result<(), Failure> {
    kv::set(key, value).map_err(Failure::from)
}

pub fn delete(key: &str) {
    kv::delete(key);
}
