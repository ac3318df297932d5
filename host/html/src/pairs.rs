//! Finds labels with their values in the layouts that programs send: labelled lines and two-column tables.

use std::collections::HashSet;

use crate::tables::{Cell, Table, tables};

/// The most pairs of one mail; more are left out.
pub const MAX_PAIRS: usize = 1000;

/// The most characters of a label; longer texts are prose.
const LONGEST_LABEL: usize = 80;
/// The most bytes from the start of a line to the sign after its label, dots in between included.
const LONGEST_LEADER: usize = 200;
/// The most words of a label; more are prose.
const MOST_WORDS: usize = 8;
/// The most lines of a value below its label.
const MOST_VALUE_LINES: usize = 20;
/// The fewest dots that lead from a label to its value without a colon.
const LEADER_DOTS: usize = 4;

type Pair = (String, String);

/// Returns the labels of a mail with their values: those of the text's lines in order, then those of the page's tables that
/// the text does not have. A label comes without its colon and its markup, a value without the URL of its link.
pub fn pairs(text: &str, html: Option<&str>) -> Vec<Pair> {
    let mut pairs = of_text(text, html.is_some());
    if let Some(html) = html {
        for (_, value) in &mut pairs {
            without_urls(value);
        }
        let mut of_tables = Vec::new();
        for table in tables(html) {
            if of_tables.len() >= MAX_PAIRS {
                break;
            }
            of_tables.append(&mut of_table(&table));
        }
        // A value on lines of its own is missing in the text's line.
        let filled: HashSet<&str> = of_tables
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(label, _)| label.as_str())
            .collect();
        pairs.retain(|(label, value)| !value.is_empty() || !filled.contains(label.as_str()));
        let known: HashSet<Pair> = pairs.iter().cloned().collect();
        pairs.extend(of_tables.into_iter().filter(|pair| !known.contains(pair)));
    }
    pairs.truncate(MAX_PAIRS);
    pairs
}

/// Takes out the URLs that a text made from HTML has after the words of its links.
fn without_urls(value: &mut String) {
    let mut from = 0;
    while let Some(start) = value[from..].find(" <").map(|at| from + at) {
        let inner = &value[start + 2..];
        let is_url = ["http://", "https://", "file:", "ftp://"]
            .iter()
            .any(|scheme| inner.starts_with(scheme));
        match inner.find(['>', ' ', '\n']) {
            Some(end) if is_url && inner[end..].starts_with('>') => {
                value.replace_range(start..start + 2 + end + 1, "");
                from = start;
            }
            _ => from = start + 2,
        }
    }
}

/// Returns the value of a label: the first pair's, or else the text after the label on the first line that begins with it,
/// for labels that contain a colon themselves. Case is ignored, and so are the label's colon and markup.
pub fn field(pairs: &[Pair], text: &str, label: &str) -> Option<String> {
    let wanted = key(label);
    if wanted.is_empty() {
        return None;
    }
    let pair = pairs.iter().find(|(known, _)| key(known) == wanted);
    match pair {
        Some((_, value)) => Some(value.clone()),
        None => after_label(text, label).map(str::to_owned),
    }
}

/// Returns a label in the form in which labels are compared.
fn key(label: &str) -> String {
    let words: Vec<&str> = bare(label).split_whitespace().collect();
    words.join(" ").to_lowercase()
}

/// Returns a label without its colon, dots and markup.
fn bare(label: &str) -> &str {
    let is_markup = |c: char| c.is_whitespace() || matches!(c, '*' | '_' | '`' | '#');
    label
        .trim_matches(is_markup)
        .trim_end_matches(|c: char| is_markup(c) || is_separator(c) || c == '.')
}

fn is_separator(c: char) -> bool {
    matches!(c, ':' | '=' | '：')
}

