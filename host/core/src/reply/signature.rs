//! Signatures, the lines that phones and apps add, and disclaimers: what stands below the words of a mail.

use super::Lines;
use super::labels::{is_rule, labelled};
use super::stamp::{Stamp, is_digit};
use crate::fold::starts_with_any;

/// The most lines of a signature; a longer one is kept as text.
const SIGNATURE_LINES: usize = 30;
/// The same limit after a delimiter that lost its trailing space.
const DOUBTFUL_SIGNATURE_LINES: usize = 12;
/// The longest line that a phone or an app adds, in bytes, without its links.
const DEVICE_BYTES: usize = 160;
/// The most words of such a line.
const DEVICE_WORDS: usize = 12;
/// The most words of such a line that names an app which is not listed.
const APP_WORDS: usize = 6;
/// The fewest bytes of a disclaimer; a shorter one may be the sender's own words.
const DISCLAIMER_BYTES: usize = 120;

/// Removes, from the end of the kept lines, a signature, the lines of devices and disclaimers that are certainly none of the
/// sender's words. Keeps everything if nothing else would be left.
pub(super) fn cut(lines: &Lines<'_>, kept: &mut Vec<usize>) {
    let before = kept.clone();
    trim_blank(lines, kept);
    if let Some(at) = delimited(lines, kept) {
        kept.truncate(at);
    }
    // A disclaimer may stand below the line of an app, and the other way round.
    for _ in 0..3 {
        trim_blank(lines, kept);
        let at = disclaimer(lines, kept).or_else(|| device(lines, kept));
        match at {
            Some(at) => kept.truncate(at),
            None => break,
        }
    }
    trim_blank(lines, kept);
    if kept.is_empty() {
        *kept = before;
    }
}

fn trim_blank(lines: &Lines<'_>, kept: &mut Vec<usize>) {
    while kept
        .last()
        .is_some_and(|index| lines.get(*index).is_empty())
    {
        kept.pop();
    }
}

/// Returns the position of the delimiter of RFC 3676 section 4.3. Many mailers lose its trailing space; then it must be the
/// only such line.
fn delimited(lines: &Lines<'_>, kept: &[usize]) -> Option<usize> {
    let below = |at: usize| kept.len() - at - 1;
    let exact = kept.iter().position(|index| lines.raw(*index) == "-- ");
    if let Some(at) = exact.filter(|at| below(*at) <= SIGNATURE_LINES) {
        return Some(at);
    }
    let mut bare = kept
        .iter()
        .enumerate()
        .filter(|(_, index)| matches!(lines.raw(**index), "--" | "--\u{a0}"));
    match (bare.next(), bare.next()) {
        (Some((at, _)), None) if below(at) <= DOUBTFUL_SIGNATURE_LINES => {
            (!is_report(lines, &kept[at + 1..])).then_some(at)
        }
        _ => None,
    }
}

/// Returns whether the lines state results, as below a divider in the report of a program: labelled values that are no ways to
/// reach a person.
fn is_report(lines: &Lines<'_>, below: &[usize]) -> bool {
    const PHONE_DIGITS: usize = 7;
    let results = below.iter().filter(|index| {
        labelled(lines.get(**index)).is_some_and(|(_, value)| {
            let digits = value.chars().filter(|c| is_digit(*c)).count();
            let reaches = value.contains(['@', '+']) || value.contains("www.");
            Stamp::of(value).is_any() || !reaches && digits < PHONE_DIGITS
        })
    });
    results.count() >= 2
}

/// Returns the position of the last line if a phone or an app added it.
fn device(lines: &Lines<'_>, kept: &[usize]) -> Option<usize> {
    let last = kept.len().checked_sub(1)?;
    let line = without_links(lines.get(kept[last]));
    let stands_alone = last == 0 || lines.get(kept[last - 1]).is_empty();
    // Right below the words it may be the rest of a sentence.
    let is_sentence =
        line.starts_with(char::is_lowercase) || line.ends_with('.') && !is_sent_from(&line);
    if is_device_line(&line) && (stands_alone || names_product(&line) && !is_sentence) {
        return Some(last);
    }
    // The line may be wrapped before the link or the name of the app.
    if !stands_alone && (last == 1 || lines.get(kept[last - 2]).is_empty()) {
        let joined = format!("{} {line}", without_links(lines.get(kept[last - 1])));
        if is_device_line(&joined) && names_product(&joined) {
            return Some(last - 1);
        }
    }
    None
}

