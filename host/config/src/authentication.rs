//! Reads `[authentication]`: whose word on senders is taken.

use super::reader::{Item, Section};

/// The authserv-ids (RFC 8601 section 2.5) whose Authentication-Results are believed. `None` when one of them cannot be.
pub fn read(root: &Section) -> Option<Vec<String>> {
    let Some(section) = root.section("authentication", "the authentication of senders") else {
        return Some(Vec::new());
    };
    let trusted = match section.item("trusted") {
        Some(item) => read_trusted(&item),
        None => Some(Vec::new()),
    };
    section.finish();
    trusted
}

fn read_trusted(list: &Item) -> Option<Vec<String>> {
    let mut trusted = Some(Vec::new());
    for item in list.list()? {
        let id = item.text().map(str::trim);
        let is_token = |id: &str| {
            let odd = |c: char| c.is_whitespace() || c.is_control() || ";()\"=".contains(c);
            !id.is_empty() && !id.contains(odd)
        };
        match (id, &mut trusted) {
            (Some(id), Some(trusted)) if is_token(id) => trusted.push(id.to_owned()),
            (id, _) => {
                if let Some(id) = id.filter(|id| !is_token(id)) {
                    item.problem(
                        format!("\"{id}\" names no server"),
                        "write the first word of its Authentication-Results, such as \"mx.example\"",
                    );
                }
                trusted = None;
            }
        }
    }
    trusted
}
