//! Reads a tenant's contacts or assets from CSV or TOML into rows of named cells; each problem has a line and help.

use toml::de::{DeTable, DeValue};

use postroom_config::suggest::closest;
use postroom_config::{Problem, bare_text};

/// The largest file.
pub const FILE_BYTES: usize = 16 << 20;
const ROWS: usize = 100_000;
/// Columns of a CSV file, or keys of one TOML table.
const COLUMNS: usize = 64;
const CELL_BYTES: usize = 4 << 10;
/// The most problems reported about one file.
const PROBLEMS: usize = 20;

/// One contact or asset as written in the file.
#[derive(Debug, PartialEq)]
pub struct Row {
    /// From 1.
    pub line: u32,
    pub cells: Vec<Cell>,
}

/// A non-empty value, without surrounding spaces.
#[derive(Debug, PartialEq)]
pub struct Cell {
    pub name: String,
    pub value: String,
    pub line: u32,
}

/// The kind of table in a file.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// `contacts` or `assets`: the TOML tables' name.
    pub name: &'static str,
    /// The required column of a row.
    pub key: &'static str,
    /// The columns with a meaning; all others are fields.
    pub known: &'static [&'static str],
}

/// The problems of one file.
pub struct Faults<'f> {
    file: &'f str,
    pub problems: Vec<Problem>,
}

impl<'f> Faults<'f> {
    pub fn new(file: &'f str) -> Self {
        Self {
            file,
            problems: Vec::new(),
        }
    }

    /// Adds a problem; `line` is 0 for the file as a whole.
    pub fn add(&mut self, line: u32, message: impl Into<String>, cure: impl Into<String>) {
        if self.problems.len() < PROBLEMS {
            self.problems.push(Problem {
                file: self.file.into(),
                line,
                column: 0,
                key: String::new(),
                message: message.into(),
                cure: cure.into(),
                source: None,
            });
        }
    }
}

/// Returns the rows of a file, or those that can be read if something is wrong.
pub fn read(bytes: &[u8], is_csv: bool, shape: &Shape, faults: &mut Faults) -> Vec<Row> {
    if bytes.len() > FILE_BYTES {
        faults.add(
            0,
            format!("is over {FILE_BYTES} bytes"),
            "remove the columns that no rule uses",
        );
        return Vec::new();
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        let good = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        faults.add(
            line_of(good, good.len()),
            "is not UTF-8 text",
            "save it as UTF-8",
        );
        return Vec::new();
    };
    // Spreadsheets begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(at) = text.find('\0') {
        // Typical of UTF-16.
        faults.add(line_of(text, at), "is not text", "save it as UTF-8");
        return Vec::new();
    }
    let rows = match is_csv {
        true => read_csv(text, shape, faults),
        false => read_toml(text, shape, faults),
    };
    for cell in rows.iter().flat_map(|row| &row.cells) {
        if cell.value.contains('\0') {
            faults.add(
                cell.line,
                format!("{} has a NUL character in it", cell.name),
                "remove it",
            );
        }
        if cell.value.len() > CELL_BYTES {
            faults.add(
                cell.line,
                format!("{} is over {CELL_BYTES} bytes", cell.name),
                "shorten it",
            );
        }
    }
    rows
}

fn read_csv(text: &str, shape: &Shape, faults: &mut Faults) -> Vec<Row> {
    let mut records = Records::new(text);
    let Some((_, header)) = records.next() else {
        faults.add(1, "is empty", "name the columns in the first line");
        return Vec::new();
    };
    if let Some((message, cure)) = records.fault {
        faults.add(1, message, cure);
        return Vec::new();
    }
    let names: Vec<String> = header.iter().map(|name| column(name, shape)).collect();
    if !check_header(&names, shape, faults) {
        return Vec::new();
    }
    let mut rows = Vec::new();
    while let Some((line, record)) = records.next() {
        if let Some((message, cure)) = records.fault {
            faults.add(line, message, cure);
            continue;
        }
        if record.len() != names.len() {
            faults.add(
                line,
                format!(
                    "has {} cells where the first line names {} columns",
                    record.len(),
                    names.len()
                ),
                "put a value with a separator in it in double quotes, and write an empty cell as nothing between two separators",
            );
            continue;
        }
        let cells = names.iter().zip(record).filter_map(|(name, value)| {
            let value = value.trim();
            (!value.is_empty()).then(|| Cell {
                name: name.clone(),
                value: value.to_owned(),
                line,
            })
        });
        let cells: Vec<Cell> = cells.collect();
        // Spreadsheets leave rows of commas behind.
        if !cells.is_empty() {
            rows.push(Row { line, cells });
        }
        if rows.len() > ROWS {
            faults.add(line, too_many(), "split the client, or remove rows");
            break;
        }
    }
    rows
}