fn is_device_line(line: &str) -> bool {
    if line.len() > DEVICE_BYTES || line.split_whitespace().count() > DEVICE_WORDS {
        return false;
    }
    let short = line.split_whitespace().count() <= APP_WORDS && !line.ends_with('?');
    starts_with_any(line, DEVICE)
        || names_product(line) && is_sent_from(line)
        || short && starts_with_any(line, SENT_FROM)
}

/// Returns whether a line begins or ends with the words for "sent from" of some language.
fn is_sent_from(line: &str) -> bool {
    let line = line.trim_matches(|c: char| c.is_whitespace() || "-–—_*<>|.".contains(c));
    if starts_with_any(line, SENT) {
        return true;
    }
    let lower = line.to_lowercase();
    SENT_AT_END
        .iter()
        .any(|(start, end)| lower.ends_with(end) && (start.is_empty() || lower.starts_with(start)))
}

fn names_product(line: &str) -> bool {
    let lower = line.to_lowercase();
    PRODUCTS.iter().any(|product| lower.contains(product))
}

/// Returns a line without `<url>`, `(url)`, `[url]` and bare URLs.
fn without_links(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("http") {
        let (before, link) = rest.split_at(at);
        let end = link
            .find(|c: char| c.is_whitespace() || ">)]".contains(c))
            .unwrap_or(link.len());
        if !link.starts_with("http://") && !link.starts_with("https://") {
            out.push_str(before);
            out.push_str("http");
            rest = &link[4..];
            continue;
        }
        out.push_str(before.trim_end_matches(['<', '(', '[', ' ']));
        out.push(' ');
        rest = link[end..].trim_start_matches(['>', ')', ']', ' ']);
    }
    out.push_str(rest);
    out.trim().trim_matches(['*', '_']).trim().to_owned()
}

/// Returns the position of a rule with nothing below it but a disclaimer.
fn disclaimer(lines: &Lines<'_>, kept: &[usize]) -> Option<usize> {
    let tail = kept.len().saturating_sub(SIGNATURE_LINES);
    let at = kept[tail..]
        .iter()
        .rposition(|index| is_rule(lines.get(*index)))?
        + tail;
    // The rule may also stand below it.
    let (at, below) = match kept.len() - at {
        1 => {
            let opening = kept[tail..at]
                .iter()
                .rposition(|index| is_rule(lines.get(*index)))?
                + tail;
            (opening, &kept[opening + 1..at])
        }
        _ => (at, &kept[at + 1..]),
    };
    let mut text = String::new();
    for index in below {
        text.push_str(lines.get(*index));
        text.push(' ');
    }
    let lower = text.to_lowercase();
    let is_one = text.len() >= DISCLAIMER_BYTES && !text.contains('?');
    (is_one && DISCLAIMERS.iter().any(|words| lower.contains(words))).then_some(at)
}

/// Lines that phones and apps add below a mail, alone after a blank line, in lower case.
#[rustfmt::skip]
const DEVICE: &[&str] = &[
    "sent from my ", "sent from mail for windows", "sent from mail", "sent from outlook", "sent from yahoo mail", "sent with proton", "sent via ", "get outlook for ",
    "get bluemail for ", "yahoo mail: search, organize", "diese nachricht wurde von meinem ", "von meinem ", "von meinem/meiner ", "gesendet von ",
    "gesendet mit ", "von unterwegs gesendet", "outlook für ", "holen sie sich outlook", "envoyé de mon ", "envoyé depuis ", "envoyé à partir de ", "télécharger outlook",
    "obtenez outlook", "provenance : courrier pour ", "enviado desde ", "enviado do meu ", "enviado a partir do ", "obter o outlook para ", "obtener outlook para ",
    "obtenha o outlook para ", "inviato da ", "inviato dal mio ", "invia da outlook", "scarica outlook", "ottieni outlook", "verstuurd vanaf ", "verzonden vanaf ",
    "verzonden met ", "outlook voor ", "download outlook voor ", "skickat från min ", "hämta outlook för ", "hent outlook til ", "sendt fra min ", "wysłane z ",
    "pobierz program outlook ", "odesláno z ", "získejte outlook", "hanki outlook", "lähetetty iphone", "отправлено с iphone", "скачайте outlook", "descărcați outlook", "outlook letöltése",
    "获取 outlook", "下載 outlook", "下载 outlook", "取得 outlook", "outlook を入手", "outlook for ios を入手", "outlook 다운로드", "发自我的", "發自我的", "从我的", "寄自我的", "來自我的",
];

