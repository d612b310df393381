//! Rows of cells → blocks, for every format that has tables.
//!
//! A table inside a text document becomes one [`BlockKind::TableRow`] a row ([`row_blocks`]). A data file (CSV, a
//! sheet) becomes one [`BlockKind::Record`] a row, each value beside its column's name ([`record_blocks`]); titles
//! and notes around the table stay as paragraphs, and rows without recognisable column names stay table rows.

use std::collections::{BTreeMap, HashSet};

use super::{Block, BlockKind, Location};

/// Column names are short; longer cells are values.
const MAX_COLUMN_NAME_CHARS: usize = 40;

/// Rows that are looked at to learn how wide a table is.
const N_ROWS_TO_MEASURE: usize = 50;

/// The text of one table row: its cells joined by ` | `, each on one line; empty if all cells are empty.
pub(super) fn row_text<S: AsRef<str>>(cells: &[S]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| one_line(cell.as_ref())).collect();
    let n_used = cells
        .iter()
        .rposition(|cell| !cell.is_empty())
        .map_or(0, |last| last + 1);
    cells
        .get(..n_used)
        .unwrap_or_default()
        .join(" | ")
        .trim_start()
        .to_owned()
}

/// The blocks of a table in a text document, from its rows and where each stands. `n_header_rows` is `None` where the
/// format does not say: then the first row counts as the header if it looks like one.
pub(super) fn row_blocks(
    rows: &[(Vec<String>, Location)],
    n_header_rows: Option<usize>,
    table: u32,
) -> Vec<Block> {
    let n_header_rows = n_header_rows.unwrap_or_else(|| {
        let first_looks_like_header = rows.len() > 1
            && rows.first().is_some_and(|(cells, _)| {
                cells.len() > 1
                    && cells.iter().all(|cell| !cell.trim().is_empty())
                    && are_column_names(cells.iter().map(String::as_str))
            });
        usize::from(first_looks_like_header)
    });
    rows.iter()
        .enumerate()
        .map(|(n, (cells, location))| Block {
            kind: BlockKind::TableRow {
                table,
                header: n < n_header_rows,
            },
            text: row_text(cells),
            location: location.clone(),
        })
        .filter(|block| !block.text.is_empty())
        .collect()
}

/// A row of a data file. Cells that are empty are left out, so that a wide sheet costs only what it holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    /// As a spreadsheet program numbers it.
    pub(super) number: u32,
    /// Column (from 0) → text, never blank.
    pub(super) cells: BTreeMap<u32, String>,
    /// How many rows the merged cells that begin in this row reach over; 0 and 1 mean only this one.
    pub(super) n_merged_rows: u32,
    /// Whether a cell of this row is merged over several columns (its text then stands in each of them).
    pub(super) has_wide_cell: bool,
}

/// The blocks of a data file or a sheet, from rows in ascending order.
pub(super) fn record_blocks(rows: &[Row], sheet: Option<&str>, first_table: u32) -> Vec<Block> {
    let mut writer = RecordWriter {
        sheet,
        table: first_table,
        columns: None,
        blocks: Vec::new(),
    };
    let mut rest = rows;
    let mut last_number = 0;
    while let Some(row) = rest.first() {
        let follows_gap = row.number > last_number + 1;
        if writer.needs_header(row, rest.get(1), follows_gap) {
            rest = writer.begin_table(rest);
        } else {
            writer.write(row);
            rest = rest.get(1..).unwrap_or_default();
        }
        let n_done = rows.len() - rest.len();
        last_number = n_done
            .checked_sub(1)
            .and_then(|n| rows.get(n))
            .map_or(0, |row| row.number);
    }
    writer.blocks
}

/// The number of the next table, so that those of several sheets count on.
pub(super) fn next_table(blocks: &[Block]) -> u32 {
    let tables = blocks.iter().filter_map(|block| match block.kind {
        BlockKind::TableRow { table, .. } => Some(table),
        BlockKind::Heading { .. } | BlockKind::Paragraph | BlockKind::Record => None,
    });
    tables.max().map_or(0, |last| last + 1)
}

struct RecordWriter<'a> {
    sheet: Option<&'a str>,
    table: u32,
    /// `Some` once a table has begun; empty if it has no column names.
    columns: Option<BTreeMap<u32, String>>,
    blocks: Vec<Block>,
}

