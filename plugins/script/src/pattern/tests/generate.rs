//! Generates regular expressions from a grammar that covers what is translated and slightly more, and texts that match
//! them.

/// Pseudo-random numbers, the same for the same seed (SplitMix64).
pub struct Chance(u64);

/// A regular expression, and the parts of its matches.
pub struct Expression {
    pub source: String,
    pub flags: String,
    sample: Sample,
}

/// A part of an expression: its source, and texts that it matches.
struct Part {
    source: String,
    sample: Sample,
}

enum Sample {
    Nothing,
    /// One of these characters.
    One(Vec<char>),
    /// All of these, in sequence.
    All(Vec<Sample>),
    /// One of these.
    Any(Vec<Sample>),
    Times(Box<Sample>, u64, u64),
}

/// Letters whose other cases are near or far, digits, spaces, line ends, syntax, and characters of two UTF-16 units.
const LITERALS: &str = "aabbckKsSzZ_019 -:,é\u{c9}åÅßẞÿŸµμΜſ\u{212a}\u{212b}İıiIσςΣΩω\u{2126}ǆǅﬀﬆΐỶѢᲇ\u{1c80}×÷/&~#\"%=<>@!`\u{301}\u{85}\u{a0}\u{180e}\u{feff}\u{2028}\u{2029}\u{ffff}\u{e000}\n\r\t\0\u{7f}😀\u{10400}\u{10428}\u{10ffff}";
/// Characters added to the texts that an expression requires.
const NOISE: &str = "abkKsSz_01 .-éÉÅåſ\u{212a}ßıµ\n\n\r\u{2028}\u{2029}\u{b}\u{85}\u{a0}\u{feff}\u{180e}\u{301}😀\u{10400}\u{10428}x,;[]()\\";
/// Escapes of one character.
const ESCAPES: [(&str, char); 34] = [
    (r"\n", '\n'),
    (r"\r", '\r'),
    (r"\t", '\t'),
    (r"\f", '\u{c}'),
    (r"\v", '\u{b}'),
    (r"\0", '\0'),
    (r"\cA", '\u{1}'),
    (r"\cj", '\n'),
    (r"\x61", 'a'),
    (r"\x4B", 'K'),
    (r"\xe9", 'é'),
    (r"\u0062", 'b'),
    (r"\u212a", '\u{212a}'),
    (r"\u017f", 'ſ'),
    (r"\u2028", '\u{2028}'),
    (r"\u{61}", 'a'),
    (r"\u{1F600}", '😀'),
    (r"\ud83d\ude00", '😀'),
    (r"\ud83d", '😀'),
    (r"\ude00", '😀'),
    (r"\u{10400}", '\u{10400}'),
    (r"\-", '-'),
    (r"\.", '.'),
    (r"\\", '\\'),
    (r"\/", '/'),
    (r"\[", '['),
    (r"\]", ']'),
    (r"\^", '^'),
    (r"\,", ','),
    (r"\e", 'e'),
    (r"\z", 'z'),
    (r"\A", 'A'),
    (r"\07", '\u{7}'),
    (r"\x6", 'x'),
];
const SETS: [(&str, &str); 8] = [
    (r"\d", "019"),
    (r"\D", "aé😀\n٣"),
    (r"\w", "akKsS_0ſ\u{212a}"),
    (r"\W", " -é\u{212a}ſ😀\r"),
    (r"\s", " \t\n\r\u{a0}\u{feff}\u{180e}\u{85}\u{2028}"),
    (r"\S", "a1é😀\u{180e}\u{85}"),
    (r"\p{L}", "aéß"),
    (r"\P{Lu}", "A1"),
];
const RANGES: [(&str, &str); 18] = [
    ("a-z", "akszK\u{212a}ſ"),
    ("A-Z", "AKSaı"),
    ("A-z", "a_^KZ"),
    ("k-s", "kKsSſ\u{212a}"),
    ("0-9", "059٣"),
    (" -~", " a~\u{7f}"),
    ("!-/", "!,-/"),
    ("Z-a", "Z_a"),
    ("é-ü", "éüÉ÷"),
    ("À-ÿ", "Àÿß×Ÿ"),
    ("α-ω", "ασςΣΩ"),
    (r"\u0000-\uffff", "a\0\u{ffff}😀"),
    (r"\ud7ff-\ue000", "\u{e000}😀"),
    (r"\ud800-\udfff", "😀"),
    (r"\u{10400}-\u{10428}", "\u{10400}\u{10428}"),
    ("😀-😂", "😀"),
    (r"\x00-\x1f", "\n\r\0"),
    (r"\t-\r", "\t\n\r"),
];
/// Legacy forms in a class.
const RELICS: [(&str, &str); 14] = [
    ("-", "-"),
    ("&&", "&"),
    ("--", "-"),
    ("~~", "~"),
    ("[", "["),
    ("^", "^"),
    ("[:alpha:", "al:"),
    (r"\b", "\u{8}"),
    (r"\w-", "a-"),
    (r"-\d", "-1"),
    ("z-a", "z"),
    (".", "."),
    ("(|)", "(|)"),
    ("$*+?{}", "$+"),
];
/// Sources that are not regular expressions, or only by tolerance.
const ODDITIES: [&str; 12] = [
    "*", "+", "?", "{", "}", "]", ")", "{1", "{,2}", "(?", "(?<", "\\",
];

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// Returns true in this many of a hundred cases.
    fn percent(&mut self, times: u64) -> bool {
        self.below(100) < times
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    fn letter(&mut self, letters: &str) -> char {
        let count = letters.chars().count() as u64;
        letters
            .chars()
            .nth(self.below(count) as usize)
            .unwrap_or(' ')
    }
}