fn of_text(text: &str, has_tables: bool) -> Vec<Pair> {
    let mut pairs = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if pairs.len() >= MAX_PAIRS {
            break;
        }
        let before = pairs.len();
        of_line(line, has_tables, &mut pairs);
        let label = match &pairs[before..] {
            [] if may_be_alone(line) => Some(bare(without_bullet(line)).to_owned()),
            [(label, value)] if value.is_empty() => Some(label.clone()),
            _ => None,
        };
        let Some(label) = label else { continue };
        let mut value = String::new();
        for _ in 0..MOST_VALUE_LINES {
            let Some(below) = lines.next_if(|below| is_value_of(line, below, has_tables)) else {
                break;
            };
            if !value.is_empty() {
                value.push('\n');
            }
            value.push_str(without_quotes(below).trim());
        }
        if !value.is_empty() {
            pairs.truncate(before);
            pairs.push((label, value));
        }
    }
    pairs
}

/// Adds the pairs of one line.
fn of_line(line: &str, has_tables: bool, pairs: &mut Vec<Pair>) {
    let line = without_bullet(line).trim_end();
    if let Some(cells) = line.strip_prefix('|').and_then(|it| it.strip_suffix('|')) {
        let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
        if let [label, value] = cells[..]
            && let Some(label) = as_label(label)
        {
            pairs.push((label, bare_value(value).to_owned()));
        }
        return;
    }
    if !line.contains('\t') {
        if let Some(assigned) = assignments(line) {
            pairs.extend(assigned);
        } else if let Some((label, value)) = labelled(line) {
            pairs.push((label, value.to_owned()));
        }
        return;
    }
    let cells: Vec<&str> = line
        .split('\t')
        .map(str::trim)
        .filter(|it| !it.is_empty())
        .collect();
    // Cells of the page's tables are read there.
    if let [label, value] = cells[..]
        && !has_tables
        && labelled(label).is_none()
    {
        pairs.extend(as_label(label).map(|label| (label, value.to_owned())));
        return;
    }
    let mut cells = cells.into_iter().peekable();
    while let Some(cell) = cells.next() {
        if let Some((label, value)) = labelled(cell) {
            let value = match value {
                "" => cells
                    .next_if(|next| !next.ends_with(is_separator))
                    .unwrap_or(""),
                value => value,
            };
            pairs.push((label, bare_value(value).to_owned()));
        }
    }
}

/// Returns the label and the value of `Label: value`, `Label ....: value`, `Label = value` and `Label ........ value`.
fn labelled(line: &str) -> Option<(String, &str)> {
    let line = without_bullet(line);
    let dots = ".".repeat(LEADER_DOTS);
    for (at, c) in line
        .char_indices()
        .take_while(|(at, _)| *at <= LONGEST_LEADER)
    {
        let rest = &line[at + c.len_utf8()..];
        if c == '.' && !line[..at].ends_with('.') && line[at..].starts_with(&dots) {
            let value = line[at..].trim_start_matches(['.', ' ']);
            if !value.is_empty() && !value.starts_with(is_separator) {
                return Some((as_label(&line[..at])?, bare_value(value)));
            }
        }
        if !is_separator(c) {
            continue;
        }
        let before = &line[..at];
        let is_time = before.ends_with(|c: char| c.is_ascii_digit())
            && rest.starts_with(|c: char| c.is_ascii_digit());
        let is_path = before.len() == 1 && rest.starts_with(['\\', '/']);
        let is_sign =
            rest.starts_with(['=', '>', ':']) || before.ends_with(['!', '<', '>', '+', '-', '~']);
        if c == ':' && (is_time || is_path || rest.starts_with("//") || rest.starts_with(':'))
            || c == '=' && is_sign
        {
            return None;
        }
        let value = bare_value(rest);
        let value = match value.strip_prefix('"').and_then(|it| it.strip_suffix('"')) {
            Some(inner) if c == '=' && !inner.contains('"') => inner,
            _ => value,
        };
        return Some((as_label(before)?, value));
    }
    None
}

/// Returns the pairs of a line that has nothing but two or more of `key=value` and `key="a value"`.
fn assignments(line: &str) -> Option<Vec<Pair>> {
    let mut pairs = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.chars().count() > LONGEST_LABEL || !name.chars().all(is_name) {
            return None;
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, after) = quoted.split_once('"')?;
                if !after.is_empty() && !after.starts_with([' ', ',']) {
                    return None;
                }
                (value, after)
            }
            None => after.split_at(after.find(' ').unwrap_or(after.len())),
        };
        pairs.push((name.to_owned(), value.trim_end_matches(',').to_owned()));
        rest = after.trim_start_matches([' ', ',']);
    }
    (pairs.len() > 1).then_some(pairs)
}

