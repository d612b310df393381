//! `ragq text`: what ragq reads from a file.

use anyhow::Result;
use ragq::document::{BlockKind, Document, Warning};
use serde_json::{Value, json};

use super::{Output, location_json};

impl Output {
    /// A document on stdout; warnings on stderr, or within the JSON.
    pub(crate) fn document(&self, document: &Document, warnings: &[Warning]) -> Result<()> {
        if self.json {
            let elements: Vec<Value> = document
                .blocks
                .iter()
                .map(|block| {
                    json!({ "kind": kind(block.kind), "text": block.text, "location": location_json(&block.location) })
                })
                .collect();
            let warnings: Vec<&str> = warnings.iter().map(|warning| warning.0.as_str()).collect();
            return self.json_line(
                &json!({ "title": document.title, "elements": elements, "warnings": warnings }),
            );
        }
        for (at, block) in document.blocks.iter().enumerate() {
            let opens_paragraph =
                matches!(block.kind, BlockKind::Heading { .. } | BlockKind::Record);
            if at > 0 && opens_paragraph {
                self.line("")?;
            }
            self.line(&block.text)?;
        }
        for warning in warnings {
            self.note(&format!("warning: {warning}"));
        }
        Ok(())
    }
}

fn kind(kind: BlockKind) -> &'static str {
    match kind {
        BlockKind::Heading { .. } => "heading",
        BlockKind::Paragraph => "paragraph",
        BlockKind::TableRow { .. } => "table_row",
        BlockKind::Record => "record",
    }
}