impl Expression {
    pub fn new(chance: &mut Chance) -> Self {
        // Anything beyond the whitelist ends a translation: most expressions contain little or none of it.
        let border = chance.of(&[0, 0, 0, 3, 3, 12]);
        let mut grammar = Grammar { chance, border };
        let part = grammar.disjunction(0);
        let mut source = part.source;
        if grammar.beyond() {
            source = grammar.spoil(&source);
        }
        Self {
            source,
            flags: grammar.flags(),
            sample: part.sample,
        }
    }

    /// Returns a text that contains something the expression could match, and some noise.
    pub fn text(&self, chance: &mut Chance) -> String {
        let mut text: Vec<char> = Vec::new();
        for _ in 0..chance.of(&[1, 1, 1, 2, 3]) {
            for _ in 0..chance.of(&[0, 0, 1, 3]) {
                text.push(chance.letter(NOISE));
            }
            self.sample.write(chance, &mut text);
        }
        for _ in 0..chance.of(&[0, 0, 0, 1, 2]) {
            let at = chance.below(text.len() as u64 + 1) as usize;
            match chance.below(3) {
                0 => text.insert(at, chance.letter(NOISE)),
                1 if at < text.len() => drop(text.remove(at)),
                _ if at < text.len() => text[at] = chance.letter(NOISE),
                _ => {}
            }
        }
        let ignores_case = self.flags.contains('i');
        let cased = |c: char| match chance.below(if ignores_case { 3 } else { 12 }) {
            0 => other_case(c),
            _ => c,
        };
        text.into_iter().map(cased).collect()
    }
}

/// Returns a letter in its other case, if that is one character.
fn other_case(c: char) -> char {
    let mut cases = c.to_uppercase().chain(c.to_lowercase());
    cases.find(|other| *other != c).unwrap_or(c)
}

impl Sample {
    fn of(letters: &str) -> Self {
        Sample::One(letters.chars().collect())
    }

    fn write(&self, chance: &mut Chance, text: &mut Vec<char>) {
        match self {
            Sample::Nothing => {}
            Sample::One(letters) => text.extend((!letters.is_empty()).then(|| chance.of(letters))),
            Sample::All(parts) => parts.iter().for_each(|part| part.write(chance, text)),
            Sample::Any(parts) => {
                if let Some(part) = parts.get(chance.below(parts.len().max(1) as u64) as usize) {
                    part.write(chance, text);
                }
            }
            Sample::Times(part, least, most) => {
                for _ in 0..least + chance.below(most - least + 1) {
                    part.write(chance, text);
                }
            }
        }
    }
}

