//! Extracts the new text of a mail: without the quoted history and the signature. In doubt, more is kept.

use std::borrow::Cow;
use std::ops::Range;

use crate::fold::{is_any, starts_with, starts_with_any, without_tags};

/// The line that outgoing mails have above the history; in a reply, everything from this line on is old.
pub const DELIMITER: &str = "## reply above this line ##";

/// The longest line that is examined, in bytes. Longer ones are prose.
const LONGEST_LINE: usize = 400;
/// The most lines that one attribution ("On … wrote:") may be wrapped over.
const ATTRIBUTION_LINES: usize = 4;
/// The number of lines within which a header block must show its labels.
const BLOCK_LINES: usize = 8;
/// The most lines of a signature; a longer one is kept as text.
const SIGNATURE_LINES: usize = 30;
/// The same limit after a delimiter that lost its trailing space.
const DOUBTFUL_SIGNATURE_LINES: usize = 12;

/// Returns the sender's new text. Keeps the whole text of a forwarded mail, since that is what it is about. The result is
/// empty only if the text is. `threaded` means that the mail references another mail.
pub fn new_words(text: &str, subject: &str, threaded: bool) -> String {
    let prefix = subject_prefix(subject);
    if is_any(prefix, FORWARD_PREFIXES) {
        return text.trim().to_owned();
    }
    let is_reply = threaded || is_any(prefix, REPLY_PREFIXES);
    let lines = Lines::of(text);
    let kept = without_signature(&lines, without_history(&lines, is_reply));
    let mut out = String::with_capacity(text.len());
    for index in kept {
        out.push_str(lines.raw(index));
        out.push('\n');
    }
    let words = out.trim();
    if words.is_empty() { text.trim() } else { words }.to_owned()
}

struct Lines<'a> {
    text: &'a str,
    spans: Vec<Range<usize>>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let mut spans = Vec::with_capacity(text.len() / 40 + 1);
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', text.as_bytes()) {
            spans.push(from..end);
            from = end + 1;
        }
        spans.push(from..text.len());
        Self { text, spans }
    }

    fn len(&self) -> usize {
        self.spans.len()
    }

    fn raw(&self, index: usize) -> &'a str {
        &self.text[self.spans[index].clone()]
    }

    /// Returns the line without surrounding spaces; empty past the end.
    fn get(&self, index: usize) -> &'a str {
        match self.spans.get(index) {
            Some(span) => self.text[span.clone()].trim(),
            None => "",
        }
    }

    fn next_full(&self, mut index: usize) -> Option<usize> {
        while index < self.len() {
            if !self.get(index).is_empty() {
                return Some(index);
            }
            index += 1;
        }
        None
    }

    /// Returns the first full line below the block of full lines at `index`.
    fn below_block(&self, mut index: usize) -> Option<usize> {
        while index < self.len() && !self.get(index).is_empty() {
            index += 1;
        }
        self.next_full(index)
    }

    fn is_quoted(&self, index: usize) -> bool {
        self.get(index).starts_with('>')
    }
}

/// Returns the lines that are not quoted history. A mail that is not a reply may be a form, a log or a forwarded mail under
/// another subject: in it, only quotes below an attribution are history.
fn without_history(lines: &Lines<'_>, is_reply: bool) -> Vec<usize> {
    // Quotes at the end count as history even without an attribution.
    let mut trailing = lines.len();
    while is_reply
        && trailing > 0
        && (lines.is_quoted(trailing - 1) || lines.get(trailing - 1).is_empty())
    {
        trailing -= 1;
    }
    let mut kept = Vec::with_capacity(lines.len());
    let mut any_words = false;
    let mut attributed = false;
    let mut index = 0;
    while index < lines.len() {
        let line = lines.get(index);
        if line.is_empty() || line.len() > LONGEST_LINE {
            any_words |= !line.is_empty();
            kept.push(index);
            index += 1;
            continue;
        }
        if is_delimiter(line) {
            drop_attribution(lines, &mut kept);
            return kept;
        }
        if line.starts_with('>') {
            // Apple's mailers quote the mails that they forward.
            if !attributed && is_forward_line(line.trim_start_matches(['>', ' '])) {
                kept.extend(index..lines.len());
                return kept;
            }
            if !attributed && index < trailing {
                any_words = true;
                kept.push(index);
            }
            index += 1;
            continue;
        }
        if is_forward_line(line) {
            kept.extend(index..lines.len());
            return kept;
        }
        if is_reply && (is_original_line(line) || starts_header_block(lines, index)) {
            // If the quoted mail has quote marks too, answers may be between them.
            if let Some(body) = lines.below_block(index)
                && lines.is_quoted(body)
            {
                attributed = true;
                index = body;
                continue;
            }
            if !any_words {
                // The history comes first: the text below it may be the answer.
                kept.extend(index..lines.len());
            }
            return kept;
        }
        if let Some(Attribution { after, sure }) = attribution(lines, index) {
            match lines.next_full(after) {
                Some(next) if lines.is_quoted(next) => {
                    attributed = true;
                    index = after;
                    continue;
                }
                None => return kept,
                Some(_) if is_reply && any_words && sure => return kept,
                Some(_) => {}
            }
        }
        any_words = true;
        kept.push(index);
        index += 1;
    }
    kept
}

