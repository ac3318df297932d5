//! The MIME headers of a part (RFC 2045, RFC 2183), and the part itself.

use bytes::Bytes;

use super::decode::TransferEncoding;
use super::headers::Field;
use super::params::Parameterised;
use super::repairs::Repairs;

/// Longest boundary honoured: that of a line (RFC 5322 section 2.1.1); RFC 2046 allows 70.
pub(crate) const LONGEST_BOUNDARY: usize = 998;
/// The most names kept of one part.
const NAMES_MAX: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Disposition {
    #[default]
    Unstated,
    Inline,
    Attachment,
}

/// The MIME headers of a mail or a part.
#[derive(Debug, Default)]
pub(crate) struct Head {
    content_type: Option<Parameterised>,
    disposition: Disposition,
    file_name: Option<String>,
    /// Every file name that the part states, each once.
    names: Vec<String>,
    /// `None` if the part states none.
    encoding: Option<TransferEncoding>,
    pub content_id: Option<String>,
    /// The Content-Location, by which a page may refer to the part (RFC 2557).
    pub location: Option<String>,
}

impl Head {
    /// Returns the head of a part that no MIME headers describe.
    pub(crate) fn made(content_type: &str, charset: Option<&str>) -> Self {
        Self {
            content_type: Some(Parameterised::with(content_type, "charset", charset)),
            ..Self::default()
        }
    }

    /// Returns the head of a multipart/mixed.
    pub(crate) fn multipart_of(boundary: &str) -> Self {
        Self {
            content_type: Some(Parameterised::with(
                "multipart/mixed",
                "boundary",
                Some(boundary),
            )),
            ..Self::default()
        }
    }

    pub(crate) fn named(mut self, name: &str) -> Self {
        self.file_name = (!name.is_empty()).then(|| name.to_owned());
        self
    }

    pub(crate) fn disposed(mut self, disposition: Disposition) -> Self {
        self.disposition = disposition;
        self
    }

    pub(crate) fn read(&mut self, field: &Field<'_>, repairs: &mut Repairs) {
        if field.name.len() < 10 || !field.name.as_bytes()[..8].eq_ignore_ascii_case(b"content-") {
            return;
        }
        if field.is("Content-Type") {
            let content_type = Parameterised::parse(field.value, repairs);
            self.keep_names(&content_type, "name");
            match &mut self.content_type {
                Some(earlier) if content_type.tells_more_than(earlier) => {
                    repairs.note("Content-Type is given twice: the one that tells more is used");
                    *earlier = content_type;
                }
                Some(_) => {}
                None => self.content_type = Some(content_type),
            }
        } else if field.is("Content-Transfer-Encoding") {
            let encoding = TransferEncoding::of(&String::from_utf8_lossy(field.value), repairs);
            match self.encoding {
                Some(held) if held != encoding => {
                    repairs.note("of several transfer encodings the one that encodes was read");
                    if held == TransferEncoding::Identity {
                        self.encoding = Some(encoding);
                    }
                }
                _ => self.encoding = Some(encoding),
            }
        } else if field.is("Content-Disposition") {
            let disposition = Parameterised::parse(field.value, repairs);
            self.keep_names(&disposition, "filename");
            self.file_name = disposition.param("filename").map(str::to_owned);
            self.disposition = match disposition.value.as_str() {
                "inline" => Disposition::Inline,
                "" => Disposition::Unstated,
                // RFC 2183 section 2.8: an unknown disposition counts as an attachment.
                _ => Disposition::Attachment,
            };
        } else if field.is("Content-ID") {
            self.content_id = super::message_ids(field.value).into_iter().next();
        } else if field.is("Content-Location") {
            let location = String::from_utf8_lossy(field.value);
            let location = location.replace(['\r', '\n', '\t'], "");
            self.location = Some(location.trim().to_owned()).filter(|it| !it.is_empty());
        }
    }

    pub(crate) fn encoding(&self) -> TransferEncoding {
        self.encoding.unwrap_or_default()
    }

    /// Says that the content is decoded already.
    pub(crate) fn set_decoded(&mut self) {
        self.encoding = None;
    }

    pub(crate) fn states_type(&self) -> bool {
        self.content_type.is_some()
    }

    /// Returns whether the part is an attached mail, its headers, or a report about it.
    pub(crate) fn is_of_mail(&self) -> bool {
        self.content_type
            .as_ref()
            .is_some_and(Parameterised::is_of_mail)
    }

    pub(crate) fn set_type(&mut self, content_type: &str) {
        self.content_type = Some(Parameterised::plain(content_type));
    }

    /// Returns whether a parameter of Content-Type has this value, in any letters.
    pub(crate) fn param_is(&self, name: &str, value: &str) -> bool {
        self.param(name)
            .is_some_and(|stated| stated.trim().eq_ignore_ascii_case(value))
    }

    /// Returns the subtype, if the part is a multipart.
    pub(crate) fn multipart(&self) -> Option<&str> {
        self.content_type().strip_prefix("multipart/")
    }

    pub(crate) fn content_type(&self) -> &str {
        match &self.content_type {
            Some(stated) if stated.value.contains('/') => &stated.value,
            _ => "text/plain",
        }
    }

    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.content_type
            .as_ref()
            .and_then(|stated| stated.param(name))
    }

    pub(crate) fn file_name(&self) -> Option<&str> {
        self.file_name
            .as_deref()
            .filter(|name| !name.trim().is_empty())
            .or_else(|| self.param("name"))
            .filter(|name| !name.trim().is_empty())
    }

    /// Returns the names that the part states in addition to [`Self::file_name`]. Mail programs differ in which one they
    /// save under.
    pub(crate) fn other_names(&self) -> impl Iterator<Item = &str> {
        let shown = self.file_name();
        self.names
            .iter()
            .map(String::as_str)
            .filter(move |name| Some(*name) != shown)
    }

    fn keep_names(&mut self, field: &Parameterised, param: &str) {
        for name in field.all(param).filter(|name| !name.trim().is_empty()) {
            if self.names.len() < NAMES_MAX && !self.names.iter().any(|held| held == name) {
                self.names.push(name.to_owned());
            }
        }
    }

    pub(crate) fn disposition(&self) -> Disposition {
        self.disposition
    }

    pub(crate) fn boundary(&self) -> Option<&str> {
        self.param("boundary")
            .map(str::trim_end)
            .filter(|boundary| (1..=LONGEST_BOUNDARY).contains(&boundary.len()))
    }
}

/// The multipart that directly contains a part, as far as the choice of the body depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Within {
    /// Any multipart that the other values do not name, and none.
    #[default]
    Mixed,
    Alternative,
    Related,
}

/// A part that is not a multipart.
#[derive(Debug, Default)]
pub(crate) struct Leaf {
    pub head: Head,
    /// The content, still encoded.
    pub body: Bytes,
    /// The outermost multipart/alternative that contains it.
    pub alternative: Option<usize>,
    pub within: Within,
    /// Whether it is the first part of its multipart.
    pub first: bool,
    /// Whether it is read as text although its headers declare a multipart.
    pub unsplit: bool,
    /// Whether it is the body that a TNEF stream carries beside the mail's own.
    pub carried: bool,
}
