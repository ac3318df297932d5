//! Listings for people: a plain table, which fits the terminal if there is one.

use comfy_table::{ContentArrangement, Table, presets};

use postroom_core::harmless::on_one_line;

pub fn print(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> std::io::Result<()> {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(header.iter().map(|title| title.to_uppercase()));
    // Without a terminal, a row is one line, so that `grep` and `awk` see whole values.
    if let Some(width) = width() {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width);
    } else {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    let mut any = false;
    for row in rows {
        any = true;
        table.add_row(row.iter().map(|cell| on_one_line(cell)));
    }
    if any {
        super::print(table)
    } else {
        super::print("nothing yet")
    }
}

/// Returns the width of the terminal, if there is one.
fn width() -> Option<u16> {
    rustix::termios::tcgetwinsize(std::io::stdout())
        .ok()
        .map(|size| size.ws_col)
        .filter(|columns| *columns > 0)
}