fn without_signature(lines: &Lines<'_>, mut kept: Vec<usize>) -> Vec<usize> {
    while kept
        .last()
        .is_some_and(|index| lines.get(*index).is_empty())
    {
        kept.pop();
    }
    if let Some(at) = signature(lines, &kept) {
        kept.truncate(at);
    }
    if let Some(last) = kept.iter().rposition(|index| !lines.get(*index).is_empty())
        && is_device_line(lines.get(kept[last]))
        && (last == 0 || lines.get(kept[last] - 1).is_empty())
    {
        kept.truncate(last);
    }
    kept
}

/// Returns the position of the delimiter of RFC 3676 section 4.3. Many mailers lose its trailing space; then it must be the
/// only such line.
fn signature(lines: &Lines<'_>, kept: &[usize]) -> Option<usize> {
    let below = |at: usize| kept.len() - at - 1;
    let exact = kept.iter().position(|index| lines.raw(*index) == "-- ");
    if let Some(at) = exact.filter(|at| below(*at) <= SIGNATURE_LINES) {
        return Some(at);
    }
    let mut bare = kept
        .iter()
        .enumerate()
        .filter(|(_, index)| lines.raw(**index) == "--");
    match (bare.next(), bare.next()) {
        (Some((at, _)), None) if below(at) <= DOUBTFUL_SIGNATURE_LINES => Some(at),
        _ => None,
    }
}

/// Removes the attribution above our delimiter, in whatever language.
fn drop_attribution(lines: &Lines<'_>, kept: &mut Vec<usize>) {
    let last = kept.iter().rposition(|index| !lines.get(*index).is_empty());
    if let Some(last) = last
        && let line = lines.get(kept[last])
        && line.ends_with(':')
        && has_digit(line)
    {
        kept.truncate(last);
    }
}

fn is_delimiter(line: &str) -> bool {
    let line = line.trim_matches(|c: char| c == '>' || c == '*' || c.is_whitespace());
    line.get(..DELIMITER.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(DELIMITER))
}

/// Returns the `Re` of `Re:`, `RE :`, `Re[2]:` and `[EXTERNAL] Re:`; the whole subject if there is no colon.
fn subject_prefix(subject: &str) -> &str {
    let subject = without_tags(subject);
    let prefix = subject.split([':', '：']).next().unwrap_or_default();
    prefix
        .trim_end_matches(|c: char| c.is_whitespace() || c.is_ascii_digit() || "[]()^".contains(c))
}

/// Prefixes of forwarded mails' subjects, in lower case.
const FORWARD_PREFIXES: &[&str] = &[
    "fw", "fwd", "wg", "tr", "rv", "i", "vs", "vb", "vl", "doorst", "enc", "pd", "ilt", "转发",
    "轉寄",
];

/// Prefixes of replies' subjects, in lower case.
const REPLY_PREFIXES: &[&str] = &[
    "re", "aw", "antw", "sv", "res", "r", "rif", "odp", "ynt", "vá", "回复", "答复", "回覆",
];

/// Words between the dashes above a quoted mail, in lower case.
const ORIGINAL: &[&str] = &[
    "original message",
    "original appointment",
    "ursprüngliche nachricht",
    "originalnachricht",
    "original-nachricht",
    "ursprünglicher termin",
    "message d'origine",
    "message d’origine",
    "message original",
    "mensaje original",
    "messaggio originale",
    "messaggio original",
    "oorspronkelijk bericht",
    "mensagem original",
    "ursprungligt meddelande",
    "oprindelig meddelelse",
    "opprinnelig melding",
    "wiadomość oryginalna",
];

fn is_original_line(line: &str) -> bool {
    between_dashes(line).is_some_and(|words| is_any(words, ORIGINAL))
}

/// Words above a forwarded mail, in lower case.
const FORWARDED: &[&str] = &[
    "forwarded message",
    "forwarded mail",
    "forwarded by",
    "weitergeleitete nachricht",
    "weitergeleitete e-mail",
    "message transféré",
    "mensaje reenviado",
    "messaggio inoltrato",
    "doorgestuurd bericht",
    "mensagem encaminhada",
];

const FORWARDED_APPLE: &[&str] = &[
    "begin forwarded message:",
    "anfang der weitergeleiteten nachricht:",
    "début du message transféré",
    "inicio del mensaje reenviado:",
    "inizio messaggio inoltrato:",
    "begin doorgestuurd bericht:",
];

