//! Header blocks: the `From:`, `Sent:`, `To:` and `Subject:` lines that mailers write above a mail that they quote or forward.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::people::People;
use super::phrases::between_dashes;
use super::stamp::{Stamp, is_digit};
use super::{LONGEST_LINE, Lines};
use crate::fold::folded;

/// The most lines of a header block, wrapped recipients included.
const BLOCK_LINES: usize = 14;
/// The most labels of a header block that are read.
const BLOCK_LABELS: usize = 9;
/// The most lines in a row that continue the value above them.
const CONTINUATIONS: usize = 3;
/// The longest label, in bytes. Labels of Thai and Greek take up to three bytes a character.
const LABEL_BYTES: usize = 60;
/// The score from which labelled lines are a header block.
const ENOUGH: u32 = 6;

/// The meaning of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    From,
    Date,
    To,
    Cc,
    Subject,
}

/// A line `label: value` of a header block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `None` if the label is in a language that is not listed.
    pub role: Option<Role>,
    /// Unfolded.
    pub value: String,
    pub stamp: Stamp,
}

/// A header block and the lines around it that belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub entries: Vec<Entry>,
    /// The language of most labels, as an ISO 639-1 code.
    pub language: Option<&'static str>,
    /// The first line below it.
    pub after: usize,
    score: u32,
}

impl Block {
    pub fn is_certain(&self) -> bool {
        self.score >= ENOUGH
    }

    pub fn first(&self, role: Role) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.role == Some(role))
    }
}

/// The labels of one language, in lower case.
struct Language {
    code: &'static str,
    from: &'static [&'static str],
    date: &'static [&'static str],
    to: &'static [&'static str],
    cc: &'static [&'static str],
    subject: &'static [&'static str],
}

macro_rules! language {
    ($code:literal: $from:tt, $date:tt, $to:tt, $cc:tt, $subject:tt) => {
        Language {
            code: $code,
            from: &$from,
            date: &$date,
            to: &$to,
            cc: &$cc,
            subject: &$subject,
        }
    };
}

