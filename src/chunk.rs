//! [`Document`] → [`Chunk`]s: the units that are embedded, searched and cited.

use crate::document::{Document, Location};

/// A passage of about 300 characters that lies within one section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The passage as the document has it; what is quoted and cited.
    pub text: String,
    /// The document's title and the section path, outermost first: `휴직 및 복직 관리기준 > 제2장 > 제3조(휴직기간)`.
    pub path: Vec<String>,
    /// Where the passage begins.
    pub location: Location,
}

impl Chunk {
    /// What is embedded: the path, then the text, so that a short clause carries its headings.
    #[must_use]
    pub fn embedded_text(&self) -> String {
        if self.path.is_empty() {
            self.text.clone()
        } else {
            format!("{}\n{}", self.path.join(" > "), self.text)
        }
    }
}

/// Splits a document into chunks that cover every block in order and never cross a section.
#[must_use]
pub fn split(_document: &Document) -> Vec<Chunk> {
    Vec::new()
}
