//! Reads the tables of a page as rows of plain text.

use crate::{Element, Event, decode, elements};

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub rows: Vec<Vec<Cell>>,
    row: Vec<Cell>,
    cell: Option<OpenCell>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Its text, with single spaces.
    pub text: String,
    pub is_header: bool,
    pub is_bold: bool,
    /// Whether its text is on one line.
    pub is_line: bool,
}

#[derive(Debug, Default)]
struct OpenCell {
    /// Its text as written, references not decoded.
    source: String,
    is_header: bool,
    is_bold: bool,
    has_plain: bool,
    has_bold: bool,
    lines: usize,
    /// Whether the next text is on a line of its own.
    is_broken: bool,
}

/// Returns the rows of one table of a page, with cells as plain text. Tables are counted from 0 in the order of their
/// starts; hidden ones do not count. A table inside a cell is a separate table, and its text is not part of the cell.
pub fn table(html: &str, number: usize) -> Vec<Vec<String>> {
    let Some(table) = tables(html).into_iter().nth(number) else {
        return Vec::new();
    };
    let texts = |row: Vec<Cell>| row.into_iter().map(|cell| cell.text).collect();
    table.rows.into_iter().map(texts).collect()
}

pub(crate) fn tables(html: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut bold = 0_usize;
    for event in elements(html) {
        match event {
            Event::Open(Element::Table, ..) => {
                open.push(tables.len());
                tables.push(Table::default());
                continue;
            }
            Event::Close(Element::Table) => {
                if let Some(table) = open.pop() {
                    tables[table].end_row();
                }
                continue;
            }
            Event::Open(Element::Bold, ..) => bold += 1,
            Event::Close(Element::Bold) => bold = bold.saturating_sub(1),
            _ => {}
        }
        let Some(table) = open.last().map(|at| &mut tables[*at]) else {
            continue;
        };
        match event {
            Event::Open(element, _, style) if element.is_cell() => {
                table.cell = Some(OpenCell {
                    is_header: element == Element::HeaderCell,
                    is_bold: style.is_bold,
                    is_broken: true,
                    ..OpenCell::default()
                });
            }
            Event::Close(element) if element.is_cell() => table.end_cell(),
            Event::Close(Element::Row) => table.end_row(),
            Event::Open(Element::Image, tag, _) => {
                let alternative = tag
                    .attributes()
                    .find(|(name, _)| name.eq_ignore_ascii_case("alt"));
                table.text(alternative.map_or("", |(_, text)| text), bold > 0);
            }
            Event::Open(Element::Break | Element::Rule, ..) => table.line(),
            Event::Open(element, ..) | Event::Close(element) if element.is_block() => table.line(),
            Event::Text(text) => table.text(text, bold > 0),
            _ => {}
        }
    }
    tables
}

impl Table {
    fn text(&mut self, text: &str, is_bold: bool) {
        if let Some(cell) = &mut self.cell {
            cell.source.push_str(text);
            if !text.trim().is_empty() {
                cell.has_bold |= is_bold;
                cell.has_plain |= !is_bold;
                cell.lines += usize::from(std::mem::take(&mut cell.is_broken));
            }
        }
    }

    fn line(&mut self) {
        self.text(" ", false);
        if let Some(cell) = &mut self.cell {
            cell.is_broken = true;
        }
    }

    fn end_cell(&mut self) {
        if let Some(cell) = self.cell.take() {
            let decoded = decode(&cell.source);
            let mut text = String::with_capacity(decoded.len());
            for word in decoded.split_whitespace() {
                let start = text.len();
                text.extend(word.chars().filter(|c| !is_filler(*c)));
                if start > 0 && text.len() > start {
                    text.insert(start, ' ');
                }
            }
            self.row.push(Cell {
                text,
                is_header: cell.is_header,
                is_bold: cell.is_bold || cell.has_bold && !cell.has_plain,
                is_line: cell.lines <= 1,
            });
        }
    }

    fn end_row(&mut self) {
        self.end_cell();
        if !self.row.is_empty() {
            self.rows.push(std::mem::take(&mut self.row));
        }
    }
}

/// Returns whether a character has no width and no meaning of its own.
fn is_filler(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{200b}' | '\u{34f}' | '\u{feff}' | '\u{2060}'
    )
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn tables_come_as_rows_of_text() {
        let html = "<p>a</p><TABLE class=x><tr><th>Job<th>State</tr>\n<tr><td>Files &amp; <b>Mail</b></td><td>O&#75;&bogus;<br/>now\
                    <table><tr><td>inner</td></tr></table></td></tr></table><!-- <table> --> <table><tr><td>second";
        assert_eq!(
            table(html, 0),
            [vec!["Job", "State"], vec!["Files & Mail", "OK&bogus; now"]]
        );
        assert_eq!(table(html, 1), [["inner"]]);
        assert_eq!(table(html, 2), [["second"]]);
        assert!(table(html, 3).is_empty());
        assert!(table("< <table <tr", 0).is_empty());
    }

    #[test]
    fn signs_and_attributes_end_no_cell() {
        for (cells, expected) in [
            (
                "<td>free < 10 %</td><td>Gr&ouml;&szlig;e</td>",
                ["free < 10 %", "Größe"],
            ),
            ("<td title=\"a > b\" class='x>'>c</td><td/>d", ["c", "d"]),
            ("<td title=\"open>c</td><td>d</td>", ["c", "d"]),
            (
                "<td><style>td > b { x }</style>c<td>d<o:p></o:p><!-- > -->",
                ["c", "d"],
            ),
            (
                "<td>c<script>'<td>'</SCRIPT></td><td>d<?xml x?>",
                ["c", "d"],
            ),
            ("<td>1<2<td>5>4", ["1<2", "5>4"]),
            (
                "<td>a<section>b</section>c<td><img alt='O&#75;'>&#8203;",
                ["a b c", "OK"],
            ),
            (
                "<td>c&shy;d<td style='display:none'>no<td>&zwnj;e",
                ["cd", "\u{200c}e"],
            ),
        ] {
            let html = format!("<table><tr>{cells}</tr></table>");
            assert_eq!(table(&html, 0), [expected], "{cells}");
        }
    }
}
