//! The labels of charsets that mailers write, beyond those of the WHATWG.

use encoding_rs::{
    BIG5, EUC_JP, EUC_KR, Encoding, GB18030, IBM866, ISO_8859_8, KOI8_R, KOI8_U, MACINTOSH,
    REPLACEMENT, SHIFT_JIS, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_874, WINDOWS_1252, WINDOWS_1254,
    X_MAC_CYRILLIC, X_USER_DEFINED,
};

use super::{Charset, Label, Shifted};

/// The longest label read, in bytes.
const LONGEST_LABEL: usize = 64;

/// Returns what a label means. Case, quotes and punctuation do not matter: `UTF8;`, `"utf-8"` and `charset=UTF_8` are one.
pub(super) fn meaning(label: &str) -> Label {
    let mut label = label.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    while let Some(rest) = label
        .get(..7)
        .filter(|head| head.eq_ignore_ascii_case("charset"))
        .and(label.get(7..))
        .filter(|rest| rest.trim_start().starts_with(['=', ':']))
    {
        label = rest.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    }
    if label.len() > LONGEST_LABEL {
        return Label::Unknown;
    }
    let key: String = label
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if is_unstated(&key) {
        return Label::Unstated;
    }
    let plain = key.strip_prefix('x').unwrap_or(&key);
    by_name(plain)
        .or_else(|| by_number(plain))
        .or_else(|| of_the_web(label))
        .or_else(|| of_the_web(&key))
        // Words after the label: `utf-8 format=flowed`, `iso-8859-1, text/html`.
        .or_else(|| {
            let word = label.split([' ', ',', ';', '"', '\'', '\t']).next()?;
            (word.len() < label.len()).then(|| match meaning(word) {
                Label::Known(charset) => Some(charset),
                Label::Unstated | Label::Unknown => None,
            })?
        })
        .map_or(Label::Unknown, Label::Known)
}

fn is_unstated(key: &str) -> bool {
    matches!(
        key,
        "" | "ascii"
            | "usascii"
            | "csascii"
            | "ansix341968"
            | "ansix341986"
            | "iso646us"
            | "iso646"
            | "us"
            | "ansi"
            | "8bit"
            | "7bit"
            | "binary"
            | "unknown8bit"
            | "xunknown"
            | "unknown"
            | "unknownunknown"
            | "default"
            | "defaultcharset"
            | "none"
            | "null"
            | "auto"
            | "autodetect"
            | "undefined"
            | "charset"
            | "xuserdefined"
            | "userdefined"
            | "cp20127"
            | "20127"
    )
}

