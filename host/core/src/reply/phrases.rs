//! Words that mailers write around a quoted or forwarded mail. They help where the structure alone does not decide.

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::fold::{folded, starts_with_any};

/// Words between the dashes above a quoted mail, in lower case.
#[rustfmt::skip]
const ORIGINAL: &[&str] = &[
    "original message", "original appointment", "original", "original email", "original e-mail", "reply message",
    "ursprüngliche nachricht", "originalnachricht", "original-nachricht", "ursprünglicher termin", "antwort nachricht", "ursprüngliche mail",
    "message d'origine", "message d’origine", "message original", "message initial", "mensaje original", "missatge original",
    "messaggio originale", "messaggio original", "oorspronkelijk bericht", "origineel bericht", "mensagem original",
    "ursprungligt meddelande", "originalmeddelande", "oprindelig meddelelse", "original meddelelse", "opprinnelig melding",
    "alkuperäinen viesti", "upprunaleg skilaboð", "algne sõnum", "algsõnum", "sākotnējais ziņojums", "oriģinālais ziņojums",
    "pradinis laiškas", "originalus laiškas", "pradinis pranešimas", "wiadomość oryginalna", "oryginalna wiadomość", "pierwotna wiadomość",
    "původní zpráva", "původní e-mail", "pôvodná správa", "originalno sporočilo", "izvirno sporočilo", "izvorna poruka", "originalna poruka",
    "оригинална порука", "eredeti üzenet", "mesaj original", "mesajul original", "оригинално съобщение", "исходное сообщение",
    "оригинальное сообщение", "пересылаемое сообщение", "вихідне повідомлення", "оригінальне повідомлення", "αρχικό μήνυμα",
    "orijinal mesaj", "orijinal ileti", "özgün ileti", "הודעה מקורית", "ההודעה המקורית", "الرسالة الأصلية", "رسالة أصلية", "پیام اصلی",
    "原始邮件", "原邮件", "回复的原邮件", "原始郵件", "原始訊息", "原文", "元のメッセージ", "元メッセージ", "원본 메시지", "원본 메일", "원본메일",
    "ข้อความต้นฉบับ", "thư gốc", "tin nhắn gốc", "thư ban đầu", "pesan asli", "pesan asal", "mesej asal",
];

/// Words above a forwarded mail, in lower case.
#[rustfmt::skip]
const FORWARDED: &[&str] = &[
    "forwarded message", "forwarded mail", "forwarded by", "forwarded email", "forwarded e-mail", "forward", "forwarded",
    "weitergeleitete nachricht", "weitergeleitete e-mail", "weitergeleitet", "weiterleitung", "message transféré", "message transmis", "courriel transféré",
    "mensaje reenviado", "mensaje enviado", "missatge reenviat", "messaggio inoltrato", "doorgestuurd bericht", "mensagem encaminhada", "mensagem reencaminhada",
    "vidarebefordrat meddelande", "vidarebefordrat", "videresendt meddelelse", "videresendt besked", "videresendt melding", "videresendt",
    "välitetty viesti", "edelleenlähetetty viesti", "áframsend skilaboð", "framsendur póstur", "framsent", "edastatud kiri", "edastatud sõnum",
    "pārsūtīts ziņojums", "pārsūtītā ziņa", "persiųstas laiškas", "persiunčiamas laiškas", "persiųstas pranešimas",
    "wiadomość przekazana", "treść przekazanej wiadomości", "przekazana wiadomość", "wiadomość przesłana dalej", "přeposlaná zpráva", "předaná zpráva",
    "preposlaná správa", "posredovano sporočilo", "proslijeđena poruka", "prosleđena poruka", "прослеђена порука", "továbbított üzenet", "továbbított levél",
    "mesaj redirecționat", "mesaj redirectionat", "препратено съобщение", "пересылаемое сообщение", "пересланное сообщение", "перенаправленное сообщение",
    "конец пересылаемого сообщения", "переслане повідомлення", "пересланий лист", "προωθημένο μήνυμα", "iletilen mesaj", "iletilmiş mesaj", "yönlendirilen ileti", "iletilen ileti",
    "הודעה שהועברה", "הודעה מועברת", "رسالة معاد توجيهها", "رسالة محولة", "رسالة مُعاد توجيهها", "پیام هدایت‌شده", "پیام هدایت شده", "پیام باز ارسال شده",
    "转发的邮件", "转发邮件信息", "已转发邮件", "转发邮件", "轉寄的郵件", "已轉寄郵件", "轉寄郵件", "轉發的郵件", "転送メッセージ", "転送されたメッセージ", "転送メール",
    "전달된 메시지", "전달된 메일", "전달 메시지", "ข้อความที่ส่งต่อ", "จดหมายที่ส่งต่อ", "thư được chuyển tiếp", "thư đã chuyển tiếp", "tin nhắn được chuyển tiếp",
    "pesan terusan", "pesan yang diteruskan", "mesej dimajukan", "mesej yang dimajukan",
];

