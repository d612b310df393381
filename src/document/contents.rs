//! Tables of contents: `제3조(휴직기간) ········ 5`.
//!
//! Such lines name every subject of a document and say nothing about any: among passages they stand before the text
//! they point to. A line goes only if its words stand again where it points, so that nothing but page numbers is lost,
//! and only within a row of such lines whose numbers never fall, as those of pages do and those of a price list do not.

use super::{BlockKind, Document};

/// Entries from which there is a table of contents.
const MIN_ENTRIES: usize = 3;

/// Leader dots from which a row of them is one.
const MIN_LEADERS: usize = 3;

/// Longest page number, in digits.
const MAX_PAGE_DIGITS: usize = 4;

/// Letters and digits of a line that are compared.
const MAX_KEY_CHARS: usize = 80;

/// What an entry says.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// The [`key`] of the heading.
    heading: String,
    page: u32,
}

/// Removes the lines of a table of contents that the document repeats as its headings.
pub(super) fn remove(document: &mut Document) {
    let entries: Vec<Option<Vec<Entry>>> = document
        .blocks
        .iter()
        .map(|block| match block.kind {
            BlockKind::Heading { .. } | BlockKind::Paragraph => entries(&block.text),
            BlockKind::TableRow { .. } | BlockKind::Record => None,
        })
        .collect();
    if entries.iter().flatten().flatten().count() < MIN_ENTRIES {
        return;
    }
    let body = document.blocks.iter().zip(&entries);
    let mut keys: Vec<String> = body
        .filter(|(_, entries)| entries.is_none())
        .map(|(block, _)| key(&block.text))
        .collect();
    keys.sort_unstable();
    let is_repeated = |entry: &Entry| {
        let at = keys.partition_point(|key| *key < entry.heading);
        keys.get(at)
            .is_some_and(|key| key.starts_with(&entry.heading))
    };
    let mut stays = Vec::with_capacity(entries.len());
    for row in entries.chunk_by(|a, b| a.is_some() == b.is_some()) {
        let is_contents = is_contents(row);
        stays.extend(row.iter().map(|entries| {
            let all_repeated = |all: &Vec<Entry>| all.iter().all(is_repeated);
            !(is_contents && entries.as_ref().is_some_and(all_repeated))
        }));
    }
    let mut stays = stays.into_iter();
    document.blocks.retain(|_| stays.next().unwrap_or(true));
}

/// Whether blocks in a row have the entries of a table of contents.
fn is_contents(row: &[Option<Vec<Entry>>]) -> bool {
    let pages = || row.iter().flatten().flatten().map(|entry| entry.page);
    pages().count() >= MIN_ENTRIES && pages().is_sorted()
}

/// Whether a line is an entry, or several.
pub(super) fn is_entry(line: &str) -> bool {
    entries(line).is_some()
}

/// The entries that a text consists of; `None` if anything else is in it.
fn entries(text: &str) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut rest = text.trim();
    if !rest.ends_with(|c: char| c.is_ascii_digit() || c == '-') {
        return None;
    }
    while !rest.is_empty() {
        let (heading, after) = split_at_leader(rest)?;
        let heading = key(heading);
        let without_page = after.trim_start_matches(|c: char| c.is_ascii_digit());
        let page = after.strip_suffix(without_page)?;
        let end = without_page.trim_start_matches([' ', '-']);
        let is_cut = end.len() < without_page.len() || end.is_empty() || end.starts_with('\n');
        if heading.is_empty() || page.len() > MAX_PAGE_DIGITS || !is_cut {
            return None;
        }
        let page = page.parse().ok()?;
        entries.push(Entry { heading, page });
        rest = end.trim_start();
    }
    (!entries.is_empty()).then_some(entries)
}

/// What stands before the first row of leader dots, and what after it.
fn split_at_leader(text: &str) -> Option<(&str, &str)> {
    let mut start = None;
    let mut n_leaders = 0;
    for (at, character) in text.char_indices() {
        match character {
            '.' | '·' | 'ㆍ' | '‧' | '・' | '-' | '_' | '─' => n_leaders += 1,
            '…' | '⋯' | '‥' | '\t' => n_leaders += MIN_LEADERS,
            // Typst joins the last dot and the page number.
            ' ' | '\u{a0}' | '\u{2060}' => continue,
            _ if n_leaders >= MIN_LEADERS => return text.get(..start?).zip(text.get(at..)),
            _ => {
                (start, n_leaders) = (None, 0);
                continue;
            }
        }
        start = start.or(Some(at));
    }
    None
}

/// The first letters and digits of a text, by which a heading is known again.
fn key(text: &str) -> String {
    let letters = text.chars().filter(|c| c.is_alphanumeric());
    letters.take(MAX_KEY_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Block, Location};

    #[test]
    fn entries_are_told_from_text() {
        let check = |text: &str, expected: Option<&[(&str, u32)]>| {
            let entry = |&(heading, page): &(&str, u32)| Entry {
                heading: heading.to_owned(),
                page,
            };
            let expected = expected.map(|all| all.iter().map(entry).collect::<Vec<_>>());
            assert_eq!(entries(text), expected, "{text}");
        };
        check("제3조(휴직기간) ········ 5", Some(&[("제3조휴직기간", 5)]));
        check("1. 개요........- 12 -", Some(&[("1개요", 12)]));
        check("제2장 휴직 . . . . . 5", Some(&[("제2장휴직", 5)]));
        check("부칙\t9", Some(&[("부칙", 9)]));
        check("부칙 . . . \u{2060}9", Some(&[("부칙", 9)]));
        check("총칙 …… 1 휴직 ‥‥ 23", Some(&[("총칙", 1), ("휴직", 23)]));
        check("총칙 …… 1\n휴직 …… 2", Some(&[("총칙", 1), ("휴직", 2)]));
        check("그리고 ... 3년이 지났다.", None);
        check("2024. 1. 1.", None);
        check("전화 02-123-4567", None);
        check("성명 ________", None);
        check("...... 3", None);
        check("총칙 …… 12345", None);
        check("휴직 기간은 2년 이내로 한다.", None);
    }

    #[test]
    fn only_what_stands_again_goes() {
        let block = |text: &str| Block {
            kind: BlockKind::Paragraph,
            text: text.to_owned(),
            location: Location::default(),
        };
        let check = |texts: &[&str], n_left: usize| {
            let mut document = Document {
                title: None,
                blocks: texts.iter().map(|text| block(text)).collect(),
            };
            remove(&mut document);
            let found: Vec<&str> = document.blocks.iter().map(|block| &*block.text).collect();
            assert_eq!(found, texts[texts.len() - n_left..]);
        };
        let body = ["제1장 총칙", "제1조(목적) 이 규정은", "부칙"];
        let contents = ["제1장 총칙 …… 1", "제1조(목적) …… 1", "부칙 …… 9"];
        check(&[contents, body].concat(), 3);
        check(&[&contents[..], &["부록 …… 11"], &body].concat(), 4);
        check(&[&contents[..2], &body].concat(), 5);
        check(&contents, 3);
        let leave = ["본인 결혼 …… 5", "자녀 결혼 …… 1", "회갑 …… 1"];
        let rules = ["본인 결혼은 식의 날부터", "자녀 결혼은", "회갑은"];
        check(&[leave, rules].concat(), 6);
    }
}
