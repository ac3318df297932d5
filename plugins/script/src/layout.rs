//! Parses the layouts that programs send: labelled lines, sections, and HTML tables.

use postroom_html::Token;

/// Returns the text after `LABEL:` or `LABEL =` on the first line that has it. Case and leading dots are ignored, and the
/// colon may be full-width.
pub fn labelled<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let label = label.trim().trim_end_matches([':', '=']).trim_end();
    if label.is_empty() {
        return None;
    }
    text.lines().find_map(|line| {
        let line = line
            .trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '-' | '•' | '>'));
        let rest = strip_prefix_ignoring_case(line, label)?;
        let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '.' || c == '*');
        let value = rest.strip_prefix([':', '=', '：'])?;
        Some(value.trim_matches(|c: char| c.is_whitespace() || c == '*'))
    })
}

/// Returns the lines after the first one that contains `from`, up to the next one that contains `to`, or to the end,
/// compared case-insensitively.
pub fn section(text: &str, from: &str, to: Option<&str>) -> Option<String> {
    let contains = |line: &str, part: &str| line.to_lowercase().contains(&part.to_lowercase());
    let mut lines = text.lines().skip_while(|line| !contains(line, from));
    lines.next()?;
    let lines: Vec<&str> = lines
        .take_while(|line| !to.is_some_and(|to| contains(line, to)))
        .collect();
    Some(lines.join("\n"))
}

/// Returns the rows of one table of an HTML text, with cells as plain text. Tables are counted from 0 in the order of their
/// starts. A table inside a cell is a separate table, and its text is not part of the cell.
pub fn table(html: &str, number: usize) -> Vec<Vec<String>> {
    let mut tables: Vec<Table> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    for token in postroom_html::tokens(html) {
        let tag = match token {
            Token::Text(text) => {
                if let Some(table) = open.last() {
                    tables[*table].text(text);
                }
                continue;
            }
            Token::Tag(tag) => tag,
        };
        if !tag.is("table") {
            if let Some(table) = open.last() {
                tables[*table].tag(&tag.name.to_ascii_lowercase(), tag.is_closing);
            }
        } else if tag.is_closing {
            if let Some(table) = open.pop() {
                tables[table].end_row();
            }
        } else {
            open.push(tables.len());
            tables.push(Table::default());
        }
    }
    for table in &mut tables {
        table.end_row();
    }
    if number < tables.len() {
        tables.swap_remove(number).rows
    } else {
        Vec::new()
    }
}

#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
    row: Vec<String>,
    cell: Option<String>,
}

impl Table {
    fn text(&mut self, text: &str) {
        if let Some(cell) = &mut self.cell {
            cell.push_str(text);
        }
    }

    fn tag(&mut self, name: &str, closing: bool) {
        match name {
            "td" | "th" => {
                self.end_cell();
                if !closing {
                    self.cell = Some(String::new());
                }
            }
            "tr" => self.end_row(),
            "br" | "p" | "div" | "li" => self.text(" "),
            _ => {}
        }
    }

    fn end_cell(&mut self) {
        if let Some(cell) = self.cell.take() {
            let text = postroom_html::decode(&cell);
            self.row
                .push(text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }

    fn end_row(&mut self) {
        self.end_cell();
        if !self.row.is_empty() {
            self.rows.push(std::mem::take(&mut self.row));
        }
    }
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let mut rest = text.chars();
    for expected in prefix.chars() {
        let found = rest.next()?;
        if found != expected && !found.to_lowercase().eq(expected.to_lowercase()) {
            return None;
        }
    }
    Some(rest.as_str())
}

#[cfg(test)]
mod tests {
    use super::{labelled, section, table};

    const REPORT: &str = "Nightly report\n  * Job name ....: Files & Mail\nRésultat = Échec\nHost:\n容量：12 GB\n\nDetails\n one\n two\nEnd of details\n";

    #[test]
    fn labels_are_found_in_their_variants() {
        assert_eq!(labelled(REPORT, "job name"), Some("Files & Mail"));
        assert_eq!(labelled(REPORT, "RÉSULTAT:"), Some("Échec"));
        assert_eq!(labelled(REPORT, "host"), Some(""));
        assert_eq!(labelled(REPORT, "容量"), Some("12 GB"));
        assert_eq!(labelled(REPORT, "Job"), None);
        assert_eq!(labelled(REPORT, ""), None);
    }

    #[test]
    fn a_section_ends_at_its_end_or_the_text_s() {
        assert_eq!(
            section(REPORT, "details", Some("end of")).as_deref(),
            Some(" one\n two")
        );
        assert_eq!(
            section(REPORT, "details", Some("nowhere")).as_deref(),
            Some(" one\n two\nEnd of details")
        );
        assert_eq!(section(REPORT, "nowhere", None), None);
    }

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
        ] {
            let html = format!("<table><tr>{cells}</tr></table>");
            assert_eq!(table(&html, 0), [expected], "{cells}");
        }
    }
}