/// Iterates over the records of a CSV text with their first lines, without blank lines.
struct Records<'t> {
    text: &'t str,
    at: usize,
    place: Place,
    delimiter: u8,
    /// The quoting fault of the last record, with help. Parsers recover as well as they can, and may swallow rows.
    fault: Option<(&'static str, &'static str)>,
    reader: csv_core::Reader,
    output: Vec<u8>,
    ends: Vec<usize>,
}

impl<'t> Records<'t> {
    fn new(text: &'t str) -> Self {
        let delimiter = delimiter(text);
        let reader = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        Self {
            text,
            at: 0,
            place: Place::default(),
            delimiter,
            fault: None,
            reader,
            output: vec![0; CELL_BYTES],
            ends: vec![0; COLUMNS],
        }
    }
}

impl Iterator for Records<'_> {
    type Item = (u32, Vec<String>);

    fn next(&mut self) -> Option<Self::Item> {
        use csv_core::ReadRecordResult as Read;
        let bytes = self.text.as_bytes();
        while bytes
            .get(self.at)
            .is_some_and(|byte| b"\r\n".contains(byte))
        {
            self.at += 1;
        }
        let line = self.place.line(self.text, self.at);
        let began = self.at;
        let (mut written, mut ended) = (0, 0);
        loop {
            let input = bytes.get(self.at..).unwrap_or_default();
            let output = &mut self.output[written..];
            let (read, taken, wrote, ends) =
                self.reader
                    .read_record(input, output, &mut self.ends[ended..]);
            self.at += taken;
            written += wrote;
            ended += ends;
            match read {
                // Called once more with no input, it returns the last record.
                Read::InputEmpty => {}
                Read::OutputFull => self.output.resize(self.output.len() * 2, 0),
                Read::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                Read::End => return None,
                Read::Record => break,
            }
        }
        self.fault = quotes_fault(&bytes[began..self.at], self.delimiter);
        let mut from = 0;
        let cells = self.ends[..ended].iter().map(|end| {
            let cell = String::from_utf8_lossy(&self.output[from..*end]).into_owned();
            from = *end;
            cell
        });
        Some((line, cells.collect()))
    }
}

/// Returns the quoting fault of one record, with help.
fn quotes_fault(record: &[u8], delimiter: u8) -> Option<(&'static str, &'static str)> {
    let is_end = |byte: u8| byte == delimiter || byte == b'\r' || byte == b'\n';
    let mut rest = record;
    loop {
        if let Some(quoted) = rest.strip_prefix(b"\"") {
            rest = quoted;
            loop {
                let Some(quote) = rest.iter().position(|byte| *byte == b'"') else {
                    return Some((
                        "has a quote that is never closed",
                        "close it, or write \"\" for a quote in a quoted value",
                    ));
                };
                rest = &rest[quote + 1..];
                match rest.strip_prefix(b"\"") {
                    Some(after) => rest = after,
                    None => break,
                }
            }
            if rest.first().is_some_and(|byte| !is_end(*byte)) {
                return Some((
                    "has text right after a closing quote",
                    "write \"\" for a quote in a quoted value, or close the one of the row before",
                ));
            }
        }
        let end = rest.iter().position(|byte| *byte == delimiter)?;
        rest = &rest[end + 1..];
    }
}

/// Returns the most frequent delimiter of the header line, which depends on the spreadsheet's locale.
fn delimiter(text: &str) -> u8 {
    let header = text.lines().next().unwrap_or_default();
    let count = |c: char| header.matches(c).count();
    match (count(','), count(';'), count('\t')) {
        (commas, semicolons, tabs) if semicolons > commas && semicolons >= tabs => b';',
        (commas, _, tabs) if tabs > commas => b'\t',
        _ => b',',
    }
}

/// Returns a column's name: a known one in any case, or else as written.
fn column(name: &str, shape: &Shape) -> String {
    let name = name.trim();
    let known = shape
        .known
        .iter()
        .find(|known| known.eq_ignore_ascii_case(name));
    known.map_or_else(|| name.to_owned(), |known| (*known).to_owned())
}

