//! Entry points of the fuzz targets (`tests/fuzz`) to functions that are private otherwise.

use crate::script::Calls;

/// Finds the calls of action constructors in a script, and returns the call around each of the places, which are `line:column`.
pub fn calls_around(script: &str, places: &[String]) -> Vec<Option<String>> {
    let calls = Calls::of([("rule.js", script)]);
    let around = |place| calls.around(&format!("rule.js:{place}"));
    places.iter().map(around).collect()
}
