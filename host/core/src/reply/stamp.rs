//! Dates and times of day in a line, in any language and in any digits.

/// The parts of a point in time that a line shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    /// A time of day, such as `9:02`, `9.02`, `9h02` or `9時02分`.
    pub time: bool,
    /// A year of four digits.
    pub year: bool,
    /// Three numbers joined as a date, such as `11.03.24`, or a year with another number that may be a day.
    date: bool,
    /// The offset of a time zone, such as `+0100`.
    pub zone: bool,
}

#[derive(Clone, Copy)]
struct Number {
    value: u32,
    digits: usize,
    /// The single character between this number and the next; `None` if there are more, or it is the last.
    joint: Option<char>,
}

impl Stamp {
    /// Reads a line. Takes time proportional to its length.
    pub fn of(line: &str) -> Self {
        let numbers = numbers(line);
        let mut stamp = Self {
            zone: has_zone(line),
            ..Self::default()
        };
        let mut used = vec![false; numbers.len()];
        for (at, three) in numbers.windows(3).enumerate() {
            if let [a, b, c] = three
                && let Some(joint @ ('.' | '/' | '-' | '年' | '년')) = a.joint
                && (b.joint == Some(joint) || matches!(b.joint, Some('月' | '월')))
                && is_date(*a, *b, *c)
            {
                stamp.date = true;
                stamp.year |= a.digits == 4 || c.digits == 4;
                used[at..at + 3].fill(true);
            }
        }
        for (at, two) in numbers.windows(2).enumerate() {
            if let [a, b] = two
                && !used[at]
                && !used[at + 1]
                && matches!(a.joint, Some(':' | '.' | 'h' | '：' | '時' | '时' | '点' | '點'))
                && a.digits <= 2
                && b.digits == 2
                && a.value <= 24
                && b.value < 60
                // `11.03.` is a day and a month.
                && !(a.joint == Some('.') && b.joint == Some('.'))
            {
                stamp.time = true;
                used[at] = true;
                used[at + 1] = true;
            }
        }
        stamp.time |= line.contains('시') && line.contains('분');
        // Four digits that are a year: of our calendar, the Thai or the Persian one.
        let year = |it: &Number| {
            it.digits == 4 && matches!(it.value, 1980..=2100 | 2500..=2650 | 1350..=1480)
        };
        stamp.year |= numbers.iter().any(year);
        let day = |(at, it): (usize, &Number)| {
            !used[at] && it.digits <= 2 && (1..=31).contains(&it.value)
        };
        stamp.date |= stamp.year && numbers.iter().enumerate().any(day);
        stamp
    }

    /// Returns whether there is a whole date, with its year.
    pub fn is_date(self) -> bool {
        self.date
    }

    pub fn is_any(self) -> bool {
        self.time || self.year || self.date
    }
}

fn has_zone(line: &str) -> bool {
    line.match_indices(['+', '-']).any(|(at, _)| {
        let rest = &line.as_bytes()[at + 1..];
        at > 0
            && line.as_bytes()[at - 1] == b' '
            && rest.len() >= 4
            && rest[..4].iter().all(u8::is_ascii_digit)
            && !rest.get(4).is_some_and(u8::is_ascii_alphanumeric)
    })
}

fn is_date(a: Number, b: Number, c: Number) -> bool {
    let short = |it: Number| it.digits <= 2 && (1..=31).contains(&it.value);
    let year = |it: Number| it.digits == 4 || it.digits == 2;
    short(b) && (short(a) && year(c) || a.digits == 4 && short(c))
}

fn numbers(line: &str) -> Vec<Number> {
    const MOST: usize = 40;
    let mut out: Vec<Number> = Vec::new();
    let mut chars = line.chars().filter(|c| !is_mark(*c)).peekable();
    let mut between = 0;
    let mut joint = None;
    while let Some(c) = chars.next() {
        let Some(digit) = digit(c) else {
            // `11. 3. 2024` and `9 h 02` are read like `11.3.2024` and `9h02`.
            if c != ' '
                || between == 0
                    && joint.is_none()
                    && !chars.peek().is_some_and(|c| "h时時".contains(*c))
            {
                between += 1;
                joint = Some(c);
            }
            continue;
        };
        let mut number = Number {
            value: digit,
            digits: 1,
            joint: None,
        };
        while let Some(digit) = chars.peek().and_then(|c| self::digit(*c)) {
            chars.next();
            number.value = number.value.saturating_mul(10).saturating_add(digit);
            number.digits += 1;
        }
        if let Some(last) = out.last_mut() {
            last.joint = joint.filter(|_| between == 1);
        }
        out.push(number);
        if out.len() == MOST {
            break;
        }
        between = 0;
        joint = None;
    }
    if let Some(last) = out.last_mut() {
        last.joint = joint;
    }
    out
}

fn is_mark(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns the value of a decimal digit of Latin, Arabic, Persian, Hindi, Bengali, Thai or full-width writing.
fn digit(c: char) -> Option<u32> {
    if c.is_ascii() {
        return c.to_digit(10);
    }
    const ZEROS: [char; 6] = ['٠', '۰', '०', '০', '๐', '０'];
    ZEROS.iter().find_map(|zero| {
        let value = (c as u32).checked_sub(*zero as u32)?;
        (value <= 9).then_some(value)
    })
}

/// Returns whether a character is a digit of any of the writings that dates are read in.
pub(crate) fn is_digit(c: char) -> bool {
    digit(c).is_some()
}

#[cfg(test)]
mod tests {
    use super::Stamp;

    #[test]
    fn dates_and_times_of_many_writings() {
        for (line, date, time) in [
            ("Monday, March 11, 2024 9:02 AM", true, true),
            ("11.03.24 um 09:02", true, true),
            ("11. 3. 2024 v 9:02", true, true),
            ("maanantai 11. maaliskuuta 2024 9.02", true, true),
            ("2024-03-11 09:02:11", true, true),
            ("2024年3月11日(月) 9:02", true, true),
            ("2024년 3월 11일 (월) 오전 9:02", true, true),
            ("۱۱ مارس ۲۰۲۴، ۹:۰۲", true, true),
            ("٢٠٢٤/٠٣/١١ ٠٩:٠٢", true, true),
            ("11 มี.ค. 2567 เวลา 09:02", true, true),
            ("lundi 11 mars 2024 à 9h02", true, true),
            ("3/11/24", true, false),
            ("Am 11.03. um 10:15", false, true),
            ("next week", false, false),
            ("version 2.0.7.1", false, false),
            ("00:30:23", false, true),
        ] {
            let stamp = Stamp::of(line);
            assert_eq!((stamp.is_date(), stamp.time), (date, time), "{line}");
        }
    }
}
