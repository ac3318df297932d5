//! Entry points for the fuzz targets (`tests/fuzz`) to private functions.

/// Converts HTML to text, cut near `most` bytes.
pub fn html_to_text(html: &str, most: usize) -> String {
    crate::parse::text_of_html(html, most)
}