impl RecordWriter<'_> {
    /// A second table on a sheet begins after a blank row, with a title or in columns that the first does not have.
    fn needs_header(&self, row: &Row, next: Option<&Row>, follows_gap: bool) -> bool {
        let is_outside = |columns: &BTreeMap<u32, String>, row: &Row| {
            row.cells.keys().any(|column| !columns.contains_key(column))
        };
        match &self.columns {
            None => true,
            Some(_) if is_note(row) => false,
            Some(columns) if !columns.is_empty() && follows_gap => {
                let is_title = row.cells.len() == 1
                    && (columns.len() > 2 || next.is_some_and(|next| is_outside(columns, next)));
                is_title || is_outside(columns, row)
            }
            Some(_) => false,
        }
    }

    /// Writes titles and notes above the table as paragraphs, takes its column names, returns the rows below.
    fn begin_table<'r>(&mut self, rows: &'r [Row]) -> &'r [Row] {
        if self.columns.is_some() {
            self.table += 1;
        }
        let region = rows.get(..N_ROWS_TO_MEASURE).unwrap_or(rows);
        let n_columns = region.iter().map(|row| row.cells.len()).max().unwrap_or(0);
        let n_preamble = region
            .iter()
            .take_while(|row| row.cells.len() < n_columns.min(2).max(n_columns.div_ceil(2)))
            .count();
        for row in region.get(..n_preamble).unwrap_or_default() {
            self.push(BlockKind::Paragraph, row, joined(row, " "));
        }
        let body = rows.get(n_preamble..).unwrap_or_default();
        let n_header_rows = n_header_rows(body);
        self.columns = Some(column_names(body.get(..n_header_rows).unwrap_or_default()));
        if n_header_rows > 0 || n_preamble > 0 {
            return body.get(n_header_rows..).unwrap_or_default();
        }
        if let Some((first, below)) = body.split_first() {
            self.write(first);
            return below;
        }
        body
    }

    fn write(&mut self, row: &Row) {
        let columns = self.columns.as_ref().filter(|columns| !columns.is_empty());
        let (kind, text) = match columns {
            None => {
                let kind = BlockKind::TableRow {
                    table: self.table,
                    header: false,
                };
                (kind, joined(row, " | "))
            }
            Some(columns) if columns.len() > 1 && is_note(row) => {
                (BlockKind::Paragraph, joined(row, " "))
            }
            Some(columns) => {
                let line = |(column, value): (&u32, &String)| match columns.get(column) {
                    Some(name) => format!("{name}: {}", value_lines(value)),
                    None => value_lines(value),
                };
                let lines: Vec<String> = row.cells.iter().map(line).collect();
                (BlockKind::Record, lines.join("\n"))
            }
        };
        self.push(kind, row, text);
    }

    fn push(&mut self, kind: BlockKind, row: &Row, text: String) {
        let location = Location {
            sheet: self.sheet.map(str::to_owned),
            row: Some(row.number),
            ..Location::default()
        };
        self.blocks.push(Block {
            kind,
            text,
            location,
        });
    }
}

/// How many rows at the top name the columns: 0 if the first row holds values already.
fn n_header_rows(rows: &[Row]) -> usize {
    let Some((first, below)) = rows.split_first() else {
        return 0;
    };
    let is_header = !below.is_empty()
        && (are_column_names(first.cells.values().map(String::as_str))
            || (first.has_wide_cell
                && first
                    .cells
                    .values()
                    .all(|cell| is_column_name(cell.as_str()))));
    if !is_header {
        return 0;
    }
    let n_merged = usize::try_from(first.n_merged_rows).unwrap_or(1).max(1);
    let names_continue = n_merged == 1
        && first.has_wide_cell
        && below.len() > 1
        && below
            .first()
            .is_some_and(|row| row.cells.values().all(|cell| is_column_name(cell)));
    (n_merged + usize::from(names_continue)).min(below.len())
}

/// The name of each column; of several header rows, the names from top to bottom: `휴직기간 최대`.
fn column_names(header: &[Row]) -> BTreeMap<u32, String> {
    let mut columns: BTreeMap<u32, String> = BTreeMap::new();
    for row in header {
        for (&column, cell) in &row.cells {
            let name = one_line(cell);
            match columns.get_mut(&column) {
                Some(names) if names.ends_with(&name) => {}
                Some(names) => {
                    names.push(' ');
                    names.push_str(&name);
                }
                None => {
                    columns.insert(column, name);
                }
            }
        }
    }
    columns
}

fn are_column_names<'a>(cells: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = HashSet::new();
    let mut n_cells = 0;
    for cell in cells {
        n_cells += 1;
        if !is_column_name(cell) || !seen.insert(cell.trim()) {
            return false;
        }
    }
    n_cells > 0
}

