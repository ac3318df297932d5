//! The tenant's settings for this rule.

use crate::bindings::postroom::plugin::settings;
use crate::json;

/// Returns all settings as one JSON object, for a JSON crate of your choice.
pub fn all() -> String {
    settings::all()
}

/// Returns a setting that is a string; `None` if it is missing, empty, or of another type.
pub fn text(name: &str) -> Option<String> {
    json::text_member(&settings::all(), name).filter(|text| !text.is_empty())
}
