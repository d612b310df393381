//! Gives every block its section path, for all formats by one line state machine.
//!
//! Three kinds of headings are known. Legal units: 편, 장, 절, 관, 조, 부칙, 별표 by their form ([`legal`]). Headings that a
//! reader marked ([`BlockKind::Heading`]). Outline numbers (`3. 휴직기간`, `(1)`, `Ⅰ.`), but only outside articles, only on
//! short lines, and only where the whole series `1., 2., 3.` is followed by text: a list is not a chapter ([`outline`]).
//! 항, 호 and 목 stay inside their article. The document's title stands in no path; where it holds several rules, whose
//! articles each begin again at 제1조, a rule's name line opens a top-level section, so that two rules never mix
//! ([`names`]).
//!
//! Lines recognised as headings become [`BlockKind::Heading`]; texts are never changed. Data files (records, sheets)
//! have no sections and are left alone.

mod legal;
mod names;
mod outline;
mod scanner;
mod wording;

use self::legal::{ARTICLE, is_clause, legal_heading};
use self::outline::{Style, outline_label};
use self::wording::{is_title_like, tidied};
use super::{Block, BlockKind, Document, contents};

/// A heading line is no longer than this; what is longer is a sentence that begins like one.
const MAX_HEADING_CHARS: usize = 60;

/// Sets [`super::Location::section`] of every block, and the document's title if its reader found none.
pub(super) fn assign_sections(document: &mut Document) {
    let is_data = |block: &Block| block.kind == BlockKind::Record || block.location.sheet.is_some();
    if document.blocks.iter().any(is_data) {
        return;
    }
    split_at_units(&mut document.blocks);
    let mut lines: Vec<Line> = document.blocks.iter().map(Line::of).collect();
    names::mark_rules(&document.blocks, &mut lines);
    let title = names::mark_title(document, &mut lines);
    outline::mark(&document.blocks, &mut lines);
    document.title = document.title.take().or(title);

    let mut path: Vec<Entry> = Vec::new();
    for (block, line) in document.blocks.iter_mut().zip(lines) {
        if let Some(heading) = line.heading {
            if let Some(first) = path.iter().position(|open| heading.closes(open)) {
                path.truncate(first);
            }
            if line.is_whole && block.kind == BlockKind::Paragraph {
                block.kind = BlockKind::Heading {
                    level: heading.level(path.len()),
                };
            }
            if heading.unit != Unit::Title {
                path.push(heading);
            }
        }
        block.location.section = path.iter().map(|entry| entry.name.clone()).collect();
    }
}

/// Whether a line begins a unit of its own (an article, a clause, a list item), so that it never continues the line
/// above it.
pub(super) fn begins_unit(line: &str) -> bool {
    let line = line.trim_start();
    legal_heading(line, false).is_some()
        || is_clause(line)
        || outline_label(line).is_some()
        || contents::is_entry(line)
}

/// Whether a line that only stands out by its looks may be taken as a heading: a title or an outline number, but
/// neither a clause nor a sentence.
pub(super) fn may_be_bare_heading(line: &str) -> bool {
    is_title_like(line) && !is_clause(line) && !line.starts_with(['-', '*', '※', '•', '·'])
}

/// What a block's first line is.
struct Line {
    heading: Option<Entry>,
    /// The heading is all there is to the block.
    is_whole: bool,
}

/// A heading that is open: it stands above the text that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    unit: Unit,
    /// The level its reader gave it, if the reader marked it as a heading.
    level: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// The document's own title: never part of a path.
    Title,
    /// The name line of one of several rules.
    Rule,
    /// 편, 장, 절, 관, 조: ranks 1 to 5. The number tells where a rule begins again.
    Legal { rank: u8, number: u32 },
    /// 부칙, 별표, 별지: after the articles, with articles of their own.
    Attachment,
    /// A heading of the document's own making.
    Plain,
    /// A numbered line that heads the text below it.
    Outline(Style),
}

impl Entry {
    /// Whether this heading ends the section of one that is open.
    fn closes(&self, open: &Entry) -> bool {
        let is_not_deeper = |open: &Entry| match (self.level, open.level) {
            (Some(level), Some(open_level)) => level <= open_level,
            _ => false,
        };
        match (self.unit, open.unit) {
            (Unit::Title, _) | (_, Unit::Title) => false,
            (Unit::Rule, _) => true,
            (Unit::Outline(style), Unit::Outline(open_style)) => style.closes(open_style),
            (Unit::Outline(_), _) => false,
            (_, Unit::Outline(_)) => true,
            (Unit::Legal { rank, .. }, Unit::Legal { rank: open, .. }) => rank <= open,
            (Unit::Legal { rank, .. }, Unit::Attachment) => rank < ARTICLE,
            (Unit::Attachment, Unit::Legal { .. } | Unit::Attachment) => true,
            (Unit::Legal { .. } | Unit::Attachment | Unit::Plain, Unit::Plain | Unit::Rule) => {
                is_not_deeper(open)
            }
            // A heading of the first level stands above articles that are no headings to their reader.
            (Unit::Plain, Unit::Legal { .. } | Unit::Attachment) => {
                is_not_deeper(open) || (open.level.is_none() && self.level == Some(1))
            }
        }
    }