fn check_header(names: &[String], shape: &Shape, faults: &mut Faults) -> bool {
    let before = faults.problems.len();
    if !names.iter().any(|name| name == shape.key) {
        let message = format!("has no column {}", shape.key);
        match closest(shape.key, names.iter().map(String::as_str)) {
            Some(near) => faults.add(
                1,
                message,
                format!("call the column {near:?} {}", shape.key),
            ),
            None => faults.add(
                1,
                message,
                format!(
                    "name the columns in the first line; {} must be one of them",
                    shape.key
                ),
            ),
        }
    }
    if names.len() > COLUMNS {
        faults.add(
            1,
            format!("has more than {COLUMNS} columns"),
            "remove those that no rule uses",
        );
    }
    for (n, name) in names.iter().enumerate() {
        if name.is_empty() {
            faults.add(1, format!("column {} has no name", n + 1), "name it");
        } else if names[..n].contains(name) {
            faults.add(
                1,
                format!("the column {name} occurs twice"),
                "rename or remove one of the two",
            );
        }
    }
    faults.problems.len() == before
}

fn read_toml(text: &str, shape: &Shape, faults: &mut Faults) -> Vec<Row> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        let (message, help) = match bare_text(text, at) {
            Some((_, bare)) => (
                format!("is not TOML: {bare} is text without quotes"),
                format!("write it in quotes: \"{bare}\""),
            ),
            None => (
                format!("is not TOML: {}", error.message()),
                format!(
                    "write [[{}]] above each one, and key = \"text\" below",
                    shape.name
                ),
            ),
        };
        faults.add(line_of(text, at), message, help);
    }
    if !errors.is_empty() {
        return Vec::new();
    }
    for key in table.get_ref().keys() {
        if key.get_ref().as_ref() != shape.name {
            faults.add(
                line_of(text, key.span().start),
                format!("{} is not known here", key.get_ref()),
                format!("write [[{}]] above each one", shape.name),
            );
        }
    }
    let Some(list) = table.get_ref().get(shape.name) else {
        return Vec::new();
    };
    let Some(entries) = list.get_ref().as_array() else {
        faults.add(
            line_of(text, list.span().start),
            format!("{} is not a list of tables", shape.name),
            format!("write [[{}]] above each one", shape.name),
        );
        return Vec::new();
    };
    if entries.len() > ROWS {
        faults.add(0, too_many(), "split the client, or remove some");
        return Vec::new();
    }
    // Counted incrementally, so that a large file is not searched again for each line.
    let mut place = Place::default();
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries.iter() {
        let line = place.line(text, entry.span().start);
        let Some(table) = entry.get_ref().as_table() else {
            faults.add(
                line,
                format!("one of {} is not a table", shape.name),
                format!("write [[{}]] above each one", shape.name),
            );
            continue;
        };
        if table.len() > COLUMNS {
            faults.add(
                line,
                format!("has more than {COLUMNS} keys"),
                "remove those that no rule uses",
            );
        }
        let mut keys: Vec<_> = table.iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        let mut cells = Vec::with_capacity(keys.len());
        for (key, value) in keys {
            let line = place.line(text, key.span().start);
            let value = match value.get_ref() {
                DeValue::String(text) => text.trim().to_owned(),
                DeValue::Integer(number) => number.to_string(),
                DeValue::Float(number) => number.to_string(),
                DeValue::Boolean(flag) => flag.to_string(),
                DeValue::Datetime(time) => time.to_string(),
                DeValue::Array(_) | DeValue::Table(_) => {
                    faults.add(
                        line,
                        format!("{} is neither text, a number nor a flag", key.get_ref()),
                        "write it as one text",
                    );
                    continue;
                }
            };
            if !value.is_empty() {
                cells.push(Cell {
                    name: column(key.get_ref(), shape),
                    value,
                    line,
                });
            }
        }
        rows.push(Row { line, cells });
    }
    rows
}

fn too_many() -> String {
    format!("has more than {ROWS} rows")
}

fn line_of(text: &str, at: usize) -> u32 {
    Place::default().line(text, at)
}

/// A position that mostly moves forward.
#[derive(Default)]
struct Place {
    at: usize,
    lines: usize,
}

impl Place {
    /// Returns the line of an offset, from 1.
    fn line(&mut self, text: &str, at: usize) -> u32 {
        let bytes = text.as_bytes();
        let newlines = |from: usize, to: usize| {
            let part = bytes.get(from..to.min(bytes.len())).unwrap_or_default();
            part.iter().filter(|byte| **byte == b'\n').count()
        };
        if at < self.at {
            *self = Self::default();
        }
        self.lines += newlines(self.at, at);
        self.at = at;
        u32::try_from(self.lines + 1).unwrap_or(u32::MAX)
    }
}
