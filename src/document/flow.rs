//! The parts of one paragraph (text, tables and text boxes anchored in it, notes) → blocks in reading order.
//!
//! Word processors anchor objects inside paragraphs; readers of such formats collect the parts while they stream and
//! call [`Paragraph::into_blocks`] at the paragraph's end. Nothing is recursive: a nested object arrives here already
//! turned into blocks.

use std::borrow::Cow;

use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::{Block, BlockKind, Location};

/// Longest text, in characters, that a heading has; a longer outline paragraph is running text with a number.
const MAX_HEADING_CHARS: usize = 80;

/// One paragraph while it is read.
#[derive(Debug, Default)]
pub(super) struct Paragraph {
    /// Outline level from 1, if the paragraph takes part in the outline.
    pub(super) outline_level: Option<u8>,
    /// Its automatic label: `제1조`, `가.`, `•`; empty for none.
    pub(super) label: String,
    /// The page on which it starts, an estimate.
    pub(super) page: Option<u32>,
    /// Text and objects in the order in which they are anchored.
    pub(super) parts: Vec<Part>,
}

/// A piece of a paragraph.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Running text.
    Text(String),
    /// A table, text box, picture caption.
    Object {
        /// What it holds, in order.
        blocks: Vec<Block>,
        /// Whether it stands in the line like a character, so that the text after the anchor stands after it.
        in_line: bool,
    },
    /// A footnote or endnote: kept after the paragraph.
    Note(Vec<Block>),
}

impl Paragraph {
    /// The paragraph's blocks: its text, cut where a large object stands in line, then floating objects, then notes.
    /// An object anchored before any text comes first.
    pub(super) fn into_blocks(self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut floating = Vec::new();
        let mut notes = Vec::new();
        let mut text = String::new();
        let mut label = self.label;
        for part in self.parts {
            match part {
                Part::Text(piece) => text.push_str(&piece),
                Part::Note(note) => notes.extend(note),
                Part::Object {
                    blocks: object,
                    in_line,
                } => {
                    let at_start = text.trim().is_empty();
                    if in_line && !at_start {
                        let piece = labelled(&std::mem::take(&mut label), &text);
                        blocks.extend(paragraph_block(&piece, self.outline_level, self.page));
                        text.clear();
                    }
                    if in_line || at_start {
                        blocks.extend(object);
                    } else {
                        floating.extend(object);
                    }
                }
            }
        }
        let piece = labelled(&label, &text);
        blocks.extend(paragraph_block(&piece, self.outline_level, self.page));
        blocks.extend(floating);
        blocks.extend(notes);
        blocks
    }
}

/// A label alone says nothing: without text there is no block.
fn labelled(label: &str, text: &str) -> String {
    let text = text.trim();
    if text.is_empty() || label.is_empty() {
        return text.to_owned();
    }
    format!("{} {text}", label.trim())
}

/// A paragraph or heading with this text, or nothing where the text is blank.
fn paragraph_block(text: &str, outline_level: Option<u8>, page: Option<u32>) -> Option<Block> {
    let is_title =
        text.chars().count() <= MAX_HEADING_CHARS && !text.ends_with("다.") && !text.contains('\n');
    let kind = match outline_level {
        Some(level) if is_title => BlockKind::Heading {
            level: level.clamp(1, 9),
        },
        Some(_) | None => BlockKind::Paragraph,
    };
    block(kind, text, page)
}

/// A block with cleaned text: NFC, runs of white space as one space, line breaks kept, no control characters; `None`
/// where nothing remains.
pub(super) fn block(kind: BlockKind, text: &str, page: Option<u32>) -> Option<Block> {
    let text = clean(text);
    (!text.is_empty()).then(|| Block {
        kind,
        text,
        location: Location {
            page,
            page_is_approximate: page.is_some(),
            ..Location::default()
        },
    })
}

fn clean(text: &str) -> String {
    let composed = if is_nfc(text) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.nfc().collect())
    };
    let lines = composed.lines().map(|line| {
        line.split(|character: char| character.is_whitespace() || character.is_control())
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    });
    lines
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    fn object(text: &str, in_line: bool) -> Part {
        Part::Object {
            blocks: block(BlockKind::Paragraph, text, None)
                .into_iter()
                .collect(),
            in_line,
        }
    }

    fn check(label: &str, parts: Vec<Part>, expected: &[&str]) {
        let paragraph = Paragraph {
            label: label.to_owned(),
            parts,
            ..Paragraph::default()
        };
        let texts: Vec<String> = paragraph
            .into_blocks()
            .into_iter()
            .map(|block| block.text)
            .collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn objects_stand_where_a_reader_meets_them() {
        check("", vec![text("앞"), text("뒤")], &["앞뒤"]);
        check(
            "",
            vec![text("앞"), object("표", true), text("뒤")],
            &["앞", "표", "뒤"],
        );
        check(
            "",
            vec![text("앞"), object("상자", false), text("뒤")],
            &["앞뒤", "상자"],
        );
        check(
            "",
            vec![text(" "), object("상자", false), text("뒤")],
            &["상자", "뒤"],
        );
    }

    #[test]
    fn notes_follow_and_labels_need_text() {
        let note = Part::Note(
            block(BlockKind::Paragraph, "1) 주", None)
                .into_iter()
                .collect(),
        );
        check(
            "①",
            vec![text("본문"), note, text(" 끝")],
            &["① 본문 끝", "1) 주"],
        );
        check("①", vec![text("  ")], &[]);
        check(
            "1.",
            vec![object("표", true), text("설명")],
            &["표", "1. 설명"],
        );
    }

    #[test]
    fn an_outline_paragraph_is_a_heading_only_when_it_reads_like_one() {
        fn check(text: &str, expected: BlockKind) {
            let block = paragraph_block(text, Some(2), None).unwrap();
            assert_eq!(block.kind, expected, "{text}");
        }
        check("가. 휴직", BlockKind::Heading { level: 2 });
        check("나. 휴직은 2년을 넘지 못한다.", BlockKind::Paragraph);
        check(&"긴".repeat(81), BlockKind::Paragraph);
    }

    #[test]
    fn text_is_composed_and_white_space_is_folded() {
        fn check(text: &str, expected: &str) {
            assert_eq!(clean(text), expected);
        }
        check("  휴\u{00A0}\t 직  ", "휴 직");
        check("\u{1112}\u{1172}", "휴");
        check("가\n\n  나\u{0007}다\r\n", "가\n나 다");
        check(" \u{3000}\n", "");
    }
}
