//! Reads `[authentication]`: the servers whose verdicts on senders are trusted.

use postroom_core::NO_AUTHSERV_ID;

use super::reader::{Item, Section};

/// Reads the authserv-ids (RFC 8601 section 2.5) whose Authentication-Results are trusted, for all mailboxes or for one. Returns
/// `None` if one of them is refused, and `Some(None)` if there is no list.
pub fn read(root: &Section) -> Option<Option<Vec<String>>> {
    let Some(section) = root.section("authentication", "the authentication of senders") else {
        return Some(None);
    };
    let trusted = match section.item("trusted") {
        Some(item) => read_trusted(&item).map(Some),
        None => Some(None),
    };
    // Verifying signatures here needs DNS.
    section.later(&["verify"]);
    section.finish();
    trusted
}

fn read_trusted(list: &Item) -> Option<Vec<String>> {
    let mut trusted = Some(Vec::new());
    for item in list.list()? {
        let id = item.text().map(str::trim);
        let is_token = |id: &str| {
            let odd = |c: char| c.is_whitespace() || c.is_control() || ";()\"=".contains(c);
            id == NO_AUTHSERV_ID || (!id.is_empty() && !id.contains(odd))
        };
        match (id, &mut trusted) {
            (Some(id), Some(trusted)) if is_token(id) => trusted.push(id.to_owned()),
            (id, _) => {
                if let Some(id) = id.filter(|id| !is_token(id)) {
                    item.problem(
                        format!("\"{id}\" names no server"),
                        "write the first word of its Authentication-Results, such as \"mx.example\", or \"(none)\" for a server that writes none",
                    );
                }
                trusted = None;
            }
        }
    }
    trusted
}
