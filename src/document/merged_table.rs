//! A table's cells with their spans → blocks, row by row.
//!
//! Readers give each cell once, with its place and spans and its content as blocks. A row's text is its cells joined by
//! ` | `; a short cell that spans rows is repeated in each of them, so that every row can be understood alone. Tables
//! that only frame text (one column, or a row that is one long cell) give that text as it is, and a single row with an
//! ordinal and a title (`Ⅰ | 추진 배경`), which is how Korean offices draw their headings, is a heading.

use std::collections::BTreeMap;

use super::table::row_blocks;
use super::{Block, BlockKind, Location};

/// Longest text, in characters, that is repeated in the rows which a cell spans; longer text is no label.
const MAX_REPEATED_CHARS: usize = 60;

/// Longest title, in characters, of a heading that is drawn as a table.
const MAX_BANNER_CHARS: usize = 60;

/// A cell of a table.
#[derive(Debug, Default)]
pub(super) struct Cell {
    /// From 0.
    pub(super) row: u32,
    /// From 0.
    pub(super) column: u32,
    /// Rows it covers, at least 1.
    pub(super) row_span: u32,
    /// Columns it covers, at least 1.
    pub(super) column_span: u32,
    /// Whether the file calls it a header cell.
    pub(super) is_header: bool,
    /// Its paragraphs, and the tables nested in it.
    pub(super) blocks: Vec<Block>,
}

/// The blocks of table number `table` of the document, rows from top to bottom, cells from left to right.
pub(super) fn into_blocks(table: u32, mut cells: Vec<Cell>) -> Vec<Block> {
    cells.sort_by_key(|cell| (cell.row, cell.column));
    if cells.iter().all(|cell| cell.column == 0) {
        return cells.into_iter().flat_map(|cell| cell.blocks).collect();
    }
    if let Some(heading) = banner(&cells) {
        return vec![heading];
    }
    let mut cells_by_row: BTreeMap<u32, Vec<Cell>> = BTreeMap::new();
    for cell in cells {
        cells_by_row.entry(cell.row).or_default().push(cell);
    }
    let is_header = |cells: &&Vec<Cell>| cells.iter().all(|cell| cell.is_header);
    let n_header_rows = cells_by_row.values().take_while(is_header).count();
    let mut spanning = Spanning::new(cells_by_row.values().flatten());
    let mut rows = Vec::new();
    // What follows each row: `(index of the row in the table as read, blocks)`.
    let mut between = Vec::new();
    for (row, cells) in cells_by_row {
        spanning.begin_row(row);
        if spanning.is_empty() && matches!(cells.as_slice(), [cell] if cell.blocks.len() > 1) {
            between.push((
                rows.len(),
                cells.into_iter().flat_map(|cell| cell.blocks).collect(),
            ));
            continue;
        }
        let location = location(&cells);
        let texts = spanning.texts_of_row(&cells);
        if !texts.is_empty() {
            rows.push((texts, location));
        }
        let nested = cells.into_iter().flat_map(|cell| cell.blocks);
        between.push((rows.len(), nested.filter(is_table_row).collect()));
    }
    let n_header_rows = (n_header_rows > 0).then_some(n_header_rows);
    let mut row_blocks = row_blocks(&rows, n_header_rows, table).into_iter();
    let mut blocks = Vec::new();
    let mut n_written = 0;
    for (n_rows_above, more) in between {
        let n_rows: usize = n_rows_above - n_written;
        n_written = n_rows_above;
        blocks.extend(row_blocks.by_ref().take(n_rows));
        blocks.extend::<Vec<Block>>(more);
    }
    blocks
}

/// The heading that a single row draws: an ordinal, a title, and nothing else.
fn banner(cells: &[Cell]) -> Option<Block> {
    let (first, rest) = cells.split_first()?;
    if rest.iter().any(|cell| cell.row != first.row) {
        return None;
    }
    let mut texts = rest.iter().map(own_text).filter(|text| !text.is_empty());
    let (ordinal, title) = (own_text(first), texts.next()?);
    let is_alone = texts.next().is_none();
    let is_title = title.chars().count() <= MAX_BANNER_CHARS;
    (is_alone && is_title && is_ordinal(&ordinal)).then(|| Block {
        kind: BlockKind::Heading { level: 1 },
        text: format!("{ordinal} {title}"),
        location: location(cells),
    })
}