/// Names of devices and apps, in lower case.
#[rustfmt::skip]
const PRODUCTS: &[&str] = &[
    "iphon", "ipad", "ipod", "apple watch", "macbook", "айфон", "айпад", "android", "андроид", "samsung", "galaxy", "blackberry", "huawei", "honor", "xiaomi", "redmi", "oneplus", "pixel", "nokia",
    "sony", "xperia", "htc", "motorola", "lumia", "windows phone", "windows",
    "outlook", "mail.ru", "yandex", "яндекс", "yahoo", "gmail", "proton", "fairemail", "k-9", "aqua mail", "aquamail", "bluemail", "blue mail",
    "spark", "superhuman", "foxmail", "网易", "qq邮箱", "qq mail", "163", "thunderbird", "mailbird", "edison mail", "airmail", "newton", "canary", "gmx", "web.de", "t-online", "libero", "orange", "zimbra", "hcl verse",
    "smartphone", "mobile", "tablet", "handy", "telefon", "téléphone", "teléfono", "telefone", "telefono", "mobiel", "mobil", "puhelim", "telefonu", "телефон", "手机", "手機", "휴대폰", "휴대전화", "mi phone", "vivo", "oppo",
    "τηλέφωνο", "κινητό", "הטלפון", "האייפון", "אייפון", "الهاتف", "جوال", "آیفون", "گوشی", "โทรศัพท์", "điện thoại", "ponsel", "ヤフー", "スマートフォン", "携帯",
];

/// First words of such lines, in lower case. One of the products must follow.
#[rustfmt::skip]
const SENT: &[&str] = &[
    "sent from ", "sent with ", "sent by ", "sent using ", "sent via ", "gesendet ", "versendet ", "verschickt ", "envoyé ", "enviado ", "enviat ", "inviato ", "inviata ", "verzonden ", "verstuurd ",
    "skickat ", "skickades ", "sendt ", "lähetetty ", "sent úr ", "sent frá ", "saadetud ", "nosūtīts ", "sūtīts ", "išsiųsta ", "siųsta ", "wysłano ", "wysłane ", "odesláno ", "poslané ", "odoslané ", "posláno ",
    "poslano ", "poslato ", "послато ", "elküldve ", "küldve ", "trimis ", "expediat ", "изпратено ", "отправлено ", "послано ", "надіслано ", "відправлено ", "στάλθηκε ", "εστάλη ", "απεστάλη ",
    "נשלח ", "أُرسلت ", "أرسلت ", "أُرسل ", "أرسل ", "تم الإرسال ", "مرسل ", "مُرسل ", "ارسال شده ", "ارسال از ", "فرستاده شده ", "发自", "發自", "来自", "來自", "从我", "從我", "寄自", "傳送自", "发送自", "由我的",
    "ส่งจาก", "đã gửi ", "được gửi ", "gửi từ ", "dikirim ", "terkirim ", "dihantar ", "나의 ", "내 ",
];

/// First words of such lines that need no product, if the line is short, in lower case.
#[rustfmt::skip]
const SENT_FROM: &[&str] = &[
    "sent from ", "sent using ", "gesendet aus ", "gesendet über ", "gesendet via ", "envoyé avec ", "envoyé via ", "enviado con ", "enviado com ", "enviado via ", "inviato con ", "inviato tramite ",
    "verzonden vanuit ", "verstuurd via ", "skickat från ", "skickades från ", "sendt fra ", "lähetetty laitteesta", "wysłano z ", "odoslané z ", "poslané z ", "отправлено из ", "отправлено с ", "отправлено через ",
    "надіслано з ", "надіслано із ", "відправлено з ", "στάλθηκε από ", "εστάλη από ", "trimis din ", "trimis de pe ", "изпратено от ", "изпратено чрез ", "poslano iz ", "poslano s ", "poslano z ", "poslato sa ", "послато са ",
    "saadetud minu ", "nosūtīts no ", "išsiųsta iš ", "dikirim dari ", "đã gửi từ ", "được gửi từ ", "gửi từ ", "ส่งจาก", "נשלח מ", "أُرسلت من ", "أرسلت من ", "أُرسل من ", "مرسل من ", "ارسال شده از ",
];

/// The first and last words of such lines in languages whose verb ends them, in lower case.
#[rustfmt::skip]
const SENT_AT_END: &[(&str, &str)] = &[
    ("von ", " gesendet"), ("von ", " geschickt"), ("vom ", " gesendet"), ("diese", " gesendet"), ("diese", " verschickt"), ("mit ", " gesendet"), ("", "gönderildi"), ("", "gönderilmiştir"), ("", "から送信"), ("", "から送信されました"),
    ("", "から送信しています"), ("", "より送信"), ("", "で送信"), ("", "에서 보냄"), ("", "에서 보냈습니다"), ("", "에서 발송"), ("", "에서 전송"), ("", "에서 보낸 메일"), ("", "发送"), ("", "傳送"), ("", "發送"), ("", " küldve"), ("", " küldtem"), ("", " küldött üzenet"),
    ("vanaf ", " verzonden"), ("vanaf ", " verstuurd"), ("از ", " ارسال شد"), ("از ", " فرستاده شد"), ("mana", " nosūtīts"),
];

