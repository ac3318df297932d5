//! Domains of mail services where anybody can have an address.

/// Domains that are public by themselves.
const DOMAINS: &[&str] = &[
    "10minutemail.com", "126.com", "139.com", "163.com", "188.com", "189.cn", "aim.com", "aliyun.com", "alice.it", "aol.com",
    "arcor.de", "att.net", "bellsouth.net", "bigpond.com", "bk.ru", "bluewin.ch", "blueyonder.co.uk", "bol.com.br", "bt.com",
    "btinternet.com", "centrum.cz", "charter.net", "comcast.net", "cox.net", "daum.net", "docomo.ne.jp", "duck.com",
    "earthlink.net", "email.cz", "email.de", "eclipso.de", "ezweb.ne.jp", "fastmail.com", "fastmail.fm", "foxmail.com",
    "free.fr", "freenet.de", "gmail.com", "gmx.com", "gmx.net", "googlemail.com", "guerrillamail.com", "hanmail.net", "hey.com",
    "hushmail.com", "icloud.com", "ig.com.br", "inbox.com", "inbox.lv", "inbox.ru", "interia.pl", "internode.on.net",
    "juno.com", "kpnmail.nl", "kolabnow.com", "laposte.net", "libero.it", "list.ru", "mac.com", "mail.bg", "mail.com", "mail.de",
    "mail.ee", "mail.ru", "mailbox.org", "mailinator.com", "me.com", "msn.com", "nate.com", "naver.com", "neuf.fr", "ngs.ru",
    "ntlworld.com", "o2.pl", "onet.pl", "onet.eu", "online.de", "optonline.net", "optusnet.com.au", "orange.fr", "passport.com",
    "pm.me", "posteo.de", "posteo.net", "proton.me", "protonmail.ch", "protonmail.com", "qq.com", "rambler.ru", "rediffmail.com",
    "rocketmail.com", "rogers.com", "runbox.com", "sapo.pt", "sbcglobal.net", "seznam.cz", "sfr.fr", "shaw.ca", "sina.cn",
    "sina.com", "sky.com", "sohu.com", "softbank.ne.jp", "start.no", "sympatico.ca", "t-online.de", "talktalk.net", "telenet.be",
    "telus.net", "terra.com.br", "tin.it", "tiscali.it", "tlen.pl", "tom.com", "tuta.com", "tuta.io", "tutamail.com",
    "tutanota.com", "tutanota.de", "ukr.net", "uol.com.br", "verizon.net", "vip.163.com", "vip.qq.com", "virgilio.it",
    "virginmedia.com", "vodafone.de", "voila.fr", "volny.cz", "wanadoo.fr", "web.de", "windowslive.com", "wp.pl", "xs4all.nl",
    "xtra.co.nz", "ya.ru", "yeah.net", "ymail.com", "yopmail.com", "zoho.com", "zohomail.com", "zohomail.eu", "ziggo.nl",
];

/// First labels of services that have a domain in many countries: `gmx.de`, `yahoo.co.uk`, `outlook.fr`.
const FAMILIES: &[&str] = &["gmx", "hotmail", "live", "outlook", "yahoo", "yandex"];

/// Second-level labels of countries, as in `yahoo.co.uk` and `hotmail.com.br`.
const SECOND_LEVEL: &[&str] = &["co", "com", "ne"];

/// Returns whether a domain, in lower case, is one where anybody can have an address.
pub fn is_public(domain: &str) -> bool {
    if DOMAINS.contains(&domain) {
        return true;
    }
    let labels: Vec<&str> = domain.splitn(4, '.').collect();
    match labels.as_slice() {
        [family, country] => {
            FAMILIES.contains(family) && (country.len() == 2 || *country == "com")
        }
        [family, second, country] => {
            FAMILIES.contains(family) && SECOND_LEVEL.contains(second) && country.len() == 2
        }
        _ => false,
    }
}