    /// The level that the heading gets as a block.
    fn level(&self, n_open: usize) -> u8 {
        match (self.level, self.unit) {
            (Some(level), _) => level,
            (None, Unit::Title | Unit::Rule) => 1,
            (None, Unit::Legal { rank, .. }) => rank + 1,
            (None, Unit::Attachment) => 2,
            (None, Unit::Plain | Unit::Outline(_)) => {
                u8::try_from(n_open + 2).unwrap_or(u8::MAX).min(9)
            }
        }
    }
}

impl Line {
    fn of(block: &Block) -> Line {
        let level = match block.kind {
            BlockKind::Heading { level } => Some(level),
            BlockKind::Paragraph => None,
            BlockKind::TableRow { .. } | BlockKind::Record => {
                return Line {
                    heading: None,
                    is_whole: false,
                };
            }
        };
        let first = block.text.lines().next().unwrap_or_default().trim();
        let legal = legal_heading(first, level.is_some());
        let is_whole =
            block.text.trim() == first && legal.as_ref().is_none_or(|(_, rest)| rest.is_empty());
        let heading = match (legal, level) {
            (Some((entry, _)), _) => Some(Entry { level, ..entry }),
            (None, Some(_)) => Some(Entry {
                name: tidied(first),
                unit: Unit::Plain,
                level,
            }),
            (None, None) => None,
        };
        Line { heading, is_whole }
    }

    fn number_of(&self, wanted: u8) -> Option<u32> {
        let heading = self.heading.as_ref()?;
        if let Unit::Legal { rank, number } = heading.unit
            && rank == wanted
        {
            return Some(number);
        }
        None
    }
}

/// A paragraph with line breaks inside may hold several articles: each becomes a block.
fn split_at_units(blocks: &mut Vec<Block>) {
    let holds_units = |block: &Block| {
        block.kind == BlockKind::Paragraph
            && block
                .text
                .lines()
                .skip(1)
                .any(|line| legal_heading(line.trim(), false).is_some())
    };
    if !blocks.iter().any(holds_units) {
        return;
    }
    for block in std::mem::take(blocks) {
        if !holds_units(&block) {
            blocks.push(block);
            continue;
        }
        let mut pieces: Vec<String> = Vec::new();
        for line in block.text.lines() {
            match pieces.last_mut() {
                Some(piece) if legal_heading(line.trim(), false).is_none() => {
                    piece.push('\n');
                    piece.push_str(line);
                }
                _ => pieces.push(line.trim().to_owned()),
            }
        }
        blocks.extend(pieces.into_iter().map(|piece| Block {
            text: piece.trim().to_owned(),
            ..block.clone()
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Location;

    pub(super) fn document(lines: &[&str]) -> Document {
        let block = |text: &&str| {
            // `# ` marks what a reader found to be a heading.
            let level = text.len() - text.trim_start_matches('#').len();
            Block {
                kind: match u8::try_from(level).unwrap() {
                    0 => BlockKind::Paragraph,
                    level => BlockKind::Heading { level },
                },
                text: text.trim_start_matches(['#', ' ']).to_owned(),
                location: Location::default(),
            }
        };
        let mut document = Document {
            title: None,
            blocks: lines.iter().map(block).collect(),
        };
        assign_sections(&mut document);
        document
    }

    /// Each line with the path that it must get, parts joined by ` > `.
    pub(super) fn check(title: Option<&str>, expected: &[(&str, &str)]) {
        let lines: Vec<&str> = expected.iter().map(|(line, _)| *line).collect();
        let document = document(&lines);
        assert_eq!(document.title.as_deref(), title);
        let found: Vec<(&str, String)> = lines
            .iter()
            .zip(&document.blocks)
            .map(|(line, block)| (*line, block.location.section.join(" > ")))
            .collect();
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!((found.0, found.1.as_str()), *expected);
        }
    }

    #[test]
    fn headings_of_readers_keep_their_levels() {
        check(
            Some("안내서"),
            &[
                ("# 안내서", ""),
                ("## 휴가", "휴가"),
                ("### 연차", "휴가 > 연차"),
                ("15일", "휴가 > 연차"),
                ("## 제2조 적용범위", "제2조 적용범위"),
                ("모두", "제2조 적용범위"),
            ],
        );
        // Two headings of the first level: neither is the title.
        check(
            None,
            &[("# 휴가", "휴가"), ("15일", "휴가"), ("# 복장", "복장")],
        );
    }

    #[test]
    fn a_paragraph_of_several_articles_is_split() {
        let document = document(&["제1조(목적) 가\n나\n제2조(정의) 다"]);
        let texts: Vec<&str> = document.blocks.iter().map(|b| b.text.as_str()).collect();
        assert_eq!(texts, ["제1조(목적) 가\n나", "제2조(정의) 다"]);
    }
}