/// `Ⅰ`, `IV.`, `3`, `붙임 1`, `참고`.
fn is_ordinal(text: &str) -> bool {
    let text = text.trim_end_matches('.');
    let number = ["붙임", "참고", "별첨"]
        .iter()
        .find_map(|word| text.strip_prefix(word));
    let is_word = number.is_some();
    let number = number.unwrap_or(text).trim();
    let is_number = (1..=2).contains(&number.len()) && number.chars().all(|c| c.is_ascii_digit());
    let is_roman = !number.is_empty()
        && number
            .chars()
            .all(|c| matches!(c, 'I' | 'V' | 'X' | 'Ⅰ'..='Ⅻ'));
    is_number || is_roman || (is_word && number.is_empty())
}

/// The cells that reach into rows below their own.
struct Spanning {
    /// Column → first row that the cell does not cover, and its text.
    cells: BTreeMap<u32, (u32, String)>,
    /// A file can claim any span: repetition may not make a table more than about five times as long as it is.
    n_chars_left: usize,
}

impl Spanning {
    fn new<'a>(cells: impl Iterator<Item = &'a Cell>) -> Spanning {
        Spanning {
            cells: BTreeMap::new(),
            n_chars_left: 4 * cells.map(n_chars).sum::<usize>(),
        }
    }

    fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    fn begin_row(&mut self, row: u32) {
        self.cells.retain(|_, (end_row, _)| *end_row > row);
    }

    /// The texts of a row from left to right, with those of cells that reach into it; empty where the row has no text
    /// of its own. A text that is alone in its row stands alone.
    fn texts_of_row(&mut self, cells: &[Cell]) -> Vec<String> {
        let n_chars = self.cells.values().map(|(_, text)| text.chars().count());
        match self.n_chars_left.checked_sub(n_chars.sum()) {
            Some(n_chars_left) => self.n_chars_left = n_chars_left,
            None => self.cells.clear(),
        }
        let repeated = self.cells.iter();
        let mut texts: BTreeMap<u32, String> = repeated
            .map(|(column, (_, text))| (*column, text.clone()))
            .collect();
        let mut has_own_text = false;
        for cell in cells {
            let text = own_text(cell);
            has_own_text |= !text.is_empty();
            let n_chars = text.chars().count();
            // Nothing is remembered for an empty cell, so that each repetition uses up the allowance.
            if cell.row_span > 1 && (1..=MAX_REPEATED_CHARS).contains(&n_chars) {
                let end_row = cell.row.saturating_add(cell.row_span);
                self.cells.insert(cell.column, (end_row, text.clone()));
            }
            texts.insert(cell.column, text);
        }
        if !has_own_text {
            return Vec::new();
        }
        let is_alone = texts.values().filter(|text| !text.is_empty()).count() == 1;
        let texts = texts.into_values();
        texts.filter(|text| !is_alone || !text.is_empty()).collect()
    }
}

/// Where a row stands: where its first text does.
fn location(cells: &[Cell]) -> Location {
    let first = cells.iter().flat_map(|cell| &cell.blocks).next();
    first.map_or_else(Location::default, |block| block.location.clone())
}

fn is_table_row(block: &Block) -> bool {
    matches!(block.kind, BlockKind::TableRow { .. })
}

/// The text of a cell's paragraphs on one line, without nested tables.
fn own_text(cell: &Cell) -> String {
    let paragraphs = cell.blocks.iter().filter(|block| !is_table_row(block));
    let lines = paragraphs.flat_map(|block| block.text.lines());
    lines.collect::<Vec<_>>().join(" ")
}