#[rustfmt::skip]
const LANGUAGES: &[Language] = &[
    language!("en": ["from"], ["sent", "date", "sent at", "sent on"], ["to"], ["cc", "bcc", "reply-to", "importance", "attachments", "organization"], ["subject"]),
    language!("de": ["von", "absender"], ["gesendet", "datum", "gesendet am", "verschickt"], ["an", "empfänger"], ["kopie", "cc", "antwort an", "wichtigkeit"], ["betreff"]),
    language!("fr": ["de", "expéditeur"], ["envoyé", "date", "date d'envoi", "date d’envoi", "envoyé le"], ["à", "a", "pour", "destinataire"], ["copie à", "copie", "cc"], ["objet", "sujet"]),
    language!("es": ["de", "desde", "remitente"], ["enviado", "enviado el", "fecha", "enviados", "fecha de envío"], ["para", "a", "destinatario"], ["cc", "con copia"], ["asunto"]),
    language!("pt": ["de", "remetente"], ["enviada em", "enviado em", "enviado", "enviada", "data", "data de envio"], ["para", "destinatário"], ["cc", "c/c"], ["assunto"]),
    language!("ca": ["de"], ["enviat", "enviat el", "data"], ["per a", "per", "a"], ["a/c", "cc"], ["assumpte", "tema"]),
    language!("it": ["da", "mittente"], ["inviato", "data", "inviata", "data invio", "inviato il"], ["a", "per", "destinatario"], ["cc", "copia"], ["oggetto"]),
    language!("nl": ["van", "afzender"], ["verzonden", "datum", "verstuurd", "verzonden op"], ["aan"], ["cc", "kopie"], ["onderwerp"]),
    language!("sv": ["från", "avsändare"], ["skickat", "datum", "skickades"], ["till"], ["kopia", "cc"], ["ämne"]),
    language!("da": ["fra", "afsender", "avsender"], ["sendt", "dato"], ["til"], ["kopi", "cc"], ["emne"]),
    language!("fi": ["lähettäjä"], ["lähetetty", "päivämäärä", "päiväys", "pvm"], ["vastaanottaja", "kenelle"], ["kopio", "cc"], ["aihe"]),
    language!("is": ["frá", "sendandi"], ["sent", "dagsetning", "dags"], ["til", "viðtakandi"], ["afrit"], ["efni"]),
    language!("et": ["saatja", "kellelt"], ["saadetud", "kuupäev", "saatmisaeg", "saatmiskuupäev"], ["adressaat", "saaja", "kellele"], ["koopia"], ["teema"]),
    language!("lv": ["no", "sūtītājs"], ["nosūtīts", "datums", "nosūtīšanas laiks", "nosūtīšanas datums"], ["kam", "adresāts", "saņēmējs"], ["kopija"], ["temats", "tēma"]),
    language!("lt": ["nuo", "siuntėjas"], ["išsiųsta", "data", "išsiuntimo data", "siuntimo data"], ["kam", "iki", "gavėjas"], ["kopija"], ["tema"]),
    language!("pl": ["od", "nadawca"], ["wysłano", "data", "wysłane", "data wysłania"], ["do", "adresat"], ["dw", "kopia"], ["temat"]),
    language!("cs": ["od", "odesílatel"], ["odesláno", "datum", "odesláno dne"], ["komu", "pro"], ["kopie"], ["předmět"]),
    language!("sk": ["od", "odosielateľ"], ["odoslané", "odoslaná", "dátum"], ["komu", "pre"], ["kópia"], ["predmet"]),
    language!("sl": ["od", "pošiljatelj"], ["poslano", "datum"], ["za", "komu"], ["kp", "kopija"], ["zadeva"]),
    language!("hr": ["od", "šalje", "pošiljatelj"], ["poslano", "datum"], ["za", "prima", "primatelj"], ["kopija", "kp"], ["predmet", "naslov"]),
    language!("sr": ["od", "šalje", "од", "шаље"], ["poslato", "datum", "послато", "датум"], ["za", "prima", "за", "прима"], ["kopija", "копија", "cc"], ["naslov", "tema", "predmet", "наслов", "тема"]),
    language!("hu": ["feladó", "küldő"], ["elküldve", "dátum", "küldve"], ["címzett"], ["másolatot kap", "másolat"], ["tárgy"]),
    language!("ro": ["de la", "expeditor", "de"], ["trimis", "data", "dată", "trimis la", "trimisă"], ["către", "pentru", "la", "destinatar"], ["cc"], ["subiect"]),
    language!("bg": ["от", "подател"], ["изпратено", "дата", "изпратен"], ["до", "получател"], ["копие", "як"], ["относно", "тема"]),
    language!("ru": ["от", "от кого", "отправитель"], ["отправлено", "дата", "дата отправки", "отправлен"], ["кому", "получатель"], ["копия"], ["тема"]),
    language!("uk": ["від", "від кого", "відправник"], ["надіслано", "дата", "відправлено"], ["кому", "до"], ["копія"], ["тема"]),
    language!("el": ["από", "αποστολέας"], ["στάλθηκε", "ημερομηνία", "εστάλη", "απεστάλη"], ["προς", "παραλήπτης"], ["κοιν", "κοιν.", "κοινοποίηση"], ["θέμα"]),
    language!("tr": ["kimden", "gönderen"], ["gönderildi", "tarih", "gönderilme tarihi", "gönderme tarihi"], ["kime", "alıcı"], ["bilgi", "cc"], ["konu"]),
    language!("he": ["מאת", "מ"], ["נשלח", "תאריך", "נשלח ב"], ["אל", "ל"], ["עותק", "העתק"], ["נושא"]),
    language!("ar": ["من", "المرسل"], ["تم الإرسال", "التاريخ", "تاريخ الإرسال", "تاريخ", "أُرسلت", "مرسل", "أرسلت"], ["إلى", "الى", "المستلم"], ["نسخة", "نسخة إلى"], ["الموضوع", "موضوع"]),
    language!("fa": ["از", "فرستنده"], ["ارسال شده", "تاریخ", "ارسال", "ارسال‌شده"], ["به", "گیرنده"], ["رونوشت", "کپی"], ["موضوع"]),
    language!("zh": ["发件人", "寄件人", "发送人", "寄件者", "發件人", "傳送者"], ["发送时间", "日期", "发送日期", "时间", "寄件日期", "傳送時間", "傳送日期", "發送時間", "时间戳"], ["收件人", "收件者"], ["抄送", "副本", "抄送人"], ["主题", "主旨", "主題"]),
    language!("ja": ["差出人", "送信者", "送信元"], ["送信日時", "日時", "日付", "送信日", "送信"], ["宛先", "受信者"], ["写し", "cc"], ["件名", "題名"]),
    language!("ko": ["보낸 사람", "보낸사람", "발신", "보낸이", "발신자"], ["보낸 날짜", "날짜", "보낸날짜", "보낸 시간", "일시"], ["받는 사람", "받는사람", "수신", "수신자"], ["참조"], ["제목"]),
    language!("th": ["จาก", "ผู้ส่ง"], ["ส่ง", "วันที่", "ส่งเมื่อ", "วันที่ส่ง"], ["ถึง", "ผู้รับ"], ["สำเนา", "สำเนาถึง", "สําเนา"], ["เรื่อง", "หัวเรื่อง", "หัวข้อ"]),
    language!("vi": ["từ", "người gửi"], ["đã gửi", "ngày", "ngày gửi", "gửi", "vào lúc"], ["đến", "tới", "người nhận"], ["đồng gửi", "cc"], ["chủ đề", "tiêu đề"]),
    language!("id": ["dari", "pengirim", "daripada"], ["dikirim", "tanggal", "terkirim", "dihantar", "tarikh"], ["kepada", "ke", "untuk"], ["tembusan", "cc"], ["subjek", "perihal", "judul", "hal"]),
];