/// The line of Apple's mailers above a forwarded mail, in lower case.
#[rustfmt::skip]
const FORWARDED_APPLE: &[&str] = &[
    "begin forwarded message", "anfang der weitergeleiteten nachricht", "anfang der weitergeleiteten e-mail", "début du message transféré", "début du message réexpédié",
    "inicio del mensaje reenviado", "inici del missatge reenviat", "inizio messaggio inoltrato", "inizio del messaggio inoltrato", "begin doorgestuurd bericht",
    "início da mensagem encaminhada", "início da mensagem reencaminhada", "vidarebefordrat brev", "start på videresendt besked", "start på videresendt meddelelse",
    "videresendt melding", "start videresendt melding", "välitetty viesti alkaa", "välitetty viesti", "początek przekazywanej wiadomości", "začátek přeposílané zprávy",
    "začátek přeposlané zprávy", "začiatok preposlanej správy", "začetek posredovanega sporočila", "započinje proslijeđena poruka", "početak proslijeđene poruke",
    "továbbított levél kezdete", "începutul mesajului redirecționat", "începe mesajul redirecționat", "начало переадресованного сообщения", "начало пересылаемого сообщения",
    "початок листа, який пересилається", "початок переадресованого повідомлення", "начало на препратеното съобщение", "αρχή προωθημένου μηνύματος", "iletilen mesajın başlangıcı",
    "iletilmiş mesaj başlangıcı", "תחילת ההודעה שהועברה", "בתחילת ההודעה שהועברה", "بداية الرسالة المُعاد توجيهها", "بدء الرسالة المعاد توجيهها", "آغاز پیام هدایت‌شده",
    "以下是转发的邮件", "下面是被转发的邮件", "开始转发的邮件", "以下是轉寄的郵件", "開始轉寄郵件", "轉寄的郵件開始", "転送されたメッセージ", "전달된 메시지", "다음은 전달된 메시지입니다",
    "เริ่มข้อความที่ส่งต่อ", "bắt đầu thư được chuyển tiếp", "awal pesan terusan", "mulai pesan terusan", "mulai pesan yang diteruskan", "permulaan mesej dimajukan",
];

/// Verbs of attributions, in lower case.
#[rustfmt::skip]
const VERBS: &[&str] = &[
    "wrote", "writes", "schrieb", "geschrieben", "a écrit", "écrit", "escribió", "escribio", "ha escrito", "va escriure", "ha scritto", "scrive", "schreef",
    "geschreven", "escreveu", "skrev", "skreiv", "kirjoitti", "skrifaði", "ritaði", "kirjutas", "rakstīja", "rašė", "parašė", "napisał", "pisze", "napsal",
    "píše", "napísal", "napisal", "napisao", "pisao", "написао", "írta", "a scris", "scris", "написа", "пише", "пишет", "написал", "писал", "έγραψε", "yazdı",
    "yazmış", "כתב", "كتب", "نوشت", "写道", "寫道", "寫下", "書きました", "のメール", "님이 작성", "작성", "썼습니다", "쓰셨습니다", "เขียน", "viết", "menulis", "tulis",
];

/// First words of an attribution that may be wrapped behind them, in lower case.
#[rustfmt::skip]
pub(super) const ATTRIBUTION_STARTS: &[&str] = &[
    "on ", "am ", "le ", "el ", "il ", "op ", "em ", "às ", "den ", "w dniu ", "dnia ", "dne ", "dňa ", "dana ", "на ", "в ", "στις ", "vào ", "pada ", "ב", "في ", "در ",
    "ในวันที่", "在 ", "at ", "le: ", "a(z) ", "pe ", "în ", "la ", "tarihinde", "ngày ", "vom ", "på ", "kl. ", "dia ", "no dia ", "o ",
];