/// Words of disclaimers, in lower case.
#[rustfmt::skip]
const DISCLAIMERS: &[&str] = &[
    "confidential", "intended recipient", "intended solely", "privileged", "vertraulich", "bestimmungsgemäß", "rechtlich geschützt", "confidentiel", "confidencial", "riservat", "vertrouwelijk",
    "konfidentiell", "fortrolig", "luottamuksellinen", "konfidentsiaal", "konfidenciāl", "konfidencial", "poufn", "důvěrn", "dôvern", "zaupn", "povjerljiv", "poverljiv", "поверљив", "bizalmas",
    "confidenț", "поверителн", "конфиденциальн", "конфіденційн", "εμπιστευτικ", "gizli", "חסוי", "سرية", "محرمانه", "保密", "机密", "機密", "기밀", "เป็นความลับ", "bảo mật", "rahasia",
];

#[cfg(test)]
mod tests {
    use super::{is_device_line, without_links};

    #[test]
    fn lines_of_devices_in_many_languages() {
        for line in [
            "Sent from my iPhone",
            "Sent from Mail<https://go.microsoft.com/fwlink/?LinkId=550986> for Windows 10",
            "Sent from Samsung tablet.",
            "Get Outlook for iOS<https://aka.ms/o0ukef>",
            "Von meinem iPhone gesendet",
            "Envoyé de mon iPhone",
            "Enviado desde mi iPhone",
            "Enviado do meu iPhone",
            "Inviato da iPhone",
            "Verstuurd vanaf mijn iPhone",
            "Skickat från min iPhone",
            "Sendt fra min iPhone",
            "Lähetetty iPhonesta",
            "Sent úr iPhone-símanum mínum",
            "Saadetud minu iPhone'ist",
            "Nosūtīts no mana iPhone",
            "Išsiųsta iš mano „iPhone“",
            "Wysłane z iPhone'a",
            "Odesláno z iPhonu",
            "Odoslané z iPhonu",
            "Poslano iz iPhone-a",
            "Poslano s mog iPhone uređaja",
            "Poslato sa iPhone-a",
            "iPhone-omról küldve",
            "Trimis de pe iPhone",
            "Изпратено от моя iPhone",
            "Отправлено с iPhone",
            "Надіслано з iPhone",
            "Στάλθηκε από το iPhone μου",
            "iPhone'umdan gönderildi",
            "נשלח מה-iPhone שלי",
            "أُرسلت من الـ iPhone",
            "ارسال شده از iPhone من",
            "发自我的iPhone",
            "從我的 iPhone 傳送",
            "iPhoneから送信",
            "나의 iPhone에서 보냄",
            "ส่งจาก iPhone ของฉัน",
            "Đã gửi từ iPhone của tôi",
            "Dikirim dari iPhone saya",
            "Отправлено из мобильной Почты Mail.ru",
            "Envoyé à partir de Courrier pour Windows 10",
            "Provenance : Courrier<https://go.microsoft.com/fwlink/?LinkId=550986> pour Windows",
            "Enviado desde Correo para Windows 10",
            "Verzonden vanuit Mail<https://go.microsoft.com/fwlink/?LinkId=550986> voor Windows",
            "Wysłano z aplikacji Poczta systemu Windows 10",
            "Отправлено из Почты для Windows 10",
            "Skickades från E-post för Windows 10",
            "从 Windows 版邮件发送",
            "Windows 版のメールから送信",
            "Sent via the Samsung Galaxy S24, an AT&T 5G smartphone",
            "Wysłane z urządzenia Galaxy",
            "Samsung cihazımdan gönderildi",
            "Sent from Workspace ONE Boxer",
            "Sent from Nine<http://www.9folders.com/>",
            "Sent via Superhuman ( https://sprh.mn/?vip=x )",
        ] {
            assert!(is_device_line(&without_links(line)), "{line}");
        }
    }

    #[test]
    fn people_write_about_their_devices() {
        for line in [
            "My iPhone does not ring any more.",
            "Outlook hat nichts gesendet",
            "The fax was sent on Monday.",
            "Gesendet wurde nichts.",
            "Sent from the scanner yesterday, but nothing arrived here.",
            "We use Windows and Outlook.",
            "Is it the iPhone or the tablet?",
            "Nothing is sent from the scanner in hall 3, and I need it today for the delivery",
        ] {
            assert!(!is_device_line(&without_links(line)), "{line}");
        }
    }
}