struct Grammar<'c> {
    chance: &'c mut Chance,
    /// How many times in a hundred something beyond the whitelist is chosen.
    border: u64,
}

impl Grammar<'_> {
    fn beyond(&mut self) -> bool {
        self.chance.percent(self.border)
    }

    fn flags(&mut self) -> String {
        let mut flags = String::new();
        for (flag, times) in [('g', 20), ('d', 5), ('i', 30), ('m', 30), ('s', 20)] {
            flags.extend(self.chance.percent(times).then_some(flag));
        }
        flags.extend(self.chance.percent(12).then_some('u'));
        for flag in ['y', 'v', 'u', 'i'] {
            flags.extend((self.beyond() && !flags.contains(flag)).then_some(flag));
        }
        flags
    }

    fn spoil(&mut self, source: &str) -> String {
        let mut letters: Vec<char> = source.chars().collect();
        let at = self.chance.below(letters.len() as u64 + 1) as usize;
        match self.chance.below(2) {
            0 if at < letters.len() => drop(letters.remove(at)),
            _ => drop(letters.splice(at..at, self.chance.of(&ODDITIES).chars())),
        }
        letters.into_iter().collect()
    }

    fn disjunction(&mut self, depth: u64) -> Part {
        let count = self.chance.of(&[1, 1, 1, 2, 3]);
        let parts: Vec<Part> = (0..count).map(|_| self.alternative(depth)).collect();
        let sources: Vec<&str> = parts.iter().map(|part| part.source.as_str()).collect();
        Part {
            source: sources.join("|"),
            sample: Sample::Any(parts.into_iter().map(|part| part.sample).collect()),
        }
    }

    fn alternative(&mut self, depth: u64) -> Part {
        let count = self.chance.below(4) + u64::from(!self.chance.percent(15));
        let mut source = String::new();
        let mut samples = Vec::new();
        for _ in 0..count {
            let part = self.term(depth);
            source.push_str(&part.source);
            samples.push(part.sample);
        }
        Part {
            source,
            sample: Sample::All(samples),
        }
    }

    fn term(&mut self, depth: u64) -> Part {
        match self.chance.below(100) {
            0..12 => self.assertion(depth),
            12..70 => {
                let atom = self.atom();
                self.quantified(atom, 40)
            }
            _ if depth < 3 => {
                let group = self.group(depth);
                self.quantified(group, 30)
            }
            _ => self.atom(),
        }
    }

    fn assertion(&mut self, depth: u64) -> Part {
        if self.beyond() {
            let opening = self.chance.of(&["(?=", "(?!", "(?<=", "(?<!"]);
            let inner = self.disjunction(depth + 2);
            let is_ahead = opening == "(?=";
            return Part {
                source: format!("{opening}{})", inner.source),
                sample: if is_ahead {
                    inner.sample
                } else {
                    Sample::Nothing
                },
            };
        }
        let (source, sample) = match self.chance.below(3) {
            0 => (
                "^",
                Sample::Any(vec![Sample::Nothing, Sample::of("\n\n\r")]),
            ),
            1 => (
                "$",
                Sample::Any(vec![Sample::Nothing, Sample::of("\n\n\r")]),
            ),
            _ if self.beyond() => (r"\B", Sample::Nothing),
            _ => (
                r"\b",
                Sample::Any(vec![Sample::Nothing, Sample::of(" -éſ")]),
            ),
        };
        Part {
            source: source.into(),
            sample,
        }
    }

    fn group(&mut self, depth: u64) -> Part {
        let opening = if self.beyond() {
            self.chance.of(&[
                "(?i:", "(?-i:", "(?s-m:", "(?<é>", "(?<$>", "(?<>", "(?<a b>",
            ])
        } else {
            let names = ["(?<n>", "(?<host>", "(?<_1>", "(?<__proto__>", "(?<n>"];
            let name = self.chance.of(&names);
            self.chance.of(&["(", "(", "(?:", "(?:", name])
        };
        let inner = self.disjunction(depth + 1);
        Part {
            source: format!("{opening}{})", inner.source),
            sample: inner.sample,
        }
    }

    fn atom(&mut self) -> Part {
        if self.beyond() {
            let source = self.chance.of(&[r"\1", r"\2", r"\k<n>", r"\k", r"\9"]);
            return Part {
                source: source.into(),
                sample: Sample::of("ab1"),
            };
        }
        match self.chance.below(100) {
            0..15 => Part {
                source: ".".into(),
                sample: Sample::of("ab é😀\n\r\u{2028}"),
            },
            15..35 => self.class(),
            35..50 => self.set(),
            50..60 => self.escape(),
            _ => {
                let (literal, source) = self.literal();
                Part {
                    source,
                    sample: Sample::One(vec![literal]),
                }
            }
        }
    }

    fn literal(&mut self) -> (char, String) {
        loop {
            let literal = match self.chance.percent(40) {
                true => self.chance.letter("abkKsS1 "),
                false => self.chance.letter(LITERALS),
            };
            // Only JavaScript accepts such a character without `u`.
            if literal <= '\u{ffff}' || self.border > 0 {
                return (literal, literal.into());
            }
        }
    }

    fn escape(&mut self) -> Part {
        let (source, letter) = self.chance.of(&ESCAPES);
        Part {
            source: source.into(),
            sample: Sample::One(vec![letter]),
        }
    }

    fn set(&mut self) -> Part {
        let known = if self.border > 0 { SETS.len() } else { 6 };
        let (source, letters) = self.chance.of(&SETS[..known]);
        Part {
            source: source.into(),
            sample: Sample::of(letters),
        }
    }

    fn class(&mut self) -> Part {
        let negated = self.chance.percent(30);
        let mut source = String::from(if negated { "[^" } else { "[" });
        let mut samples = Vec::new();
        let count = self.chance.below(4) + u64::from(!self.chance.percent(self.border));
        for _ in 0..count {
            let (item, letters) = match self.chance.below(100) {
                0..45 => {
                    let (literal, item) = self.literal();
                    (item, literal.to_string())
                }
                45..70 => owned(self.chance.of(&RANGES)),
                70..85 => owned(self.chance.of(&[SETS[0], SETS[2], SETS[4]])),
                85..92 => owned(self.chance.of(&RELICS)),
                92..95 if self.border > 0 => owned(self.chance.of(&[SETS[1], SETS[3], SETS[5]])),
                _ => {
                    let (item, letter) = self.chance.of(&ESCAPES);
                    (item.to_owned(), letter.to_string())
                }
            };
            source.push_str(&item);
            samples.push(Sample::of(&letters));
        }
        source.push(']');
        if negated {
            samples.push(Sample::of("ax1 é\n😀ſ\u{212a}"));
        }
        Part {
            source,
            sample: Sample::Any(samples),
        }
    }

    /// Returns the same part, possibly repeated.
    fn quantified(&mut self, part: Part, times: u64) -> Part {
        if !self.chance.percent(times) {
            return part;
        }
        const COUNTS: [(&str, u64, u64); 13] = [
            ("*", 0, 3),
            ("+", 1, 3),
            ("?", 0, 1),
            ("*", 0, 2),
            ("+", 1, 2),
            ("?", 0, 1),
            ("{2}", 2, 2),
            ("{1,2}", 1, 2),
            ("{0,1}", 0, 1),
            ("{2,}", 2, 4),
            ("{0}", 0, 1),
            ("{0,0}", 0, 1),
            ("{3,5}", 2, 6),
        ];
        let (mut count, least, most) = self.chance.of(&COUNTS);
        if self.beyond() {
            count = self
                .chance
                .of(&["**", "{1001}", "{2,1}", "{,2}", "{", "{02}", "?+"]);
        }
        let lazy = if self.chance.percent(30) { "?" } else { "" };
        Part {
            source: format!("{}{count}{lazy}", part.source),
            sample: Sample::Times(Box::new(part.sample), least, most),
        }
    }
}

fn owned((item, letters): (&str, &str)) -> (String, String) {
    (item.to_owned(), letters.to_owned())
}
