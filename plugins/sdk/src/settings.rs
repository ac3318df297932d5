//! The tenant's settings for this rule.

use crate::bindings::postroom::plugin::settings;
use crate::json;

/// Returns all settings as one JSON object, for a JSON crate of your choice.
pub fn all() -> String {
    settings::all()
}

/// One setting that is a text; `None` when it is missing, empty, or something else.
pub fn text(name: &str) -> Option<String> {
    json::text_member(&settings::all(), name).filter(|text| !text.is_empty())
}
