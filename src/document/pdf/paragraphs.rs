//! Lines → blocks.

use super::lines::Line;
use crate::document::{Block, BlockKind, Document, Location};

/// The lines of one page.
pub(super) struct PageText {
    pub(super) number: u32,
    pub(super) lines: Vec<Line>,
}

pub(super) fn document(pages: Vec<PageText>) -> Document {
    let mut document = Document::default();
    for page in pages {
        for line in page.lines {
            document.blocks.push(Block { kind: BlockKind::Paragraph, text: line.text, location: Location { page: Some(page.number), ..Location::default() } });
        }
    }
    document
}