/// A short text that is neither a number nor a sentence.
fn is_column_name(cell: &str) -> bool {
    let cell = cell.trim();
    let is_sentence = cell.ends_with(['.', '?', '!', '。'])
        || ["니다", "까요", "나요", "세요"]
            .iter()
            .any(|ending| cell.ends_with(ending));
    let has_letter = cell.chars().any(char::is_alphabetic);
    let is_quantity = cell
        .starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '₩'))
        && cell
            .chars()
            .filter(|c| c.is_ascii_digit() || matches!(c, ',' | '.' | '-' | ':' | '/'))
            .count()
            * 2
            > cell.chars().count();
    !cell.is_empty()
        && cell.chars().count() <= MAX_COLUMN_NAME_CHARS
        && (has_letter || cell == "#")
        && !is_sentence
        && !is_quantity
}

/// A remark below a table (`※ …`, `주) …`), alone in its row.
fn is_note(row: &Row) -> bool {
    let mut cells = row.cells.values();
    match (cells.next(), cells.next()) {
        (Some(cell), None) => ["※", "*", "주)", "주:", "주 :", "[주]"]
            .iter()
            .any(|mark| cell.trim_start().starts_with(mark)),
        _ => false,
    }
}

fn joined(row: &Row, separator: &str) -> String {
    let cells: Vec<String> = row.cells.values().map(|cell| one_line(cell)).collect();
    cells.join(separator)
}

/// A value keeps its line breaks (a list within a cell), but no blank lines.
fn value_lines(value: &str) -> String {
    let lines: Vec<&str> = value
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("\n")
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lines: &[&str]) -> Vec<Row> {
        let row = |(number, line): (u32, &&str)| Row {
            number,
            cells: (0..)
                .zip(line.split('|'))
                .filter(|(_, cell)| !cell.is_empty())
                .map(|(column, cell)| (column, cell.to_owned()))
                .collect(),
            ..Row::default()
        };
        (1..)
            .zip(lines)
            .map(row)
            .filter(|row| !row.cells.is_empty())
            .collect()
    }

    fn check(lines: &[&str], expected: &[(u32, &str)]) {
        let blocks = record_blocks(&rows(lines), None, 0);
        let found: Vec<(u32, &str)> = blocks
            .iter()
            .map(|block| (block.location.row.unwrap(), block.text.as_str()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn records_name_their_columns() {
        check(
            &["질문|답변", "휴가는?|15일입니다.", "", "복장은?|"],
            &[
                (2, "질문: 휴가는?\n답변: 15일입니다."),
                (4, "질문: 복장은?"),
            ],
        );
    }

    #[test]
    fn titles_and_notes_stay_paragraphs() {
        check(
            &[
                "2026년 휴가 현황",
                "||단위: 일",
                "이름|부서|일수",
                "김하나|인사|15",
                "※ 연차만 센다",
            ],
            &[
                (1, "2026년 휴가 현황"),
                (2, "단위: 일"),
                (4, "이름: 김하나\n부서: 인사\n일수: 15"),
                (5, "※ 연차만 센다"),
            ],
        );
    }

    #[test]
    fn without_column_names_rows_stay_rows() {
        check(
            &["1|김하나|15", "2|이두리|12"],
            &[(1, "1 | 김하나 | 15"), (2, "2 | 이두리 | 12")],
        );
    }

    #[test]
    fn a_second_table_has_its_own_columns() {
        check(
            &[
                "이름|일수",
                "김하나|15",
                "",
                "교통비",
                "구간|거리|금액",
                "서울|3|100",
            ],
            &[
                (2, "이름: 김하나\n일수: 15"),
                (4, "교통비"),
                (6, "구간: 서울\n거리: 3\n금액: 100"),
            ],
        );
    }

    #[test]
    fn merged_column_names_are_joined() {
        let mut rows = rows(&["구분|기간|기간", "구분|최소|최대", "육아|1년|2년"]);
        rows[0].has_wide_cell = true;
        rows[0].n_merged_rows = 2;
        let blocks = record_blocks(&rows, Some("휴직"), 0);
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].text, "구분: 육아\n기간 최소: 1년\n기간 최대: 2년");
        assert_eq!(blocks[0].location.sheet.as_deref(), Some("휴직"));
    }

    #[test]
    fn a_row_of_a_text_table_is_one_line() {
        assert_eq!(
            row_text(&["구분", "기 간\n(년)", "", ""]),
            "구분 | 기 간 (년)"
        );
        assert_eq!(row_text(&["", " "]), "");
    }
}