/// Words of a delimiter line: what is below it is not the sender's. In lower case.
#[rustfmt::skip]
const ABOVE_THIS_LINE: &[&str] = &[
    "above this line", "over this line", "oberhalb dieser zeile", "oberhalb dieser linie", "über dieser zeile", "über dieser linie", "au-dessus de cette ligne", "au dessus de cette ligne",
    "por encima de esta línea", "encima de esta línea", "arriba de esta línea", "sobre esta línea", "acima desta linha", "sopra questa riga", "sopra questa linea", "al di sopra di questa riga",
    "boven deze regel", "boven deze lijn", "ovanför denna rad", "ovanför den här raden", "over denne linje", "over denne linjen", "tämän rivin yläpuolelle", "fyrir ofan þessa línu",
    "selle rea kohale", "virs šīs rindas", "virš šios eilutės", "powyżej tej linii", "nad tą linią", "nad tento řádek", "nad tímto řádkem", "nad tento riadok", "nad týmto riadkom",
    "nad to vrstico", "iznad ove linije", "iznad ovog retka", "изнад ове линије", "e fölé a sor fölé", "e sor fölé", "e vonal fölé", "deasupra acestei linii", "deasupra acestui rând",
    "над този ред", "над тази линия", "выше этой строки", "выше этой линии", "вище цієї лінії", "над цим рядком", "πάνω από αυτή τη γραμμή", "πάνω από αυτήν τη γραμμή",
    "bu satırın üstüne", "bu satırın üzerine", "bu çizginin üzerine", "מעל שורה זו", "מעל קו זה", "فوق هذا السطر", "فوق هذا الخط", "بالای این خط",
    "在此行上方", "在此行以上", "此行以上", "在此線上方", "この行より上", "この線より上", "이 줄 위에", "이 선 위에", "เหนือบรรทัดนี้", "phía trên dòng này", "trên dòng này", "di atas baris ini", "di atas garis ini",
];

/// Returns the words of `---- words ----`, with any number of dashes, or of `== words ==` and the like.
pub(crate) fn between_dashes(line: &str) -> Option<&str> {
    const DASHES: [char; 6] = ['-', '—', '–', '=', '_', '─'];
    let mut chars = line.chars();
    if !DASHES.contains(&chars.next()?) || !DASHES.contains(&chars.next()?) {
        return None;
    }
    let words = line.trim_matches(|c: char| DASHES.contains(&c) || c.is_whitespace());
    (!words.is_empty()).then_some(words)
}

/// Returns whether a line says that the original message follows, in dashes or not.
pub(crate) fn is_original(words: &str) -> bool {
    static KNOWN: LazyLock<HashSet<&str>> = LazyLock::new(|| ORIGINAL.iter().copied().collect());
    is_one_of(words.trim_end_matches([':', ' ']), &KNOWN)
}

/// Returns whether a text is one of the known, without regard to case. Most lines are too long.
fn is_one_of(text: &str, known: &HashSet<&str>) -> bool {
    const LONGEST: usize = 100;
    let is_short = text.len() <= LONGEST && text.split(' ').count() <= 7;
    is_short && known.contains(folded(text).collect::<String>().as_str())
}

pub(crate) fn is_forward_line(line: &str) -> bool {
    match between_dashes(line) {
        Some(words) => starts_with_any(words, FORWARDED) && !is_original(words),
        None => {
            let colon = line.ends_with([':', '：']);
            let words = line.trim_end_matches([':', '：', ' ', '\u{a0}']);
            static KNOWN: LazyLock<HashSet<&str>> =
                LazyLock::new(|| FORWARDED_APPLE.iter().copied().collect());
            colon && is_one_of(words, &KNOWN)
        }
    }
}

/// Returns whether the lower-case text holds a verb of an attribution.
pub(crate) fn has_verb(lower: &str) -> bool {
    VERBS.iter().any(|verb| lower.contains(verb))
}

/// Returns whether the lower-case text ends with a verb of an attribution.
pub(crate) fn is_verb_at_end(lower: &str) -> bool {
    VERBS.iter().any(|verb| lower.ends_with(verb))
}

/// Returns whether a line has the words of a delimiter, such as `##- Please type your reply above this line -##`.
pub(crate) fn is_foreign_delimiter(line: &str) -> bool {
    let dressed = |c: char| "#-=*_~+<>[]|—–".contains(c) || c.is_whitespace();
    let words = line.trim_matches(dressed);
    let hashes = line.starts_with("##-") && line.ends_with("-##");
    let marked = words.len() + 4 <= line.len() && !line.ends_with(words);
    hashes && !words.is_empty()
        || marked && {
            let lower = words.to_lowercase();
            ABOVE_THIS_LINE.iter().any(|known| lower.contains(known))
        }
}
