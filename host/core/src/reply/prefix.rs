//! Prefixes of subjects: whether a mail answers another, or forwards it.

use crate::fold::{is_any, without_tags};

/// The meaning of the subject's first prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefix {
    None,
    Reply,
    Forward,
    /// A reply in Finnish (vastaus), a forward in Danish and Norwegian (videresendt).
    Vs,
}

pub(crate) fn prefix(subject: &str) -> Prefix {
    let found = first(subject);
    match () {
        () if found.is_empty() => Prefix::None,
        () if is_any(found, &["vs"]) => Prefix::Vs,
        () if is_any(found, FORWARD) => Prefix::Forward,
        () if is_any(found, REPLY) => Prefix::Reply,
        () => Prefix::None,
    }
}

/// Returns the `Re` of `Re:`, `RE :`, `Re[2]:` and `[EXTERNAL] Re:`; empty if there is no colon.
fn first(subject: &str) -> &str {
    let subject = without_tags(subject);
    let Some(colon) = subject.find([':', '：']) else {
        return "";
    };
    subject[..colon]
        .trim_start()
        .trim_end_matches(|c: char| c.is_whitespace() || c.is_ascii_digit() || "[]()^*".contains(c))
}

/// Prefixes of forwarded mails' subjects, in lower case.
#[rustfmt::skip]
const FORWARD: &[&str] = &[
    "fw", "fwd", "forward", "wg", "wtr", "tr", "rv", "reenv", "i", "vb", "vl", "vid", "doorst", "enc", "res enc", "pd", "ilt", "iletilen",
    "πρθ", "προωθ", "fs", "edas", "pārs", "persiųsta", "pers", "přep", "předáno", "prep", "posr", "proslj", "prosl", "tovább", "továbbítás",
    "redir", "red", "препр", "пр", "пересл", "пересилання", "переслано", "הועבר", "إعادة توجيه", "إعادة التوجيه", "هدایت", "ارسال",
    "转发", "轉寄", "轉發", "转寄", "転送", "전달", "ส่งต่อ", "chuyển tiếp", "trs", "teruskan", "reenviado", "rvs",
];

/// Prefixes of replies' subjects, in lower case.
#[rustfmt::skip]
const REPLY: &[&str] = &[
    "re", "aw", "antw", "antwort", "sv", "svar", "res", "resp", "r", "ref", "réf", "rép", "rif", "odp", "ynt", "yanıt", "cevap", "vá", "válasz",
    "απ", "σχετ", "απάντηση", "vast", "vastaus", "atb", "ats", "ats.", "hs", "odg", "odgovor", "одг", "răsp", "rasp", "отг", "отв", "ответ",
    "відп", "відповідь", "на", "השב", "תשובה", "تو", "رد", "پاسخ", "回复", "回覆", "答复", "答覆", "返信", "회신", "답장", "ตอบ", "ตอบกลับ",
    "trả lời", "tl", "bls", "balas", "balasan", "svs", "vd",
];

#[cfg(test)]
mod tests {
    use super::{Prefix, prefix};

    #[test]
    fn prefixes_of_many_mailers() {
        for (subject, expected) in [
            ("Re: x", Prefix::Reply),
            ("[EXTERNAL] RE : x", Prefix::Reply),
            ("AW: WG: x", Prefix::Reply),
            ("Re[2]: x", Prefix::Reply),
            ("回复：打印机", Prefix::Reply),
            ("ΑΠ: x", Prefix::Reply),
            ("WG: x", Prefix::Forward),
            ("TR : x", Prefix::Forward),
            ("RV: x", Prefix::Forward),
            ("VS: x", Prefix::Vs),
            ("SV: x", Prefix::Reply),
            ("Printer: jam", Prefix::None),
            ("re the printer", Prefix::None),
        ] {
            assert_eq!(prefix(subject), expected, "{subject}");
        }
    }
}
