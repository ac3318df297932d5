//! Times in a time zone and business hours.

pub use crate::bindings::postroom::plugin::zones::LocalTime;

use crate::Failure;
use crate::bindings::postroom::plugin::zones;

/// Returns a time (RFC 3339, such as the context's `now`) in a zone such as `Europe/Berlin`.
///
/// # Errors
/// Fails if either is unknown.
pub fn local(time: &str, zone: &str) -> Result<LocalTime, Failure> {
    Ok(zones::local(time, zone)?)
}

/// Returns whether a time lies in business hours such as `Mon-Fri 08:00-17:30, Sat 09:00-12:00` in a zone.
///
/// # Errors
/// Fails if one of them cannot be read.
pub fn open(time: &str, zone: &str, hours: &str) -> Result<bool, Failure> {
    Ok(zones::open(time, zone, hours)?)
}
