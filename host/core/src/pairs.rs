//! The labels of a mail with their values, whatever layout its program uses.

use crate::message::Message;

pub use postroom_html::MAX_PAIRS;

/// Returns the labels of a mail with their values: labelled lines of the text in order, then two-column tables of the HTML
/// that the text does not have.
pub fn pairs(message: &Message) -> Vec<(String, String)> {
    postroom_html::pairs(&message.text, message.html.as_deref())
}
