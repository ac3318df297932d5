//! Parses a server's XML into a tree that borrows from it, with limits. Document types are refused, so no entity is ever expanded
//! or fetched.

use std::borrow::Cow;

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

/// The deepest nesting of elements.
const DEPTH_MAX: usize = 64;
/// The most elements in one document. A page of 512 changes has about 10 per change.
const ELEMENTS_MAX: usize = 20_000;
/// The most attributes of one element.
const ATTRIBUTES_MAX: usize = 64;

/// An element; its name is without the namespace prefix.
#[derive(Debug, Default)]
pub struct Element<'x> {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Element<'x>>,
    /// The text directly inside, with character references resolved.
    pub text: Cow<'x, str>,
}

/// Why a document is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    #[error("not XML: {0}")]
    Malformed(String),
    #[error("XML that ends early")]
    Incomplete,
    #[error("XML with a document type, which SOAP forbids")]
    DocumentType,
    #[error("XML with the unknown entity &{0};")]
    Entity(String),
    #[error("XML nested deeper than {DEPTH_MAX} elements")]
    Depth,
    #[error("XML with more than {ELEMENTS_MAX} elements")]
    Elements,
    #[error("an XML element with more than {ATTRIBUTES_MAX} attributes")]
    Attributes,
}

impl<'x> Element<'x> {
    /// Parses a whole document.
    pub fn parse(text: &'x str) -> Result<Self, XmlError> {
        Builder::default().read(text, false)
    }

    /// Parses the beginning of a document: elements that are open at its end count as closed.
    pub fn parse_beginning(text: &'x str) -> Result<Self, XmlError> {
        Builder::default().read(text, true)
    }

    /// Returns the first child with this name.
    pub fn child(&self, name: &str) -> Option<&Element<'x>> {
        self.children.iter().find(|child| child.name == name)
    }

    /// Returns the element at the end of a path of children.
    pub fn at(&self, path: &[&str]) -> Option<&Element<'x>> {
        path.iter()
            .try_fold(self, |element, name| element.child(name))
    }

    /// Returns the first element with this name, at any depth.
    pub fn find(&self, name: &str) -> Option<&Element<'x>> {
        if self.name == name {
            return Some(self);
        }
        self.children.iter().find_map(|child| child.find(name))
    }

    pub fn attribute(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        attributes
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_ref())
    }

    /// Returns a child's text without surrounding whitespace, or an empty text if there is no such child.
    pub fn text_of(&self, name: &str) -> &str {
        self.child(name).map_or("", |child| child.text.trim())
    }
}

#[derive(Default)]
struct Builder<'x> {
    open: Vec<Element<'x>>,
    root: Option<Element<'x>>,
    elements: usize,
}

impl<'x> Builder<'x> {
    fn read(mut self, text: &'x str, is_beginning: bool) -> Result<Element<'x>, XmlError> {
        let mut reader = Reader::from_str(text);
        loop {
            let event = match reader.read_event() {
                Ok(event) => event,
                // The cut may be within a tag.
                Err(_) if is_beginning && reader.error_position() > 0 => Event::Eof,
                Err(error) => return Err(XmlError::Malformed(error.to_string())),
            };
            match event {
                Event::Start(start) => {
                    let element = self.element(&start)?;
                    self.open.push(element);
                }
                Event::Empty(start) => {
                    let element = self.element(&start)?;
                    self.add(element);
                }
                Event::End(_) => self.close(),
                Event::Text(part) => self.append(part.into_inner()),
                Event::CData(part) => self.append(part.into_inner()),
                Event::GeneralRef(name) => {
                    let name = name.into_inner();
                    let c = entity(&name).ok_or_else(|| XmlError::Entity(name.into_owned()))?;
                    self.append(Cow::Owned(c.to_string()));
                }
                Event::DocType(_) => return Err(XmlError::DocumentType),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::Eof => break,
            }
        }
        if is_beginning {
            while !self.open.is_empty() {
                self.close();
            }
        }
        match self.root {
            Some(root) if self.open.is_empty() => Ok(root),
            _ => Err(XmlError::Incomplete),
        }
    }

    fn element(&mut self, start: &BytesStart<'_>) -> Result<Element<'x>, XmlError> {
        self.elements += 1;
        if self.elements > ELEMENTS_MAX {
            return Err(XmlError::Elements);
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(XmlError::Depth);
        }
        let mut element = Element {
            name: start.local_name().into_inner().to_owned(),
            ..Element::default()
        };
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| XmlError::Malformed(error.to_string()))?;
            if element.attributes.len() >= ATTRIBUTES_MAX {
                return Err(XmlError::Attributes);
            }
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| XmlError::Malformed(error.to_string()))?;
            let name = attribute.key.local_name().into_inner().to_owned();
            element.attributes.push((name, value.into_owned()));
        }
        Ok(element)
    }

    fn close(&mut self) {
        if let Some(element) = self.open.pop() {
            self.add(element);
        }
    }

    fn add(&mut self, element: Element<'x>) {
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => {
                self.root.get_or_insert(element);
            }
        }
    }

    fn append(&mut self, part: Cow<'x, str>) {
        if let Some(element) = self.open.last_mut() {
            if element.text.is_empty() {
                element.text = part;
            } else if !part.trim().is_empty() || !element.text.trim().is_empty() {
                element.text.to_mut().push_str(&part);
            }
        }
    }
}