/// Each label in lower case, with the languages in which it stands for something, in the order of [`LANGUAGES`].
static LABELS: LazyLock<HashMap<&'static str, Vec<(usize, Role)>>> = LazyLock::new(|| {
    let mut labels: HashMap<_, Vec<_>> = HashMap::new();
    for (number, language) in LANGUAGES.iter().enumerate() {
        for (role, known) in [
            (Role::From, language.from),
            (Role::Date, language.date),
            (Role::To, language.to),
            (Role::Cc, language.cc),
            (Role::Subject, language.subject),
        ] {
            for label in known {
                labels.entry(*label).or_default().push((number, role));
            }
        }
    }
    labels
});

/// Returns the header block that begins at a line, whatever its language. `ruled` means that a line such as
/// `-----Original Message-----` stands above it. Its labels alone never suffice: it needs a date or a time of day.
pub(crate) fn block(
    lines: &Lines<'_>,
    first: usize,
    ruled: bool,
    people: &People<'_>,
) -> Option<Block> {
    let (label, value) = labelled(lines.get(first))?;
    // Most labelled lines end here, so that a text full of them is read in linear time.
    let above = first.checked_sub(1).map_or("", |at| lines.get(at));
    let begins = ruled || above.is_empty() || is_rule(above) || between_dashes(above).is_some();
    let mut window = first..(first + BLOCK_LABELS).min(lines.len());
    if !window.any(|at| lines.get(at).contains(is_digit))
        || !begins && meanings(label).is_empty()
        || !lines.may_hold_a_block()
    {
        return None;
    }
    let mut labels = vec![label];
    let mut values = vec![value.to_owned()];
    let mut after = first + 1;
    let mut next = first + 1;
    let mut continued = 0;
    while next < lines.len().min(first + BLOCK_LINES) && labels.len() < BLOCK_LABELS {
        let line = lines.get(next);
        if line.is_empty() {
            // Mailers that turn HTML into text may leave a blank line between the labels.
            let known = |at: usize| {
                labelled(lines.get(at)).is_some_and(|(label, _)| !meanings(label).is_empty())
            };
            if next + 1 < lines.len() && known(next + 1) && known(next - 1) {
                next += 1;
                continue;
            }
            break;
        }
        if line.starts_with('>') || line.len() > LONGEST_LINE {
            break;
        }
        match labelled(line) {
            Some((label, value)) => {
                labels.push(label);
                values.push(value.to_owned());
                continued = 0;
            }
            None => {
                continued += 1;
                if continued > CONTINUATIONS {
                    break;
                }
                if let Some(value) = values.last_mut() {
                    value.push(' ');
                    value.push_str(line.trim_matches(is_dress));
                }
            }
        }
        next += 1;
        after = next;
    }
    if labels.len() < 2 {
        return None;
    }
    let stamps: Vec<Stamp> = values.iter().map(|value| Stamp::of(value)).collect();
    if !stamps.iter().any(|stamp| stamp.is_any()) {
        return None;
    }
    let meanings: Vec<&[(usize, Role)]> = labels.iter().map(|label| meanings(label)).collect();
    let language = most_fitting(&meanings);
    let role = |of: &[(usize, Role)]| {
        let own = of.iter().find(|(number, _)| Some(*number) == language);
        own.or(of.first()).map(|(_, role)| *role)
    };
    let entries: Vec<Entry> = meanings
        .iter()
        .zip(values.iter().zip(stamps))
        .map(|(of, (value, stamp))| Entry {
            role: role(of),
            stamp,
            value: value.trim().to_owned(),
        })
        .collect();
    let states_sender = |entry: &Entry| entry.role == Some(Role::From);
    // The block begins at its own first label, not at a labelled line of the sender's above it.
    if entries[0].role.is_none() && entries.iter().any(states_sender) {
        return None;
    }
    let score = score(&entries, ruled, people);
    Some(Block {
        entries,
        language: language.map(|number| LANGUAGES[number].code),
        after,
        score,
    })
}