/// Returns whether a line below a label is its value: indented more, and no label itself.
fn is_value_of(line: &str, below: &str, has_tables: bool) -> bool {
    let content = without_quotes(below).trim();
    let is_deeper = indentation(below) >= indentation(line) + 2;
    if content.is_empty() || !is_deeper || content.starts_with(is_bullet) {
        return false;
    }
    let mut own = Vec::new();
    of_line(below, has_tables, &mut own);
    own.is_empty()
}

/// Returns whether a line may be a label whose value is below it.
fn may_be_alone(line: &str) -> bool {
    let line = without_quotes(line).trim();
    !line.starts_with(['|', '=', '<'])
        && !line.starts_with(is_bullet)
        && !line.contains('\t')
        && !line.ends_with(['.', '!', '?', ',', ';', '{', '[', '(', '|'])
        && as_label(line).is_some()
}

fn indentation(line: &str) -> usize {
    without_quotes(line)
        .chars()
        .take_while(|c| c.is_whitespace())
        .map(|c| if c == '\t' { 8 } else { 1 })
        .sum()
}

fn without_quotes(line: &str) -> &str {
    match line.strip_prefix('>') {
        Some(quoted) => quoted.trim_start_matches("> ").trim_start_matches('>'),
        None => line,
    }
}

fn is_bullet(c: char) -> bool {
    matches!(
        c,
        '*' | '-' | '•' | '>' | '#' | '+' | '·' | '–' | '▪' | '●' | '►' | '○'
    )
}

fn without_bullet(line: &str) -> &str {
    line.trim_start_matches(|c: char| c.is_whitespace() || is_bullet(c))
}

/// Returns a text as a label, unless it is prose.
fn as_label(text: &str) -> Option<String> {
    let label = bare(text);
    let is_prose = [". ", "? ", "! ", "; "]
        .iter()
        .any(|end| label.contains(end));
    if is_prose
        || !label.contains(char::is_alphanumeric)
        || label.starts_with(['&', '?', '%', '/', '\\', '<', '>', ',', '|', '@'])
        || label.len() > 4 * LONGEST_LABEL
        || label.chars().count() > LONGEST_LABEL
        || label.split_whitespace().count() > MOST_WORDS
    {
        return None;
    }
    Some(label.to_owned())
}

/// Returns a value without the end of its label's markup.
fn bare_value(value: &str) -> &str {
    let value = value.trim_matches(|c: char| c.is_whitespace() || c == '*');
    value.strip_prefix("__ ").unwrap_or(value)
}

fn of_table(table: &Table) -> Vec<Pair> {
    let filled = |row: &[Cell]| row.iter().filter(|cell| !cell.text.is_empty()).count();
    let is_header = |row: &[Cell]| {
        filled(row) > 1
            && row
                .iter()
                .all(|cell| cell.is_header || cell.text.is_empty())
    };
    let mut rows = &table.rows[..];
    let mut pairs = Vec::new();
    if let Some(at) = rows.iter().position(|row| is_header(row)) {
        let header = &rows[at];
        if filled(header) > 2 {
            rows[..at].iter().for_each(|row| of_row(row, &mut pairs));
        } else {
            rows.iter()
                .filter(|row| !is_header(row))
                .for_each(|row| of_row(row, &mut pairs));
        }
        let below = &rows[at + 1..];
        if let [only] = below
            && only.len() == header.len()
        {
            for (label, value) in header.iter().zip(only) {
                pairs.extend(as_label(&label.text).map(|label| (label, value.text.clone())));
            }
        }
        rows = &[];
    }
    rows.iter().for_each(|row| of_row(row, &mut pairs));
    pairs
}