fn is_forward_line(line: &str) -> bool {
    match between_dashes(line) {
        Some(words) => starts_with_any(words, FORWARDED),
        None => line.ends_with(':') && starts_with_any(line, FORWARDED_APPLE),
    }
}

/// Returns the words of `---- words ----`.
fn between_dashes(line: &str) -> Option<&str> {
    let words = line
        .strip_prefix("--")?
        .trim_matches(|c: char| c == '-' || c.is_whitespace());
    (!words.is_empty()).then_some(words)
}

/// Labels of the sender in the header block of Outlook and others, in lower case.
const FROM_LABELS: &[&str] = &[
    "from",
    "von",
    "de",
    "da",
    "van",
    "från",
    "fra",
    "od",
    "lähettäjä",
    "feladó",
    "от",
    "kimden",
    "差出人",
];
/// Labels of the time, which some web mail programs put above the sender.
const TIME_FIRST_LABELS: &[&str] = &["gesendet", "sent"];
const OTHER_LABELS: &[&str] = &[
    "sent",
    "date",
    "to",
    "cc",
    "subject",
    "importance",
    "reply-to", // en
    "gesendet",
    "datum",
    "an",
    "betreff",
    "kopie",
    "antwort an", // de
    "envoyé",
    "à",
    "objet",
    "date d'envoi", // fr
    "enviado",
    "enviado el",
    "fecha",
    "para",
    "asunto", // es
    "inviato",
    "data",
    "a",
    "oggetto", // it
    "verzonden",
    "aan",
    "onderwerp", // nl
    "enviada em",
    "assunto", // pt
    "skickat",
    "till",
    "ämne",
    "sendt",
    "til",
    "emne", // sv da no
    "wysłano",
    "do",
    "dw",
    "temat", // pl
    "odesláno",
    "komu",
    "předmět",
    "odoslané",
    "predmet", // cs sk
    "lähetetty",
    "vastaanottaja",
    "aihe", // fi
    "elküldve",
    "címzett",
    "tárgy", // hu
    "отправлено",
    "кому",
    "тема", // ru
    "gönderildi",
    "kime",
    "konu", // tr
    "送信日時",
    "宛先",
    "件名", // ja
];

/// Returns whether a header block begins here: a `From:` line, perhaps below a rule, closely followed by two more labels
/// and a date or a time of day.
fn starts_header_block(lines: &Lines<'_>, index: usize) -> bool {
    let line = lines.get(index);
    let mut first = index;
    if line.len() >= 5 && line.bytes().all(|b| matches!(b, b'_' | b'-' | b'=')) {
        match lines.next_full(index + 1) {
            Some(next) if next <= index + 3 => first = next,
            _ => return false,
        }
    }
    let has = |at: usize, known: &[&str]| label(lines.get(at)).is_some_and(|it| is_any(it, known));
    let time_first = has(first, TIME_FIRST_LABELS) && has(first + 1, FROM_LABELS);
    if !has(first, FROM_LABELS) && !time_first {
        return false;
    }
    let mut others = 0;
    let mut dated = time_first && has_date_or_time(lines.get(first));
    for next in first + 1..(first + 1 + BLOCK_LINES).min(lines.len()) {
        if has(next, OTHER_LABELS) {
            others += 1;
            dated |= has_date_or_time(lines.get(next));
        }
    }
    others >= 2 && dated
}

/// Returns the word before a line's colon, without the asterisks of bold text.
fn label(line: &str) -> Option<&str> {
    const LONGEST_LABEL: usize = 24;
    let line = line.trim_start_matches('*');
    let colon = line.bytes().take(LONGEST_LABEL).position(|b| b == b':')?;
    Some(line[..colon].trim_matches(|c: char| c == '*' || c.is_whitespace()))
}

/// First words of an attribution, in lower case, and the words of which one must end it (an empty list: any ending).
const ATTRIBUTIONS: &[(&str, &[&str])] = &[
    ("on ", &["wrote:", "writes:", "schrieb:"]),
    ("am ", &["schrieb", "geschrieben:"]),
    ("le ", &["a écrit", "écrit :", "écrit:"]),
    ("el ", &["escribió", "escribio", "va escriure"]),
    ("il ", &["ha scritto"]),
    ("op ", &["schreef", "geschreven:"]),
    ("em ", &["escreveu"]),
    ("às ", &["escreveu"]),
    ("den ", &["skrev"]),
    ("w dniu ", &["pisze:", "napisał"]),
    ("dnia ", &["pisze:", "napisał"]),
];

/// Lines that state an author and a date.
struct Attribution {
    /// The line below it.
    after: usize,
    /// Whether it contains an address, or a time of day and a year: programs write these, people do not.
    sure: bool,
}

