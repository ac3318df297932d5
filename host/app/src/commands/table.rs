//! Listings for people: a plain table that fits the terminal.

use comfy_table::{ContentArrangement, Table, presets};

use postroom_core::harmless::on_one_line;

/// The width of a table without a terminal.
const WIDTH: u16 = 120;

pub fn print(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> std::io::Result<()> {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width())
        .set_header(header.iter().map(|title| title.to_uppercase()));
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

fn width() -> u16 {
    rustix::termios::tcgetwinsize(std::io::stdout())
        .ok()
        .map(|size| size.ws_col)
        .filter(|columns| *columns > 0)
        .unwrap_or(WIDTH)
}