fn n_chars(cell: &Cell) -> usize {
    cell.blocks
        .iter()
        .map(|block| block.text.chars().count())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::flow::block;

    /// `(row, column, row span, column span, paragraphs)`.
    type Given<'a> = (u32, u32, u32, u32, &'a [&'a str]);

    fn cells(given: &[Given<'_>]) -> Vec<Cell> {
        let cell = |(row, column, row_span, column_span, texts): &Given<'_>| Cell {
            row: *row,
            column: *column,
            row_span: *row_span,
            column_span: *column_span,
            is_header: false,
            blocks: texts
                .iter()
                .filter_map(|text| block(BlockKind::Paragraph, text, None))
                .collect(),
        };
        given.iter().map(cell).collect()
    }

    fn check(given: &[Given<'_>], expected: &[&str]) {
        let texts: Vec<String> = into_blocks(0, cells(given))
            .into_iter()
            .map(|block| block.text)
            .collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn rows_join_their_cells_and_repeat_what_spans_rows() {
        check(
            &[
                (0, 0, 1, 1, &["구분"]),
                (0, 1, 1, 2, &["기간"]),
                (1, 0, 2, 1, &["유학"]),
                (1, 1, 1, 1, &["국내"]),
                (1, 2, 1, 1, &["2년", "이내"]),
                (2, 1, 1, 1, &["국외"]),
                (2, 2, 1, 1, &[]),
            ],
            &["구분 | 기간", "유학 | 국내 | 2년 이내", "유학 | 국외"],
        );
    }

    #[test]
    fn a_row_without_text_of_its_own_is_left_out() {
        check(
            &[
                (0, 0, 3, 1, &["구분"]),
                (0, 1, 1, 1, &["가"]),
                (1, 1, 1, 1, &[]),
                (2, 1, 1, 1, &["나"]),
                (3, 0, 1, 1, &[]),
                (3, 1, 1, 1, &["끝"]),
            ],
            &["구분 | 가", "구분 | 나", "끝"],
        );
    }

    #[test]
    fn an_ordinal_with_a_title_is_a_heading() {
        fn check(cells_of_row: &[&str], expected: Option<&str>) {
            let texts: Vec<[&str; 1]> = cells_of_row.iter().map(|text| [*text]).collect();
            let given: Vec<Given<'_>> = (0..)
                .zip(&texts)
                .map(|(column, text)| (0, column, 1, 1, text.as_slice()))
                .collect();
            let blocks = into_blocks(0, cells(&given));
            let heading = BlockKind::Heading { level: 1 };
            let found = blocks.iter().find(|block| block.kind == heading);
            assert_eq!(found.map(|block| block.text.as_str()), expected);
        }
        check(&["Ⅱ", "", "추진 배경"], Some("Ⅱ 추진 배경"));
        check(&["IV.", "휴직"], Some("IV. 휴직"));
        check(&["3", "복직"], Some("3 복직"));
        check(&["붙임 1", "서식"], Some("붙임 1 서식"));
        check(&["참고", "연락처"], Some("참고 연락처"));
        check(&["구분", "기간"], None);
        check(&["2026", "기간"], None);
        check(&["1", "기간", "비고"], None);
        check(&["붙임자료", "서식"], None);
    }

    #[test]
    fn a_frame_gives_its_text_as_it_is() {
        check(&[(0, 0, 1, 1, &["제목", "본문"])], &["제목", "본문"]);
        check(
            &[
                (0, 0, 1, 2, &["첫째", "둘째"]),
                (1, 0, 1, 1, &["가"]),
                (1, 1, 1, 1, &["나"]),
            ],
            &["첫째", "둘째", "가 | 나"],
        );
    }

    #[test]
    fn a_nested_table_follows_the_row_it_stands_in() {
        let mut outer = cells(&[(0, 0, 1, 1, &["밖"]), (0, 1, 1, 1, &["옆"])]);
        let inner = cells(&[(0, 0, 1, 1, &["안"]), (0, 1, 1, 1, &["속"])]);
        outer[0].blocks.extend(into_blocks(1, inner));
        let rows: Vec<(String, BlockKind)> = into_blocks(0, outer)
            .into_iter()
            .map(|block| (block.text, block.kind))
            .collect();
        let row = |table| BlockKind::TableRow {
            table,
            header: false,
        };
        assert_eq!(
            rows,
            [
                ("밖 | 옆".to_owned(), row(0)),
                ("안 | 속".to_owned(), row(1))
            ]
        );
    }

    #[test]
    fn a_first_row_of_names_is_the_header() {
        let given: [Given<'_>; 4] = [
            (0, 0, 1, 1, &["구분"]),
            (0, 1, 1, 1, &["기간"]),
            (1, 0, 1, 1, &["육아"]),
            (1, 1, 1, 1, &["2년"]),
        ];
        let headers: Vec<bool> = into_blocks(0, cells(&given))
            .iter()
            .map(|block| matches!(block.kind, BlockKind::TableRow { header: true, .. }))
            .collect();
        assert_eq!(headers, [true, false]);
    }

    #[test]
    fn absurd_spans_cost_no_memory() {
        let mut given = vec![];
        for row in 0..300 {
            for column in 0..40 {
                given.push(Cell {
                    row: row * 2 + column % 2,
                    column: row * 40 + column,
                    row_span: u32::MAX,
                    column_span: 1,
                    is_header: false,
                    blocks: block(BlockKind::Paragraph, "칸", None)
                        .into_iter()
                        .collect(),
                });
            }
        }
        let n_bytes: usize = into_blocks(0, given)
            .iter()
            .map(|block| block.text.len())
            .sum();
        assert!(n_bytes < 1_000_000, "{n_bytes}");
    }
}
