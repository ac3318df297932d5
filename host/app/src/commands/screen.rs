//! Text for a terminal: harmless whatever it contains, no wider than the terminal, and coloured only if colours are wanted.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use postroom_core::harmless::picture;
use unicode_width::UnicodeWidthChar;

/// The style of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
}

/// One line, made of pieces.
#[derive(Debug, Clone, Default)]
pub struct Line {
    pieces: Vec<(Ink, String)>,
    /// The column at which further rows begin if the line is too wide; without it the line is cut.
    hang: Option<usize>,
}

/// The output for lines.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// The width in columns; `None` if nothing is cut.
    pub width: Option<usize>,
    pub colour: bool,
}

/// The most rows for one line; the rest is cut.
const ROWS: usize = 12;
/// The most characters of a row per column, since some characters have no width.
const CHARS_A_COLUMN: usize = 4;
/// The least assumed width of a terminal.
const LEAST_COLUMNS: usize = 20;
const ELLIPSIS: char = '…';

impl Screen {
    /// Returns the screen of an output in its current size: a terminal may be resized any time.
    pub fn of(output: &(impl AsFd + IsTerminal)) -> Self {
        let size = rustix::termios::tcgetwinsize(output).ok();
        let columns = size.map(|size| usize::from(size.ws_col));
        Self {
            width: columns
                .filter(|columns| *columns > 0 && output.is_terminal())
                .map(|columns| columns.max(LEAST_COLUMNS)),
            colour: wants_colour(output),
        }
    }