/// Resolves the five entities of XML, and character references. Exchange writes references to characters that XML forbids; they
/// become U+FFFD.
fn entity(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => {
            let digits = name.strip_prefix('#')?;
            let code = match digits.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => digits.parse(),
            };
            let c = char::from_u32(code.ok()?).filter(|c| *c >= ' ' || c.is_whitespace());
            Some(c.unwrap_or(char::REPLACEMENT_CHARACTER))
        }
    }
}

/// Escapes a text for the content of an element or an attribute. Characters that XML forbids become U+FFFD.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => escaped.push_str(&format!("&#{};", c as u32)),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_names_without_prefixes_and_resolved_text() {
        let text = "\u{feff}<?xml version=\"1.0\"?><s:A xmlns:s=\"u\"><t:B Id=\"1 &amp; 2\"/><B>x &lt;&#x41;&#x0;<![CDATA[<&]]></B></s:A>";
        let root = Element::parse(text).unwrap();
        assert_eq!(root.name, "A");
        assert_eq!(root.child("B").unwrap().attribute("Id"), Some("1 & 2"));
        assert_eq!(root.children[1].text, "x <A\u{fffd}<&");
        assert_eq!(root.at(&["B"]).unwrap().name, "B");
        assert!(root.find("C").is_none());
    }

    #[test]
    fn a_document_type_ends_in_an_error_before_any_entity_is_looked_at() {
        let external = "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><a>&b;</a>";
        let bomb = "<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b \"bb\"><!ENTITY c \"&b;&b;\">]><a>&c;</a>";
        for text in [external, bomb] {
            assert_eq!(Element::parse(text).err(), Some(XmlError::DocumentType));
        }
        let unknown = Element::parse("<a>&b;</a>").err();
        assert_eq!(unknown, Some(XmlError::Entity("b".into())));
    }

    #[test]
    fn depth_elements_and_attributes_are_limited() {
        let nested = |depth: usize| "<a>".repeat(depth) + &"</a>".repeat(depth);
        assert!(Element::parse(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(
            Element::parse(&nested(DEPTH_MAX + 1)).err(),
            Some(XmlError::Depth)
        );
        let wide = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count - 1));
        assert!(Element::parse(&wide(ELEMENTS_MAX)).is_ok());
        assert_eq!(
            Element::parse(&wide(ELEMENTS_MAX + 1)).err(),
            Some(XmlError::Elements)
        );
        let many = |count: usize| {
            let attributes: String = (0..count).map(|n| format!(" a{n}=\"\"")).collect();
            format!("<a{attributes}/>")
        };
        assert!(Element::parse(&many(ATTRIBUTES_MAX)).is_ok());
        assert_eq!(
            Element::parse(&many(ATTRIBUTES_MAX + 1)).err(),
            Some(XmlError::Attributes)
        );
    }

    #[test]
    fn a_cut_document_is_read_only_where_that_is_meant() {
        for cut in [
            "<a><b>abc",
            "<a><b>abc</b",
            "<a><b>abc</b>",
            "<a><b>abc</b><c",
        ] {
            assert!(Element::parse(cut).is_err(), "{cut}");
            let root = Element::parse_beginning(cut).unwrap();
            assert_eq!(root.text_of("b"), "abc", "{cut}");
        }
        for text in ["", "text", "<a></b>", "<a", "<html><br></html>"] {
            assert!(Element::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn escaped_text_comes_back() {
        let text = "a<b>&\"'\r\n\tü";
        let document = format!("<a b=\"{0}\">{0}</a>", escaped(text));
        let root = Element::parse(&document).unwrap();
        assert_eq!(root.text, text);
        assert_eq!(root.attribute("b"), Some(text));
        assert_eq!(escaped("\u{1}"), "\u{fffd}");
    }
}