/// Adds the pairs of a row: label and value, perhaps several times, perhaps with a colon or an empty cell in between.
fn of_row(row: &[Cell], pairs: &mut Vec<Pair>) {
    let filled: Vec<&Cell> = row.iter().filter(|cell| !cell.text.is_empty()).collect();
    let is_label =
        |cell: &Cell| cell.is_header || cell.is_bold || cell.text.ends_with(is_separator);
    let own: Vec<Option<(String, &str)>> = filled
        .iter()
        .map(|cell| labelled(&cell.text).filter(|_| cell.is_line))
        .collect();
    let each_has_its_own = own
        .iter()
        .all(|pair| matches!(pair, Some((_, value)) if !value.is_empty()));
    let found: Vec<(&str, &str)> = match filled[..] {
        _ if each_has_its_own => {
            pairs.extend(
                own.into_iter()
                    .flatten()
                    .map(|(label, value)| (label, value.to_owned())),
            );
            return;
        }
        [label, ..] if !label.is_line => Vec::new(),
        [label] if row.len() == 2 && row[1].text.is_empty() && is_label(label) => {
            vec![(&label.text, "")]
        }
        [label, value] => vec![(&label.text, &value.text)],
        [label, colon, value] if matches!(&*colon.text, ":" | "=" | "：" | "-" | "–") => {
            vec![(&label.text, &value.text)]
        }
        _ if filled.len().is_multiple_of(2)
            && filled.iter().step_by(2).all(|cell| is_label(cell)) =>
        {
            filled
                .chunks_exact(2)
                .map(|pair| (&*pair[0].text, &*pair[1].text))
                .collect()
        }
        _ => Vec::new(),
    };
    for (label, value) in found {
        pairs.extend(as_label(label).map(|label| (label, value.to_owned())));
    }
}