/// Weighs what speaks for a header block. Each part may also occur in a form that the sender filled in; together they do not.
fn score(entries: &[Entry], ruled: bool, people: &People<'_>) -> u32 {
    let dated = entries.iter().any(|it| it.stamp.is_date() && it.stamp.time)
        || entries
            .iter()
            .any(|it| it.role == Some(Role::Date) && (it.stamp.is_date() || it.stamp.time));
    if !dated {
        return 0;
    }
    let mut score = 2;
    let known = |role: Role| entries.iter().any(|it| it.role == Some(role));
    let roles = [Role::From, Role::Date, Role::To, Role::Cc, Role::Subject];
    let mut count = 0;
    for role in roles {
        count += u32::from(known(role));
    }
    score += match known(Role::From) {
        true => 1 + count,
        false => count.min(2),
    };
    if entries.iter().any(|it| people.is_subject(&it.value)) {
        score += 3;
    }
    if entries.iter().any(|it| people.names(&it.value)) {
        score += 2;
    } else if entries.iter().any(|it| it.value.contains('@')) {
        score += 1;
    }
    // People do not write the offset of a time zone.
    score += u32::from(entries.iter().any(|it| it.stamp.zone));
    score + u32::from(entries.len() >= 3) + 3 * u32::from(ruled)
}

/// Returns the label and the value of `label: value`, `*label:* value`, `| label | value |` and `label<TAB>value`.
pub(crate) fn labelled(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_matches(is_dress);
    let mut end = line.len().min(LABEL_BYTES);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    let at = line[..end].find([':', '：', '|', '\t'])?;
    let sign = line[at..].chars().next()?;
    let mut value = &line[at + sign.len_utf8()..];
    if sign == '\t' {
        value = value.trim_start_matches([':', '：']);
    }
    let label = line[..at].trim_matches(is_dress);
    let odd = |c: char| c.is_numeric() || "<>@/\\{}=;,\"#?!%&+[]".contains(c) && c != '/';
    if label.is_empty()
        || label.split_whitespace().count() > 4
        || label.contains(odd)
        || !label.contains(char::is_alphabetic)
        || value.starts_with("//")
    {
        return None;
    }
    Some((label, value.trim_matches(is_dress)))
}

/// Returns whether a character only dresses labels and values: spaces, bold marks, table borders, marks of direction.
pub(crate) fn is_dress(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '*' | '|' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{200b}'
        )
}

fn meanings(label: &str) -> &'static [(usize, Role)] {
    LABELS
        .get(folded(label).collect::<String>().as_str())
        .map_or(&[], Vec::as_slice)
}

/// Returns the language in which most of the labels mean something, if there are two. Of equals, the first in the list wins.
fn most_fitting(labels: &[&[(usize, Role)]]) -> Option<usize> {
    let mut fits = [0; LANGUAGES.len()];
    for (number, _) in labels.iter().copied().flatten() {
        fits[*number] += 1;
    }
    let most = *fits.iter().max()?;
    (most >= 2).then(|| fits.iter().position(|fit| *fit == most))?
}

/// Returns whether a line is nothing but a rule of `_`, `-`, `=` or `*`.
pub(crate) fn is_rule(line: &str) -> bool {
    line.len() >= 5
        && line
            .bytes()
            .all(|b| matches!(b, b'_' | b'-' | b'=' | b'*' | b' '))
        || line.chars().count() >= 5
            && line
                .chars()
                .all(|c| matches!(c, '—' | '─' | '―' | '═' | '＿'))
}