    /// Returns the text in its style.
    pub fn paint(&self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Red => "31",
            Ink::Green => "32",
            Ink::Yellow => "33",
            Ink::Plain => "",
        };
        match self.colour && ink != Ink::Plain && !text.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// Returns whether an output is a terminal that shows colours, and colours are not switched off.
pub fn wants_colour(output: &impl IsTerminal) -> bool {
    let is_set = |name| std::env::var_os(name).is_some();
    let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    output.is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

impl Ink {
    /// Returns the colour of a line of a difference, by its mark.
    pub fn of_mark(mark: char) -> Self {
        match mark {
            '-' => Self::Red,
            '+' => Self::Green,
            _ => Self::Plain,
        }
    }
}

impl Line {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with(mut self, ink: Ink, text: impl Into<String>) -> Self {
        self.pieces.push((ink, text.into()));
        self
    }

    /// Makes the line wrap instead of being cut; further rows begin at this column.
    pub fn wrapped(mut self, hang: usize) -> Self {
        self.hang = Some(hang);
        self
    }

    pub fn is_blank(&self) -> bool {
        self.pieces.iter().all(|(_, text)| text.trim().is_empty())
    }

    /// Returns its rows on a screen, each ended by a line break.
    pub fn shown(&self, screen: &Screen) -> String {
        let chars: Vec<(Ink, char)> = self
            .pieces
            .iter()
            .flat_map(|(ink, text)| text.chars().map(|c| (*ink, picture(c))))
            .collect();
        let rows = match (screen.width, self.hang) {
            (None, _) => vec![chars],
            (Some(width), None) => vec![cut(&chars, width)],
            (Some(width), Some(hang)) => wrap(&chars, width, hang),
        };
        let rows = rows.iter().map(|row| painted(row, screen) + "\n");
        rows.collect()
    }
}

/// Returns the width of a text in columns.
pub fn columns(text: &str) -> usize {
    text.chars().map(|c| columns_of(picture(c))).sum()
}

/// Returns the text cut to this many columns.
pub fn fit(text: &str, width: usize) -> String {
    let chars: Vec<(Ink, char)> = text.chars().map(|c| (Ink::Plain, picture(c))).collect();
    cut(&chars, width).into_iter().map(|(_, c)| c).collect()
}

/// Returns the text cut or filled to this many columns.
pub fn pad(text: &str, width: usize) -> String {
    let text = fit(text, width);
    let blanks = width.saturating_sub(columns(&text));
    text + &" ".repeat(blanks)
}

/// Returns the most columns that a character takes on any terminal: they disagree about the variation selector for emoji.
fn columns_of(c: char) -> usize {
    match c {
        '\u{fe0f}' => 1,
        c => c.width().unwrap_or(0),
    }
}

/// Returns as much as fits, with a mark for the cut.
fn cut(chars: &[(Ink, char)], width: usize) -> Vec<(Ink, char)> {
    let taken = fitting(chars, width);
    if taken == chars.len() {
        return chars.to_vec();
    }
    let mut row = chars[..fitting(chars, width.saturating_sub(1))].to_vec();
    if width > 0 {
        let ink = row.last().map_or(Ink::Plain, |(ink, _)| *ink);
        row.push((ink, ELLIPSIS));
    }
    row
}

/// Returns how many of the characters fit.
fn fitting(chars: &[(Ink, char)], width: usize) -> usize {
    let mut used = 0;
    let most = width.saturating_mul(CHARS_A_COLUMN);
    let beyond = chars.iter().take(most).position(|(_, c)| {
        used += columns_of(*c);
        used > width
    });
    beyond.unwrap_or(chars.len().min(most))
}

/// Breaks a line at spaces if there are any.
fn wrap(chars: &[(Ink, char)], width: usize, hang: usize) -> Vec<Vec<(Ink, char)>> {
    let hang = hang.min(width / 2);
    let mut rows: Vec<Vec<(Ink, char)>> = Vec::new();
    let mut rest = chars;
    loop {
        let indent = if rows.is_empty() { 0 } else { hang };
        let mut row = vec![(Ink::Plain, ' '); indent];
        let room = width - indent;
        let fits = fitting(rest, room);
        if fits == rest.len() {
            row.extend(rest);
            rows.push(row);
            return rows;
        }
        if rows.len() + 1 == ROWS {
            row.extend(cut(rest, room));
            rows.push(row);
            return rows;
        }
        // The indent of the first row is not a place to break.
        let least = if rows.is_empty() { hang + 1 } else { 1 };
        let blank = rest[..=fits].iter().rposition(|(_, c)| *c == ' ');
        let (end, next) = match blank.filter(|blank| *blank >= least) {
            Some(blank) => (blank, blank + 1),
            // At least one, whatever its width.
            None => (fits.max(1), fits.max(1)),
        };
        row.extend(&rest[..end]);
        rows.push(row);
        rest = &rest[next..];
    }
}

fn painted(row: &[(Ink, char)], screen: &Screen) -> String {
    let mut text = String::new();
    for piece in row.chunk_by(|left, right| left.0 == right.0) {
        let chars: String = piece.iter().map(|(_, c)| *c).collect();
        text.push_str(&screen.paint(piece[0].0, &chars));
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &[&str] = &[
        "\x1b[2J\x1b]0;owned\x07\x1b[31mred",
        "a\tb\r\nc\u{9b}31m\u{7f}\u{85}",
        "\u{202e}drow eht fo dne\u{2066}\u{200f}\u{feff}",
        "印刷機が火事です。助けてください。",
        "🖨️🔥👩‍👩‍👧‍👦🇩🇪☎️ printer",
        "مرحبا بالعالم שלום עולם",
        "z\u{300}\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}\u{307}\u{308}\u{309}\u{30a}\u{30b}\u{30c}\u{30d}",
        "averyveryveryverylongwordwithoutanyblankthatgoesonandonandonandonandonandonandon",
    ];

    fn screen(width: usize) -> Screen {
        Screen {
            width: Some(width),
            colour: false,
        }
    }

    #[test]
    fn nothing_steers_the_terminal_or_is_wider_than_it() {
        let zalgo = "o\u{336}".repeat(3) + &"\u{336}".repeat(10_000);
        let texts = HOSTILE.iter().copied().chain([zalgo.as_str()]);
        for text in texts {
            for width in [20, 33, 60, 80] {
                for line in [
                    Line::new().with(Ink::Plain, text),
                    Line::new().with(Ink::Plain, text.repeat(9)).wrapped(10),
                ] {
                    let shown = line.shown(&screen(width));
                    for row in shown.lines() {
                        assert!(columns(row) <= width, "{row:?} in {width}");
                        assert!(
                            row.chars().count() <= width * CHARS_A_COLUMN + 10,
                            "{row:?}"
                        );
                        assert_eq!(row.chars().map(picture).collect::<String>(), row);
                    }
                }
                assert_eq!(columns(&pad(text, width)), width, "{text:?}");
            }
        }
    }

    #[test]
    fn control_characters_are_seen_and_do_nothing() {
        let shown: String = "\x1b[31m\x07\t\u{202e}".chars().map(picture).collect();
        assert_eq!(shown, "␛[31m␇ ␚");
    }

    #[test]
    fn long_lines_are_cut_or_wrapped_at_blanks() {
        assert_eq!(fit("twelve chars", 12), "twelve chars");
        assert_eq!(fit("twelve chars", 8), "twelve …");
        assert_eq!(fit("印刷機", 5), "印刷…");
        assert_eq!(fit("印刷機", 4), "印…");
        assert_eq!(pad("印", 4), "印  ");
        let line = Line::new()
            .with(Ink::Plain, "   error  one two three four five six")
            .wrapped(10);
        assert_eq!(
            line.shown(&screen(22)),
            "   error  one two\n          three four\n          five six\n"
        );
        let all = Screen {
            width: None,
            colour: false,
        };
        assert_eq!(line.shown(&all), "   error  one two three four five six\n");
        let endless = Line::new().with(Ink::Plain, "x".repeat(10_000)).wrapped(10);
        let rows = endless.shown(&screen(40));
        assert_eq!(rows.lines().count(), ROWS);
        assert!(rows.ends_with("…\n"), "{rows}");
    }

    #[test]
    fn colours_are_put_around_whole_pieces() {
        let line = Line::new().with(Ink::Red, "red").with(Ink::Plain, " plain");
        let coloured = Screen {
            width: Some(80),
            colour: true,
        };
        assert_eq!(line.shown(&coloured), "\x1b[31mred\x1b[0m plain\n");
    }
}