fn by_name(key: &str) -> Option<Charset> {
    Some(match key {
        "utf8" | "unicode11utf8" | "unicode20utf8" | "utf8mb4" | "utf8mb3" | "utf8n"
        | "utf8bom" | "utf8sig" | "utf8mac" | "utf8nobom" | "cesu8" | "unicodeutf8" | "wtf8"
        | "csutf8" | "u8" => Charset::Web(UTF_8),
        "utf7" | "unicode11utf7" | "csunicode11utf7" | "unicode20utf7" | "unicodeutf7"
        | "csutf7" | "u7" => Charset::Utf7,
        "utf16" | "ucs2" | "iso10646ucs2" | "unicode" | "csunicode" | "csutf16" | "unicode11"
        | "unicode20" => Charset::Utf16,
        "utf16le" | "ucs2le" | "csutf16le" | "unicodelittle" => Charset::Web(UTF_16LE),
        "utf16be" | "ucs2be" | "csutf16be" | "unicodebig" | "unicodefffe" => Charset::Web(UTF_16BE),
        "utf32" | "utf32le" | "utf32be" | "ucs4" | "ucs4le" | "ucs4be" | "iso10646ucs4"
        | "csucs4" | "csutf32" => Charset::Utf32,
        "iso2022jp" | "iso2022jp1" | "iso2022jp2" | "iso2022jp3" | "iso2022jp2004"
        | "iso2022jpms" | "iso2022jpext" | "iso2022jp10646ucs2" | "iso2022jp1978irv"
        | "iso2022jpdin" | "iso2022jpkddi" | "iso2022jpmobile" | "iso2022jpsoftbank"
        | "iso2022jpdocomo" | "csiso2022jp" | "csiso2022jp2" | "iso2022" | "jis" | "jis7"
        | "jis8" | "jisx0208" | "jisencoding" | "csjisencoding" | "junet" => {
            Charset::Iso2022(Shifted::Katakana)
        }
        "iso2022kr" | "csiso2022kr" => Charset::Iso2022(Shifted::Korean),
        "iso2022cn" | "iso2022cnext" | "csiso2022cn" | "csiso2022cnext" => {
            Charset::Iso2022(Shifted::Chinese)
        }
        "hz" | "hzgb2312" | "hzgb" | "hzgb23121980" | "cshzgb2312" => Charset::Hz,
        "gb2312" | "gb" | "gb231280" | "gb23121980" | "gbk" | "gb18030" | "gb180302000"
        | "gb180302005" | "gb180302022" | "euccn" | "gb2312gb" | "csgb2312" | "csgbk"
        | "csgb18030" | "chinese" | "chinesesimplified" | "macchinesesimp" | "eucgb2312cn"
        | "zhcn" | "csiso58gb231280" | "isoir58" | "gb13000" => Charset::Web(GB18030),
        "big5" | "big5hkscs" | "big5hkscs2004" | "big5hkscs1999" | "big5hk" | "big5hkscs2008"
        | "big5eten" | "big5plus" | "big5uao" | "big5e" | "cnbig5" | "csbig5" | "xbig5"
        | "big52003" | "chinesetraditional" | "macchinesetrad" | "zhtw" | "zhtwbig5" => {
            Charset::Web(BIG5)
        }
        "euckr" | "cseuckr" | "ksc5601" | "ksc56011987" | "ksc56011989" | "ksc56011992"
        | "ksx1001" | "ksx10011992" | "ksc5601ms" | "kscms" | "uhc" | "unifiedhangul"
        | "korean" | "kocode" | "kr" | "mackorean" | "isoir149" | "csksc56011987" | "wansung"
        | "extwansung" | "euckrms" => Charset::Web(EUC_KR),
        "sjis" | "shiftjis" | "csshiftjis" | "mskanji" | "shiftjisx0213" | "sjiswin"
        | "shiftjis2004" | "macjapanese" | "cswindows31j" | "windows31j" | "jisshift"
        | "mssjis" | "sjisdocomo" | "sjiskddi" | "sjissoftbank" | "shift" => {
            Charset::Web(SHIFT_JIS)
        }
        "eucjp"
        | "eucjpms"
        | "eucjpwin"
        | "ujis"
        | "eucjisx0213"
        | "eucjis2004"
        | "japaneseeuc"
        | "cseucpkdfmtjapanese"
        | "euc"
        | "extendedunixcodepackedformatforjapanese" => Charset::Web(EUC_JP),
        "koi8r" | "koi8" | "koi" | "cskoi8r" | "koi8runicode" | "cskoi8" => Charset::Web(KOI8_R),
        "koi8u" | "koi8ru" | "cskoi8u" | "koi8uni" => Charset::Web(KOI8_U),
        "mac" | "macintosh" | "macroman" | "macosroman" | "csmacintosh" | "applemacroman" => {
            Charset::Web(MACINTOSH)
        }
        "maccyrillic" | "macukrainian" | "macukraine" => Charset::Web(X_MAC_CYRILLIC),
        "tis620" | "tis6200" | "tis6202533" | "thai" | "cstis620" => Charset::Web(WINDOWS_874),
        "latin"
        | "iso8859"
        | "isolatin"
        | "western"
        | "latin1windows"
        | "iso88591windows31latin1"
        | "westerneuropean"
        | "iso8859115" => Charset::Web(WINDOWS_1252),
        "iso88598i" | "iso88598e" | "logical" | "visual" => Charset::Web(ISO_8859_8),
        "alt" | "dosrussian" => Charset::Web(IBM866),
        _ => return None,
    })
}

