//! Time and randomness of a rule: the clock is fixed at the mail's `now`, and random numbers are seeded from the mail.

use std::cell::{Cell, RefCell};

use crate::bindings::postroom::plugin::types::Context;

thread_local! {
    /// Microseconds since 1970. The time is 1970 while a script's top level runs.
    static NOW_MICROS: Cell<f64> = const { Cell::new(0.0) };
    static RANDOM: Cell<u64> = const { Cell::new(1) };
    /// The seed of this mail's random numbers; set when the first is requested.
    static SEED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Sets clock and seed for one mail.
pub fn pin(context: &Context) {
    NOW_MICROS.set(epoch_micros(&context.now).unwrap_or(0.0));
    SEED.set(Some(context.now.clone()));
}

/// Returns a number from 0 up to 1, the same for the same mail and call.
pub fn random(message_id: impl FnOnce() -> String) -> f64 {
    if let Some(mut seed) = SEED.take() {
        seed.push_str(&message_id());
        RANDOM.set(fnv(seed.as_bytes()));
    }
    // SplitMix64: works with any seed.
    let state = RANDOM.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
    RANDOM.set(state);
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 11) as f64 / (1u64 << 53) as f64
}

/// Returns the time. It is the only function that QuickJS needs from its host.
#[allow(unsafe_code)]
// SAFETY: name and type are those that rquickjs declares; nothing else defines the symbol.
#[unsafe(no_mangle)]
extern "C" fn __rquickjs_host_now_us() -> f64 {
    NOW_MICROS.get()
}

/// Returns the 64-bit FNV-1a hash.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// Parses `YYYY-MM-DDTHH:MM:SS[.fraction]Z` (RFC 3339 in UTC, as the host writes it).
fn epoch_micros(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> { text.get(from..to)?.parse().ok() };
    if bytes.len() < 20
        || bytes[4] != b'-'
        || bytes[7] != b'-'
        || bytes[13] != b':'
        || bytes[16] != b':'
    {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let seconds = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let mut micros = 0;
    if bytes[19] == b'.' {
        let digits: String = text[20..]
            .trim_end_matches('Z')
            .chars()
            .chain("000000".chars())
            .take(6)
            .collect();
        micros = digits.parse().ok()?;
    }
    // Days since 1970 of the proleptic Gregorian calendar, years starting in March.
    let (y, m) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_era =
        year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * m + 2) / 5 + day - 1;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(((days * 86_400 + seconds) * 1_000_000 + micros) as f64)
}

#[cfg(test)]
mod tests {
    use super::epoch_micros;

    #[test]
    fn rfc_3339_becomes_microseconds() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0.0)),
            ("2024-02-29T12:30:05.250Z", Some(1_709_209_805_250_000.0)),
            ("2026-11-23T00:19:00.001Z", Some(1_795_393_140_001_000.0)),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(epoch_micros(text), expected, "{text}");
        }
    }
}
