//! Lines that stand out by weight or size → headings, for documents whose writers used no heading styles.
//!
//! A reader gives its blocks as drafts, each with how it looks. Nothing is marked in a document where most lines stand
//! out: there, looks mean nothing.

use std::collections::BTreeMap;

use super::{Block, BlockKind, structure};

/// A line that stands out by its looks is a heading only up to this length.
const MAX_PROMINENT_CHARS: usize = 50;

/// A block, with what later decides whether it is a heading by its looks alone.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) block: Block,
    pub(super) look: Look,
}

/// How a paragraph looks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Look {
    /// Each visible character is bold.
    pub(super) is_bold: bool,
    /// The largest font size in it.
    pub(super) n_half_points: u32,
    /// It has a list label, or stands in a table or a text box.
    pub(super) is_item: bool,
    /// Its style is the one for the document's title.
    pub(super) is_title: bool,
}

/// Marks short lines that stand out from the text around them as headings, one level for each size.
pub(super) fn mark_headings(drafts: &mut [Draft]) {
    let body_half_points = body_size(drafts);
    let is_prominent = |draft: &Draft| {
        let text = draft.block.text.as_str();
        let size = draft.look.n_half_points;
        // The comparison of sizes alone would hold where none is known.
        let is_large = size > body_half_points && size * 4 >= body_half_points * 5;
        let stands_out = draft.look.is_bold || is_large;
        draft.block.kind == BlockKind::Paragraph
            && stands_out
            && !draft.look.is_item
            && draft.look.n_half_points >= body_half_points
            && text.chars().count() <= MAX_PROMINENT_CHARS
            && structure::may_be_bare_heading(text)
            && !ends_a_letter(text)
    };
    let prominent: Vec<bool> = drafts.iter().map(is_prominent).collect();
    let n_paragraphs = drafts
        .iter()
        .filter(|draft| draft.block.kind == BlockKind::Paragraph)
        .count();
    let n_prominent = prominent
        .iter()
        .filter(|is_prominent| **is_prominent)
        .count();
    if n_prominent * 2 > n_paragraphs {
        return;
    }
    let mut sizes: Vec<u32> = drafts
        .iter()
        .zip(&prominent)
        .filter(|(_, is_prominent)| **is_prominent)
        .map(|(draft, _)| draft.look.n_half_points)
        .collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes.dedup();
    let n_styled_levels = drafts
        .iter()
        .filter_map(|draft| match draft.block.kind {
            BlockKind::Heading { level } => Some(level),
            BlockKind::Paragraph | BlockKind::TableRow { .. } | BlockKind::Record => None,
        })
        .max()
        .unwrap_or(0);
    for (draft, is_prominent) in drafts.iter_mut().zip(prominent) {
        let size = draft.look.n_half_points;
        if is_prominent && let Some(rank) = sizes.iter().position(|&other| other == size) {
            let level = u8::try_from(rank)
                .unwrap_or(9)
                .saturating_add(n_styled_levels)
                .saturating_add(1);
            draft.block.kind = BlockKind::Heading {
                level: level.min(9),
            };
        }
    }
}

/// Lines that are set large because a letter or a form ends in them: `2026년 월 일`, `신청인 (서명)`, `총장 귀하`.
fn ends_a_letter(line: &str) -> bool {
    let line: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    let is_date = line.ends_with('일') && line.contains('년') && line.contains('월');
    is_date || line.ends_with("귀하") || line.contains("(서명") || line.contains("(인)")
}

/// The size that most characters have.
fn body_size(drafts: &[Draft]) -> u32 {
    let mut n_chars_by_size = BTreeMap::<u32, usize>::new();
    for draft in drafts {
        if draft.block.kind == BlockKind::Paragraph {
            *n_chars_by_size.entry(draft.look.n_half_points).or_default() +=
                draft.block.text.chars().count();
        }
    }
    n_chars_by_size
        .into_iter()
        .max_by_key(|&(_, n_chars)| n_chars)
        .map_or(0, |(size, _)| size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::flow::block;

    fn check(lines: &[(&str, bool, u32, bool)], expected: &[Option<u8>]) {
        let draft = |(text, is_bold, n_half_points, is_item): &(&str, bool, u32, bool)| Draft {
            block: block(BlockKind::Paragraph, text, None).unwrap(),
            look: Look {
                is_bold: *is_bold,
                n_half_points: *n_half_points,
                is_item: *is_item,
                is_title: false,
            },
        };
        let mut drafts: Vec<Draft> = lines.iter().map(draft).collect();
        mark_headings(&mut drafts);
        let levels: Vec<Option<u8>> = drafts
            .iter()
            .map(|draft| match draft.block.kind {
                BlockKind::Heading { level } => Some(level),
                BlockKind::Paragraph | BlockKind::TableRow { .. } | BlockKind::Record => None,
            })
            .collect();
        assert_eq!(levels, expected);
    }

    #[test]
    fn short_lines_that_stand_out_are_headings_by_size() {
        let body = (
            "휴직은 다음 각 호와 같이 구분하며 그 기간은 따로 정한다.",
            false,
            20,
            false,
        );
        check(
            &[
                ("휴직 안내", false, 32, false),
                body,
                body,
                ("휴직의 종류", true, 20, false),
                body,
                ("굵은 목록 항목", true, 20, true),
                body,
            ],
            &[Some(1), None, None, Some(2), None, None, None],
        );
    }

    #[test]
    fn the_end_of_a_letter_is_no_heading() {
        let body = (
            "휴직은 다음 각 호와 같이 구분하며 그 기간은 따로 정한다.",
            false,
            20,
            false,
        );
        let lines = [
            body,
            body,
            body,
            body,
            body,
            ("2026년 월 일", false, 32, false),
            ("신 청 인 (서명)", false, 32, false),
            ("학교장 귀하", false, 32, false),
        ];
        check(&lines, &[None; 8]);
    }

    #[test]
    fn without_known_sizes_there_are_no_headings() {
        let body = (
            "휴직은 다음 각 호와 같이 구분하며 그 기간은 따로 정한다.",
            false,
            0,
            false,
        );
        check(&[("휴직 안내", false, 0, false), body, body], &[None; 3]);
    }

    #[test]
    fn where_most_lines_stand_out_none_is_a_heading() {
        check(
            &[
                ("휴직 안내", true, 20, false),
                ("복직 안내", true, 20, false),
                ("급여 안내", false, 20, false),
            ],
            &[None, None, None],
        );
    }
}