/// Returns the text after `LABEL:` or `LABEL =` on the first line that has it.
fn after_label<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let label = label.trim().trim_end_matches(is_separator).trim_end();
    text.lines().find_map(|line| {
        let rest = strip_prefix_ignoring_case(without_bullet(line), label)?;
        let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '.' || c == '*');
        rest.strip_prefix(is_separator).map(bare_value)
    })
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
    use super::{MAX_PAIRS, field, pairs};

    fn value(text: &str, label: &str) -> Option<String> {
        field(&pairs(text, None), text, label)
    }

    fn shown(found: Vec<(String, String)>) -> String {
        let lines: Vec<String> = found
            .into_iter()
            .map(|(label, value)| format!("{label}→{value}"))
            .collect();
        lines.join("|").replace('\n', "⏎")
    }

    #[test]
    fn labels_are_found_in_their_variants() {
        let report = "Nightly report\n  * Job name ....: Files & Mail\nRésultat = Échec\nHost:\n容量：12 GB\n\nDetails\n one\n two\n\
                      Disk (C:): full\n> Time: 10:22\n";
        for (label, expected) in [
            ("job name", Some("Files & Mail")),
            ("RÉSULTAT:", Some("Échec")),
            ("host", Some("")),
            ("容量", Some("12 GB")),
            ("**Time:**", Some("10:22")),
            ("Disk (C:)", Some("full")),
            ("Job", None),
            ("Details", None),
            ("", None),
            (" : ", None),
        ] {
            assert_eq!(value(report, label).as_deref(), expected, "{label}");
        }
    }

    #[test]
    fn lines_become_pairs() {
        for (text, expected) in [
            ("a: 1\na: 2", "a→1|a→2"),
            ("Label : value", "Label→value"),
            (
                "- **Error**: no space\n* **Job:** x\n+ __Run ID__: 7\n`Key`: v",
                "Error→no space|Job→x|Run ID→7|Key→v",
            ),
            (
                "Host\tsrv1\nOS:\tLinux\nUp: 3\tDown: 4\nA\tB\tC",
                "Host→srv1|OS→Linux|Up→3|Down→4",
            ),
            (
                "Job name ........ nightly\nEnd....: 10:22\nwait... and see",
                "Job name→nightly|End→10:22",
            ),
            ("| Host | srv1 |\n|---|---|\n| a | b | c |", "Host→srv1"),
            ("state=down\nname=\"Disk C\"", "state→down|name→Disk C"),
            (
                "date=2024-03-04 level=\"very high\" msg=",
                "date→2024-03-04|level→very high|msg→",
            ),
            (
                "Host name\n    srv1\nError:\n\tno space\n\tleft\nNext: x",
                "Host name→srv1|Error→no space⏎left|Next→x",
            ),
            (
                "Subject:\n    Account: a\n    Domain: b",
                "Subject→|Account→a|Domain→b",
            ),
            (
                "名称：値\nПуть: C:\\x\nhttp://a.example/?b=c\nC:\\temp\n10:22 Error: x\na == b\na => b\nstd::fmt",
                "名称→値|Путь→C:\\x",
            ),
            (
                "I looked. The error: x\nSee this?\n  no\n=====\n:::\n\n: x",
                "",
            ),
            ("> Host: quoted\n> Rack\n>   R7", "Host→quoted|Rack→R7"),
            ("Messages: [\n  a\n]\nErrors: []", "Messages→[|Errors→[]"),
        ] {
            assert_eq!(shown(pairs(text, None)), expected, "{text}");
        }
    }

    #[test]
    fn tables_become_pairs() {
        for (rows, expected) in [
            (
                "<td>ID<td>EX1184502<tr><td>Status:<td>Service degradation",
                "ID→EX1184502|Status→Service degradation",
            ),
            (
                "<th>Host<td>srv1<tr><th>Since<td>10:22",
                "Host→srv1|Since→10:22",
            ),
            (
                "<th>Property<th>Value<tr><td>Host<td>srv1<tr><td>OS<td>Linux",
                "Host→srv1|OS→Linux",
            ),
            (
                "<th>ID<th>Service<th>State<tr><td>7<td>Mail<td>down",
                "ID→7|Service→Mail|State→down",
            ),
            (
                "<th>Name<th>State<th>Size<tr><td>a<td>ok<td>1<tr><td>b<td><td>2",
                "",
            ),
            (
                "<td>Host<td>:<td>srv1<tr><td>Host<td>&nbsp;<td>srv2",
                "Host→srv1|Host→srv2",
            ),
            (
                "<td><b>Success</b><td>1<td><b>Start time</b><td>22:00",
                "Success→1|Start time→22:00",
            ),
            ("<td>Success<td>1<td>Start<td>22:00", ""),
            (
                "<td style='font-weight:bold'>Ort<td>Halle 7<tr><td colspan=2>Hinweis: keiner",
                "Ort→Halle 7|Hinweis→keiner",
            ),
            ("<td>Invoice no: 7<td>Due: 1 May", "Invoice no→7|Due→1 May"),
            ("<td>Comment:<td></td>", "Comment→"),
            ("<td>Acme<br>Road 1<td>No: 7<br>Due: 1 May", ""),
            ("<td>Intro<br>Host: srv1", ""),
            ("<td>Error:<td>one<br>two", "Error→one two"),
            ("<td>a b c d e f g h i j k<td>prose<tr><td>***<td>x", ""),
            ("<td style='display:none'>x<td>Host<td>srv1", "Host→srv1"),
        ] {
            let html = format!("<table><tr>{rows}</table>");
            assert_eq!(shown(pairs("", Some(&html))), expected, "{rows}");
        }
        let html =
            "<p>A: 1</p><table><tr><td>B:<td>2<tr><td>C<td>3</table><table><tr><td>B:<td>4</table>";
        assert_eq!(
            shown(pairs("A: 1\n\nB:\t2\nC\t3\n\nB:\t4", Some(html))),
            "A→1|B→2|B→4|C→3"
        );
    }

    #[test]
    fn pairs_are_limited() {
        let text = "a: b\n".repeat(MAX_PAIRS + 5);
        assert_eq!(pairs(&text, None).len(), MAX_PAIRS);
        let html = format!("<table>{}</table>", "<tr><td>c<td>d".repeat(MAX_PAIRS + 5));
        assert_eq!(pairs("a: b", Some(&html)).len(), MAX_PAIRS);
        // A label beyond the limit is still found.
        let text = text + "late: x";
        assert_eq!(value(&text, "late").as_deref(), Some("x"));
    }

    #[test]
    fn odd_texts_take_linear_time() {
        for piece in [
            "a=",
            "=",
            ":",
            ".",
            "a=\"",
            "a=b ",
            "\t",
            "a:\t",
            "|",
            "a\n  ",
            "a\n  b\n    c\n",
            "> ",
            "- ",
            "a:\n  b\n",
            "*a",
        ] {
            let text = piece.repeat((1 << 20) / piece.len());
            assert!(pairs(&text, Some(&text)).len() <= MAX_PAIRS, "{piece:?}");
        }
    }
}