/// Returns the charset of a code page or of a part of ISO 8859: `cp-1252`, `win1251`, `ms949`, `ISO_8859-15:1999`, `latin9`.
fn by_number(key: &str) -> Option<Charset> {
    let digits = key.find(|c: char| c.is_ascii_digit())?;
    let (words, number) = key.split_at(digits);
    match words {
        "iso" | "isoiec" | "" | "csiso" if number.starts_with("8859") => {
            part_of_8859(&number["8859".len()..])
        }
        "latin" | "l" | "isolatin" | "csisolatin" => {
            let part = match number {
                "1" | "2" | "3" | "4" => number,
                "5" => "9",
                "6" => "10",
                "7" => "13",
                "8" => "14",
                "9" | "0" => "15",
                "10" => "16",
                _ => return None,
            };
            part_of_8859(part)
        }
        "cp" | "windows" | "win" | "ms" | "mswin" | "mscp" | "ibm" | "dos" | "oem" | "codepage"
        | "cswindows" | "csibm" | "cscp" | "ansi" | "ccsid" | "mscodepage" | "ibmcp" | "pc"
        | "" => {
            let end = number
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(number.len());
            code_page(number[..end].trim_start_matches('0').parse().ok()?)
        }
        _ => None,
    }
}

fn part_of_8859(part: &str) -> Option<Charset> {
    let end = part
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(part.len());
    let (number, rest) = part.split_at(end);
    // A year may follow: ISO_8859-1:1987.
    let number = match number.len() {
        5 | 6 => number[..number.len() - 4].trim_start_matches('0'),
        _ => number.trim_start_matches('0'),
    };
    if !matches!(rest, "" | "i" | "e" | "windows" | "win" | "ms") {
        return None;
    }
    Some(Charset::Web(match number {
        "1" => WINDOWS_1252,
        "9" => WINDOWS_1254,
        "8" => ISO_8859_8,
        "11" => WINDOWS_874,
        number => Encoding::for_label_no_replacement(format!("iso-8859-{number}").as_bytes())?,
    }))
}

fn code_page(page: u32) -> Option<Charset> {
    Some(match page {
        1250..=1258 => {
            return Encoding::for_label(format!("windows-{page}").as_bytes()).map(Charset::Web);
        }
        819 => Charset::Web(WINDOWS_1252),
        866 => Charset::Web(IBM866),
        874 => Charset::Web(WINDOWS_874),
        878 | 20866 => Charset::Web(KOI8_R),
        21866 | 1168 => Charset::Web(KOI8_U),
        932 | 943 | 31 => Charset::Web(SHIFT_JIS),
        936 | 1386 | 51936 | 54936 => Charset::Web(GB18030),
        52936 => Charset::Hz,
        949 | 970 | 1363 | 51949 => Charset::Web(EUC_KR),
        950 | 951 | 1370 => Charset::Web(BIG5),
        51932 | 20932 => Charset::Web(EUC_JP),
        50220..=50222 => Charset::Iso2022(Shifted::Katakana),
        50225 => Charset::Iso2022(Shifted::Korean),
        50227 | 50229 => Charset::Iso2022(Shifted::Chinese),
        1200 => Charset::Web(UTF_16LE),
        1201 => Charset::Web(UTF_16BE),
        12000 | 12001 => Charset::Utf32,
        65000 => Charset::Utf7,
        65001 => Charset::Web(UTF_8),
        10000 => Charset::Web(MACINTOSH),
        10007 | 10017 => Charset::Web(X_MAC_CYRILLIC),
        28591..=28606 => return part_of_8859(&(page - 28590).to_string()),
        437 | 720 | 737 | 775 | 850 | 852 | 855 | 857 | 858 | 860..=865 | 869 => {
            Charset::Dos(u16::try_from(page).ok()?)
        }
        _ => return None,
    })
}

fn of_the_web(label: &str) -> Option<Charset> {
    let encoding = Encoding::for_label(label.as_bytes())?;
    (encoding != REPLACEMENT && encoding != X_USER_DEFINED).then_some(Charset::Web(encoding))
}
