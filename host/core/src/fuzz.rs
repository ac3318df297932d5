//! Entry points of the fuzz targets (`tests/fuzz`) to functions that are private otherwise.

/// Converts HTML to text, cut near `most` bytes.
pub fn html_to_text(html: &str, most: usize) -> String {
    crate::parse::text_of_html(html, most)
}
