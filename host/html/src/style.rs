//! The few properties of a tag that decide whether and how its text is displayed.

use crate::Tag;

/// The meaning of a tag's `style` and `hidden` attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Nothing of the element is displayed.
    pub hides: bool,
    /// A font size is stated: true if it is zero, which hides text down to an element with another one.
    pub zero_font: Option<bool>,
    /// `white-space` is stated: true if spaces and line ends are kept.
    pub preformatted: Option<bool>,
    /// `display` makes a block of any element.
    pub is_block: bool,
    /// `display` makes a table cell of any element.
    pub is_cell: bool,
    pub is_bold: bool,
    /// No space is stated above and below the element.
    pub is_tight: bool,
    /// A line is drawn above the element.
    pub top_border: bool,
    /// The element is indented without a line beside it, as mail programs do outside of quotes.
    pub indents: bool,
}

impl Style {
    pub(crate) fn of(tag: Tag<'_>) -> Self {
        let mut style = Self::default();
        for (name, value) in tag.attributes() {
            if name.eq_ignore_ascii_case("hidden") {
                style.hides = true;
            } else if name.eq_ignore_ascii_case("style") {
                style.read(value, tag);
            }
        }
        style
    }

    fn read(&mut self, declarations: &str, tag: Tag<'_>) {
        let (mut no_height, mut cuts, mut borderless, mut indented) = (false, false, false, false);
        let (mut none_above, mut none_below) = (false, false);
        for declaration in declarations.split(';') {
            let Some((name, value)) = declaration.split_once(':') else {
                continue;
            };
            let (name, value) = (name.trim(), value.trim());
            let value = match value.rfind('!') {
                Some(important) => value[..important].trim_end(),
                None => value,
            };
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            let has = |known: &str| value.eq_ignore_ascii_case(known);
            let starts = |known: &str| {
                value
                    .get(..known.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(known))
            };
            if is("display") {
                self.hides |= has("none");
                self.is_cell = has("table-cell");
                self.is_block = ["block", "table", "table-row", "flex", "grid", "list-item"]
                    .into_iter()
                    .any(has);
            } else if is("visibility") {
                self.hides |= has("hidden") || has("collapse");
            } else if is("mso-hide") {
                // Buttons for everything but Outlook: there a drawing replaces them.
                self.hides |= has("all") && !tag.is("a");
            } else if is("opacity") {
                self.hides |= is_zero(value);
            } else if is("font-size") {
                self.zero_font = Some(is_zero(value));
            } else if is("font-weight") {
                self.is_bold =
                    starts("bold") || value.parse::<u16>().is_ok_and(|weight| weight >= 600);
            } else if is("font") {
                let mut sizes = value
                    .split_whitespace()
                    .filter_map(|it| it.split('/').next());
                self.zero_font = Some(sizes.any(is_zero));
            } else if is("max-height") || is("height") {
                no_height |= is_zero(value);
            } else if is("overflow") {
                cuts |= has("hidden");
            } else if is("white-space") {
                self.preformatted = Some(starts("pre"));
            } else if is("border-top") {
                self.top_border |= !is_zero(value) && !starts("none");
            } else if is("border") {
                borderless |= starts("none") || is_zero(value);
            } else if is("margin") {
                let sides: Vec<&str> = value.split_whitespace().take(4).collect();
                none_above = sides.first().is_some_and(|side| is_zero(side));
                none_below = sides.get(2).map_or(none_above, |side| is_zero(side));
                indented |= sides.get(3).is_some_and(|left| !is_zero(left));
            } else if is("margin-top") {
                none_above = is_zero(value);
            } else if is("margin-bottom") {
                none_below = is_zero(value);
            }
        }
        self.hides |= no_height && cuts;
        self.indents = borderless && indented;
        self.is_tight = none_above && none_below;
    }
}

/// Returns whether a length or a number is next to zero: `0`, `0px`, and the `.0001pt` of Word.
fn is_zero(value: &str) -> bool {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%');
    digits.parse::<f32>().is_ok_and(|size| size.abs() < 0.01)
}

#[cfg(test)]
mod tests {
    use super::Style;
    use crate::{Token, tokens};

    fn style(attributes: &str) -> Style {
        let page = format!("<p {attributes}>");
        match tokens(&page).next() {
            Some(Token::Tag(tag)) => Style::of(tag),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_displayed_is_recognised() {
        for attributes in [
            "hidden",
            "HIDDEN=''",
            "style='display:none'",
            "style=\"color: red; DISPLAY : None !important\"",
            "style='visibility:hidden'",
            "style='mso-hide: all'",
            "style='opacity:0'",
            "style='opacity:0.0;x'",
            "style='max-height:0px;overflow:hidden'",
            "style='overflow:hidden;height:0'",
        ] {
            assert!(style(attributes).hides, "{attributes}");
        }
        for attributes in [
            "",
            "style",
            "style='display:block'",
            "style='max-height:0'",
            "style='opacity:0.5'",
            "style='display:'",
            "title='display:none'",
        ] {
            assert!(!style(attributes).hides, "{attributes}");
        }
    }

    #[test]
    fn sizes_and_spaces() {
        assert_eq!(style("style='font-size:0'").zero_font, Some(true));
        assert_eq!(style("style='font-size: 0.0px'").zero_font, Some(true));
        assert_eq!(style("style='font-size:10px'").zero_font, Some(false));
        assert_eq!(style("style='font:0/0 a'").zero_font, Some(true));
        assert_eq!(style("style='font:bold 10px/1 a'").zero_font, Some(false));
        assert_eq!(
            style("style='white-space:pre-wrap'").preformatted,
            Some(true)
        );
        assert_eq!(
            style("style='white-space:normal'").preformatted,
            Some(false)
        );
        assert!(style("style='display:table-cell'").is_cell);
        assert!(style("style='border:none;border-top:solid #E1E1E1 1.0pt'").top_border);
        assert!(!style("style='border-top:none'").top_border);
        assert!(style("style='margin:0cm 0cm 0.0001pt'").is_tight);
        assert!(style("style='margin-top:0;margin-bottom:0px'").is_tight);
        assert!(!style("style='margin:0 0 1em'").is_tight);
        assert!(style("style='margin:0 0 0 40px;border:none;padding:0px'").indents);
        assert!(!style("style='margin:0 0 0 .8ex;border-left:1px #ccc solid'").indents);
    }
}
