//! A table's cells with their spans → blocks, row by row.
//!
//! Readers give each cell once, with its place and spans and its content as blocks. A row's text is its cells joined by
//! ` | `; a short cell that spans rows is repeated in each of them, so that every row can be understood alone. Tables
//! that only frame text (one column, or a row that is one long cell) give that text as it is.

use std::collections::BTreeMap;

use super::flow::block;
use super::{Block, BlockKind};

/// Longest text, in characters, that is repeated in the rows which a cell spans; longer text is no label.
const MAX_REPEATED_CHARS: usize = 60;

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

/// A cell whose text is repeated in the rows below.
struct Spanning {
    until_row: u32,
    text: String,
}

/// The blocks of table number `table` of the document, rows from top to bottom, cells from left to right.
pub(super) fn into_blocks(table: u32, mut cells: Vec<Cell>) -> Vec<Block> {
    cells.sort_by_key(|cell| (cell.row, cell.column));
    let frames_text = cells.iter().all(|cell| cell.column == 0);
    if frames_text {
        return cells.into_iter().flat_map(|cell| cell.blocks).collect();
    }
    let mut rows: BTreeMap<u32, Vec<Cell>> = BTreeMap::new();
    for cell in cells {
        rows.entry(cell.row).or_default().push(cell);
    }
    let n_rows = rows.len();
    let n_columns = rows.values().map(Vec::len).max().unwrap_or(0);
    // A file can claim any span: repetition may not make the table more than about five times as long as it is.
    let mut repeatable_chars = 4 * rows.values().flatten().map(n_chars).sum::<usize>();
    let mut spanning: BTreeMap<u32, Spanning> = BTreeMap::new();
    let mut blocks = Vec::new();
    for (index, (row, cells)) in rows.into_iter().enumerate() {
        spanning.retain(|_, cell| cell.until_row > row);
        if let [cell] = cells.as_slice()
            && spanning.is_empty()
            && cell.blocks.len() > 1
        {
            blocks.extend(cells.into_iter().flat_map(|cell| cell.blocks));
            continue;
        }
        let is_header = n_rows > 1
            && (cells.iter().all(|cell| cell.is_header)
                || (index == 0 && looks_like_header(&cells, n_columns)));
        let page = cells
            .iter()
            .flat_map(|cell| &cell.blocks)
            .find_map(|block| block.location.page);
        let mut texts: BTreeMap<u32, String> = BTreeMap::new();
        for (column, cell) in &spanning {
            let n_chars = cell.text.chars().count();
            if n_chars > repeatable_chars {
                break;
            }
            repeatable_chars -= n_chars;
            texts.insert(*column, cell.text.clone());
        }
        let mut nested = Vec::new();
        let mut has_own_text = false;
        for cell in cells {
            let text = own_text(&cell);
            has_own_text |= !text.is_empty();
            let n_chars = text.chars().count();
            // Nothing is remembered for an empty cell, so that each step of the loop above uses up its allowance.
            if cell.row_span > 1 && (1..=MAX_REPEATED_CHARS).contains(&n_chars) {
                let until_row = cell.row.saturating_add(cell.row_span);
                let text = text.clone();
                spanning.insert(cell.column, Spanning { until_row, text });
            }
            texts.insert(cell.column, text);
            nested.extend(cell.blocks.into_iter().filter(is_table_row));
        }
        if has_own_text {
            let text = texts.into_values().collect::<Vec<_>>().join(" | ");
            let kind = BlockKind::TableRow {
                table,
                header: is_header,
            };
            blocks.extend(block(kind, &text, page));
        }
        blocks.extend(nested);
    }
    blocks
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

/// Whether a first row names the columns: no cell empty, none long, none with a number.
fn looks_like_header(cells: &[Cell], n_columns: usize) -> bool {
    let covered: u64 = cells.iter().map(|cell| u64::from(cell.column_span)).sum();
    let complete = u64::try_from(n_columns).is_ok_and(|n_columns| covered >= n_columns);
    let names_a_column = |cell: &Cell| {
        let text = own_text(cell);
        (1..=30).contains(&text.chars().count()) && !text.chars().any(|c| c.is_ascii_digit())
    };
    complete && cells.len() > 1 && cells.iter().all(names_a_column)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            &["구분 | 기간", "유학 | 국내 | 2년 이내", "유학 | 국외 | "].map(str::trim_end),
        );
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