/// Returns the attribution that begins at `index`.
fn attribution(lines: &Lines<'_>, index: usize) -> Option<Attribution> {
    let first = lines.get(index);
    let known = ATTRIBUTIONS
        .iter()
        .find(|(words, _)| starts_with(first, words));
    if let Some((_, endings)) = known {
        let mut joined = String::new();
        for next in index..(index + ATTRIBUTION_LINES).min(lines.len()) {
            let line = lines.get(next);
            if line.is_empty() || line.starts_with('>') || joined.len() + line.len() > LONGEST_LINE
            {
                break;
            }
            joined.push_str(line);
            joined.push(' ');
            if line.ends_with(':') && has_digit(&joined) {
                let words = joined.to_lowercase();
                if endings.iter().any(|ending| words.contains(ending)) {
                    return Some(Attribution {
                        after: next + 1,
                        sure: joined.contains('@')
                            || has_date_or_time(&joined) && has_year(&joined),
                    });
                }
            }
        }
    }
    // `2024-05-01 12:00 GMT+02:00 Name <a@b>:` and `Name <a@b> wrote:` in any language, if quotes follow directly. A
    // long one is wrapped before the address.
    let (line, after) = if first.ends_with('<') {
        (
            Cow::Owned(format!("{first}{}", lines.get(index + 1))),
            index + 2,
        )
    } else {
        (Cow::Borrowed(first), index + 1)
    };
    let dated = |line: &str| has_digit(line) || line.contains("wrote") || line.contains("schrieb");
    if line.ends_with(':') && line.contains('@') && dated(&line) {
        let next = lines.next_full(after)?;
        if next <= after + 1 && lines.is_quoted(next) {
            return Some(Attribution { after, sure: true });
        }
    }
    None
}

/// Lines that phones and apps add below a mail, alone after a blank line, in lower case.
const DEVICE: &[&str] = &[
    "sent from my ",
    "sent from mail for windows",
    "sent from outlook",
    "sent from yahoo mail",
    "sent with proton",
    "sent via ",
    "get outlook for ",
    "get bluemail for ",
    "yahoo mail: search, organize",
    "diese nachricht wurde von meinem ",
    "von meinem ",
    "von meinem/meiner ",
    "gesendet von ",
    "gesendet mit ",
    "outlook für ",
    "holen sie sich outlook",
    "envoyé de mon ",
    "envoyé depuis ",
    "envoyé à partir de ",
    "télécharger outlook",
    "provenance : courrier pour ",
    "enviado desde ",
    "enviado do meu ",
    "enviado a partir do ",
    "obter o outlook para ",
    "obtener outlook para ",
    "inviato da ",
    "inviato dal mio ",
    "invia da outlook",
    "scarica outlook",
    "ottieni outlook",
    "verstuurd vanaf ",
    "verzonden vanaf ",
    "verzonden met ",
    "outlook voor ",
    "download outlook voor ",
    "skickat från min ",
    "hämta outlook för ",
    "sendt fra min ",
    "wysłane z ",
    "pobierz program outlook ",
    "odesláno z ",
    "lähetetty iphone",
    "отправлено с iphone",
];

fn is_device_line(line: &str) -> bool {
    line.len() <= 160 && starts_with_any(line, DEVICE)
}

/// Returns whether a text contains `9:30`, `9.30`, `9h30`, or a date in digits.
fn has_date_or_time(text: &str) -> bool {
    text.as_bytes().windows(3).any(|w| {
        w[0].is_ascii_digit()
            && matches!(w[1], b':' | b'.' | b'h' | b'/' | b'-')
            && w[2].is_ascii_digit()
    })
}

fn has_year(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_digit())
        .any(|number| number.len() == 4)
}

fn has_digit(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::new_words;

    #[test]
    fn plain_text_is_kept_whole() {
        for text in [
            "Hello,\n\nthe printer is broken.\n\nAnna",
            "> net use shows nothing\nany idea?",
            "From: the cellar\nto the roof, all is wet",
            "On Monday I wrote:\nnothing came back",
            "--\nall below the line",
            "> only a quote",
        ] {
            assert_eq!(new_words(text, "x", false), text);
        }
        assert_eq!(new_words("  \n", "x", false), "");
    }

    #[test]
    fn long_odd_texts_take_linear_time() {
        for line in [
            "On ",
            "On 1 wrote\n",
            ">\n",
            "From: \n",
            "--\n",
            "-----\n",
            "> >",
            "a:",
        ] {
            let text = line.repeat(1_000_000 / line.len());
            let started = std::time::Instant::now();
            new_words(&text, "Re: x", true);
            // Far below the time of quadratic work, even without optimisation on a busy machine.
            assert!(started.elapsed().as_secs() < 20, "{line:?}");
        }
    }
}
